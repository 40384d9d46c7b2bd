//! Products with what surrounds them in a layer: several of one input, a bias, a gate. One fork and join each.
use super::{
    Vectors,
    product::{Piece, Product, Split, work},
    reference,
};
use crate::{
    activations::{Activations, Order},
    elementwise::{self, Activation, add_bias},
    exec::{Exec, ShapeError},
    matrix::Matrix,
    out::SharedOut,
};

/// `y[m][rows] = x[m][cols] * w^T + bias`, to be computed.
#[derive(Debug)]
pub struct Projection<'a> {
    /// `[rows][cols]`
    pub w: &'a Matrix,
    /// `[rows]`
    pub bias: Option<&'a [f32]>,
    /// `[m][rows]`
    pub y: &'a mut [f32],
}

/// Several projections of one input, as [`matmul`](super::matmul) and
/// [`add_bias`](crate::elementwise::add_bias) would make them: query, key and value in one fork and join.
///
/// # Errors
/// When `x` has another number of features than a `w` columns, a bias is not as long as its `w` has rows, or a `y` has not
/// `m * rows` elements.
pub fn project<const N: usize>(
    exec: &Exec,
    x: &mut Activations,
    projections: [Projection<'_>; N],
) -> Result<(), ShapeError> {
    for projection in &projections {
        projection.check("project", x)?;
    }
    if x.m() == 0 {
        return Ok(());
    }
    let Some(vectors) = Vectors::of(exec.isa) else {
        for projection in projections {
            projection.by_reference(exec, x)?;
        }
        return Ok(());
    };
    let order = |w, x: &Activations| Order::of(exec, x.m(), [w]);
    for projection in &projections {
        x.make_for(exec, projection.w, order(projection.w, x));
    }
    let all = projections.iter().map(|projection| work(projection.w, x.m())).sum();
    let jobs = projections.map(|projection| {
        let order = order(projection.w, x);
        Job::new(exec, projection, (x, order), all)
    });
    let count = |job: &Job<'_>| job.split.count();
    run_all(exec, jobs.iter(), count, |job, task| job.run(exec, vectors, &job.split.piece(task)));
    Ok(())
}

/// `y = act(gate) * up` for two projections of one input (their own `y` hold the factors afterwards): the first half of a
/// gated feed-forward layer, each piece while it is in the cache.
///
/// # Errors
/// As [`project`]; when `gate`, `up` and `y` differ in shape.
pub fn project_gated(
    exec: &Exec,
    act: Activation,
    x: &mut Activations,
    (gate, up): (Projection<'_>, Projection<'_>),
    y: &mut [f32],
) -> Result<(), ShapeError> {
    gate.check("project_gated", x)?;
    up.check("project_gated", x)?;
    ShapeError::check("project_gated", "up: rows", gate.w.rows(), up.w.rows())?;
    ShapeError::check("project_gated", "y", gate.y.len(), y.len())?;
    if x.m() == 0 {
        return Ok(());
    }
    let Some(vectors) = Vectors::of(exec.isa) else {
        let (gate, up) = (gate.by_reference(exec, x)?, up.by_reference(exec, x)?);
        return elementwise::gated(exec, act, gate, up, y);
    };
    // One for both: a piece of one is a piece of the other.
    let order = Order::of(exec, x.m(), [gate.w, up.w]);
    x.make_for(exec, gate.w, order);
    x.make_for(exec, up.w, order);
    let (x, all) = ((&*x, order), work(gate.w, x.m()));
    let (gate, up) = (Job::new(exec, gate, x, all), Job::new(exec, up, x, all));
    let y = SharedOut::new(y);
    exec.pool.run(gate.split.count(), &|task| {
        gate.run_gated(&up, &y, (exec, act, vectors), &gate.split.piece(task));
    });
    Ok(())
}

/// Computes the pieces of all jobs in one fork and join.
pub(super) fn run_all<'j, J: 'j>(
    exec: &Exec,
    jobs: impl Iterator<Item = &'j J> + Clone + Sync,
    count: impl Fn(&J) -> usize + Sync,
    piece: impl Fn(&J, usize) + Sync,
) {
    exec.pool.run(jobs.clone().map(&count).sum(), &|mut task| {
        for job in jobs.clone() {
            if task < count(job) {
                return piece(job, task);
            }
            task -= count(job);
        }
    });
}

impl<'a> Projection<'a> {
    pub(super) fn check(&self, op: &'static str, x: &Activations) -> Result<(), ShapeError> {
        ShapeError::check(op, "x: features of a token", self.w.cols(), x.k())?;
        ShapeError::check(op, "y", x.m().saturating_mul(self.w.rows()), self.y.len())?;
        self.bias.map_or(Ok(()), |bias| ShapeError::check(op, "bias", self.w.rows(), bias.len()))
    }

    /// Where there are no vector instructions.
    pub(super) fn by_reference(self, exec: &Exec, x: &Activations) -> Result<&'a [f32], ShapeError> {
        reference::matmul(exec, self.w, x.as_f32(), self.y);
        if let Some(bias) = self.bias {
            add_bias(exec, self.y, bias)?;
        }
        Ok(self.y)
    }
}

/// A projection cut into pieces.
pub(super) struct Job<'a> {
    product: Product<'a>,
    bias: Option<&'a [f32]>,
    m: usize,
    rows: usize,
    y: SharedOut<'a, f32>,
    pub split: Split,
}

impl<'a> Job<'a> {
    /// Of an input whose form for the weights has been made, in this order. Shares the threads with others; `all` is the
    /// [`work`] of all of them.
    pub fn new(
        exec: &Exec,
        projection: Projection<'a>,
        (x, order): (&'a Activations, Order),
        all: usize,
    ) -> Self {
        let Projection { w, bias, y } = projection;
        let y = SharedOut::new(y);
        let split = Split::of(exec, w, (x.m(), order), all);
        Self { product: Product::new(w, x, y, order), bias, m: x.m(), rows: w.rows(), y, split }
    }

    pub fn run(&self, exec: &Exec, vectors: Vectors, piece: &Piece) {
        self.product.run(vectors, piece.clone());
        let Some(bias) = self.bias else { return };
        for token in piece.tokens(self.m) {
            // SAFETY: the piece is this task's.
            let y = unsafe { self.outputs(token, piece) };
            elementwise::add_rows(exec.isa, y, &bias[piece.rows(self.rows)]);
        }
    }

    /// A piece of this job, of `up`, and of `y = act(this) * up`, while it is in the cache.
    pub fn run_gated(
        &self,
        up: &Job<'_>,
        y: &SharedOut<'_, f32>,
        (exec, act, vectors): (&Exec, Activation, Vectors),
        piece: &Piece,
    ) {
        self.run(exec, vectors, piece);
        up.run(exec, vectors, piece);
        for token in piece.tokens(self.m) {
            // SAFETY: a task has its own pieces of all three.
            let (gate, up, y) = unsafe {
                (self.outputs(token, piece), up.outputs(token, piece), self.part_of(y, token, piece))
            };
            elementwise::gated_rows(exec.isa, act, gate, up, y);
        }
    }

    /// A piece's outputs of a token.
    ///
    /// # Safety
    /// The piece is the calling task's own, and the part is not alive elsewhere.
    #[allow(clippy::mut_from_ref)] // disjointness is the caller's promise
    unsafe fn outputs(&self, token: usize, piece: &Piece) -> &mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { self.part_of(&self.y, token, piece) }
    }

    /// The same part of another output of the same shape.
    ///
    /// # Safety
    /// As [`Job::outputs`].
    #[allow(clippy::mut_from_ref)] // disjointness is the caller's promise
    unsafe fn part_of<'b>(&self, out: &'b SharedOut<'_, f32>, token: usize, piece: &Piece) -> &'b mut [f32] {
        let rows = piece.rows(self.rows);
        // SAFETY: the caller's promise.
        unsafe { out.part(token * self.rows + rows.start, rows.len()) }
    }
}

//! Products with what surrounds them in a layer: several of one input, and a bias, in one fork and join.
use super::{
    Vectors,
    outputs::Outputs,
    product::{Piece, Product, Split, work},
    reference,
};
use crate::{
    activations::{Activations, Order},
    elementwise::{self, add_assign, add_bias},
    exec::{Exec, ShapeError},
    matrix::Matrix,
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
/// When `x` was filled for other weights ([`Activations::fill`]) or has another number of features than a `w` columns, a bias is
/// not as long as its `w` has rows, or a `y` has not `m * rows` elements.
pub fn project<const N: usize>(
    exec: &Exec,
    x: &mut Activations,
    projections: [Projection<'_>; N],
) -> Result<(), ShapeError> {
    for projection in &projections {
        projection.check_for("project", x)?;
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
        x.make_for(exec, projection.w, order(projection.w, x))?;
    }
    let all = projections.iter().map(|projection| work(projection.w, x.m())).sum();
    let jobs = projections.map(|projection| {
        let order = order(projection.w, x);
        projection.job(exec, (x, order), all)
    });
    run_all(
        exec,
        jobs.iter(),
        |(job, _)| job.split.count(),
        |(job, y), task| job.run(exec, vectors, &job.split.piece(task), *y),
    );
    Ok(())
}

/// `y[m][rows] += x[m][cols] * w^T`, as [`matmul`](super::matmul) and [`add_assign`](crate::elementwise::add_assign) would make it, each
/// output added where it is made.
///
/// # Errors
/// As [`project`].
pub fn project_onto(exec: &Exec, x: &mut Activations, w: &Matrix, y: &mut [f32]) -> Result<(), ShapeError> {
    Projection::check("project_onto", x, (w, None), y.len())?;
    if x.m() == 0 {
        return Ok(());
    }
    let Some(vectors) = Vectors::of(exec.isa) else {
        let mut product = vec![0.0; y.len()];
        let product = Projection { w, bias: None, y: &mut product }.by_reference(exec, x)?;
        return add_assign(exec, y, product);
    };
    let order = Order::of(exec, x.m(), [w]);
    x.make_for(exec, w, order)?;
    let job = Job::new(exec, (w, None), (x, order), work(w, x.m()));
    let y = Outputs::onto(y, w.rows());
    exec.pool.run(job.split.count(), &|task| job.run(exec, vectors, &job.split.piece(task), y));
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
    /// Whether an input, weights and their bias, and a number of outputs fit.
    pub(super) fn check(
        op: &'static str,
        x: &Activations,
        (w, bias): (&Matrix, Option<&[f32]>),
        y: usize,
    ) -> Result<(), ShapeError> {
        ShapeError::check(op, "x: features of a token", w.cols(), x.k())?;
        ShapeError::check(op, "y", x.m().saturating_mul(w.rows()), y)?;
        bias.map_or(Ok(()), |bias| ShapeError::check(op, "bias", w.rows(), bias.len()))
    }

    /// Whether it fits an input.
    pub(super) fn check_for(&self, op: &'static str, x: &Activations) -> Result<(), ShapeError> {
        Self::check(op, x, (self.w, self.bias), self.y.len())
    }

    /// Its pieces, of an input whose form has been made (as [`Job::new`]), and where they are written.
    pub(super) fn job(self, exec: &Exec, x: (&'a Activations, Order), all: usize) -> (Job<'a>, Outputs<'a>) {
        let Self { w, bias, y } = self;
        (Job::new(exec, (w, bias), x, all), Outputs::all(y, w.rows()))
    }

    /// Where there are no vector instructions.
    pub(super) fn by_reference(self, exec: &Exec, x: &Activations) -> Result<&'a [f32], ShapeError> {
        reference::matmul(exec, self.w, x.floats()?, self.y);
        if let Some(bias) = self.bias {
            add_bias(exec, self.y, bias)?;
        }
        Ok(self.y)
    }
}

/// A projection cut into pieces.
pub(super) struct Job<'a> {
    w: &'a Matrix,
    bias: Option<&'a [f32]>,
    x: &'a Activations,
    order: Order,
    pub split: Split,
}

impl<'a> Job<'a> {
    /// Of an input whose form for the weights has been made, in this order. Shares the threads with others; `all` is the
    /// [`work`] of all of them.
    pub fn new(
        exec: &Exec,
        (w, bias): (&'a Matrix, Option<&'a [f32]>),
        (x, order): (&'a Activations, Order),
        all: usize,
    ) -> Self {
        Self { w, bias, x, order, split: Split::of(exec, w, (x.m(), order), all) }
    }

    /// Tokens.
    pub fn m(&self) -> usize {
        self.x.m()
    }

    /// Outputs of a token.
    pub fn rows(&self) -> usize {
        self.w.rows()
    }

    /// Computes a piece, which is the calling task's own, into `y`.
    pub fn run(&self, exec: &Exec, vectors: Vectors, piece: &Piece, y: Outputs<'_>) {
        Product::new(self.w, self.x, y, self.order).run(vectors, piece.clone());
        let Some(bias) = self.bias else { return };
        let rows = piece.rows(self.rows());
        for token in piece.tokens(self.m()) {
            // SAFETY: the piece is this task's.
            let y = unsafe { y.part(token, rows.clone()) };
            elementwise::add_rows(exec.isa, y, &bias[rows.clone()]);
        }
    }
}

//! The first half of a gated feed-forward layer: two projections of one input, and the activation of one times the other.
use std::cell::Cell;

use chalot_simd::AlignedVec;

use super::{
    Vectors,
    outputs::Outputs,
    product::{Piece, work},
    project::{Job, Projection},
};
use crate::{
    activations::{Activations, Order},
    elementwise::{self, Activation},
    exec::{Exec, ShapeError},
    matrix::Matrix,
};

/// Outputs of a factor that are made before both meet: with those of the other they are to stay in a second-level cache, beside the
/// tokens (measured: docs/LOG.md, "Where a pass's time goes").
const FACTOR: usize = 64 * 1024;

thread_local! {
    /// What a thread makes of two factors that nobody keeps.
    static FACTORS: Cell<AlignedVec<f32>> = Cell::default();
}

/// One of two factors, to be computed: `x[m][cols] * w^T + bias`.
#[derive(Debug)]
pub struct Factor<'a> {
    /// `[rows][cols]`
    pub w: &'a Matrix,
    /// `[rows]`
    pub bias: Option<&'a [f32]>,
    /// Where it is kept, `[m][rows]`; by itself it need not be, and what is not kept never leaves the cache.
    pub kept: Option<&'a mut [f32]>,
}

impl<'a> Factor<'a> {
    /// Where there are no vector instructions: kept, or in `spare`.
    fn by_reference(
        self,
        exec: &Exec,
        x: &Activations,
        spare: &'a mut [f32],
    ) -> Result<&'a [f32], ShapeError> {
        let Self { w, bias, kept } = self;
        Projection { w, bias, y: kept.unwrap_or(spare) }.by_reference(exec, x)
    }
}

/// `y = act(gate) * up` for two projections of one input: the first half of a gated feed-forward layer, in one fork and join, each
/// piece while it is in the cache.
///
/// # Errors
/// When `x` was filled for other weights, it has another number of features than `gate` or `up` columns, these differ in rows, a bias is not as long as its `w` has
/// rows, or `y` or what is kept has not `m * rows` elements.
pub fn project_gated(
    exec: &Exec,
    act: Activation,
    x: &mut Activations,
    (gate, up): (Factor<'_>, Factor<'_>),
    y: &mut [f32],
) -> Result<(), ShapeError> {
    check("project_gated", x, (&gate, &up), y)?;
    if x.m() == 0 {
        return Ok(());
    }
    let Some(vectors) = Vectors::of(exec.isa) else {
        return by_reference(exec, act, x, (gate, up), y);
    };
    make_for(exec, x, (&gate, &up))?;
    let all = work(gate.w, x.m());
    let job = GatedJob::new(exec, x, (gate, up), y, all);
    exec.pool.run(job.count(), &|task| job.run((exec, act, vectors), task));
    Ok(())
}

/// Whether the shapes fit.
pub(super) fn check(
    op: &'static str,
    x: &Activations,
    (gate, up): (&Factor<'_>, &Factor<'_>),
    y: &[f32],
) -> Result<(), ShapeError> {
    ShapeError::check(op, "up: rows", gate.w.rows(), up.w.rows())?;
    for Factor { w, bias, kept } in [gate, up] {
        Projection::check(op, x, (w, *bias), y.len())?;
        if let Some(kept) = kept {
            ShapeError::check(op, "a factor that is kept", y.len(), kept.len())?;
        }
    }
    Ok(())
}

/// Where there are no vector instructions.
pub(super) fn by_reference(
    exec: &Exec,
    act: Activation,
    x: &Activations,
    (gate, up): (Factor<'_>, Factor<'_>),
    y: &mut [f32],
) -> Result<(), ShapeError> {
    let (mut gates, mut ups) = (vec![0.0; y.len()], vec![0.0; y.len()]);
    let gate = gate.by_reference(exec, x, &mut gates)?;
    let up = up.by_reference(exec, x, &mut ups)?;
    elementwise::gated(exec, act, gate, up, y)
}

/// One order for both: a piece of one is a piece of the other.
fn order(exec: &Exec, x: &Activations, gate: &Matrix, up: &Matrix) -> Order {
    Order::of(exec, x.m(), [gate, up])
}

/// Makes the forms of `x` that the weights meet.
pub(super) fn make_for(
    exec: &Exec,
    x: &mut Activations,
    (gate, up): (&Factor<'_>, &Factor<'_>),
) -> Result<(), ShapeError> {
    let order = order(exec, x, gate.w, up.w);
    x.make_for(exec, gate.w, order)?;
    x.make_for(exec, up.w, order)
}

/// A gated product cut into pieces.
pub(super) struct GatedJob<'a> {
    gate: Job<'a>,
    up: Job<'a>,
    kept: [Option<Outputs<'a>>; 2],
    y: Outputs<'a>,
}

impl<'a> GatedJob<'a> {
    /// Of an input whose forms have been made; `all` as for [`Job::new`].
    pub fn new(
        exec: &Exec,
        x: &'a Activations,
        (gate, up): (Factor<'a>, Factor<'a>),
        y: &'a mut [f32],
        all: usize,
    ) -> Self {
        let order = order(exec, x, gate.w, up.w);
        let rows = gate.w.rows();
        let job = |factor: &Factor<'a>| Job::new(exec, (factor.w, factor.bias), (x, order), all);
        Self {
            gate: job(&gate),
            up: job(&up),
            kept: [gate, up].map(|factor| Some(Outputs::all(factor.kept?, rows))),
            y: Outputs::all(y, rows),
        }
    }

    /// How many pieces.
    pub fn count(&self) -> usize {
        self.gate.split.count()
    }

    /// Computes a piece: some of both factors, and their product while they are in the cache.
    pub fn run(&self, with: (&Exec, Activation, Vectors), task: usize) {
        // Not borrowed: a task that waits for another operation might be given one of these.
        let mut factors = FACTORS.take();
        for piece in self.gate.split.piece(task).narrow(self.gate.m(), FACTOR) {
            self.run_piece(with, &piece, &mut factors);
        }
        FACTORS.set(factors);
    }

    fn run_piece(
        &self,
        (exec, act, vectors): (&Exec, Activation, Vectors),
        piece: &Piece,
        factors: &mut AlignedVec<f32>,
    ) {
        let (tokens, rows) = (piece.tokens(self.gate.m()), piece.rows(self.gate.rows()));
        let len = tokens.len() * rows.len();
        factors.resize_dirty(2 * len);
        let (gate, up) = factors.split_at_mut(len);
        let [gate, up] = [(gate, self.kept[0]), (up, self.kept[1])]
            .map(|(own, kept)| kept.unwrap_or_else(|| Outputs::of_piece(own, &tokens, &rows)));
        self.gate.run(exec, vectors, piece, gate);
        self.up.run(exec, vectors, piece, up);
        for token in tokens {
            // SAFETY: a task has its own pieces of all three.
            let (gate, up, y) = unsafe {
                (
                    gate.part(token, rows.clone()),
                    up.part(token, rows.clone()),
                    self.y.part(token, rows.clone()),
                )
            };
            elementwise::gated_rows(exec.isa, act, gate, up, y);
        }
    }
}

//! Long outputs over the threads.
use crate::{exec::Exec, out::SharedOut};

/// Elements below which a piece is not worth another thread: a few microseconds of work.
const PIECE: usize = 16 * 1024;

/// Calls `f(first element, piece)` on pieces of `out` that are whole rows of `cols` (the last may be short).
pub(crate) fn over_rows(exec: &Exec, out: &mut [f32], cols: usize, f: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    let piece = PIECE.div_ceil(cols.max(1)) * cols.max(1);
    if out.len() <= piece || exec.pool.threads() == 1 {
        return f(0, out);
    }
    let len = out.len();
    let out = SharedOut::new(out);
    exec.pool.run(len.div_ceil(piece), &|task| {
        let start = task * piece;
        // SAFETY: task i alone takes the piece [i * piece, (i + 1) * piece).
        f(start, unsafe { out.part(start, piece.min(len - start)) });
    });
}

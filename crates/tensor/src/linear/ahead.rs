//! Which weights the threads of a product to come begin with, so that they can ask for them while they wait.
use std::ptr;

use super::product::{Split, work};
use crate::{activations::Order, exec::Exec, matrix::Matrix, pool::part_of};

/// With more tokens a product is not bound by memory.
const FEW_TOKENS: usize = 16;

/// Has threads that wait ask for the weights that they will begin with in the [`project`](super::project) of `m` tokens that
/// follows the next operation. Changes no result.
pub fn read_ahead<const N: usize>(exec: &Exec, m: usize, weights: [&Matrix; N]) {
    let Some(threads) = waiting(exec, m) else { return };
    let all = weights.iter().map(|w| work(w, m)).sum();
    let splits = weights.map(|w| (w, Split::of(exec, w, (m, Order::of(exec, m, [w])), all)));
    exec.pool.read_ahead(|part| [beginning(&splits, part, threads), ptr::null()]);
}

/// As [`read_ahead`] for a [`project_gated`](super::project_gated), whose pieces of both matrices are read side by side.
pub fn read_ahead_gated(exec: &Exec, m: usize, [gate, up]: [&Matrix; 2]) {
    let Some(threads) = waiting(exec, m) else { return };
    let split = Split::of(exec, gate, (m, Order::of(exec, m, [gate, up])), work(gate, m));
    exec.pool.read_ahead(|part| [gate, up].map(|w| beginning(&[(w, split)], part, threads)));
}

/// The number of threads, where some may wait and reading is what takes time.
fn waiting(exec: &Exec, m: usize) -> Option<usize> {
    Some(exec.pool.threads()).filter(|&threads| threads > 1 && m <= FEW_TOKENS)
}

/// Where part `part` of the threads begins to read, when the tasks of all matrices follow one another.
fn beginning(splits: &[(&Matrix, Split)], part: usize, threads: usize) -> *const u8 {
    let mut task = part_of(splits.iter().map(|(_, split)| split.count()).sum(), part, threads).start;
    for (w, split) in splits {
        if task < split.count() {
            let tile = split.piece(task).tiles.start;
            // An up projection that is not as long as its gate is an error of the product to come.
            return if tile < w.tiles() { w.tile_bytes(tile).as_ptr() } else { ptr::null() };
        }
        task -= split.count();
    }
    ptr::null()
}

#[cfg(test)]
mod tests {
    use chalot_simd::Isa;

    use super::*;
    use crate::testing::{Random, random_matrix};

    /// Where a thread's first task begins, as `run` counts tasks.
    #[test]
    fn threads_begin_where_their_tasks_do() {
        let exec = Exec::new(Isa::best(), 2);
        let [q, k, v] = [1024, 256, 272]
            .map(|rows| random_matrix(&mut Random(rows as u64), "int8/row".parse().unwrap(), rows, 512));
        let all = [&q, &k, &v].map(|w| work(w, 1)).iter().sum();
        let splits = [&q, &k, &v].map(|w| (w, Split::of(&exec, w, (1, Order::of(&exec, 1, [w])), all)));
        assert_eq!(beginning(&splits, 0, 2), q.tile_bytes(0).as_ptr());
        // Some half of 1552 rows lies in the first matrix, eleven twelfths in the last.
        let within = |w: &Matrix, address: *const u8| w.image().as_ptr_range().contains(&address);
        let half = beginning(&splits, 1, 2);
        assert!(within(&q, half));
        let rows = (half.addr() - q.tile_bytes(0).as_ptr().addr()) / 512;
        assert!(rows.is_multiple_of(16) && (700..850).contains(&rows), "row {rows}");
        assert!(within(&v, beginning(&splits, 11, 12)));

        let split = Split::of(&exec, &q, (1, Order::of(&exec, 1, [&q])), work(&q, 1));
        assert_eq!(beginning(&[(&q, split)], 1, 2), q.tile_bytes(32).as_ptr());
        assert!(beginning(&[(&k, split)], 1, 2).is_null()); // 16 tiles
        assert!(beginning(&[], 1, 2).is_null());
    }
}

//! Which weights the threads of a product to come begin with, so that they can ask for them while they wait.
use std::ptr;

use super::product::{Split, work};
use crate::{activations::Order, exec::Exec, matrix::Matrix, pool::part_of};

/// With more tokens a product is not bound by memory.
const FEW_TOKENS: usize = 16;

/// Products that follow the next operation, with little between them.
#[derive(Clone, Copy, Debug)]
pub enum Upcoming<'a> {
    /// Those of one [`project`](super::project).
    Project(&'a [&'a Matrix]),
    /// Those of a [`project_gated`](super::project_gated).
    Gated([&'a Matrix; 2]),
}

/// Has threads ask for the weights that they begin `upcoming` with, of `m` tokens, while they wait after the next operation.
/// Changes no result.
pub fn read_ahead(exec: &Exec, m: usize, upcoming: Upcoming<'_>) {
    if m <= FEW_TOKENS {
        let threads = exec.pool.threads();
        exec.pool.read_ahead(|part| upcoming.beginning(exec, m, (part, threads)));
    }
}

impl<'a> Upcoming<'a> {
    /// Where part `part` of the threads begins to read: in one matrix, or in both side by side.
    fn beginning(self, exec: &Exec, m: usize, (part, threads): (usize, usize)) -> [*const u8; 2] {
        let tile = |w: &Matrix, tile| w.tile_bytes(tile).as_ptr();
        match self {
            Self::Project(weights) => {
                let all = weights.iter().map(|w| work(w, m)).sum();
                let split = |w| Split::of(exec, w, (m, Order::of(exec, m, [w])), all);
                let mut task = part_of(weights.iter().map(|w| split(w).count()).sum(), part, threads).start;
                for w in weights {
                    let split = split(w);
                    if task < split.count() {
                        return [tile(w, split.piece(task).tiles.start), ptr::null()];
                    }
                    task -= split.count();
                }
                [ptr::null(); 2]
            }
            Self::Gated([gate, up]) => {
                let split = Split::of(exec, gate, (m, Order::of(exec, m, [gate, up])), work(gate, m));
                let first = split.piece(part_of(split.count(), part, threads).start).tiles.start;
                [gate, up].map(|w| if first < w.tiles() { tile(w, first) } else { ptr::null() })
            }
        }
    }
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
        let begin = |upcoming: Upcoming<'_>, part, threads| upcoming.beginning(&exec, 1, (part, threads));
        let all = Upcoming::Project(&[&q, &k, &v]);
        assert_eq!(begin(all, 0, 2), [q.tile_bytes(0).as_ptr(), ptr::null()]);
        // Some half of 1552 rows lies in the first matrix, five sixths in the last.
        let within = |w: &Matrix, address: *const u8| w.image().as_ptr_range().contains(&address);
        let [half, none] = begin(all, 1, 2);
        assert!(within(&q, half) && none.is_null());
        let rows = (half.addr() - q.tile_bytes(0).as_ptr().addr()) / 512;
        assert!(rows.is_multiple_of(16) && (700..850).contains(&rows), "row {rows}");
        assert!(within(&v, begin(all, 11, 12)[0]));

        let gated = Upcoming::Gated([&q, &q]);
        assert_eq!(begin(gated, 1, 2), [q.tile_bytes(32).as_ptr(); 2]);
        assert_eq!(begin(Upcoming::Project(&[]), 1, 2), [ptr::null(); 2]);
    }
}

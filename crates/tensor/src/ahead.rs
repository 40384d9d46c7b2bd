//! What workers of the pool bring into their caches while they wait for a job.
//!
//! A pass reads weights as fast as memory gives them, but for moments in which one thread alone makes a norm or small
//! attention. Waiting threads use those to ask for what they will read next.
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering::Relaxed};

use crate::sync::prefetch;

/// Bytes asked for between two looks for a job: memory gives them in less time than waking takes.
const STEP: usize = 512;
const CACHE_LINE: usize = 64;
/// Bytes asked for in all: any second-level cache has room for them.
const MOST: usize = 256 * 1024;

/// What one worker is to read. Advice, so its parts are not kept together: who reads half of an old and half of a new one asks for
/// the wrong memory, which changes nothing.
#[derive(Default)]
pub(crate) struct Ahead {
    /// After which job; 0 for none.
    job: AtomicU64,
    /// From where on, side by side; or null.
    from: [AtomicPtr<u8>; 2],
}

/// How far one worker has come with it.
#[derive(Default)]
pub(crate) struct Reader {
    /// Whose bytes they are.
    job: u64,
    /// Bytes of each place.
    read: usize,
}

impl Ahead {
    /// To be read when job number `job` is done.
    pub fn set(&self, job: u64, from: [*const u8; 2]) {
        self.from.iter().zip(from).for_each(|(own, from)| own.store(from.cast_mut(), Relaxed));
        self.job.store(job, Relaxed);
    }
}

impl Reader {
    /// Asks for the next bytes, when job number `last` was the last; `false` when there are none.
    pub fn step(&mut self, ahead: &Ahead, last: u64) -> bool {
        let Some(from) = self.next(ahead, last) else { return false };
        for from in from.into_iter().filter(|from| !from.is_null()) {
            (0..STEP).step_by(CACHE_LINE).for_each(|byte| prefetch(from.wrapping_add(byte)));
        }
        true
    }

    /// Where the next bytes are.
    fn next(&mut self, ahead: &Ahead, last: u64) -> Option<[*const u8; 2]> {
        let job = ahead.job.load(Relaxed);
        if job == 0 || job > last {
            return None;
        }
        if job != self.job {
            *self = Self { job, read: 0 };
        }
        let from = [0, 1].map(|i| ahead.from[i].load(Relaxed).cast_const());
        let places = from.iter().filter(|from| !from.is_null()).count();
        if self.read * places >= MOST || places == 0 {
            return None;
        }
        let read = self.read;
        self.read += STEP;
        Some(from.map(|from| if from.is_null() { from } else { from.wrapping_add(read) }))
    }
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    #[test]
    fn a_worker_reads_on_until_it_has_read_enough() {
        let (ahead, mut reader) = (Ahead::default(), Reader::default());
        assert_eq!(reader.next(&ahead, 7), None);
        let first = ptr::without_provenance(4096);
        ahead.set(8, [first, ptr::null()]);
        assert_eq!(reader.next(&ahead, 7), None); // not yet
        for step in 0..MOST / STEP {
            assert_eq!(
                reader.next(&ahead, 8 + step as u64 / 2),
                Some([first.wrapping_add(step * STEP), ptr::null()])
            );
        }
        assert_eq!(reader.next(&ahead, 9), None);

        // Two places share the bytes; what was there before is forgotten.
        let second = ptr::without_provenance(1 << 30);
        ahead.set(9, [first, second]);
        for step in 0..MOST / STEP / 2 {
            assert_eq!(
                reader.next(&ahead, 9),
                Some([first, second].map(|from| from.wrapping_add(step * STEP)))
            );
        }
        assert_eq!(reader.next(&ahead, 9), None);
        ahead.set(10, [ptr::null(); 2]);
        assert_eq!(reader.next(&ahead, 10), None);
    }

    /// The addresses of a moment ago may be nobody's by now.
    #[test]
    fn any_address_will_do() {
        let (ahead, mut reader) = (Ahead::default(), Reader::default());
        ahead.set(1, [ptr::without_provenance(64), ptr::without_provenance(usize::MAX - 100)]);
        while reader.step(&ahead, 1) {}
        assert_eq!(reader.read, MOST / 2);
    }
}

//! One output cut into parts of equal length, each handed to the task that asks for it: the safe face of [`SharedOut`].
use std::sync::atomic::{AtomicBool, Ordering};

use crate::out::SharedOut;

/// A `&mut [T]` in parts, each to be taken by one task of an operation.
///
/// ```
/// use chalot_tensor::{parts::Parts, pool::Pool};
///
/// let (mut twice, mut half) = (vec![0.0; 10], vec![0.0; 10]);
/// let (a, b) = (Parts::new(&mut twice, 4), Parts::new(&mut half, 4));
/// Pool::new(2).run(a.count(), &|task| {
///     for (i, (a, b)) in a.take(task).iter_mut().zip(b.take(task)).enumerate() {
///         let x = (4 * task + i) as f32;
///         (*a, *b) = (2.0 * x, 0.5 * x);
///     }
/// });
/// assert_eq!((twice[9], half[9]), (18.0, 4.5));
/// ```
pub struct Parts<'a, T> {
    out: SharedOut<'a, T>,
    cut: Cut,
    taken: Vec<AtomicBool>,
}

/// Where parts end.
enum Cut {
    Every(usize),
    At(Vec<usize>),
}

impl<'a, T> Parts<'a, T> {
    /// Parts of `len` elements; the last may be shorter.
    ///
    /// # Panics
    /// When `len` is 0.
    pub fn new(slice: &'a mut [T], len: usize) -> Self {
        let count = slice.len().div_ceil(len);
        Self::cut(slice, Cut::Every(len), count)
    }

    /// Parts that end at `ends`, ascending; the first begins at 0.
    ///
    /// # Panics
    /// When the ends descend or lie beyond the slice.
    pub fn at(slice: &'a mut [T], ends: Vec<usize>) -> Self {
        assert!(ends.is_sorted() && ends.last().is_none_or(|&end| end <= slice.len()), "ends of parts");
        let count = ends.len();
        Self::cut(slice, Cut::At(ends), count)
    }

    fn cut(slice: &'a mut [T], cut: Cut, count: usize) -> Self {
        Self { out: SharedOut::new(slice), cut, taken: (0..count).map(|_| AtomicBool::new(false)).collect() }
    }

    /// Number of parts.
    pub fn count(&self) -> usize {
        self.taken.len()
    }

    /// Part `index`, which nobody has taken yet.
    ///
    /// # Panics
    /// When there is no such part or it was taken before.
    #[allow(clippy::mut_from_ref)] // each part is handed out once
    pub fn take(&self, index: usize) -> &mut [T] {
        assert!(!self.taken[index].swap(true, Ordering::Relaxed), "part {index} is taken twice");
        let (start, end) = match &self.cut {
            Cut::Every(len) => (index * len, self.out.len().min((index + 1) * len)),
            Cut::At(ends) => (index.checked_sub(1).map_or(0, |before| ends[before]), ends[index]),
        };
        // SAFETY: parts are disjoint, and the flag gives each to one caller only.
        unsafe { self.out.part(start, end - start) }
    }
}

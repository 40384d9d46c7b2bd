//! Who takes the ids.
use crate::cache::Ids;

/// Where ids go: a vector, or a counter.
pub(crate) trait Sink {
    fn push(&mut self, id: u32);

    fn push_all(&mut self, ids: &[u32]);

    /// The first `count` of these.
    fn push_first<const N: usize>(&mut self, ids: &[u32; N], count: usize);

    #[inline(always)]
    fn push_few(&mut self, ids: Ids) {
        self.push_first(&ids.padded(), ids.count());
    }
}

impl Sink for Vec<u32> {
    fn push(&mut self, id: u32) {
        Vec::push(self, id);
    }

    #[inline(always)]
    fn push_all(&mut self, ids: &[u32]) {
        self.extend_from_slice(ids);
    }

    #[inline(always)]
    fn push_first<const N: usize>(&mut self, ids: &[u32; N], count: usize) {
        if self.capacity() - self.len() < N {
            return self.push_all(&ids[..count.min(N)]);
        }
        // All of them, and back: copying what has a known size takes no call.
        let len = self.len() + count.min(N);
        self.extend_from_slice(ids);
        self.truncate(len);
    }
}

/// Counts ids without keeping them.
#[derive(Default)]
pub(crate) struct Count(pub(crate) usize);

impl Sink for Count {
    fn push(&mut self, _: u32) {
        self.0 += 1;
    }

    #[inline(always)]
    fn push_all(&mut self, ids: &[u32]) {
        self.0 += ids.len();
    }

    #[inline(always)]
    fn push_first<const N: usize>(&mut self, _: &[u32; N], count: usize) {
        self.0 += count.min(N);
    }
}

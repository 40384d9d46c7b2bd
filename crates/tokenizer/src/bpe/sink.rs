//! Who takes the ids.
use crate::cache::{Ids, MAX_IDS};

/// Where ids go: a vector, or a counter.
pub(crate) trait Sink {
    fn push(&mut self, id: u32);

    fn push_all(&mut self, ids: &[u32]);

    #[inline(always)]
    fn push_few(&mut self, ids: Ids) {
        self.push_all(&ids.padded()[..ids.count().min(MAX_IDS)]);
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
}

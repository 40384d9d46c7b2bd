//! The memory that the sequences of a model share: a budget, and the blocks that are alive.
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chalot_tensor::attention::KvBlock;

use super::KvShape;
use super::prefixes::Prefixes;

/// How much memory there is for keys and values, and what happens to those that nobody uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvPoolOptions {
    /// Bytes of blocks at most, those of all sequences together. `None`: as many as the system gives.
    ///
    /// Blocks that were made in one pass (256 tokens at most by default) share a memory, which goes back to the system with the last of
    /// them: where a text was cut off within a pass, the rest of that pass is still held but no longer counted.
    pub budget: Option<usize>,
    /// Whether sequences with equal beginnings share the blocks of these: see [`KvPool`].
    pub share: bool,
    /// Bytes of blocks to keep for later sequences when no sequence uses them any more. They give way when the budget is
    /// needed. Without [`KvPoolOptions::share`] nothing is kept.
    pub keep: usize,
}

/// Memory for keys and values that cannot be had. What was there is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KvError {
    /// The budget is used up.
    #[error(
        "keys and values need {} more, but {} of their budget of {} are in use; raise the budget, shorten the text or \
         keep them in fewer bits", mib(*.needed), mib(*.used), mib(*.budget)
    )]
    Budget {
        /// Bytes asked for.
        needed: usize,
        /// Bytes in use.
        used: usize,
        /// Bytes in all.
        budget: usize,
    },
    /// The system has no more memory.
    #[error(
        "the system has no {} of memory for keys and values; shorten the text or keep them in fewer bits",
        mib(*.needed)
    )]
    OutOfMemory {
        /// Bytes asked for.
        needed: usize,
    },
}

/// "12.5 MiB"
fn mib(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// What a pool holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvStats {
    /// Blocks (64 tokens of one layer) that sequences use, each counted once.
    pub blocks: usize,
    /// Of these, blocks that more than one sequence uses.
    pub shared: usize,
    /// Blocks that no sequence uses, kept for later ones.
    pub kept: usize,
    /// Bytes of all of them.
    pub bytes: usize,
    /// The most bytes there have been.
    pub peak_bytes: usize,
    /// [`KvPoolOptions::budget`].
    pub budget: Option<usize>,
}

/// Memory for the keys and values of one model's sequences.
///
/// Sequences of a pool that shares find each other's beginnings: what one has computed of a text, in blocks of 64 tokens,
/// another takes over instead of computing it again ([`Sequence::adopt`](crate::Sequence::adopt)), with the same bits; and
/// sequences that have computed the same end up with one copy. A block is never changed while another sequence uses it.
///
/// Clones are the same pool. It must be used with the sequences of one model only.
#[derive(Clone, Debug)]
pub struct KvPool {
    options: KvPoolOptions,
    counts: Arc<Counts>,
    /// Apart from what blocks refer to: the tree holds blocks.
    prefixes: Arc<Mutex<Prefixes>>,
}

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicUsize,
    peak: AtomicUsize,
    /// Blocks that are there, that sequences use, that several use.
    blocks: AtomicUsize,
    used: AtomicUsize,
    shared: AtomicUsize,
}

impl KvPool {
    /// An empty pool.
    pub fn new(options: KvPoolOptions) -> Self {
        Self { options, counts: Arc::default(), prefixes: Arc::default() }
    }

    /// What it was made with.
    pub fn options(&self) -> KvPoolOptions {
        self.options
    }

    /// What it holds now.
    pub fn stats(&self) -> KvStats {
        let Counts { bytes, peak, blocks, used, shared } = &*self.counts;
        let used = used.load(Relaxed);
        KvStats {
            blocks: used,
            shared: shared.load(Relaxed),
            kept: blocks.load(Relaxed).saturating_sub(used),
            bytes: bytes.load(Relaxed),
            peak_bytes: peak.load(Relaxed),
            budget: self.options.budget,
        }
    }

    pub(super) fn shares(&self) -> bool {
        self.options.share
    }

    /// What sequences have in common. Whoever drops blocks while holding it must not lock it again; blocks do not.
    pub(super) fn prefixes(&self) -> MutexGuard<'_, Prefixes> {
        // A panic leaves nothing half done that matters: nodes are made whole or not at all.
        self.prefixes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back what is kept beyond the limit.
    pub(super) fn trim(&self) {
        if self.shares() {
            let mut prefixes = self.prefixes();
            let idle = prefixes.idle_bytes();
            prefixes.evict(idle.saturating_sub(self.options.keep));
        }
    }

    /// Sets `bytes` of the budget aside; blocks that are only kept give way.
    pub(super) fn lease(&self, bytes: usize) -> Result<Lease, KvError> {
        self.try_lease(bytes).or_else(|error| {
            let KvError::Budget { needed, used, budget } = error else { return Err(error) };
            if self.shares() {
                self.prefixes().evict((used + needed).saturating_sub(budget));
            }
            self.try_lease(bytes)
        })
    }

    fn try_lease(&self, bytes: usize) -> Result<Lease, KvError> {
        let budget = self.options.budget.unwrap_or(usize::MAX);
        let more = |used: usize| used.checked_add(bytes).filter(|&all| all <= budget);
        match self.counts.bytes.fetch_update(Relaxed, Relaxed, more) {
            Ok(used) => {
                self.counts.peak.fetch_max(used + bytes, Relaxed);
                Ok(Lease { counts: self.counts.clone(), bytes })
            }
            Err(used) => Err(KvError::Budget { needed: bytes, used, budget }),
        }
    }
}

/// Bytes of the budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    counts: Arc<Counts>,
    bytes: usize,
}

impl Lease {
    /// `n` empty blocks, on a part of the lease.
    pub(super) fn blocks(&mut self, shape: &KvShape, n: usize) -> Result<Vec<Held>, KvError> {
        let KvShape { kv_heads, head_dim, ty, .. } = *shape;
        let blocks = KvBlock::try_new(ty, kv_heads, head_dim, n)
            .ok_or(KvError::OutOfMemory { needed: n.saturating_mul(shape.block_bytes()) })?;
        let held = blocks.into_iter().map(|kv| {
            let bytes = shape.block_bytes().min(self.bytes);
            self.bytes -= bytes;
            self.counts.blocks.fetch_add(1, Relaxed);
            let lease = Lease { counts: self.counts.clone(), bytes };
            Held::new(Arc::new(Block { kv, holders: AtomicUsize::new(0), lease }))
        });
        Ok(held.collect())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.counts.bytes.fetch_sub(self.bytes, Relaxed);
    }
}

/// A block and its part of the budget.
#[derive(Debug)]
pub(super) struct Block {
    pub kv: KvBlock,
    /// Sequences that use it.
    holders: AtomicUsize,
    lease: Lease,
}

impl Block {
    /// Whether no sequence uses it.
    pub(super) fn is_idle(&self) -> bool {
        self.holders.load(Relaxed) == 0
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.lease.counts.blocks.fetch_sub(1, Relaxed);
    }
}

/// A sequence's use of a block, which it may share with others.
#[derive(Debug)]
pub struct Held(Arc<Block>);

impl Held {
    pub(super) fn new(block: Arc<Block>) -> Self {
        let counts = &block.lease.counts;
        match block.holders.fetch_add(1, Relaxed) {
            0 => counts.used.fetch_add(1, Relaxed),
            1 => counts.shared.fetch_add(1, Relaxed),
            _ => 0,
        };
        Self(block)
    }

    pub(super) fn block(&self) -> &Arc<Block> {
        &self.0
    }

    /// To write to; `None` while anybody else has it.
    pub(super) fn unique(&mut self) -> Option<&mut KvBlock> {
        Arc::get_mut(&mut self.0).map(|block| &mut block.kv)
    }

    /// Whether this is the same memory as `other`.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        Self::new(self.0.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let counts = &self.0.lease.counts;
        match self.0.holders.fetch_sub(1, Relaxed) {
            1 => counts.used.fetch_sub(1, Relaxed),
            2 => counts.shared.fetch_sub(1, Relaxed),
            _ => 0,
        };
    }
}

impl AsRef<KvBlock> for Held {
    fn as_ref(&self) -> &KvBlock {
        &self.0.kv
    }
}

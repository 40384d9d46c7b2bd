//! The keys and values of a sequence, in blocks of 64 tokens.
mod file;
mod pool;
mod prefixes;

use std::fmt;
use std::ops::Range;

use chalot_tensor::attention::{KvBlock, KvType};
use chalot_tensor::exec::{Exec, ShapeError};

use self::prefixes::NodeId;
use crate::config::ModelConfig;

pub use file::KvFileError;
pub use pool::{Held, KvError, KvPool, KvPoolOptions, KvStats};

/// What a cache's blocks look like. Two caches of one shape fit the same model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Layers of the model.
    pub layers: usize,
    /// Key (and value) heads of a layer.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// What keys and values are stored as.
    pub ty: KvType,
}

impl KvShape {
    /// The shape of a model's caches.
    pub fn of(config: &ModelConfig, ty: KvType) -> Self {
        Self { layers: config.num_layers(), kv_heads: config.num_kv_heads, head_dim: config.head_dim, ty }
    }

    /// Bytes of 64 tokens of one layer.
    pub fn block_bytes(&self) -> usize {
        KvBlock::bytes_of(self.ty, self.kv_heads, self.head_dim)
    }
}

impl fmt::Display for KvShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layers, kv_heads, head_dim, .. } = self;
        write!(f, "{layers} layers of {kv_heads} heads of {head_dim}")
    }
}

/// Keys and values of all layers.
///
/// Layer l holds the positions `64 b .. 64 (b + 1)` in its block b. Blocks may be shared: a cache that was forked from
/// another, or found its beginning in the pool, copies a block only when it writes into it. Layers may be ahead of each
/// other, as when a shallow exit drafts; what lies past the sequence's length is stale and never read, because a query
/// sees nothing after itself.
#[derive(Clone, Debug)]
pub struct KvCache {
    shape: KvShape,
    layers: Vec<LayerKv>,
    /// The nodes of the whole blocks that the pool knows, from the first on.
    nodes: Vec<NodeId>,
    pool: KvPool,
}

/// One layer's part.
#[derive(Clone, Debug, Default)]
struct LayerKv {
    /// Positions written.
    len: usize,
    blocks: Vec<Held>,
}

impl KvCache {
    /// An empty cache with blocks of `pool`.
    pub fn new(shape: KvShape, pool: KvPool) -> Self {
        Self { shape, layers: vec![LayerKv::default(); shape.layers], nodes: Vec::new(), pool }
    }

    /// Its shape.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// Where its blocks come from.
    pub fn pool(&self) -> &KvPool {
        &self.pool
    }

    /// The blocks of a layer, oldest first.
    ///
    /// # Panics
    /// If the model has no such layer.
    pub fn blocks(&self, layer: usize) -> &[Held] {
        &self.layers[layer].blocks
    }

    /// Positions that a layer has written: the sequence's length or, during a draft, more.
    ///
    /// # Panics
    /// If the model has no such layer.
    pub fn len(&self, layer: usize) -> usize {
        self.layers[layer].len
    }

    /// Bytes of all blocks, those shared with other sequences included.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(|layer| layer.blocks.len()).sum::<usize>() * self.shape.block_bytes()
    }

    /// Forgets everything from position `len` on; whole blocks are freed, a cut one is kept.
    pub fn truncate(&mut self, len: usize) {
        let mut freed = false;
        for layer in &mut self.layers {
            layer.len = layer.len.min(len);
            let blocks = len.div_ceil(KvBlock::TOKENS);
            freed |= blocks < layer.blocks.len();
            layer.blocks.truncate(blocks);
        }
        self.nodes.truncate(len / KvBlock::TOKENS);
        if freed {
            self.pool.trim();
        }
    }

    /// Takes back what was written from position `len` on, which was never part of the text; blocks stay for what is written there
    /// next.
    pub(crate) fn rewind(&mut self, len: usize) {
        self.layers.iter_mut().for_each(|layer| layer.len = layer.len.min(len));
    }

    /// Makes room for `positions` in `layers`: blocks that are not there, and own copies of those that others use too.
    /// Afterwards [`KvCache::write`] finds what it needs.
    ///
    /// # Errors
    /// [`KvError`] when there is no memory for all of it; then nothing has changed.
    pub(crate) fn reserve(&mut self, layers: Range<usize>, positions: Range<usize>) -> Result<(), KvError> {
        let (first, end) = (positions.start / KvBlock::TOKENS, positions.end.div_ceil(KvBlock::TOKENS));
        let layers = &mut self.layers[layers];
        let mut needed = 0;
        for layer in &mut *layers {
            let there = layer.blocks.len().min(end);
            let shared = |block: &mut Held| usize::from(block.unique().is_none());
            needed +=
                layer.blocks[first.min(there)..there].iter_mut().map(shared).sum::<usize>() + end - there;
        }
        if needed == 0 {
            return Ok(());
        }
        let bytes = needed.saturating_mul(self.shape.block_bytes());
        // All of them before the first is put in its place; those of a layer one after the other.
        let mut fresh = self.pool.lease(bytes)?.blocks(&self.shape, needed)?.into_iter();
        for layer in layers {
            let there = layer.blocks.len().min(end);
            for block in &mut layer.blocks[first.min(there)..there] {
                if block.unique().is_none()
                    && let Some(mut copy) = fresh.next()
                {
                    if let Some(to) = copy.unique() {
                        to.copy_from(block.as_ref());
                    }
                    *block = copy;
                }
            }
            while layer.blocks.len() < end
                && let Some(block) = fresh.next()
            {
                layer.blocks.push(block);
            }
        }
        Ok(())
    }

    /// Writes keys and values `[positions][kv_heads][head_dim]` of consecutive positions of one layer. Everything
    /// before them must be there, and room for them reserved.
    pub(crate) fn write(
        &mut self,
        exec: &Exec,
        layer: usize,
        positions: Range<usize>,
        keys: &[f32],
        values: &[f32],
    ) -> Result<(), ShapeError> {
        let KvShape { kv_heads, head_dim, .. } = self.shape;
        let width = kv_heads * head_dim;
        // What the pool knows is not what will stand here.
        self.nodes.truncate(positions.start / KvBlock::TOKENS);
        let LayerKv { len, blocks } = &mut self.layers[layer];
        *len = positions.end;
        let mut start = positions.start;
        while start < positions.end {
            // As much as one block takes.
            let end = positions.end.min((start / KvBlock::TOKENS + 1) * KvBlock::TOKENS);
            let part = (start - positions.start) * width..(end - positions.start) * width;
            let index = start / KvBlock::TOKENS;
            let found = blocks.len();
            let Some(block) = blocks.get_mut(index).and_then(Held::unique) else {
                return Err(ShapeError {
                    op: "kv write",
                    what: "reserved blocks",
                    expected: index + 1,
                    found,
                });
            };
            block.write(exec, start % KvBlock::TOKENS, &keys[part.clone()], &values[part])?;
            start = end;
        }
        Ok(())
    }

    /// Tells the pool of the whole blocks of `tokens`, which are all of the sequence, that it does not know yet.
    pub(crate) fn publish(&mut self, tokens: &[u32]) {
        let known = self.nodes.len();
        let whole = self.layers.iter().map(|layer| layer.len).min().unwrap_or(0).min(tokens.len());
        if !self.pool.shares() || whole / KvBlock::TOKENS <= known {
            return;
        }
        let mut prefixes = self.pool.prefixes();
        for (index, tokens) in tokens[..whole].chunks_exact(KvBlock::TOKENS).enumerate().skip(known) {
            let mut blocks: Vec<_> = self.layers.iter_mut().map(|layer| &mut layer.blocks[index]).collect();
            let parent = self.nodes.last().copied();
            match prefixes.insert(self.shape.ty, parent, tokens, &mut blocks) {
                Some(node) => self.nodes.push(node),
                None => return,
            }
        }
    }

    /// Becomes the longest beginning of `tokens` that the pool knows, if that is longer than `more_than`. Returns its
    /// length.
    pub(crate) fn adopt(&mut self, tokens: &[u32], more_than: usize) -> Option<usize> {
        if !self.pool.shares() {
            return None;
        }
        let found = self.pool.prefixes().find(self.shape.ty, tokens);
        if found.tokens <= more_than {
            return None;
        }
        for layer in &mut self.layers {
            layer.len = found.tokens;
            layer.blocks.clear();
        }
        for blocks in found.blocks {
            for (layer, block) in self.layers.iter_mut().zip(blocks) {
                layer.blocks.push(block);
            }
        }
        self.nodes = found.nodes;
        self.pool.trim();
        Some(found.tokens)
    }
}

impl Drop for KvCache {
    fn drop(&mut self) {
        self.truncate(0);
    }
}

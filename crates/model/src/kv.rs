//! The keys and values of a sequence, in blocks of 64 tokens.
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use chalot_tensor::attention::{KvBlock, KvType};
use chalot_tensor::exec::{Exec, ShapeError};

use crate::config::ModelConfig;

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
}

impl fmt::Display for KvShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layers, kv_heads, head_dim, .. } = self;
        write!(f, "{layers} layers of {kv_heads} heads of {head_dim}")
    }
}

/// Keys and values of all layers.
///
/// Layer l holds the positions `64 b .. 64 (b + 1)` in its block b. Blocks are shared by `Arc`: a cache that was forked
/// from another copies a block only when it writes into it. Layers may be ahead of each other, as when a shallow exit
/// drafts; what lies past the sequence's length is stale and never read, because a query sees nothing after itself.
#[derive(Clone, Debug)]
pub struct KvCache {
    shape: KvShape,
    layers: Vec<LayerKv>,
}

/// One layer's part.
#[derive(Clone, Debug, Default)]
struct LayerKv {
    /// Positions written.
    len: usize,
    blocks: Vec<Arc<KvBlock>>,
}

impl KvCache {
    /// An empty cache.
    pub fn new(shape: KvShape) -> Self {
        Self { shape, layers: vec![LayerKv::default(); shape.layers] }
    }

    /// Its shape.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// The blocks of a layer, oldest first.
    ///
    /// # Panics
    /// If the model has no such layer.
    pub fn blocks(&self, layer: usize) -> &[Arc<KvBlock>] {
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
        self.layers.iter().flat_map(|layer| &layer.blocks).map(|block| block.bytes()).sum()
    }

    /// Forgets everything from position `len` on; whole blocks are freed, a cut one is kept.
    pub fn truncate(&mut self, len: usize) {
        for layer in &mut self.layers {
            layer.len = layer.len.min(len);
            layer.blocks.truncate(len.div_ceil(KvBlock::TOKENS));
        }
    }

    /// Writes keys and values `[positions][kv_heads][head_dim]` of consecutive positions of one layer. Everything
    /// before them must be there.
    pub(crate) fn write(
        &mut self,
        exec: &Exec,
        layer: usize,
        positions: Range<usize>,
        keys: &[f32],
        values: &[f32],
    ) -> Result<(), ShapeError> {
        let KvShape { kv_heads, head_dim, ty, .. } = self.shape;
        let width = kv_heads * head_dim;
        let LayerKv { len, blocks } = &mut self.layers[layer];
        *len = positions.end;
        while blocks.len() * KvBlock::TOKENS < positions.end {
            blocks.push(Arc::new(KvBlock::new(ty, kv_heads, head_dim)));
        }
        let mut start = positions.start;
        while start < positions.end {
            // As much as one block takes.
            let end = positions.end.min((start / KvBlock::TOKENS + 1) * KvBlock::TOKENS);
            let part = (start - positions.start) * width..(end - positions.start) * width;
            let block = Arc::make_mut(&mut blocks[start / KvBlock::TOKENS]);
            block.write(exec, start % KvBlock::TOKENS, &keys[part.clone()], &values[part])?;
            start = end;
        }
        Ok(())
    }
}

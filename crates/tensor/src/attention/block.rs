//! Keys and values of 64 tokens, as the kernels read them.
use bytemuck::Pod;
use chalot_simd::AlignedVec;
use half::f16;
use serde::{Deserialize, Serialize};

use super::{
    codes::{Codes, WriteCodes},
    tile::{CacheLine, Number},
};
use crate::{
    exec::{Exec, ShapeError},
    math::lanes::{Kernel, LANES, Lanes, dispatch},
};

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KvType {
    /// As computed.
    F32,
    /// Rounded to half precision, to nearest even; beyond ±65,520 becomes infinite, a NaN stays a NaN.
    F16,
    /// Integers of 8 bits, -127..=127, times a scale for each token and head: a 127th of the greatest magnitude. The scale
    /// of a key or value that has a NaN or an infinity is NaN; magnitudes that are all below 1e-30 become 0.
    ///
    /// Queries and weights meet them as integers of 16 bits, so that the sums are exact.
    Int8,
}

impl KvType {
    /// Bits of a stored number.
    pub(super) fn bits(self) -> usize {
        match self {
            Self::F32 => 32,
            Self::F16 => 16,
            Self::Int8 => 8,
        }
    }

    /// Its name: `f32`, `f16` or `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        }
    }
}

/// Keys and values of up to 64 consecutive tokens of one layer, all key-value heads.
///
/// Block b of a sequence holds the positions `64·b ..`. Slots not yet written may hold anything (a recycled
/// block its old contents): no query sees them.
#[derive(Clone, Debug)]
pub struct KvBlock {
    kv_heads: usize,
    head_dim: usize,
    storage: Storage,
}

/// The numbers, by type.
#[derive(Clone, Debug)]
pub(super) enum Storage {
    F32(Planes<f32>),
    F16(Planes<f16>),
    Int8(Codes),
}

/// Keys lie transposed, so that 64 scores are four vectors; values lie as rows, padded to whole vectors.
#[derive(Clone, Debug)]
pub(super) struct Planes<T: Pod> {
    /// By head the keys, `[head_dim][64]`, then the values, `[64][head_dim, rounded up to 16]`, in vectors: so that what is
    /// read together lies together.
    heads: AlignedVec<[T; LANES]>,
}

/// Vectors across the 64 tokens of a block.
pub(super) const TOKEN_VECTORS: usize = KvBlock::TOKENS / LANES;

/// Vectors of a head's keys and of its values.
#[inline(always)]
fn lens(head_dim: usize) -> [usize; 2] {
    [head_dim * TOKEN_VECTORS, KvBlock::TOKENS * head_dim.div_ceil(LANES)]
}

impl<T: Pod> Planes<T> {
    fn bytes_of(kv_heads: usize, head_dim: usize) -> usize {
        kv_heads * lens(head_dim).iter().sum::<usize>() * size_of::<[T; LANES]>()
    }

    /// The planes of `n` blocks, which share a memory.
    fn zeroed(kv_heads: usize, head_dim: usize, n: usize) -> Option<impl Iterator<Item = Self>> {
        let len = kv_heads * lens(head_dim).iter().sum::<usize>();
        let mut memory = AlignedVec::try_zeroed(n.checked_mul(len)?)?;
        Some((0..n).map(move |_| Self { heads: memory.split_to(len) }))
    }

    /// Makes the slots from `slot` on zero.
    fn clear(&mut self, slot: usize, head_dim: usize) {
        let [keys, values] = lens(head_dim);
        for head in self.heads.chunks_exact_mut(keys + values) {
            let (keys, values) = head.split_at_mut(keys);
            for keys in keys.as_flattened_mut().chunks_exact_mut(KvBlock::TOKENS) {
                keys[slot..].fill(T::zeroed());
            }
            values[slot * head_dim.div_ceil(LANES)..].fill([T::zeroed(); LANES]);
        }
    }

    fn as_bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.heads)
    }

    fn as_bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.heads)
    }

    #[inline(always)]
    fn numbers(&self, head: usize, head_dim: usize) -> &[[T; LANES]] {
        let len = lens(head_dim).iter().sum::<usize>();
        &self.heads[head * len..][..len]
    }

    #[inline(always)]
    pub(super) fn head(&self, head: usize, head_dim: usize) -> Head<'_, T> {
        let (keys, values) = self.numbers(head, head_dim).split_at(lens(head_dim)[0]);
        Head { keys, values }
    }
}

/// The keys, `[head_dim][64]`, and values, `[64][head_dim, rounded up to 16]`, of one head.
#[derive(Clone, Copy)]
pub(super) struct Head<'a, T> {
    pub keys: &'a [[T; LANES]],
    pub values: &'a [[T; LANES]],
}

impl KvBlock {
    /// Tokens of a block.
    pub const TOKENS: usize = 64;

    /// An empty block.
    ///
    /// # Panics
    /// When memory runs out, like [`Vec`].
    pub fn new(ty: KvType, kv_heads: usize, head_dim: usize) -> Self {
        let bytes = Self::bytes_of(ty, kv_heads, head_dim);
        Self::try_new(ty, kv_heads, head_dim, 1)
            .and_then(|mut blocks| blocks.pop())
            .unwrap_or_else(|| panic!("no memory for a block of {bytes} bytes"))
    }

    /// `n` empty blocks, which share a memory: it is free again when they all are, and large enough for huge pages where
    /// they together are. `None` when the system has no memory for them.
    pub fn try_new(ty: KvType, kv_heads: usize, head_dim: usize, n: usize) -> Option<Vec<Self>> {
        let block = |storage| Self { kv_heads, head_dim, storage };
        Some(match ty {
            KvType::F32 => Planes::zeroed(kv_heads, head_dim, n)?.map(Storage::F32).map(block).collect(),
            KvType::F16 => Planes::zeroed(kv_heads, head_dim, n)?.map(Storage::F16).map(block).collect(),
            KvType::Int8 => Codes::zeroed(kv_heads, head_dim, n)?.map(Storage::Int8).map(block).collect(),
        })
    }

    /// Bytes of a block before it is there.
    pub fn bytes_of(ty: KvType, kv_heads: usize, head_dim: usize) -> usize {
        match ty {
            KvType::F32 => Planes::<f32>::bytes_of(kv_heads, head_dim),
            KvType::F16 => Planes::<f16>::bytes_of(kv_heads, head_dim),
            KvType::Int8 => Codes::bytes_of(kv_heads, head_dim),
        }
    }

    /// The type of the stored numbers.
    pub fn kv_type(&self) -> KvType {
        match self.storage {
            Storage::F32(_) => KvType::F32,
            Storage::F16(_) => KvType::F16,
            Storage::Int8(_) => KvType::Int8,
        }
    }

    /// Key-value heads.
    pub fn kv_heads(&self) -> usize {
        self.kv_heads
    }

    /// Numbers of a key or value.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.as_bytes().len()
    }

    /// Writes the keys and values of one or more consecutive tokens, `[tokens][kv_heads][head_dim]` each, into
    /// the slots from `slot` on; the slot of position p is `p % 64`.
    ///
    /// # Errors
    /// If `k` and `v` differ in length, are not whole tokens, or do not fit into the slots.
    pub fn write(&mut self, exec: &Exec, slot: usize, k: &[f32], v: &[f32]) -> Result<(), ShapeError> {
        let token = self.kv_heads * self.head_dim;
        let tokens = k.len().checked_div(token).unwrap_or(0);
        ShapeError::check("kv write", "k", tokens * token, k.len())?;
        ShapeError::check("kv write", "v", k.len(), v.len())?;
        let end = slot.saturating_add(tokens);
        if end > Self::TOKENS {
            return Err(ShapeError { op: "kv write", what: "the block", expected: end, found: Self::TOKENS });
        }
        let rows = Rows { k, v, tokens, token_stride: token, head_stride: self.head_dim };
        self.write_rows(exec, slot, rows);
        Ok(())
    }

    /// Writes `rows`; slots and slices fit.
    pub(super) fn write_rows(&mut self, exec: &Exec, slot: usize, rows: Rows<'_>) {
        let head_dim = self.head_dim;
        match &mut self.storage {
            Storage::F32(planes) => dispatch(exec.isa, Write { planes, head_dim, slot, rows }),
            Storage::F16(planes) => dispatch(exec.isa, Write { planes, head_dim, slot, rows }),
            Storage::Int8(codes) => dispatch(exec.isa, WriteCodes { codes, head_dim, slot, rows }),
        }
    }

    /// Becomes what `other` is, in its own memory if it has the same shape.
    pub fn copy_from(&mut self, other: &Self) {
        let shape = |block: &Self| (block.kv_type(), block.kv_heads, block.head_dim);
        if shape(self) != shape(other) {
            *self = other.clone();
            return;
        }
        self.as_bytes_mut().copy_from_slice(other.as_bytes());
    }

    /// Makes the slots from `slot` on zero: what is not used may hold what another text left.
    pub fn clear(&mut self, slot: usize) {
        let slot = slot.min(Self::TOKENS);
        match &mut self.storage {
            Storage::F32(planes) => planes.clear(slot, self.head_dim),
            Storage::F16(planes) => planes.clear(slot, self.head_dim),
            Storage::Int8(codes) => codes.clear(slot, self.head_dim),
        }
    }

    /// The bytes of the block: the same for the same content on every (little-endian) CPU.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.storage {
            Storage::F32(planes) => planes.as_bytes(),
            Storage::F16(planes) => planes.as_bytes(),
            Storage::Int8(codes) => codes.as_bytes(),
        }
    }

    /// The same to write to. No content is invalid, though numbers may be NaN.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.storage {
            Storage::F32(planes) => planes.as_bytes_mut(),
            Storage::F16(planes) => planes.as_bytes_mut(),
            Storage::Int8(codes) => codes.as_bytes_mut(),
        }
    }

    /// The memory of a head.
    pub(super) fn lines(&self, head: usize) -> &[CacheLine] {
        match &self.storage {
            Storage::F32(planes) => bytemuck::cast_slice(planes.numbers(head, self.head_dim)),
            Storage::F16(planes) => bytemuck::cast_slice(planes.numbers(head, self.head_dim)),
            Storage::Int8(codes) => codes.lines(head, self.head_dim),
        }
    }

    #[inline(always)]
    pub(super) fn storage(&self) -> &Storage {
        &self.storage
    }
}

impl AsRef<KvBlock> for KvBlock {
    fn as_ref(&self) -> &KvBlock {
        self
    }
}

/// Keys and values of consecutive tokens, somewhere in memory.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub k: &'a [f32],
    pub v: &'a [f32],
    pub tokens: usize,
    pub token_stride: usize,
    pub head_stride: usize,
}

/// Keys to columns, values to rows.
struct Write<'a, E: Number> {
    planes: &'a mut Planes<E>,
    head_dim: usize,
    slot: usize,
    rows: Rows<'a>,
}

impl<E: Number> Kernel for Write<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let vectors = self.head_dim.div_ceil(LANES);
        let [keys, values] = lens(self.head_dim);
        for (head, numbers) in self.planes.heads.chunks_exact_mut(keys + values).enumerate() {
            let (columns, values) = numbers.split_at_mut(keys);
            let columns = columns.as_flattened_mut();
            for token in 0..self.rows.tokens {
                let at = token * self.rows.token_stride + head * self.rows.head_stride;
                let (k, v) = (&self.rows.k[at..][..self.head_dim], &self.rows.v[at..][..self.head_dim]);
                let slot = self.slot + token;
                for (chunk, k) in k.chunks(LANES).enumerate() {
                    let mut stored = [E::zeroed(); LANES];
                    E::store(l, l.load_or(k, 0.0), &mut stored);
                    for (d, x) in stored.iter().take(k.len()).enumerate() {
                        columns[(chunk * LANES + d) * KvBlock::TOKENS + slot] = *x;
                    }
                }
                for (to, v) in values[slot * vectors..][..vectors].iter_mut().zip(v.chunks(LANES)) {
                    E::store(l, l.load_or(v, 0.0), to);
                }
            }
        }
    }
}

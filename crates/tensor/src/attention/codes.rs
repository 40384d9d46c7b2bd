//! Keys and values as integers of 8 bits, and the queries and weights of 16 bits that they are multiplied with.
//!
//! Two numbers that are summed lie side by side: two dimensions of a key, two tokens' values of one dimension. So a
//! 16-bit pair of the other factor meets them with one multiply-add. A half that is missing counts as zero.
use chalot_simd::AlignedVec;

use super::{
    KvBlock,
    block::{Rows, TOKEN_VECTORS},
    tile::CacheLine,
};
use crate::math::lanes::{Kernel, LANES, Lanes, Pair};

/// Where all magnitudes are below this, all numbers become 0: a whole number of steps divided by it could be infinite.
pub(super) const LEAST: f32 = 1e-30;

/// The largest code of a key or value.
const LARGEST: f32 = 127.0;

/// The largest code of a weight.
pub(super) const LARGEST_WEIGHT: f32 = 32_767.0;

/// Vectors of the scales of a block's tokens.
pub(super) type Scales = [[f32; LANES]; TOKEN_VECTORS];

/// Sixteen pairs of codes.
type CodeVector = [[i8; 2]; LANES];

/// The largest code of a query: so that no sum overflows, however long the head and whatever the keys' codes.
pub(super) fn largest_query(head_dim: usize) -> f32 {
    // Both are exact.
    (i32::MAX as usize / (128 * head_dim.max(1))).min(32_767) as f32
}

/// The codes of a block: by head, the keys' scales and codes, then the values'.
#[derive(Clone, Debug)]
pub(super) struct Codes {
    lines: AlignedVec<CacheLine>,
}

/// Cache lines of the parts of a head.
struct Layout {
    keys: usize,
    values: usize,
}

/// Scales of 64 tokens.
const SCALE_LINES: usize = KvBlock::TOKENS * size_of::<f32>() / size_of::<CacheLine>();

impl Layout {
    #[inline(always)]
    fn of(head_dim: usize) -> Self {
        // Two dimensions of 64 tokens are two lines, two tokens of 16 dimensions half a line.
        Self {
            keys: SCALE_LINES + head_dim.div_ceil(2) * 2,
            values: SCALE_LINES + head_dim.div_ceil(LANES) * KvBlock::TOKENS / 4,
        }
    }
}

/// The codes of one head.
#[derive(Clone, Copy)]
pub(super) struct HeadCodes<'a> {
    pub key_scales: &'a Scales,
    pub value_scales: &'a Scales,
    /// `[head_dim / 2, rounded up][64]` pairs of dimensions, in vectors.
    pub keys: &'a [CodeVector],
    /// `[32][head_dim, rounded up to 16]` pairs of tokens, in vectors.
    pub values: &'a [CodeVector],
}

impl Codes {
    /// The codes of `n` blocks, which share a memory.
    pub(super) fn zeroed(kv_heads: usize, head_dim: usize, n: usize) -> Option<impl Iterator<Item = Self>> {
        let lines = Self::bytes_of(kv_heads, head_dim) / size_of::<CacheLine>();
        let mut memory = AlignedVec::try_zeroed(n.checked_mul(lines)?)?;
        Some((0..n).map(move |_| Self { lines: memory.split_to(lines) }))
    }

    pub(super) fn bytes_of(kv_heads: usize, head_dim: usize) -> usize {
        let Layout { keys, values } = Layout::of(head_dim);
        kv_heads * (keys + values) * size_of::<CacheLine>()
    }

    /// Makes the slots from `slot` on zero.
    pub(super) fn clear(&mut self, slot: usize, head_dim: usize) {
        let Layout { keys, values } = Layout::of(head_dim);
        for lines in self.lines.chunks_exact_mut(keys + values) {
            let (keys, values) = lines.split_at_mut(keys);
            let ((key_scales, keys), (value_scales, values)) =
                (keys.split_at_mut(SCALE_LINES), values.split_at_mut(SCALE_LINES));
            for scales in [key_scales, value_scales] {
                bytemuck::cast_slice_mut::<u8, f32>(scales.as_flattened_mut())[slot..].fill(0.0);
            }
            for keys in keys.as_flattened_mut().chunks_exact_mut(2 * KvBlock::TOKENS) {
                keys[2 * slot..].fill(0);
            }
            let row = 2 * head_dim.next_multiple_of(LANES);
            for (pair, values) in values.as_flattened_mut().chunks_exact_mut(row).enumerate() {
                for (i, code) in values.iter_mut().enumerate() {
                    if 2 * pair + i % 2 >= slot {
                        *code = 0;
                    }
                }
            }
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.lines.as_flattened()
    }

    pub(super) fn as_bytes_mut(&mut self) -> &mut [u8] {
        self.lines.as_flattened_mut()
    }

    #[inline(always)]
    pub(super) fn lines(&self, head: usize, head_dim: usize) -> &[CacheLine] {
        let Layout { keys, values } = Layout::of(head_dim);
        &self.lines[head * (keys + values)..][..keys + values]
    }

    #[inline(always)]
    pub(super) fn head(&self, head: usize, head_dim: usize) -> HeadCodes<'_> {
        let (keys, values) = self.lines(head, head_dim).split_at(Layout::of(head_dim).keys);
        let ((key_scales, keys), (value_scales, values)) =
            (keys.split_at(SCALE_LINES), values.split_at(SCALE_LINES));
        HeadCodes {
            key_scales: scales(key_scales),
            value_scales: scales(value_scales),
            keys: bytemuck::cast_slice(keys),
            values: bytemuck::cast_slice(values),
        }
    }
}

#[inline(always)]
fn scales(lines: &[CacheLine]) -> &Scales {
    &bytemuck::cast_slice::<CacheLine, Scales>(lines)[0]
}

/// Numbers as codes times a step.
pub(super) struct Step {
    /// Codes per one.
    inverse: f32,
    /// One per code; NaN if a number is NaN or infinite.
    pub step: f32,
}

impl Step {
    /// The step of numbers whose greatest magnitude is `max` (NaN passed over), where `poison` is the sum of zero times
    /// each of them.
    #[inline(always)]
    pub(super) fn new(max: f32, poison: f32, largest: f32) -> Self {
        let inverse = if max < LEAST { 0.0 } else { largest / max };
        Self { inverse, step: max / largest + poison }
    }

    /// The codes, whole numbers; of NaN any.
    #[inline(always)]
    pub(super) fn codes<L: Lanes>(&self, l: L, x: L::V, largest: f32) -> L::V {
        let x = l.min(l.mul(x, l.splat(self.inverse)), l.splat(largest));
        l.round(l.max(x, l.splat(-largest)))
    }
}

/// The step of `x`.
#[inline(always)]
pub(super) fn step_of<L: Lanes>(l: L, x: &[f32], largest: f32) -> Step {
    let (mut max, mut poison) = (l.splat(0.0), l.splat(0.0));
    for x in x.chunks(LANES) {
        let x = l.load_or(x, 0.0);
        max = l.max(l.abs(x), max);
        poison = l.fma(x, l.splat(0.0), poison);
    }
    Step::new(l.maximum(max), l.sum(poison), largest)
}

/// Queries as pairs of codes: `[head_dim / 2, rounded up]`; returns the step.
#[inline(always)]
pub(super) fn quantize_query<L: Lanes>(l: L, x: &[f32], largest: f32, pairs: &mut [Pair]) -> f32 {
    let step = step_of(l, x, largest);
    for (x, pairs) in x.chunks(LANES).zip(pairs.chunks_mut(LANES / 2)) {
        let mut codes = [0; LANES];
        l.store_i16(step.codes(l, l.load_or(x, 0.0), largest), &mut codes);
        let (codes, _) = codes.as_chunks::<2>();
        pairs.copy_from_slice(&codes[..pairs.len()]);
    }
    step.step
}

/// Keys to columns, values to rows, as codes.
pub(super) struct WriteCodes<'a> {
    pub codes: &'a mut Codes,
    pub head_dim: usize,
    pub slot: usize,
    pub rows: Rows<'a>,
}

impl Kernel for WriteCodes<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Layout { keys, values } = Layout::of(self.head_dim);
        let width = self.head_dim.next_multiple_of(LANES);
        for (head, lines) in self.codes.lines.chunks_exact_mut(keys + values).enumerate() {
            let (keys, values) = lines.split_at_mut(keys);
            let ((key_scales, keys), (value_scales, values)) =
                (keys.split_at_mut(SCALE_LINES), values.split_at_mut(SCALE_LINES));
            let key_scales: &mut [f32] = bytemuck::cast_slice_mut(key_scales);
            let value_scales: &mut [f32] = bytemuck::cast_slice_mut(value_scales);
            let keys: &mut [i8] = bytemuck::cast_slice_mut(keys.as_flattened_mut());
            let values: &mut [i8] = bytemuck::cast_slice_mut(values.as_flattened_mut());
            for token in 0..self.rows.tokens {
                let at = token * self.rows.token_stride + head * self.rows.head_stride;
                let (k, v) = (&self.rows.k[at..][..self.head_dim], &self.rows.v[at..][..self.head_dim]);
                let slot = self.slot + token;
                let step = step_of(l, k, LARGEST);
                key_scales[slot] = step.step;
                for (chunk, k) in k.chunks(LANES).enumerate() {
                    let mut codes = [0; LANES];
                    l.store_i16(step.codes(l, l.load_or(k, 0.0), LARGEST), &mut codes);
                    for (d, code) in (chunk * LANES..).zip(&codes[..k.len()]) {
                        keys[(d / 2 * KvBlock::TOKENS + slot) * 2 + d % 2] = *code as i8;
                    }
                }
                let step = step_of(l, v, LARGEST);
                value_scales[slot] = step.step;
                for (chunk, v) in v.chunks(LANES).enumerate() {
                    let mut codes = [0; LANES];
                    l.store_i16(step.codes(l, l.load_or(v, 0.0), LARGEST), &mut codes);
                    for (d, code) in (chunk * LANES..).zip(codes) {
                        values[(slot / 2 * width + d) * 2 + slot % 2] = code as i8;
                    }
                }
            }
        }
    }
}

//! The input of products: tokens as floats, and the 8-bit form that integer weights meet.
mod kernel;
pub(crate) mod reference;
#[cfg(test)]
mod tests;

use std::{cell::Cell, ops::Range};

use chalot_simd::{AlignedVec, Isa, IsaKind};

#[cfg(target_arch = "x86_64")]
use crate::linear::lanes::amx::TokenLines;
use crate::{
    exec::{Exec, ShapeError},
    linear::lanes::{LINE, LINE_TOKENS, Quad, Vectors},
    matrix::{Format, Matrix},
    out::SharedOut,
};

/// The most tokens that a kernel takes at once.
pub(crate) const MAX_TOKENS: usize = 6;
/// Elements below which a form is made by the calling thread alone: a few microseconds of work.
const PARALLEL: usize = 32 * 1024;

thread_local! {
    /// A token whose floats nobody keeps.
    static TOKEN: Cell<AlignedVec<f32>> = Cell::default();
}

/// The input of products, `x[m][k]`: m tokens of k features.
///
/// Integer weights are multiplied by integer activations. They are made when a product first asks for them, and
/// kept until the floats change, so that several products of one input (query, key and value; gate and up) share
/// the work. The rule, for each token or, where weights have scales by group, each group of a token's features
/// (BitNet b1.58, Ma et al. 2024; Wang et al. 2023, "BitNet", section 2.1):
///
/// ```text
/// s = 127 / max |x|        q = clamp(round(x * s), -128, 127), halves to even        x ~ q * (1 / s)
/// ```
///
/// By token, max |x| is taken as at least 1e-5; a group whose maximum is below 1e-30 is zero. NaN becomes -128.
///
/// ```
/// use chalot_simd::Isa;
/// use chalot_tensor::{Activations, Exec, Format, Matrix, matmul};
///
/// let exec = Exec::new(Isa::best(), 1);
/// let w = Matrix::from_f32(&exec, Format::F32, 1, 2, &[3.0, 4.0])?;
/// let mut x = Activations::new();
/// x.set(2, 2).copy_from_slice(&[1.0, 0.0, 0.5, 0.5]);
/// let mut y = [0.0; 2];
/// matmul(&exec, &w, &mut x, &mut y)?;
/// assert_eq!(y, [3.0, 3.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Activations {
    m: usize,
    k: usize,
    /// `[m][k]`, or nothing where only a form was wanted.
    x: AlignedVec<f32>,
    /// The floats by token tiles, `[tile][k][tokens of the tile]`.
    tiled: AlignedVec<f32>,
    tiled_is_fresh: bool,
    quantized: Vec<Quantized>,
}

impl Activations {
    /// No tokens.
    pub fn new() -> Self {
        Self::default()
    }

    /// Room for `m` tokens of `k` features to be written, `[m][k]`, all of it: it may hold old values.
    ///
    /// Memory is kept from call to call, so a steady state allocates nothing.
    ///
    /// # Panics
    /// When `m * k` floats exceed the address space.
    pub fn set(&mut self, m: usize, k: usize) -> &mut [f32] {
        self.begin(m, k, true);
        &mut self.x
    }

    fn begin(&mut self, m: usize, k: usize, keep: bool) {
        let Some(len) = m.checked_mul(k) else { panic!("{m} x {k} activations exceed the address space") };
        (self.m, self.k) = (m, k);
        self.tiled_is_fresh = false;
        self.quantized.iter_mut().for_each(|form| form.is_fresh = false);
        self.x.resize_dirty(if keep { len } else { 0 });
    }

    /// As [`Activations::set`], each token written by `write(token, its features)`, for products with `weights` (which have `k`
    /// columns). Their 8-bit form is made of a token while it is in the cache; where they all meet the same one, the floats
    /// are not kept, and a product with other weights is an error. On all threads when there is enough to do.
    ///
    /// # Panics
    /// As [`Activations::set`]; when some of the weights have another number of columns.
    pub fn fill(
        &mut self,
        exec: &Exec,
        (m, k): (usize, usize),
        weights: &[&Matrix],
        write: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) {
        assert!(weights.iter().all(|w| w.cols() == k), "columns of the weights and features of a token");
        let form_of = |w: &&Matrix| {
            let is_integer = w.format().scale_by().is_some();
            is_integer.then(|| Segments::of(w, Order::of(exec, m, [*w])))
        };
        let mut forms = weights.iter().map(form_of);
        let first = forms.next().flatten();
        let keep = first.is_none() || forms.any(|form| form != first) || Vectors::of(exec.isa).is_none();
        self.begin(m, k, keep);
        let order = first.map_or(Order::Quads, |segments| segments.order);
        let fill = |x: &mut [f32], out: Option<QuantizedOut<'_>>| {
            let x = SharedOut::new(x);
            for_parts(exec, order, (m, k), &|part| {
                let mut own = TOKEN.take();
                own.resize_dirty(if keep { 0 } else { k });
                for token in part.clone() {
                    // SAFETY: parts are disjoint, and each is made by one task.
                    let x = if keep { unsafe { x.part(token * k, k) } } else { &mut own };
                    write(token, x);
                    if let Some(out) = &out {
                        // SAFETY: as above.
                        unsafe { out.token(exec.isa, &part, token, x) };
                    }
                }
                TOKEN.set(own);
            });
        };
        match first {
            None => fill(&mut self.x, None),
            Some(segments) => {
                self.renew(segments, |this, form| fill(&mut this.x, Some(form.begin(segments, m))));
            }
        }
    }

    /// The floats, `[m][k]`; none where [`Activations::fill`] kept none.
    pub fn as_f32(&self) -> &[f32] {
        &self.x
    }

    /// Tokens.
    pub fn m(&self) -> usize {
        self.m
    }

    /// Features of a token.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The floats, `[m][k]`.
    ///
    /// # Errors
    /// When they were not kept.
    pub(crate) fn floats(&self) -> Result<&[f32], ShapeError> {
        let what = "the input, of which only the form for other weights was kept,";
        ShapeError::check("product", what, self.m * self.k, self.x.len())?;
        Ok(&self.x)
    }

    /// Makes the form that the weights `w` meet, which have `k` columns, unless it is there.
    ///
    /// # Errors
    /// When there are no floats to make it of.
    pub(crate) fn make_for(&mut self, exec: &Exec, w: &Matrix, order: Order) -> Result<(), ShapeError> {
        if w.format().scale_by().is_none() {
            self.floats()?;
            self.make_tiled(exec);
        } else if self.form(w, order).is_none() {
            self.floats()?;
            let segments = Segments::of(w, order);
            self.renew(segments, |this, form| form.make(exec, segments, &this.x, this.m));
        }
        Ok(())
    }

    /// The floats by token tiles: the floats of the tile at token `t` start at `t * k`.
    pub(crate) fn tiled(&self) -> &[f32] {
        debug_assert!(self.m <= 1 || self.tiled_is_fresh, "see make_for");
        if self.m <= 1 { &self.x } else { &self.tiled }
    }

    /// The integer form for the weights `w`.
    pub(crate) fn quantized(&self, w: &Matrix, order: Order) -> &Quantized {
        self.form(w, order).unwrap_or_else(|| unreachable!("see make_for"))
    }

    fn form(&self, w: &Matrix, order: Order) -> Option<&Quantized> {
        let segments = Segments::of(w, order);
        self.quantized.iter().find(|form| form.is_fresh && form.segments == segments)
    }

    /// Makes one form anew, in the memory of one that is out of date, best of one of the same shape.
    fn renew(&mut self, segments: Segments, make: impl FnOnce(&mut Self, &mut Quantized)) {
        let stale = |form: &Quantized| !form.is_fresh;
        let of_shape = self.quantized.iter().position(|form| stale(form) && form.segments == segments);
        let index = of_shape.or_else(|| self.quantized.iter().position(stale)).unwrap_or_else(|| {
            self.quantized.push(Quantized::default());
            self.quantized.len() - 1
        });
        let mut form = std::mem::take(&mut self.quantized[index]);
        make(self, &mut form);
        self.quantized[index] = form;
    }

    fn make_tiled(&mut self, exec: &Exec) {
        if self.m <= 1 || self.tiled_is_fresh {
            return;
        }
        self.tiled.resize_dirty(self.x.len());
        let out = SharedOut::new(&mut self.tiled);
        let (x, k) = (&self.x, self.k);
        for_parts(exec, Order::Quads, (self.m, k), &|tokens| {
            // SAFETY: parts are disjoint, and each is made by one task.
            let out = unsafe { out.part(tokens.start * k, tokens.len() * k) };
            for (t, row) in x[tokens.start * k..tokens.end * k].chunks_exact(k).enumerate() {
                for (column, &x) in out.chunks_exact_mut(tokens.len()).zip(row) {
                    column[t] = x;
                }
            }
        });
        self.tiled_is_fresh = true;
    }
}

/// How tokens are cut into tiles, and in what order the integers of a tile lie.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    /// `[segment][quad][token]`, tiles of at most [`MAX_TOKENS`] tokens, as equal as can be.
    #[default]
    Quads,
    /// `[token][line]`, each token filled up with zeros to whole lines; segments lie side by side. Tiles of [`LINE_TOKENS`] tokens; of
    /// several the last one has room for as many.
    Lines,
}

impl Order {
    /// What products of `m` tokens with all these weights want.
    pub fn of<'w>(exec: &Exec, m: usize, weights: impl IntoIterator<Item = &'w Matrix>) -> Self {
        let lines = exec.isa.kind().includes(IsaKind::Amx)
            && weights
                .into_iter()
                .all(|w| w.format().scale_by().is_some() && m >= fewest_in_lines(w.format()));
        if lines { Self::Lines } else { Self::Quads }
    }

    /// Up to this many tokens weights are taken straight from their packed form.
    pub fn direct_tokens(self, exec: &Exec) -> usize {
        match self {
            Self::Quads => exec.tiling.direct_tokens(),
            Self::Lines => LINE_TOKENS,
        }
    }

    /// The tiles of `m` tokens.
    pub fn tiles(self, m: usize) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
        (0..self.count(m)).map(move |tile| self.tile(tile, m))
    }

    /// How many they are.
    fn count(self, m: usize) -> usize {
        m.div_ceil(match self {
            Self::Quads => MAX_TOKENS,
            Self::Lines => LINE_TOKENS,
        })
    }

    fn tile(self, tile: usize, m: usize) -> Range<usize> {
        match self {
            Self::Quads => m * tile / self.count(m)..m * (tile + 1) / self.count(m),
            Self::Lines => tile * LINE_TOKENS..m.min((tile + 1) * LINE_TOKENS),
        }
    }

    /// Parts of `m` tokens that are quantized as one: the tiles, or where only one is of lines each token by itself.
    fn parts(self, m: usize) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
        let by_token = self == Self::Lines && m <= LINE_TOKENS;
        let len = if by_token { m } else { self.count(m) };
        (0..len).map(move |part| if by_token { part..part + 1 } else { self.tile(part, m) })
    }

    /// The tokens that there is room for in a part, one of the parts of `m`.
    fn room(self, part: &Range<usize>, m: usize) -> usize {
        if self == Self::Lines && m > LINE_TOKENS { LINE_TOKENS } else { part.len() }
    }
}

/// The fewest tokens that tiles multiply sooner than vectors, which read the weights anew for more than [`MAX_TOKENS`] (measured:
/// docs/LOG.md, "Tiles").
fn fewest_in_lines(format: Format) -> usize {
    match format {
        Format::Trit2(_) | Format::Trit5(_) if format.group().is_none() => 4,
        _ => MAX_TOKENS + 1,
    }
}

/// How the features of a token are cut into segments that share a scale.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segments {
    /// Features.
    pub k: usize,
    /// Whether the segment is the whole token (and the rule that of a token).
    pub by_token: bool,
    /// Features of a segment; the last may have fewer.
    pub cols: usize,
    /// Quads that a segment takes in [`Order::Quads`]: its features, filled up with zeros to whole blocks of the weights.
    pub quads: usize,
    pub order: Order,
}

impl Segments {
    fn of(w: &Matrix, order: Order) -> Self {
        let k = w.cols();
        let (cols, blocks) = match w.format().group() {
            // A multiple of 20 is whole blocks in every coding (1, 2, 4 or 5 quads): one form serves them all.
            None => (k, 20),
            Some(cols) => (cols, if matches!(w.format(), Format::Trit5(_)) { 5 } else { 1 }),
        };
        let quads = cols.div_ceil(4).next_multiple_of(blocks);
        Self { k, by_token: w.format().group().is_none(), cols, quads, order }
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.k.div_ceil(self.cols)
    }

    /// Quads that a token takes.
    fn token_quads(&self) -> usize {
        match self.order {
            Order::Quads => self.count() * self.quads,
            // An odd number of lines: sixteen tokens must not meet in one set of a cache.
            Order::Lines => (self.k.div_ceil(LINE) | 1) * (LINE / 4),
        }
    }
}

/// Tokens as 8-bit integers, by token tiles.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quantized {
    pub segments: Segments,
    is_fresh: bool,
    /// By tiles, each in its [`Order`].
    quads: AlignedVec<i8>,
    /// `1 / s`, `[part][segment][tokens that the part has room for]`
    factors: Vec<f32>,
    /// The sum of a segment's integers, ordered as `factors`.
    sums: Vec<i32>,
}

/// One token tile of [`Quantized`].
#[derive(Copy, Clone)]
pub(crate) struct QuantizedTile<'a> {
    /// Quads of a segment.
    pub segment_quads: usize,
    /// `[segment][quad][tokens]`
    pub quads: &'a [Quad],
    /// `[segment][tokens]`
    pub factors: &'a [f32],
    /// `[segment][tokens]`
    pub sums: &'a [i32],
}

/// One tile of lines of [`Quantized`].
#[cfg(target_arch = "x86_64")]
#[derive(Copy, Clone)]
pub(crate) struct QuantizedLines<'a> {
    pub lines: TokenLines<'a>,
    /// `[segment][LINE_TOKENS]`; of the only tile, which is made token by token, `[token][segment]`
    pub factors: &'a [f32],
    /// As the factors.
    pub sums: &'a [i32],
}

/// Where the numbers of a part go, of as many tokens as it has room for.
struct QuantizedTileMut<'a> {
    quads: &'a mut [Quad],
    factors: &'a mut [f32],
    sums: &'a mut [i32],
}

impl Quantized {
    /// The tile of these tokens, which is one of [`token_tiles`].
    pub fn tile(&self, tokens: &Range<usize>) -> QuantizedTile<'_> {
        let segments = self.segments.count();
        let quads: &[Quad] = bytemuck::cast_slice(&self.quads);
        let of = |n: usize| tokens.start * n..tokens.end * n;
        QuantizedTile {
            segment_quads: self.segments.quads,
            quads: &quads[of(segments * self.segments.quads)],
            factors: &self.factors[of(segments)],
            sums: &self.sums[of(segments)],
        }
    }

    /// Tile `tile` of lines.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub fn lines(&self, tile: usize) -> QuantizedLines<'_> {
        debug_assert_eq!(self.segments.order, Order::Lines);
        let (token, segments) = (tile * LINE_TOKENS, self.segments.count());
        let token_bytes = self.segments.token_quads() * size_of::<Quad>();
        QuantizedLines {
            lines: TokenLines::new(&self.quads[token * token_bytes..], token_bytes),
            factors: &self.factors[token * segments..],
            sums: &self.sums[token * segments..],
        }
    }

    /// Room for `m` tokens, to be written tile by tile.
    fn begin(&mut self, segments: Segments, m: usize) -> QuantizedOut<'_> {
        let count = segments.count();
        self.segments = segments;
        self.is_fresh = true;
        let room = segments.order.parts(m).map(|part| segments.order.room(&part, m)).sum::<usize>();
        self.quads.resize_dirty(room * segments.token_quads() * size_of::<Quad>());
        self.factors.resize(room * count, 0.0);
        self.sums.resize(room * count, 0);
        QuantizedOut {
            segments,
            m,
            quads: SharedOut::new(bytemuck::cast_slice_mut::<i8, Quad>(&mut self.quads)),
            factors: SharedOut::new(&mut self.factors),
            sums: SharedOut::new(&mut self.sums),
        }
    }

    fn make(&mut self, exec: &Exec, segments: Segments, x: &[f32], m: usize) {
        let out = self.begin(segments, m);
        for_parts(exec, segments.order, (m, segments.k), &|part| {
            for token in part.clone() {
                let x = &x[token * segments.k..][..segments.k];
                // SAFETY: parts are disjoint, and each is made by one task.
                unsafe { out.token(exec.isa, &part, token, x) };
            }
        });
    }
}

/// A [`Quantized`] whose tiles are being made, each by one task.
struct QuantizedOut<'a> {
    segments: Segments,
    m: usize,
    quads: SharedOut<'a, Quad>,
    factors: SharedOut<'a, f32>,
    sums: SharedOut<'a, i32>,
}

impl QuantizedOut<'_> {
    /// Quantizes a token `x` of a part.
    ///
    /// # Safety
    /// No other call for the same part may be under way.
    unsafe fn token(&self, isa: Isa, part: &Range<usize>, token: usize, x: &[f32]) {
        let (segments, count) = (self.segments, self.segments.count());
        let (start, len) = (part.start, segments.order.room(part, self.m));
        // SAFETY: parts are disjoint, and this one is the caller's.
        let out = unsafe {
            QuantizedTileMut {
                quads: self.quads.part(start * segments.token_quads(), len * segments.token_quads()),
                factors: self.factors.part(start * count, len * count),
                sums: self.sums.part(start * count, len * count),
            }
        };
        match Vectors::of(isa) {
            Some(vectors) => vectors.run(kernel::QuantizeToken { segments, t: token - start, x, out }),
            None => reference::quantize_token(segments, token - start, x, out),
        }
    }
}

/// Cuts `m` tokens into the fewest tiles of at most [`MAX_TOKENS`], as equal as can be.
pub(crate) fn token_tiles(m: usize) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
    Order::Quads.tiles(m)
}

/// Calls `f` for each part of the tokens, on all threads when there is enough to do.
fn for_parts(exec: &Exec, order: Order, (m, k): (usize, usize), f: &(dyn Fn(Range<usize>) + Sync)) {
    let parts = order.parts(m);
    let count = parts.len();
    if m * k < PARALLEL {
        return parts.for_each(f);
    }
    let tasks = (m * k / (PARALLEL / 2)).min(count);
    exec.pool.run(tasks, &|task| {
        let parts = parts.clone();
        parts.skip(count * task / tasks).take(count * (task + 1) / tasks - count * task / tasks).for_each(f);
    });
}

//! One product made ready, whatever its format, and the pieces of it that tasks compute.
use std::{marker::PhantomData, ops::Range};

use half::{bf16, f16};

use super::{
    LINES_BYTES, LINES_TOKEN_TILES, PANEL_TILES, TASKS_PER_THREAD,
    float::{self, FloatProduct},
    integer::{self, Integer},
    lanes::{LINE_TOKENS, Vectors},
    outputs::Outputs,
    weights::{Code, F16Scales, F32Scales, Float, Int4, Int8, Scales, Trit2, Trit5},
};
use crate::{
    activations::{Activations, Order},
    exec::Exec,
    matrix::{Coding, Format, Matrix, ScaleBy, TILE_ROWS},
};

/// A product ready to be computed piece by piece.
#[derive(Copy, Clone)]
pub(super) enum Product<'a> {
    F32(FloatProduct<'a, f32>),
    F16(FloatProduct<'a, f16>),
    Bf16(FloatProduct<'a, bf16>),
    Trit2(Integer<'a, F32Scales<'a>>),
    Trit5(Integer<'a, F32Scales<'a>>),
    Int8(Integer<'a, F32Scales<'a>>),
    Int8Groups(Integer<'a, F16Scales<'a, false>>),
    Int4(Integer<'a, F16Scales<'a, false>>),
    Int4Mins(Integer<'a, F16Scales<'a, true>>),
}

impl<'a> Product<'a> {
    /// `y = x * w^T`; the form of `x` that `w` asks for has been made, in this order.
    pub fn new(w: &'a Matrix, x: &'a Activations, y: Outputs<'a>, order: Order) -> Self {
        fn float<'a, F>(w: &'a Matrix, x: &'a Activations, y: Outputs<'a>) -> FloatProduct<'a, F> {
            FloatProduct { w, x: x.tiled(), m: x.m(), y, float: PhantomData }
        }
        fn integer<'a, S>(
            w: &'a Matrix,
            scales: S,
            (x, order): (&'a Activations, Order),
            y: Outputs<'a>,
        ) -> Integer<'a, S> {
            let zero = Coding::zero_point(w.format());
            Integer { w, scales, zero, x: x.quantized(w, order), m: x.m(), y }
        }
        let quantized = (x, order);
        match w.format() {
            Format::F32 => Self::F32(float(w, x, y)),
            Format::F16 => Self::F16(float(w, x, y)),
            Format::Bf16 => Self::Bf16(float(w, x, y)),
            Format::Trit2(_) => Self::Trit2(integer(w, F32Scales::of(w), quantized, y)),
            Format::Trit5(_) => Self::Trit5(integer(w, F32Scales::of(w), quantized, y)),
            Format::Int8(ScaleBy::Group(_)) => Self::Int8Groups(integer(w, F16Scales::of(w), quantized, y)),
            Format::Int8(_) => Self::Int8(integer(w, F32Scales::of(w), quantized, y)),
            Format::Int4 { mins: false } => Self::Int4(integer(w, F16Scales::of(w), quantized, y)),
            Format::Int4 { mins: true } => Self::Int4Mins(integer(w, F16Scales::of(w), quantized, y)),
        }
    }

    /// Computes one piece.
    pub fn run(self, vectors: Vectors, piece: Piece) {
        match self {
            Self::F32(product) => float(vectors, product, piece),
            Self::F16(product) => float(vectors, product, piece),
            Self::Bf16(product) => float(vectors, product, piece),
            Self::Trit2(product) => integer::<Trit2, _, 4>(vectors, product, piece),
            Self::Trit5(product) => integer::<Trit5, _, 5>(vectors, product, piece),
            Self::Int8(product) => integer::<Int8, _, 1>(vectors, product, piece),
            Self::Int8Groups(product) => integer::<Int8, _, 1>(vectors, product, piece),
            Self::Int4(product) => integer::<Int4, _, 2>(vectors, product, piece),
            Self::Int4Mins(product) => integer::<Int4, _, 2>(vectors, product, piece),
        }
    }
}

fn integer<C: Code<Q>, S: Scales, const Q: usize>(vectors: Vectors, product: Integer<'_, S>, piece: Piece) {
    let (tiles, code) = (piece.tiles, PhantomData::<C>);
    match (piece.tokens, vectors) {
        #[cfg(target_arch = "x86_64")]
        (None, Vectors::Amx(_, amx)) if product.x.segments.order == Order::Lines => {
            vectors.run(integer::DirectLinesTask { product, tiles, amx, code });
        }
        (None, _) => vectors.run(integer::DirectTask { product, tiles, code }),
        (Some((Order::Quads, token_tiles)), _) => {
            vectors.run(integer::PanelTask { product, tiles, token_tiles, code });
        }
        #[cfg(target_arch = "x86_64")]
        (Some((Order::Lines, token_tiles)), Vectors::Amx(_, amx)) => {
            vectors.run(integer::PanelLinesTask { product, tiles, token_tiles, amx, code });
        }
        (Some((Order::Lines, _)), _) => unreachable!("see Order::of"),
    }
}

fn float<F: Float>(vectors: Vectors, product: FloatProduct<'_, F>, piece: Piece) {
    let tiles = piece.tiles;
    match piece.tokens {
        None => vectors.run(float::DirectTask { product, tiles }),
        Some((_, token_tiles)) => vectors.run(float::PanelTask { product, tiles, token_tiles }),
    }
}

/// What one task computes: some tiles of rows against some tokens.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub tiles: Range<usize>,
    /// Tiles of tokens that meet unpacked panels of weights, and how all are cut into such; `None` for all tokens, which
    /// are few, straight from the packed form.
    pub tokens: Option<(Order, Range<usize>)>,
}

impl Piece {
    /// The piece's rows of a matrix of `rows`.
    pub fn rows(&self, rows: usize) -> Range<usize> {
        (self.tiles.start * TILE_ROWS).min(rows)..(self.tiles.end * TILE_ROWS).min(rows)
    }

    /// The same tokens with fewer rows at a time, so that at most `most` outputs of `m` tokens are made, or those of a panel.
    pub fn narrow(self, m: usize, most: usize) -> impl Iterator<Item = Piece> {
        let row_tiles = most / TILE_ROWS / self.tokens(m).len().max(1);
        let step = (row_tiles / PANEL_TILES * PANEL_TILES).max(PANEL_TILES);
        let Self { tiles, tokens } = self;
        let end = tiles.end;
        tiles
            .step_by(step)
            .map(move |first| Piece { tiles: first..end.min(first + step), tokens: tokens.clone() })
    }

    /// The piece's tokens, of `m`.
    pub fn tokens(&self, m: usize) -> Range<usize> {
        let Some((order, range)) = &self.tokens else { return 0..m };
        let mut tiles = order.tiles(m).skip(range.start).take(range.len());
        let first = tiles.next().unwrap_or(0..0);
        first.start..tiles.last().unwrap_or(first).end
    }
}

/// What a product of `m` tokens costs, to be compared with others.
pub(super) fn work(w: &Matrix, m: usize) -> usize {
    w.bytes() * m
}

/// How a product is cut into pieces. The same for products of the same shape and format.
#[derive(Copy, Clone, Debug)]
pub(super) struct Split {
    tiles: usize,
    /// Tiles of tokens, where weights are unpacked.
    token_tiles: Option<(Order, usize)>,
    /// Parts that the rows are cut into.
    row_parts: usize,
    /// Parts that the tokens are cut into.
    token_parts: usize,
}

impl Split {
    /// For `m` tokens, where products whose [`work`] is together `all` share the threads: their pieces are of about one size,
    /// so that as many pieces are as much work for any thread.
    pub fn of(exec: &Exec, w: &Matrix, (m, order): (usize, Order), all: usize) -> Self {
        let tiles = w.tiles();
        let most = (exec.pool.threads() * TASKS_PER_THREAD * work(w, m)).div_ceil(all.max(1)).max(1);
        if m <= order.direct_tokens(exec) {
            let bytes = w.bytes() / 4 * m.max(4);
            let row_parts = (bytes / exec.tiling.task_bytes()).clamp(1, most).min(tiles);
            return Self { tiles, token_tiles: None, row_parts, token_parts: 1 };
        }
        let token_tiles = order.tiles(m).len();
        let token_parts = token_tiles.div_ceil(match order {
            Order::Quads => exec.tiling.panel_token_tiles(),
            // By pairs, as tiles take them.
            Order::Lines => (LINES_BYTES / (LINE_TOKENS * w.cols()) / 2 * 2).clamp(2, LINES_TOKEN_TILES),
        });
        let row_parts = most.div_ceil(token_parts).min(tiles.div_ceil(PANEL_TILES));
        Self { tiles, token_tiles: Some((order, token_tiles)), row_parts, token_parts }
    }

    /// How many pieces.
    pub fn count(&self) -> usize {
        self.row_parts * self.token_parts
    }

    /// Piece `index`.
    pub fn piece(&self, index: usize) -> Piece {
        let (row_part, token_part) = (index % self.row_parts, index / self.row_parts);
        match self.token_tiles {
            None => Piece { tiles: part(self.tiles, row_part, self.row_parts), tokens: None },
            Some((order, token_tiles)) => {
                let panels = part(self.tiles.div_ceil(PANEL_TILES), row_part, self.row_parts);
                let tiles = panels.start * PANEL_TILES..self.tiles.min(panels.end * PANEL_TILES);
                Piece { tiles, tokens: Some((order, part(token_tiles, token_part, self.token_parts))) }
            }
        }
    }
}

/// Part `index` of `count` nearly equal parts of `0..len`.
fn part(len: usize, index: usize, count: usize) -> Range<usize> {
    len * index / count..len * (index + 1) / count
}

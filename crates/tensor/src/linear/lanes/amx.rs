//! The tiles of AMX: one instruction multiplies 64 columns of sixteen tokens with those of sixteen rows.
//!
//! Written in assembly, since Rust has no stable names for these instructions yet. The compiler does not know tile registers: no
//! function is compiled for AMX, so nothing that it makes touches them. That is why their shapes live from [`Amx::begin`] to the
//! end of [`Tiles`], and tiles of sums from call to call of [`Tiles::start`], [`Tiles::add`] and [`Tiles::finish`], and of
//! [`Tiles::turn`].
use std::{arch::asm, marker::PhantomData};

use chalot_simd::{Isa, IsaKind};

use super::{LINE, LINE_TOKENS};
use crate::matrix::{BLOCK, TILE_ROWS};

/// Sixteen rows of weights, a line of each: sixteen quads.
pub(crate) type WeightTile = [[i8; BLOCK]; LINE / 4];
/// Sums of sixteen tokens and sixteen rows.
pub(crate) type SumTile = [[i32; TILE_ROWS]; LINE_TOKENS];

/// Products of [`Tiles::turn`] that are under way, each in a tile of sums: a product takes some fifty cycles, and storing it waits for it.
pub(crate) const UNDER_WAY: usize = 4;

/// Tokens, each in lines of its own.
#[derive(Clone, Copy)]
pub(crate) struct TokenLines<'a> {
    bytes: &'a [i8],
    /// Bytes of a token.
    stride: usize,
}

impl<'a> TokenLines<'a> {
    /// Of tokens of `stride` bytes each.
    pub fn new(bytes: &'a [i8], stride: usize) -> Self {
        Self { bytes, stride }
    }

    /// The columns from `first` on of each token.
    #[inline(always)]
    pub fn skip(self, first: usize) -> Self {
        Self { bytes: &self.bytes[first..], ..self }
    }

    /// The lines of a token.
    #[cfg(test)]
    pub fn token(&self, token: usize) -> &'a [i8] {
        &self.bytes[token * self.stride..][..self.stride]
    }

    /// Where `columns` columns of `tokens` tokens are read.
    #[inline(always)]
    fn pointer(&self, tokens: usize, columns: usize) -> *const u8 {
        assert!(tokens > 0 && self.bytes.len() >= (tokens - 1) * self.stride + columns);
        self.bytes.as_ptr().cast()
    }
}

/// Proof that this CPU has all that [`IsaKind::Amx`] stands for.
#[derive(Clone, Copy)]
pub(crate) struct Amx(());

/// Multiplies some tiles of tokens and of weights into one tile of sums and stores another: `[sums, past]` by number.
macro_rules! turn {
    ([$sums:literal, $past:literal]; $tokens:expr, $stride:expr, $weights:expr, $products:expr, $out:expr) => {
        asm!(
            concat!("tilezero tmm", $sums),
            "2:",
            "tileloadd tmm4, [{tokens} + {stride}]",
            "tileloadd tmm6, [{weights} + {row}]",
            concat!("tdpbssd tmm", $sums, ", tmm4, tmm6"),
            "add {tokens}, {columns}",
            "add {weights}, 16 * {columns}",
            "dec {products}",
            "jnz 2b",
            concat!("tilestored [{past} + {row}], tmm", $past),
            tokens = inout(reg) $tokens => _,
            stride = in(reg) $stride,
            weights = inout(reg) $weights => _,
            row = in(reg) BLOCK,
            columns = const COLUMNS,
            products = inout(reg) $products => _,
            past = in(reg) $out,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm6") _,
            options(nostack),
        )
    };
}

/// The shapes of all tiles, as `ldtilecfg` takes them (Intel SDM volume 1, section 18.3).
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    /// Sums in tiles 0 to 3, tokens in 4 and 5, weights in 6 and 7; `columns` of the latter two at a time. Of few tokens tiles are
    /// smaller: a product takes as many cycles as there are tokens.
    const fn of(columns: usize, tokens: usize) -> Self {
        let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
        let mut tile = 0;
        while tile < 8 {
            row_bytes[tile] = LINE as u16;
            rows[tile] = tokens as u8;
            if tile == 4 || tile == 5 {
                row_bytes[tile] = columns as u16;
            }
            if tile >= 6 {
                rows[tile] = (columns / 4) as u8;
            }
            tile += 1;
        }
        Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
    }
}

impl Amx {
    /// `None` when `isa` does not promise it.
    pub fn new(isa: Isa) -> Option<Self> {
        isa.kind().includes(IsaKind::Amx).then_some(Self(()))
    }

    /// Gives this thread's tiles their shapes, for products of `COLUMNS` columns at a time (32 or 64) of as many tokens (1 to 16).
    /// One [`Tiles`] at a time is a thread's: the shapes are.
    pub fn begin<const COLUMNS: usize>(self, tokens: usize) -> Tiles<COLUMNS> {
        const { assert!(COLUMNS == LINE || COLUMNS == LINE / 2) };
        assert!((1..=LINE_TOKENS).contains(&tokens));
        let shapes = &Shapes::of(COLUMNS, tokens);
        // SAFETY: the instruction exists (`self`) and reads the 64 bytes, which are valid shapes (asserted).
        unsafe { asm!("ldtilecfg [{}]", in(reg) shapes, options(nostack, readonly, preserves_flags)) };
        Tiles { tokens, thread: PhantomData }
    }
}

/// This thread's tiles, ready for products of `COLUMNS` columns at a time. Stays on its thread.
pub(crate) struct Tiles<const COLUMNS: usize> {
    tokens: usize,
    thread: PhantomData<*const ()>,
}

impl<const COLUMNS: usize> Drop for Tiles<COLUMNS> {
    fn drop(&mut self) {
        // SAFETY: the instruction exists (an `Amx` made `self`); nothing uses tiles until the next `begin`.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}

impl Tiles<LINE> {
    /// For tiles of sixteen tokens: multiplies zeros, without reading memory after the first step, four products at a time,
    /// `steps` times; returns the multiply-adds.
    pub fn repeat(&self, steps: usize) -> usize {
        assert_eq!(self.tokens, LINE_TOKENS);
        let zeros = &[[0_i8; LINE]; LINE_TOKENS];
        // SAFETY: the instructions exist (an `Amx` made `self`, so tiles have their shapes); a tile of memory is read.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "tileloadd tmm4, [{zeros} + {row}]",
                "tileloadd tmm5, [{zeros} + {row}]",
                "tileloadd tmm6, [{zeros} + {row}]",
                "tileloadd tmm7, [{zeros} + {row}]",
                "2:",
                "tdpbssd tmm0, tmm4, tmm6",
                "tdpbssd tmm1, tmm4, tmm7",
                "tdpbssd tmm2, tmm5, tmm6",
                "tdpbssd tmm3, tmm5, tmm7",
                "dec {steps}",
                "jnz 2b",
                zeros = in(reg) zeros.as_ptr(),
                row = in(reg) LINE,
                steps = inout(reg) steps.max(1) => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly),
            );
        }
        4 * steps.max(1) * LINE_TOKENS * TILE_ROWS * LINE
    }

    /// For tiles of sixteen tokens: `sums[i][j]`, added to what they are if `add`: the products of tokens i and rows j over all
    /// columns of the weights.
    #[inline(always)]
    pub fn multiply(
        &self,
        tokens: [TokenLines<'_>; 2],
        weights: [&[WeightTile]; 2],
        sums: &mut [[SumTile; 2]; 2],
        add: bool,
    ) {
        let lines = weights[0].len();
        assert!(self.tokens == LINE_TOKENS && tokens[0].stride == tokens[1].stride);
        assert!(lines > 0 && lines == weights[1].len());
        let tokens_at = |i: usize| tokens[i].pointer(LINE_TOKENS, lines * LINE);
        let weights_at = |j: usize| weights[j].as_ptr();
        // SAFETY: the instructions exist (an `Amx` made `self`, so tiles have their shapes); the loop reads as many tiles of
        // tokens and weights as there are (asserted), and the sums are four tiles side by side.
        unsafe {
            asm!(
                "test {add:e}, {add:e}",
                "jnz 2f",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "jmp 3f",
                "2:",
                "tileloadd tmm0, [{sums} + {row}]",
                "tileloadd tmm1, [{sums} + {row} + 1024]",
                "tileloadd tmm2, [{sums} + {row} + 2048]",
                "tileloadd tmm3, [{sums} + {row} + 3072]",
                "3:",
                "tileloadd tmm6, [{left} + {row}]",
                "tileloadd tmm4, [{first} + {token}]",
                "tileloadd tmm7, [{right} + {row}]",
                "tileloadd tmm5, [{second} + {token}]",
                "tdpbssd tmm0, tmm4, tmm6",
                "tdpbssd tmm1, tmm4, tmm7",
                "tdpbssd tmm2, tmm5, tmm6",
                "tdpbssd tmm3, tmm5, tmm7",
                "add {left}, 1024",
                "add {right}, 1024",
                "add {first}, 64",
                "add {second}, 64",
                "dec {lines}",
                "jnz 3b",
                "tilestored [{sums} + {row}], tmm0",
                "tilestored [{sums} + {row} + 1024], tmm1",
                "tilestored [{sums} + {row} + 2048], tmm2",
                "tilestored [{sums} + {row} + 3072], tmm3",
                add = in(reg) u32::from(add),
                sums = in(reg) sums.as_mut_ptr(),
                row = in(reg) LINE,
                token = in(reg) tokens[0].stride,
                left = inout(reg) weights_at(0) => _,
                right = inout(reg) weights_at(1) => _,
                first = inout(reg) tokens_at(0) => _,
                second = inout(reg) tokens_at(1) => _,
                lines = inout(reg) lines => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }

    /// Makes the sums zero that [`Tiles::add`] adds to.
    #[inline(always)]
    pub fn start(&self) {
        // SAFETY: the instruction exists (an `Amx` made `self`, so tiles have their shapes).
        unsafe { asm!("tilezero tmm0", out("tmm0") _, options(nostack, nomem, preserves_flags)) };
    }

    /// Adds to the sums the products of lines of the tokens and of sixteen rows, whose codes are unsigned.
    #[inline(always)]
    pub fn add(&self, tokens: TokenLines<'_>, weights: &[[[u8; BLOCK]; LINE / 4]]) {
        let first = tokens.pointer(self.tokens, weights.len() * LINE);
        for (line, weights) in weights.iter().enumerate() {
            // SAFETY: the instructions exist (an `Amx` made `self`, so tiles have their shapes); the tokens have so many lines
            // (`pointer`), and a line of weights is as many quads as a tile has rows.
            unsafe {
                asm!(
                    "tileloadd tmm4, [{tokens} + {stride}]",
                    "tileloadd tmm6, [{weights} + {row}]",
                    "tdpbsud tmm0, tmm4, tmm6",
                    tokens = in(reg) first.wrapping_add(line * LINE),
                    stride = in(reg) tokens.stride,
                    weights = in(reg) weights.as_ptr(),
                    row = in(reg) BLOCK,
                    out("tmm0") _, out("tmm4") _, out("tmm6") _,
                    options(nostack, readonly, preserves_flags),
                );
            }
        }
    }

    /// What was added to the sums since [`Tiles::start`], of as many tokens as there are.
    #[inline(always)]
    pub fn finish(&self, sums: &mut SumTile) {
        // SAFETY: the instruction exists (an `Amx` made `self`, so tiles have their shapes); at most sixteen rows are written.
        unsafe {
            asm!(
                "tilestored [{sums} + {row}], tmm0",
                sums = in(reg) sums.as_mut_ptr(),
                row = in(reg) BLOCK,
                options(nostack, preserves_flags),
            );
        }
    }
}

impl<const COLUMNS: usize> Tiles<COLUMNS> {
    /// Makes number `turn` of a row of products: of the tokens and sixteen rows, over the columns of which there are quads. `past`
    /// becomes the oldest product under way, of `UNDER_WAY - 1` turns before.
    #[inline(always)]
    pub fn turn(&self, turn: usize, tokens: TokenLines<'_>, quads: &[[i8; BLOCK]], past: &mut SumTile) {
        let products = quads.len() / (COLUMNS / 4);
        assert!(products > 0);
        let (stride, tokens) = (tokens.stride, tokens.pointer(self.tokens, products * COLUMNS));
        let (weights, past) = (quads.as_ptr(), past.as_mut_ptr());
        // SAFETY: the instructions exist (an `Amx` made `self`, so tiles have their shapes); as many tiles of tokens (`pointer`) and
        // of weights are read as there are products; at most sixteen rows of sums are written.
        unsafe {
            match turn % UNDER_WAY {
                0 => turn!([0, 1]; tokens, stride, weights, products, past),
                1 => turn!([1, 2]; tokens, stride, weights, products, past),
                2 => turn!([2, 3]; tokens, stride, weights, products, past),
                _ => turn!([3, 0]; tokens, stride, weights, products, past),
            }
        }
    }
}

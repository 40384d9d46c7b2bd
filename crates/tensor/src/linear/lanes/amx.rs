//! The tiles of AMX: one instruction multiplies 64 columns of sixteen tokens with those of sixteen rows.
//!
//! Written in assembly, since Rust has no stable names for these instructions yet. The compiler knows tile registers only as
//! something that a piece of assembly may destroy, so no tile lives longer than one of the functions below; what does live
//! on is their shape, from [`Amx::begin`] to the end of [`Tiles`].
use std::{arch::asm, marker::PhantomData};

use chalot_simd::{Isa, IsaKind};

use super::{LINE, LINE_TOKENS};
use crate::matrix::{BLOCK, TILE_ROWS};

/// Sixteen tokens, a line of each.
pub(crate) type TokenTile = [[i8; LINE]; LINE_TOKENS];
/// Sixteen rows of weights, a line of each: sixteen quads.
pub(crate) type WeightTile = [[i8; BLOCK]; LINE / 4];
/// Sums of sixteen tokens and sixteen rows.
pub(crate) type SumTile = [[i32; TILE_ROWS]; LINE_TOKENS];

/// Proof that this CPU has all that [`IsaKind::Amx`] stands for.
#[derive(Clone, Copy)]
pub(crate) struct Amx(());

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
    /// Sums in tiles 0 to 3, tokens in 4 and 5, weights in 6 and 7; `columns` of the latter two at a time.
    const fn of(columns: usize) -> Self {
        let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
        let mut tile = 0;
        while tile < 8 {
            row_bytes[tile] = LINE as u16;
            rows[tile] = LINE_TOKENS as u8;
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

    /// Gives this thread's tiles their shapes, for products of `COLUMNS` columns at a time: 32 or 64.
    pub fn begin<const COLUMNS: usize>(self) -> Tiles<COLUMNS> {
        const { assert!(COLUMNS == LINE || COLUMNS == LINE / 2) };
        let shapes = const { &Shapes::of(COLUMNS) };
        // SAFETY: the instruction exists (`self`) and reads the 64 bytes, which are valid shapes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) shapes, options(nostack, readonly, preserves_flags)) };
        Tiles(PhantomData)
    }
}

/// This thread's tiles, ready for products of `COLUMNS` columns at a time. Stays on its thread.
pub(crate) struct Tiles<const COLUMNS: usize>(PhantomData<*const ()>);

impl<const COLUMNS: usize> Drop for Tiles<COLUMNS> {
    fn drop(&mut self) {
        // SAFETY: the instruction exists (an `Amx` made `self`); nothing uses tiles until the next `begin`.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}

impl Tiles<LINE> {
    /// Multiplies zeros, without reading memory after the first step, four products at a time, `steps` times; returns the multiply-adds.
    pub fn repeat(&self, steps: usize) -> usize {
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
}

impl<const COLUMNS: usize> Tiles<COLUMNS> {
    /// `sums[i][j]`, added to what they are if `add`: the products of tokens i and rows j over all columns; where those of a
    /// line are not taken at a time, of a part of each line.
    #[inline(always)]
    pub fn multiply(
        &self,
        part: usize,
        tokens: [&[TokenTile]; 2],
        weights: [&[WeightTile]; 2],
        sums: &mut [[SumTile; 2]; 2],
        add: bool,
    ) {
        let lines = weights[0].len();
        assert!(lines > 0 && lines == weights[1].len() && part < LINE / COLUMNS);
        assert!(tokens.iter().all(|tokens| tokens.len() == lines));
        let tokens_at = |i: usize| tokens[i].as_ptr().cast::<u8>().wrapping_add(part * COLUMNS);
        let weights_at = |j: usize| weights[j].as_ptr().cast::<u8>().wrapping_add(part * COLUMNS / 4 * BLOCK);
        // SAFETY: the instructions exist (an `Amx` made `self`, so tiles have their shapes); the loop reads as many tiles of
        // tokens and weights as there are, or the same part of each (asserted), and the sums are four tiles side by side.
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
                "tileloadd tmm4, [{first} + {row}]",
                "tileloadd tmm7, [{right} + {row}]",
                "tileloadd tmm5, [{second} + {row}]",
                "tdpbssd tmm0, tmm4, tmm6",
                "tdpbssd tmm1, tmm4, tmm7",
                "tdpbssd tmm2, tmm5, tmm6",
                "tdpbssd tmm3, tmm5, tmm7",
                "add {left}, 1024",
                "add {right}, 1024",
                "add {first}, 1024",
                "add {second}, 1024",
                "dec {lines}",
                "jnz 3b",
                "tilestored [{sums} + {row}], tmm0",
                "tilestored [{sums} + {row} + 1024], tmm1",
                "tilestored [{sums} + {row} + 2048], tmm2",
                "tilestored [{sums} + {row} + 3072], tmm3",
                add = in(reg) u32::from(add),
                sums = in(reg) sums.as_mut_ptr(),
                row = in(reg) LINE,
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
}

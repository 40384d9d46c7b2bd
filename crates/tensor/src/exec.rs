//! Where and how to compute: the instructions and the threads.
use std::{fmt, ops::RangeInclusive, sync::Arc};

use chalot_simd::{Isa, IsaKind};

use crate::pool::Pool;

/// The instructions that kernels may use, the threads that share the work and the sizes it is cut into.
///
/// None of them changes a result: see the crate's first promise.
#[derive(Clone)]
pub struct Exec {
    /// The instruction set; a token that proves the CPU has it.
    pub isa: Isa,
    /// The threads.
    pub pool: Arc<Pool>,
    /// How products are cut.
    pub tiling: Tiling,
}

impl Exec {
    /// `threads` threads (the caller's included, at least one) on `isa`, work cut as suits most machines.
    pub fn new(isa: Isa, threads: usize) -> Self {
        Self { isa, pool: Arc::new(Pool::new(threads)), tiling: Tiling::of(isa) }
    }

    /// The same threads and instructions with work cut otherwise.
    pub fn with_tiling(self, tiling: Tiling) -> Self {
        Self { tiling, ..self }
    }
}

/// Sizes into which products are cut: what is fastest depends on the machine, what is computed does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    direct_tokens: usize,
    panel_token_tiles: usize,
    task_bytes: usize,
}

impl Tiling {
    /// Possible [`Tiling::direct_tokens`]: fewer do not make token tiles that panels have kernels for.
    pub const DIRECT_TOKENS: RangeInclusive<usize> = 12..=1024;
    /// Possible [`Tiling::panel_token_tiles`]: a panel task has buffers for so many.
    pub const PANEL_TOKEN_TILES: RangeInclusive<usize> = 1..=48;
    /// Possible [`Tiling::task_bytes`].
    pub const TASK_BYTES: RangeInclusive<usize> = 1024..=1024 * 1024;

    /// Sizes, each brought into its range.
    pub fn new(direct_tokens: usize, panel_token_tiles: usize, task_bytes: usize) -> Self {
        let within = |value: usize, range: RangeInclusive<usize>| value.clamp(*range.start(), *range.end());
        Self {
            direct_tokens: within(direct_tokens, Self::DIRECT_TOKENS),
            panel_token_tiles: within(panel_token_tiles, Self::PANEL_TOKEN_TILES),
            task_bytes: within(task_bytes, Self::TASK_BYTES),
        }
    }

    /// What suits most machines with `isa`. Thirty-two registers hide the unpacking of weights behind the products of some 64
    /// tokens; sixteen do not.
    pub fn of(isa: Isa) -> Self {
        let many_registers = isa.kind().includes(IsaKind::Avx512);
        Self { direct_tokens: if many_registers { 64 } else { 12 }, ..Self::default() }
    }

    /// Up to this many tokens weights are taken straight from their packed form; for more they are unpacked into panels. (Where AMX
    /// multiplies integers, up to sixteen: one tile of tokens.)
    pub fn direct_tokens(self) -> usize {
        self.direct_tokens
    }

    /// Token tiles (of 4 to 6 tokens) that a panel is used for before it is unpacked anew.
    pub fn panel_token_tiles(self) -> usize {
        self.panel_token_tiles
    }

    /// Bytes of weights (times tokens over four) that are worth a task of their own.
    pub fn task_bytes(self) -> usize {
        self.task_bytes
    }
}

impl Default for Tiling {
    /// 12 tokens; 48 tiles; 24 KiB, a few microseconds.
    fn default() -> Self {
        Self { direct_tokens: 12, panel_token_tiles: 48, task_bytes: 24 * 1024 }
    }
}

impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exec")
            .field("isa", &self.isa)
            .field("threads", &self.pool.threads())
            .field("tiling", &self.tiling)
            .finish()
    }
}

/// Slices whose lengths do not fit the operation. A mistake of the caller, never of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{op}: {what} has {found} elements, expected {expected}")]
pub struct ShapeError {
    /// The operation.
    pub op: &'static str,
    /// The argument.
    pub what: &'static str,
    /// Its length as the other arguments imply it.
    pub expected: usize,
    /// Its length.
    pub found: usize,
}

impl ShapeError {
    /// `Ok` when `found == expected`.
    pub fn check(op: &'static str, what: &'static str, expected: usize, found: usize) -> Result<(), Self> {
        if expected == found { Ok(()) } else { Err(Self { op, what, expected, found }) }
    }
}

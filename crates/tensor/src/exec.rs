//! Where and how to compute: the instructions and the threads.
use std::{fmt, sync::Arc};

use chalot_simd::Isa;

use crate::pool::Pool;

/// The instructions that kernels may use and the threads that share the work.
///
/// Neither changes a result: see the crate's first promise.
#[derive(Clone)]
pub struct Exec {
    /// The instruction set; a token that proves the CPU has it.
    pub isa: Isa,
    /// The threads.
    pub pool: Arc<Pool>,
}

impl Exec {
    /// `threads` threads (the caller's included, at least one) on `isa`.
    pub fn new(isa: Isa, threads: usize) -> Self {
        Self { isa, pool: Arc::new(Pool::new(threads)) }
    }
}

impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exec").field("isa", &self.isa).field("threads", &self.pool.threads()).finish()
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

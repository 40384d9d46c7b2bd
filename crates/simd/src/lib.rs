//! Which instructions this CPU has, buffers aligned for them, and the classes of bytes ([`bytes`]).
//!
//! Kernels are chosen at run time. An [`Isa`] can only be made by detection, so holding one *is* the proof
//! that its instructions exist: a kernel that takes an `Isa` of kind [`IsaKind::Avx512`] may execute AVX-512
//! without asking again, and its `unsafe` call names the token as its reason.
//!
//! ```
//! use chalot_simd::{Isa, IsaKind};
//!
//! let isa = Isa::best();
//! assert!(Isa::available().contains(&isa));
//! assert_eq!(Isa::of(IsaKind::Scalar), Some(Isa::scalar()));
//! println!("kernels: {isa}, all equal in their results: {:?}", Isa::available());
//! ```

mod aligned;
#[cfg(target_arch = "x86_64")]
mod amx;
mod arena;
pub mod bytes;
mod cpu;
mod huge;
mod isa;
mod prefetch;

pub use aligned::AlignedVec;
pub use arena::Arena;
pub use cpu::{cpu_features, cpu_name};
pub use huge::ask_for_huge_pages;
pub use isa::{Isa, IsaKind, UnknownIsa};
pub use prefetch::{prefetch, prefetch_near};

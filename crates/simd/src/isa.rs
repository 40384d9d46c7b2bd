//! Instruction sets that kernels are written for, and the token that proves one is there.
#[cfg(target_arch = "aarch64")]
use std::arch::is_aarch64_feature_detected;
use std::{fmt, str::FromStr};

#[cfg(target_arch = "x86_64")]
use crate::amx;

/// A set of instructions for which kernels exist, in ascending order of preference.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum IsaKind {
    /// What every CPU has: plain Rust.
    Scalar,
    /// The Advanced SIMD of AArch64 (every Armv8-A application core).
    Neon,
    /// [`IsaKind::Neon`] and the dot product of signed bytes, `sdot` (Arm Cortex-A55, A75 and Neoverse N1, Apple A13 and
    /// M1, and later).
    NeonDot,
    /// AVX2, with FMA and F16C, which every AVX2 CPU worth the name has (Intel Haswell, AMD Zen and later).
    Avx2,
    /// [`IsaKind::Avx2`] and the 256-bit `vpdpbusd` of AVX-VNNI (Intel Alder Lake, AMD Zen 5 and later).
    AvxVnni,
    /// AVX-512 F, BW, VL, DQ and VNNI (Intel Cascade Lake).
    Avx512,
    /// [`IsaKind::Avx512`] and the permutations of bytes of VBMI (Intel Ice Lake, AMD Zen 4 and later).
    Avx512Vbmi,
    /// [`IsaKind::Avx512Vbmi`] and AMX, tiles of registers with products of bytes (Intel Sapphire Rapids and later), under
    /// Linux, which gives them to a process that asks.
    Amx,
}

impl IsaKind {
    const ALL: [IsaKind; 8] = [
        IsaKind::Scalar,
        IsaKind::Neon,
        IsaKind::NeonDot,
        IsaKind::Avx2,
        IsaKind::AvxVnni,
        IsaKind::Avx512,
        IsaKind::Avx512Vbmi,
        IsaKind::Amx,
    ];

    /// The name that [`FromStr`] understands: `scalar`, `neon`, `neondot`, `avx2`, `avxvnni`, `avx512`, `avx512vbmi` or `amx`.
    pub fn name(self) -> &'static str {
        match self {
            IsaKind::Scalar => "scalar",
            IsaKind::Neon => "neon",
            IsaKind::NeonDot => "neondot",
            IsaKind::Avx2 => "avx2",
            IsaKind::AvxVnni => "avxvnni",
            IsaKind::Avx512 => "avx512",
            IsaKind::Avx512Vbmi => "avx512vbmi",
            IsaKind::Amx => "amx",
        }
    }

    /// Whether a CPU that has this set has all of `other`.
    pub fn includes(self, other: IsaKind) -> bool {
        let next = match self {
            IsaKind::Scalar => return other == IsaKind::Scalar,
            IsaKind::Neon | IsaKind::Avx2 => IsaKind::Scalar,
            IsaKind::NeonDot => IsaKind::Neon,
            IsaKind::AvxVnni | IsaKind::Avx512 => IsaKind::Avx2,
            IsaKind::Avx512Vbmi => IsaKind::Avx512,
            IsaKind::Amx => IsaKind::Avx512Vbmi,
        };
        self == other || next.includes(other)
    }

    /// Whether this CPU, under this operating system, executes the whole set.
    fn detected(self) -> bool {
        match self {
            IsaKind::Scalar => true,
            #[cfg(target_arch = "aarch64")]
            IsaKind::Neon => is_aarch64_feature_detected!("neon"),
            #[cfg(target_arch = "aarch64")]
            IsaKind::NeonDot => IsaKind::Neon.detected() && is_aarch64_feature_detected!("dotprod"),
            #[cfg(target_arch = "x86_64")]
            IsaKind::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            IsaKind::AvxVnni => IsaKind::Avx2.detected() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            IsaKind::Avx512 => {
                IsaKind::Avx2.detected()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "x86_64")]
            IsaKind::Avx512Vbmi => IsaKind::Avx512.detected() && is_x86_feature_detected!("avx512vbmi"),
            #[cfg(target_arch = "x86_64")]
            IsaKind::Amx => IsaKind::Avx512Vbmi.detected() && amx::granted(),
            #[allow(unreachable_patterns)] // kinds of other architectures
            _ => false,
        }
    }
}

impl fmt::Display for IsaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no [`IsaKind`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownIsa(String);

impl fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown instruction set `{}`; known are", self.0)?;
        IsaKind::ALL.iter().try_for_each(|kind| write!(f, " {kind}"))
    }
}

impl std::error::Error for UnknownIsa {}

impl FromStr for IsaKind {
    type Err = UnknownIsa;

    fn from_str(name: &str) -> Result<Self, UnknownIsa> {
        IsaKind::ALL
            .into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| UnknownIsa(name.to_owned()))
    }
}

/// The proof that this CPU executes an [`IsaKind`].
///
/// Invariant: only detection makes one, so code that holds an `Isa` may execute its instructions.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Isa(IsaKind);

impl Isa {
    /// The most capable set that this CPU has.
    pub fn best() -> Isa {
        IsaKind::ALL.into_iter().rev().find_map(Isa::of).unwrap_or(Isa::scalar())
    }

    /// Plain Rust; there is no CPU without it.
    pub const fn scalar() -> Isa {
        Isa(IsaKind::Scalar)
    }

    /// All sets that this CPU has, the least capable (scalar) first.
    pub fn available() -> Vec<Isa> {
        IsaKind::ALL.into_iter().filter_map(Isa::of).collect()
    }

    /// The token for `kind`, if this CPU has it.
    pub fn of(kind: IsaKind) -> Option<Isa> {
        kind.detected().then_some(Isa(kind))
    }

    /// Which set this token proves.
    pub const fn kind(self) -> IsaKind {
        self.0
    }

    /// The name of the set, as [`IsaKind::name`].
    pub fn name(self) -> &'static str {
        self.0.name()
    }
}

impl fmt::Debug for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Isa({})", self.0)
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalar_is_always_there_and_best_is_the_last() {
        let all = Isa::available();
        assert_eq!(all[0], Isa::scalar());
        assert_eq!(*all.last().unwrap(), Isa::best());
        assert!(all.is_sorted());
    }

    #[test]
    fn names_round_trip() {
        for kind in IsaKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(kind.to_string().to_uppercase().parse(), Ok(kind));
            assert_eq!(Isa::of(kind).is_some(), Isa::available().iter().any(|isa| isa.kind() == kind));
        }
        let error = "mmx".parse::<IsaKind>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown instruction set `mmx`; known are scalar neon neondot avx2 avxvnni avx512 avx512vbmi amx"
        );
    }

    #[test]
    fn a_cpu_has_what_its_sets_include() {
        for isa in Isa::available() {
            let included = IsaKind::ALL.into_iter().filter(|&kind| isa.kind().includes(kind));
            assert!(included.clone().any(|kind| kind == IsaKind::Scalar));
            assert!(included.map(Isa::of).all(|isa| isa.is_some()), "{isa}");
        }
        assert!(IsaKind::Amx.includes(IsaKind::Avx2) && !IsaKind::Amx.includes(IsaKind::AvxVnni));
        assert!(!IsaKind::Avx512.includes(IsaKind::Avx512Vbmi) && !IsaKind::NeonDot.includes(IsaKind::Avx2));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn there_is_no_neon_on_x86() {
        assert_eq!(Isa::of(IsaKind::Neon), None);
        assert_eq!(Isa::of(IsaKind::NeonDot), None);
    }

    #[test]
    #[cfg(target_arch = "aarch64")]
    fn there_is_neon_and_no_avx_on_arm() {
        assert!(Isa::of(IsaKind::Neon).is_some());
        assert_eq!([IsaKind::Avx2, IsaKind::AvxVnni, IsaKind::Avx512].map(Isa::of), [None; 3]);
    }
}

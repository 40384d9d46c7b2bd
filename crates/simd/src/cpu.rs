//! What the CPU says about itself, for people to read.

/// The CPU's name, as it states it itself; `None` where it states none.
pub fn cpu_name() -> Option<String> {
    let name = brand()?;
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    (!name.is_empty()).then_some(name)
}

#[cfg(target_arch = "x86_64")]
fn brand() -> Option<String> {
    use std::arch::x86_64::__cpuid;

    // Leaves 0x8000_0002..=4 hold 48 bytes of text (Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E).
    if __cpuid(0x8000_0000).eax < 0x8000_0004 {
        return None;
    }
    let mut text = Vec::with_capacity(48);
    for leaf in 0x8000_0002..=0x8000_0004 {
        let registers = __cpuid(leaf);
        for register in [registers.eax, registers.ebx, registers.ecx, registers.edx] {
            text.extend(register.to_le_bytes());
        }
    }
    text.truncate(text.iter().position(|&byte| byte == 0).unwrap_or(text.len()));
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(not(target_arch = "x86_64"))]
fn brand() -> Option<String> {
    // Linux's text for people; elsewhere there is no such file and no name.
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let field = |key: &str| {
        info.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        })
    };
    field("model name").or_else(|| field("Model")).or_else(|| field("Hardware"))
}

/// The instruction-set extensions this CPU has, of those that matter here, by their usual names.
#[cfg(target_arch = "x86_64")]
pub fn cpu_features() -> Vec<&'static str> {
    let all = [
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("avx", is_x86_feature_detected!("avx")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("avxvnni", is_x86_feature_detected!("avxvnni")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512dq", is_x86_feature_detected!("avx512dq")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512vbmi", is_x86_feature_detected!("avx512vbmi")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
        ("gfni", is_x86_feature_detected!("gfni")),
        ("amx-int8", crate::amx::granted()),
    ];
    all.into_iter().filter_map(|(name, has)| has.then_some(name)).collect()
}

/// The instruction-set extensions this CPU has, of those that matter here, by their usual names.
#[cfg(target_arch = "aarch64")]
pub fn cpu_features() -> Vec<&'static str> {
    use std::arch::is_aarch64_feature_detected;

    let all = [
        ("neon", is_aarch64_feature_detected!("neon")),
        ("fp16", is_aarch64_feature_detected!("fp16")),
        ("dotprod", is_aarch64_feature_detected!("dotprod")),
        ("i8mm", is_aarch64_feature_detected!("i8mm")),
        ("bf16", is_aarch64_feature_detected!("bf16")),
        ("sve", is_aarch64_feature_detected!("sve")),
        ("sve2", is_aarch64_feature_detected!("sve2")),
    ];
    all.into_iter().filter_map(|(name, has)| has.then_some(name)).collect()
}

/// The instruction-set extensions this CPU has, of those that matter here: none are known for this architecture.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn cpu_features() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn features_agree_with_the_detected_sets() {
        use crate::{Isa, IsaKind};

        let features = cpu_features();
        assert_eq!(Isa::of(IsaKind::AvxVnni).is_some(), features.contains(&"avxvnni"));
        assert!(Isa::of(IsaKind::Avx512).is_none() || features.contains(&"avx512vnni"));
        assert!(Isa::of(IsaKind::Avx512Vbmi).is_none() || features.contains(&"avx512vbmi"));
    }

    #[test]
    #[cfg(target_arch = "aarch64")]
    fn features_agree_with_the_detected_sets() {
        use crate::{Isa, IsaKind};

        let features = cpu_features();
        assert_eq!(Isa::of(IsaKind::Neon).is_some(), features.contains(&"neon"));
        assert_eq!(Isa::of(IsaKind::NeonDot).is_some(), features.contains(&"dotprod"));
    }

    #[test]
    fn a_name_has_no_loose_spaces() {
        if let Some(name) = cpu_name() {
            assert_eq!(name.trim(), name);
            assert!(!name.contains("  ") && !name.contains('\0'));
        }
    }
}

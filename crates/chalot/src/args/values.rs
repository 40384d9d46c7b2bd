//! Parsers of single values: what they accept is said in their message.
use std::ops::RangeInclusive;

use chalot_model::speculate::MAX_DRAFTS;
use chalot_simd::IsaKind;
use clap::builder::{PossibleValuesParser, TypedValueParser};

/// More threads than any machine this runs on has: a typing mistake, not a wish.
const MAX_THREADS: usize = 1024;

/// 1 to 1024.
pub fn threads(text: &str) -> Result<usize, String> {
    let threads: usize = text.parse().map_err(|_| "a whole number is needed".to_string())?;
    if (1..=MAX_THREADS).contains(&threads) {
        Ok(threads)
    } else {
        Err(format!("1 to {MAX_THREADS} are possible"))
    }
}

/// The names of the instruction sets; whether this CPU has it is seen later.
pub fn isa() -> impl TypedValueParser<Value = IsaKind> {
    PossibleValuesParser::new(["scalar", "neon", "neondot", "avx2", "avxvnni", "avx512", "avx512vbmi", "amx"])
        .try_map(|name| name.parse::<IsaKind>())
}

/// A count of at least one.
pub fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is needed".into()),
        Ok(count) => Ok(count),
        Err(_) => Err("a whole number is needed".into()),
    }
}

/// Drafts of a round.
pub fn drafts(text: &str) -> Result<usize, String> {
    let drafts: usize = text.parse().map_err(|_| "a whole number is needed".to_string())?;
    if (1..=MAX_DRAFTS).contains(&drafts) {
        Ok(drafts)
    } else {
        Err(format!("1 to {MAX_DRAFTS} are possible"))
    }
}

/// Bytes: a number with K, M, G or T (of 1024), with or without B or iB; a fraction will do.
pub fn size(text: &str) -> Result<usize, String> {
    const EXPECTED: &str = "a size is needed, such as 512M or 2G";
    let lower = text.trim().to_ascii_lowercase();
    let word = lower.strip_suffix("ib").or(lower.strip_suffix('b')).unwrap_or(&lower);
    let (number, shift) = match word.char_indices().next_back() {
        Some((at, unit)) if unit.is_ascii_alphabetic() => {
            let power = "kmgt".find(unit).ok_or(EXPECTED)?;
            (&word[..at], 10 * (power as u32 + 1))
        }
        _ => (word, 0),
    };
    let number: f64 = number.trim().parse().map_err(|_| EXPECTED)?;
    let bytes = number * (1u64 << shift) as f64;
    if bytes >= 1.0 && bytes < usize::MAX as f64 { Ok(bytes as usize) } else { Err(EXPECTED.into()) }
}

/// 0 (greedy) or more.
pub fn temperature(text: &str) -> Result<f32, String> {
    between(text, 0.0..=100.0)
}

/// A share of one that may be 0.
pub fn share(text: &str) -> Result<f32, String> {
    between(text, 0.0..=1.0)
}

/// A share of one above 0.
pub fn positive_share(text: &str) -> Result<f32, String> {
    let share = between(text, 0.0..=1.0)?;
    if share > 0.0 { Ok(share) } else { Err("more than 0 is needed (1 keeps all)".into()) }
}

/// A factor above 0.
pub fn factor(text: &str) -> Result<f32, String> {
    let factor = between(text, 0.0..=100.0)?;
    if factor > 0.0 { Ok(factor) } else { Err("more than 0 is needed (1 changes nothing)".into()) }
}

fn between(text: &str, range: RangeInclusive<f32>) -> Result<f32, String> {
    let value: f32 = text.parse().map_err(|_| "a number is needed".to_string())?;
    // NaN is in no range.
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(format!("{} to {} are possible", range.start(), range.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("512M", 512 << 20), ("2g", 2 << 30), ("1.5GiB", 3 << 29), ("100kb", 102_400), ("7", 7)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "G", "0", "-1G", "2X", "nan", "inf", "1e30T", "2 GG"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges() {
        assert_eq!(temperature("0"), Ok(0.0));
        for bad in ["-1", "nan", "inf", "warm", ""] {
            assert!(temperature(bad).is_err(), "{bad}");
        }
        assert_eq!(share("0"), Ok(0.0));
        assert!(positive_share("0").is_err());
        assert_eq!(positive_share("1"), Ok(1.0));
        assert!(share("1.01").is_err());
        assert!(factor("0").is_err());
        assert!(drafts("0").is_err() && drafts("17").is_err() && drafts("many").is_err());
        assert_eq!(drafts("16"), Ok(16));
        assert!(count("0").is_err() && count("-1").is_err());
        assert!(threads("0").is_err() && threads("1025").is_err());
        assert_eq!(threads("2"), Ok(2));
    }
}

//! ASCII words by sixteen bytes at a time: nearly all pre-tokens of English text and of code, without a loop.

use crate::unicode::{LETTER, NUMBER};

/// How many bytes are looked at.
const WIDTH: usize = 16;

/// A byte in each of sixteen lanes.
const fn lanes(byte: u8) -> u128 {
    u128::from_ne_bytes([byte; WIDTH])
}

/// The bit of each lane that a mask uses.
const HIGH: u128 = lanes(0x80);

/// Which of sixteen bytes are of which class, by the highest bit of each lane; the first byte is the lowest lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Masks {
    letters: u128,
    digits: u128,
    /// `[^\s\p{L}\p{N}]`, as far as it is ASCII.
    others: u128,
    non_ascii: u128,
}

#[inline(always)]
fn masks(bytes: &[u8; WIDTH]) -> Masks {
    let bytes = u128::from_le_bytes(*bytes);
    let non_ascii = bytes & HIGH;
    let low = bytes & !HIGH;
    // Whether first <= lane <= last: lanes are below 0x80, so no sum leaves its lane.
    let within = |low: u128, first: u8, last: u8| {
        (low + lanes(0x80 - first)) & !(low + lanes(0x7F - last)) & HIGH & !non_ascii
    };
    let letters = within(low | lanes(0x20), b'a', b'z');
    let digits = within(low, b'0', b'9');
    let spaces = within(low, b'\t', b'\r') | within(low, b' ', b' ');
    Masks { letters, digits, others: HIGH & !(letters | digits | spaces | non_ascii), non_ascii }
}

#[inline(always)]
fn chunk(text: &[u8], at: usize) -> Option<&[u8; WIDTH]> {
    text.get(at..)?.first_chunk()
}

/// On from `at` over ASCII letters (with `LETTER` among `classes`) or else digits (with `NUMBER`), whole chunks of them.
#[inline(always)]
pub(super) fn pass_over(text: &[u8], mut at: usize, classes: u8) -> usize {
    while let Some(bytes) = chunk(text, at) {
        let masks = masks(bytes);
        let letters = classes & LETTER != 0 && masks.letters == HIGH;
        let digits = classes & NUMBER != 0 && masks.digits == HIGH;
        if !(letters || digits) {
            break;
        }
        at += WIDTH;
    }
    at
}

/// Where the match ends that begins at the lane `begin` with a run of `class`; `None` if there is no such run or its end is
/// not in sight. What follows an ASCII run is only known to end it if it is ASCII too.
#[inline(always)]
fn end_of_run(masks: Masks, begin: u128, class: u128, at: usize) -> Option<usize> {
    // All lanes from `begin` on.
    let stops = HIGH & !class & begin.wrapping_neg();
    let stop = stops & stops.wrapping_neg();
    let sure = stops != 0 && stop != begin && masks.non_ascii & stop == 0;
    sure.then_some(at + (stops.trailing_zeros() / 8) as usize)
}

/// The first lane, or the second.
#[inline(always)]
fn lane(second: bool) -> u128 {
    if second { 0x8000 } else { 0x80 }
}

/// ` ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+` where it is a matter of a few ASCII characters, and not of a contraction.
#[inline(always)]
pub(super) fn gpt2(text: &[u8], at: usize) -> Option<usize> {
    let bytes = chunk(text, at)?;
    let masks = masks(bytes);
    let begin = lane(bytes[0] == b' ');
    if masks.letters & begin != 0 {
        return end_of_run(masks, begin, masks.letters, at);
    }
    if bytes[0] == b'\'' {
        return None;
    }
    let class = if masks.others & begin != 0 { masks.others } else { masks.digits };
    end_of_run(masks, begin, class, at)
}

/// `[^\r\n\p{L}\p{N}]?\p{L}+| ?[^\s\p{L}\p{N}]+[\r\n]*`, in the same cases.
#[inline(always)]
pub(super) fn cl100k(text: &[u8], at: usize) -> Option<usize> {
    let bytes = chunk(text, at)?;
    let masks = masks(bytes);
    let first = bytes[0];
    if matches!(first, b'0'..=b'9' | b'\r' | b'\n' | b'\'' | 0x80..) {
        return None;
    }
    let begin = lane(masks.letters & 0x80 == 0);
    if masks.letters & begin != 0 {
        return end_of_run(masks, begin, masks.letters, at);
    }
    let end = end_of_run(masks, lane(first == b' '), masks.others, at)?;
    (!matches!(bytes[end - at], b'\r' | b'\n')).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks_by_byte(bytes: &[u8; WIDTH]) -> Masks {
        let mut masks = Masks { letters: 0, digits: 0, others: 0, non_ascii: 0 };
        for (at, &byte) in bytes.iter().enumerate() {
            let class = match byte {
                0x80.. => &mut masks.non_ascii,
                b'\t'..=b'\r' | b' ' => continue,
                _ if byte.is_ascii_alphabetic() => &mut masks.letters,
                _ if byte.is_ascii_digit() => &mut masks.digits,
                _ => &mut masks.others,
            };
            *class |= 0x80 << (8 * at);
        }
        masks
    }

    #[test]
    fn masks_of_every_byte_at_every_place() {
        for byte in 0..=255u8 {
            for at in 0..WIDTH {
                let mut bytes = *b"a1 .\t\x80Zz@[`{/:\x0e\x1f";
                bytes[at] = byte;
                assert_eq!(masks(&bytes), masks_by_byte(&bytes), "{byte:#x} at {at}");
            }
        }
    }
}

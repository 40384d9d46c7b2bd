//! Hand-written scanners for the well-known patterns: one pass, no backtracking but a bounded look back.
//!
//! Each function is given the text and a position before its end, and returns where the match that begins there ends.
//! The patterns' alternatives are tried in their order; the comments name them.

use super::ascii;
use crate::unicode::{self, LETTER, LOWER, NEWLINE, NUMBER, SPACE, UPPER};

/// A pattern with a scanner. Every text is covered by matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scanner {
    Gpt2,
    Cl100k {
        /// `\p{N}{1,digits}`.
        digits: usize,
        /// White space at the end of a text is one piece even if it contains a newline (`\s++$`).
        whole_tail: bool,
        /// Contractions ignore case by Unicode's folding, in which ſ (U+017F) is an s.
        long_s: bool,
    },
    O200k {
        digits: usize,
        contractions: bool,
    },
}

impl Scanner {
    pub(crate) const LLAMA3: Scanner = Scanner::Cl100k { digits: 3, whole_tail: false, long_s: true };
    pub(crate) const QWEN2: Scanner = Scanner::Cl100k { digits: 1, whole_tail: false, long_s: true };
    pub(crate) const CL100K: Scanner = Scanner::Cl100k { digits: 3, whole_tail: true, long_s: true };
    pub(crate) const O200K: Scanner = Scanner::O200k { digits: 3, contractions: true };
    pub(crate) const TEKKEN: Scanner = Scanner::O200k { digits: 1, contractions: false };

    /// Gives all matches in order.
    pub(crate) fn run(self, text: &[u8], mut each: impl FnMut(&[u8])) {
        let mut at = 0;
        while at < text.len() {
            let end = self.end_of_match(text, at);
            each(&text[at..end]);
            at = end;
        }
    }

    /// Where the match that begins at `at`, before the end of the text, ends.
    #[inline(always)]
    pub(crate) fn end_of_match(self, text: &[u8], at: usize) -> usize {
        match self {
            Scanner::Gpt2 => ascii::gpt2(text, at).unwrap_or_else(|| gpt2(text, at)),
            Scanner::Cl100k { digits, whole_tail, long_s } => {
                ascii::cl100k(text, at).unwrap_or_else(|| cl100k(text, at, digits, whole_tail, long_s))
            }
            Scanner::O200k { digits, contractions } => o200k(text, at, digits, contractions),
        }
    }
}

/// The class of the character at `at` and where the next begins; past the end: no class, no progress.
#[inline(always)]
fn peek(text: &[u8], at: usize) -> (u8, usize) {
    if at >= text.len() {
        return (0, at);
    }
    let (code, len) = unicode::decode(&text[at..]);
    (code.map_or(0, unicode::class), at + len)
}

/// A multiple of the length of every character.
const ALIKE: usize = 24;
/// So often a run is looked at for repetition: after as many characters.
const TURNS: usize = 32;

/// On from `at`, as long as the bytes from `from` on, which are whole characters, go on as the last ones did.
#[inline(never)]
fn repeated(text: &[u8], from: usize, at: usize) -> usize {
    let inside = |at: usize| text.get(at).is_some_and(|byte| byte & 0xC0 == 0x80);
    if at < from + ALIKE || inside(at - ALIKE) {
        return at;
    }
    let like = &text[at - ALIKE..at];
    let mut end = at;
    while text[end..].starts_with(like) {
        end += ALIKE;
    }
    // The last character may go on behind the end.
    if end > at && inside(end) { end - ALIKE } else { end }
}

/// Where the run of characters ends whose class is one of those meant; `pass_over` goes over many of them at once.
#[inline(always)]
fn run(text: &[u8], from: usize, pass_over: impl Fn(usize) -> usize, is_meant: impl Fn(u8) -> bool) -> usize {
    let mut at = from;
    loop {
        at = pass_over(at);
        for _ in 0..TURNS {
            if at >= text.len() {
                return at;
            }
            let (class, next) = peek(text, at);
            if !is_meant(class) {
                return at;
            }
            at = next;
        }
        at = repeated(text, from, at);
    }
}

/// Where the run of characters with a class in `classes` ends.
#[inline]
fn run_of(text: &[u8], at: usize, classes: u8) -> usize {
    run(text, at, |at| ascii::pass_over(text, at, classes), |class| class & classes != 0)
}

/// Where the run of `[^\s\p{L}\p{N}]` ends.
#[inline]
fn run_of_others(text: &[u8], at: usize) -> usize {
    run(text, at, |at| at, |class| class & (SPACE | LETTER | NUMBER) == 0)
}

/// Where a run of bytes of `set` ends.
fn run_of_bytes(text: &[u8], mut at: usize, set: &[u8]) -> usize {
    while at < text.len() && set.contains(&text[at]) {
        at += 1;
    }
    at
}

/// `\p{N}{1,most}`, from a first digit on.
fn run_of_digits(text: &[u8], mut at: usize, most: usize) -> usize {
    for _ in 0..most {
        let (class, next) = peek(text, at);
        if class & NUMBER == 0 {
            break;
        }
        at = next;
    }
    at
}

/// `'s|'t|'re|'ve|'m|'ll|'d` in lower case.
fn contraction(text: &[u8], at: usize) -> Option<usize> {
    match text[at..] {
        [b'\'', b's' | b't' | b'm' | b'd', ..] => Some(at + 2),
        [b'\'', b'r' | b'v', b'e', ..] | [b'\'', b'l', b'l', ..] => Some(at + 3),
        _ => None,
    }
}

/// The same in any case; `long_s`: ſ is an s.
fn contraction_any_case(text: &[u8], at: usize, long_s: bool) -> Option<usize> {
    if text.get(at) != Some(&b'\'') {
        return None;
    }
    let lower = |at: usize| text.get(at).map(u8::to_ascii_lowercase);
    match (lower(at + 1)?, lower(at + 2)) {
        (b's' | b't' | b'm' | b'd', _) => Some(at + 2),
        (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(at + 3),
        (0xC5, Some(0xBF)) if long_s => Some(at + 3),
        _ => None,
    }
}

/// `\s+(?!\S)|\s+` over the white space `at..end`: all of it at the end of the text, else all but the last character,
/// which goes to what follows; a single one stands alone.
fn leave_last_space(text: &[u8], at: usize, end: usize) -> usize {
    if end == text.len() {
        return end;
    }
    let mut last = end - 1;
    while text[last] & 0xC0 == 0x80 {
        last -= 1;
    }
    if last > at { last } else { end }
}

/// GPT-2 (`ByteLevel` with its regex).
#[inline(never)]
fn gpt2(text: &[u8], at: usize) -> usize {
    if let Some(end) = contraction(text, at) {
        return end;
    }
    // ` ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+`
    let start = if text[at] == b' ' && at + 1 < text.len() { at + 1 } else { at };
    let (class, next) = peek(text, start);
    if class & LETTER != 0 {
        return run_of(text, next, LETTER);
    }
    if class & NUMBER != 0 {
        return run_of(text, next, NUMBER);
    }
    if class & SPACE == 0 {
        return run_of_others(text, next);
    }
    leave_last_space(text, at, run_of(text, at, SPACE))
}

/// `\s*[\r\n]+|\s+(?!\S)|\s+`, with `whole_tail` after `\s++$`.
fn white_space(text: &[u8], at: usize, whole_tail: bool) -> usize {
    let end = run_of(text, at, SPACE);
    let after_newline =
        text[at..end].iter().rposition(|byte| matches!(byte, b'\r' | b'\n')).map(|place| at + place + 1);
    match after_newline {
        Some(_) if whole_tail && end == text.len() => end,
        Some(after) => after,
        None => leave_last_space(text, at, end),
    }
}

/// cl100k, Llama 3, Qwen 2.
#[inline(never)]
fn cl100k(text: &[u8], at: usize, digits: usize, whole_tail: bool, long_s: bool) -> usize {
    if let Some(end) = contraction_any_case(text, at, long_s) {
        return end;
    }
    let (class, next) = peek(text, at);
    // `[^\r\n\p{L}\p{N}]?\p{L}+`
    if class & LETTER != 0 {
        return run_of(text, next, LETTER);
    }
    if class & NUMBER != 0 {
        return run_of_digits(text, at, digits);
    }
    if class & NEWLINE == 0 {
        let (second, after) = peek(text, next);
        if second & LETTER != 0 {
            return run_of(text, after, LETTER);
        }
        // ` ?[^\s\p{L}\p{N}]+[\r\n]*`
        if text[at] == b' ' && next < text.len() && second & (SPACE | NUMBER) == 0 {
            return run_of_bytes(text, run_of_others(text, after), b"\r\n");
        }
        if class & SPACE == 0 {
            return run_of_bytes(text, run_of_others(text, next), b"\r\n");
        }
    }
    white_space(text, at, whole_tail)
}

/// `[U]*[L]+` from `at`, where U is [`UPPER`] and L is [`LOWER`]: greedy, then giving back until an L can be had.
fn upper_then_lower(text: &[u8], at: usize) -> Option<usize> {
    let mut end = at;
    // The end of the last character of U* that is of L too.
    let mut given_back = None;
    loop {
        let (class, next) = peek(text, end);
        if class & UPPER == 0 {
            break;
        }
        end = next;
        if class & LOWER != 0 {
            given_back = Some(end);
        }
    }
    let lower = run_of(text, end, LOWER);
    if lower > end { Some(lower) } else { given_back }
}

/// o200k, Tekken.
fn o200k(text: &[u8], at: usize, digits: usize, contractions: bool) -> usize {
    let (class, next) = peek(text, at);
    let may_be_prefix = class & (NEWLINE | LETTER | NUMBER) == 0;
    // `[^\r\n\p{L}\p{N}]?U*L+`, the prefix taken if that works, then `[^\r\n\p{L}\p{N}]?U+L*`
    let word = may_be_prefix
        .then(|| upper_then_lower(text, next))
        .flatten()
        .or_else(|| upper_then_lower(text, at))
        .or_else(|| {
            // No L follows the U's: the first two tries would have found it.
            let start = if may_be_prefix { next } else { at };
            let end = run_of(text, start, UPPER);
            (end > start).then_some(end)
        });
    if let Some(end) = word {
        let suffix = if contractions { contraction_any_case(text, end, true) } else { None };
        return suffix.unwrap_or(end);
    }
    if class & NUMBER != 0 {
        return run_of_digits(text, at, digits);
    }
    // ` ?[^\s\p{L}\p{N}]+[\r\n/]*`
    if class & SPACE == 0 {
        return run_of_bytes(text, run_of_others(text, next), b"\r\n/");
    }
    let (second, after) = peek(text, next);
    if text[at] == b' ' && next < text.len() && second & (SPACE | LETTER | NUMBER) == 0 {
        return run_of_bytes(text, run_of_others(text, after), b"\r\n/");
    }
    white_space(text, at, false)
}

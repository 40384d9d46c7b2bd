//! Where a long text may be cut so that its two parts have the pre-tokens of the whole.

use crate::unicode::{self, LETTER};

/// Whether no pre-token of a well-known pattern ([`Scanner`](crate::pretokenize::Scanner)) can span `at` and none before it
/// sees beyond: a letter, then white space. A match never goes on from a letter to white space, the matches that end with a
/// letter look at nothing behind it, and what a match is depends on nothing before it.
fn is_cut(text: &[u8], at: usize) -> bool {
    if !matches!(text.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        return false;
    }
    match text[..at] {
        [.., last] if last.is_ascii() => last.is_ascii_alphabetic(),
        [.., _] => {
            let start = (at.saturating_sub(4)..at).rev().find(|&start| text[start] & 0xC0 != 0x80);
            start.is_some_and(|start| {
                let (code, len) = unicode::decode(&text[start..at]);
                start + len == at && code.is_some_and(|code| unicode::class(code) & LETTER != 0)
            })
        }
        [] => false,
    }
}

/// The last cut at or before `wanted`, but not at the beginning.
pub(crate) fn cut_before(text: &[u8], wanted: usize) -> Option<usize> {
    (1..=wanted.min(text.len())).rev().find(|&at| is_cut(text, at))
}

/// A cut near `wanted` and after `start`: before it if there is one, else after it, else the end of the text.
pub(crate) fn cut_near(text: &[u8], start: usize, wanted: usize) -> usize {
    if wanted >= text.len() {
        return text.len();
    }
    let before = (start + 1..=wanted).rev().find(|&at| is_cut(text, at));
    before.or_else(|| (wanted + 1..text.len()).find(|&at| is_cut(text, at))).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pretokenize::Scanner;

    fn pieces(scanner: Scanner, text: &[u8]) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        scanner.run(text, |piece| pieces.push(piece.to_vec()));
        pieces
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_cut_changes_nothing(parts in prop::collection::vec(prop::sample::select(vec![
            "a", "B", "é", "日", "ſ", "'s", "'", "'LL", " ", "  ", "\n", "\r\n", "\t", "1", "234", ".", "/", "\u{301}", "\u{a0}",
            "\u{3000}", "ǅ", "_", "\0",
        ]), 0..14), broken in any::<bool>()) {
            let mut text = parts.concat().into_bytes();
            if broken && !text.is_empty() {
                text.remove(text.len() / 2);
            }
            let scanners =
                [Scanner::Gpt2, Scanner::LLAMA3, Scanner::QWEN2, Scanner::CL100K, Scanner::O200K, Scanner::TEKKEN];
            for at in (0..=text.len()).filter(|&at| is_cut(&text, at)) {
                for scanner in scanners {
                    let both = [pieces(scanner, &text[..at]), pieces(scanner, &text[at..])].concat();
                    prop_assert_eq!(&both, &pieces(scanner, &text), "{:?} at {}", scanner, at);
                }
            }
        }
    }

    #[test]
    fn near() {
        let text = b"one two three";
        assert_eq!(cut_near(text, 0, 6), 3);
        assert_eq!(cut_near(text, 0, 7), 7);
        assert_eq!(cut_near(text, 3, 6), 7);
        assert_eq!(cut_near(text, 7, 9), text.len());
        assert_eq!(cut_before(text, 12), Some(7));
        assert_eq!(cut_before(b"1 2 3", 5), None);
    }
}

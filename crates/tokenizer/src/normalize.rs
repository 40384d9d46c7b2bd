//! Carries out a [`Normalizer`].
//!
//! Normalizers speak of characters; stretches of bytes that are no UTF-8 pass through as they are.
//!
//! The normal forms are those of Unicode 9, on purpose: Hugging Face `tokenizers` uses these tables, and so did whoever
//! trained a model with it. (Characters that came later are left as they are; the forms of older ones never change.)

use std::borrow::Cow;

use unicode_normalization_alignments::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::TokenizerError;
use crate::pretokenize::Regex;
use crate::spec::{Normalizer, TextPattern};
use crate::unicode;
use crate::vocab::replace;

/// One compiled step.
#[derive(Debug)]
enum Step {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
    Lowercase,
    Strip { left: bool, right: bool },
    Prepend(String),
    ReplaceString(String, String),
    ReplaceRegex(Box<Regex>, String),
}

/// A compiled normalizer.
#[derive(Debug, Default)]
pub(crate) struct Normalize {
    steps: Vec<Step>,
}

impl Normalize {
    pub(crate) fn new(file: &str, spec: Option<&Normalizer>) -> Result<Normalize, TokenizerError> {
        let mut normalize = Normalize::default();
        if let Some(spec) = spec {
            normalize.add(file, spec)?;
        }
        // A file of a few lines must not turn a line of text into gigabytes.
        let growth = normalize.steps.iter().fold(1usize, |growth, step| growth.saturating_mul(step.growth()));
        if growth > MAX_GROWTH {
            return Err(TokenizerError::unsupported(
                file,
                "normalizer",
                format!("one that can make a text {growth} times as long"),
                format!("at most {MAX_GROWTH} times is"),
            ));
        }
        Ok(normalize)
    }

    fn add(&mut self, file: &str, spec: &Normalizer) -> Result<(), TokenizerError> {
        self.steps.push(match spec {
            Normalizer::Nfc => Step::Nfc,
            Normalizer::Nfd => Step::Nfd,
            Normalizer::Nfkc => Step::Nfkc,
            Normalizer::Nfkd => Step::Nfkd,
            Normalizer::Lowercase => Step::Lowercase,
            Normalizer::Strip { strip_left, strip_right } => {
                Step::Strip { left: *strip_left, right: *strip_right }
            }
            Normalizer::Prepend { prepend } => Step::Prepend(prepend.clone()),
            Normalizer::Replace { pattern: TextPattern::String(from), content } => {
                Step::ReplaceString(from.clone(), content.clone())
            }
            Normalizer::Replace { pattern: TextPattern::Regex(regex), content } => {
                Step::ReplaceRegex(Box::new(Regex::new(file, "normalizer.pattern", regex)?), content.clone())
            }
            Normalizer::Sequence { normalizers } => {
                return normalizers.iter().try_for_each(|normalizer| self.add(file, normalizer));
            }
        });
        Ok(())
    }

    /// Whether a text may be normalized in parts that begin or end with a newline, or with a space before a letter.
    pub(crate) fn keeps_ascii_apart(&self) -> bool {
        self.steps.iter().all(|step| matches!(step, Step::Nfc))
    }

    /// The normalized text.
    pub(crate) fn apply<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        let mut text = Cow::Borrowed(text);
        for step in &self.steps {
            if let Some(changed) = step.apply(&text) {
                text = Cow::Owned(changed);
            }
        }
        text
    }
}

/// The most that a normalizer may lengthen a text.
const MAX_GROWTH: usize = 1 << 12;

impl Step {
    /// How many times as long the step can make a long text.
    fn growth(&self) -> usize {
        match self {
            Step::Strip { .. } | Step::Prepend(_) => 1,
            Step::ReplaceString(from, to) => to.len().div_ceil(from.len().max(1)).max(1),
            Step::ReplaceRegex(_, to) => to.len().max(1),
            // The longest forms of a single character (UAX #15, "stability of normalization forms").
            Step::Nfc | Step::Nfd | Step::Lowercase => 3,
            Step::Nfkc | Step::Nfkd => 11,
        }
    }

    /// The changed text; `None` where nothing changes.
    fn apply(&self, text: &[u8]) -> Option<Vec<u8>> {
        match self {
            // ASCII is its own normal form, in all four.
            Step::Nfc | Step::Nfd | Step::Nfkc | Step::Nfkd if text.is_ascii() => None,
            Step::Nfc => nfc(text),
            Step::Nfd => Some(each_chunk(text, |chunk, out| out.extend(chunk.nfd().map(|(c, _)| c)))),
            Step::Nfkc => Some(each_chunk(text, |chunk, out| out.extend(chunk.nfkc().map(|(c, _)| c)))),
            Step::Nfkd => Some(each_chunk(text, |chunk, out| out.extend(chunk.nfkd().map(|(c, _)| c)))),
            // Character by character, as Hugging Face does it: no final sigma.
            Step::Lowercase => {
                Some(each_chunk(text, |chunk, out| out.extend(chunk.chars().flat_map(char::to_lowercase))))
            }
            Step::Strip { left, right } => {
                let start = if *left { unicode::space_after(text, 0) } else { 0 };
                let end =
                    if *right { unicode::space_before(text, text.len()).max(start) } else { text.len() };
                Some(text[start..end].to_vec())
            }
            Step::Prepend(prefix) => (!text.is_empty()).then(|| [prefix.as_bytes(), text].concat()),
            Step::ReplaceString(from, to) => Some(replace(text, from.as_bytes(), to.as_bytes())),
            Step::ReplaceRegex(regex, to) => {
                let mut out = Vec::with_capacity(text.len());
                regex.split(text, &mut |piece, matched| {
                    out.extend_from_slice(if matched { to.as_bytes() } else { piece })
                });
                Some(out)
            }
        }
    }
}

/// NFC; `None` where nothing changes.
///
/// Nothing composes with an ASCII character behind it, so each stretch outside ASCII is normalized together with the
/// character before it and with nothing else: most text has few of them, and most of them stay as they are.
fn nfc(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    // Of the text: what is in `out`, and what was looked at.
    let (mut copied, mut at) = (0, 0);
    while at < text.len() {
        at += 64 * text[at..].chunks(64).take_while(|chunk| chunk.is_ascii()).count();
        let Some(ascii) = text.get(at..).and_then(|rest| rest.iter().position(|byte| !byte.is_ascii()))
        else {
            break;
        };
        let end = text[at + ascii..].iter().position(u8::is_ascii).map_or(text.len(), |len| at + ascii + len);
        let start = (at + ascii).saturating_sub(1).max(copied);
        at = end;
        let mut chunks = text[start..end].utf8_chunks();
        if chunks.all(|chunk| {
            chunk.valid().chars().all(stays) || is_nfc_quick(chunk.valid().chars()) == IsNormalized::Yes
        }) {
            continue;
        }
        let normal = each_chunk(&text[start..end], |chunk, out| out.extend(chunk.nfc().map(|(c, _)| c)));
        if normal != text[start..end] {
            out.extend_from_slice(&text[copied..start]);
            out.extend_from_slice(&normal);
            copied = end;
        }
    }
    if copied == 0 {
        return None;
    }
    out.extend_from_slice(&text[copied..]);
    Some(out)
}

/// Whether a text of such characters alone is in NFC: frequent ones that neither change nor combine with what is before them.
fn stays(c: char) -> bool {
    // Latin letters; Cyrillic; CJK punctuation, kana and ideographs; Hangul syllables.
    matches!(c as u32, 0..=0x2FF | 0x400..=0x482 | 0x3000..=0x3029 | 0x3030..=0x3098 | 0x309B..=0x9FFF | 0xAC00..=0xD7A3)
}

/// Applies `change` to each stretch of valid UTF-8.
fn each_chunk(text: &[u8], change: impl Fn(&str, &mut String)) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut changed = String::new();
    for chunk in text.utf8_chunks() {
        changed.clear();
        change(chunk.valid(), &mut changed);
        out.extend_from_slice(changed.as_bytes());
        out.extend_from_slice(chunk.invalid());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PARTS: [&str; 16] = [
        "e", " ", "\u{301}", "\u{323}", "é", "\u{2000}", "日", "\u{1100}", "\u{1161}", "\u{11A8}", "ガ",
        "カ", "\u{3099}", "\u{212B}", "=", "\u{338}",
    ];

    #[test]
    fn what_stays_is_in_nfc() {
        for c in (0..=0x10_FFFF).filter_map(char::from_u32).filter(|&c| stays(c)) {
            assert_eq!(is_nfc_quick(std::iter::once(c)), IsNormalized::Yes, "{c:?}");
            assert_eq!(unicode_normalization_alignments::char::canonical_combining_class(c), 0, "{c:?}");
        }
    }

    proptest! {
        #[test]
        fn nfc_by_stretches(parts in prop::collection::vec(prop_oneof![
            8 => prop::sample::select(&PARTS[..]).prop_map(|part| part.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 1..4),
            1 => prop::sample::select(&PARTS[..]).prop_map(|part| part.repeat(80).into_bytes()),
        ], 0..40)) {
            let text = parts.concat();
            let expected = each_chunk(&text, |chunk, out| out.extend(chunk.nfc().map(|(c, _)| c)));
            prop_assert_eq!(nfc(&text).unwrap_or_else(|| text.clone()), expected);
        }
    }
}

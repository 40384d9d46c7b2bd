//! Cuts text into pre-tokens: carries out a [`PreTokenizer`].

mod ascii;
mod blocks;
mod known;
pub(crate) mod pre;
mod regex;
mod scan;

pub(crate) use blocks::REACH;
pub use known::Pattern;
pub(crate) use known::guess_tiktoken;
pub(crate) use regex::Regex;
pub(crate) use scan::Scanner;

use crate::TokenizerError;
use crate::alphabet;
use crate::spec::{Behavior, PreTokenizer, PrependScheme, TextPattern};
use crate::unicode;

/// What finds the delimiters (or, inverted, the pieces) of a split.
#[derive(Debug)]
enum Matcher {
    /// A well-known pattern, whose matches cover any text.
    Scanner(Scanner),
    Regex(Box<Regex>),
    String(String),
    /// One character of these classes ([`unicode`]).
    Class(u8),
    /// One ASCII punctuation character, or one of `\p{P}`.
    Punctuation,
}

/// One compiled step.
#[derive(Debug)]
enum Step {
    /// Pieces are a scanner's matches.
    Scan(Scanner),
    Split {
        matcher: Matcher,
        behavior: Behavior,
        invert: bool,
    },
    /// A space before a piece that has none.
    PrefixSpace,
    /// SentencePiece's: a space becomes the mark, pieces begin with it.
    Metaspace {
        mark: String,
        scheme: PrependScheme,
        split: bool,
    },
    /// From here on pieces are seen in the byte alphabet: what follows a byte level in a sequence.
    Alphabet,
}

/// A compiled pre-tokenizer.
#[derive(Debug, Default)]
pub(crate) struct PreTokenize {
    steps: Vec<Step>,
}

impl PreTokenize {
    pub(crate) fn new(file: &str, spec: Option<&PreTokenizer>) -> Result<PreTokenize, TokenizerError> {
        let mut this = PreTokenize::default();
        if let Some(spec) = spec {
            this.add(file, spec)?;
        }
        // The alphabet only matters to steps that look at characters after it.
        if matches!(this.steps.last(), Some(Step::Alphabet)) {
            this.steps.pop();
        }
        Ok(this)
    }

    fn add(&mut self, file: &str, spec: &PreTokenizer) -> Result<(), TokenizerError> {
        match spec {
            PreTokenizer::ByteLevel { add_prefix_space, use_regex, .. } => {
                if self.steps.iter().any(|step| matches!(step, Step::Alphabet)) {
                    return Err(TokenizerError::unsupported(
                        file,
                        "pre_tokenizer",
                        "a second ByteLevel",
                        "a pre-tokenizer has one at most",
                    ));
                }
                if *add_prefix_space {
                    self.steps.push(Step::PrefixSpace);
                }
                if *use_regex {
                    self.steps.push(Step::Scan(Scanner::Gpt2));
                }
                self.steps.push(Step::Alphabet);
            }
            PreTokenizer::Split { pattern, behavior, invert } => {
                let matcher = match pattern {
                    TextPattern::String(text) => Matcher::String(text.clone()),
                    TextPattern::Regex(regex) => match known::scanner_of(regex) {
                        Some(scanner) => Matcher::Scanner(scanner),
                        None => Matcher::Regex(Box::new(Regex::new(file, "pre_tokenizer.pattern", regex)?)),
                    },
                };
                self.steps.push(match (matcher, behavior, invert) {
                    // Every byte is in a match, so these come to the same: the matches are the pieces.
                    (Matcher::Scanner(scanner), Behavior::Isolated, _) => Step::Scan(scanner),
                    (Matcher::Scanner(scanner), Behavior::Removed, true) => Step::Scan(scanner),
                    (matcher, &behavior, &invert) => Step::Split { matcher, behavior, invert },
                });
            }
            PreTokenizer::Digits { individual_digits } => {
                let behavior = if *individual_digits { Behavior::Isolated } else { Behavior::Contiguous };
                self.steps.push(Step::Split {
                    matcher: Matcher::Class(unicode::NUMBER),
                    behavior,
                    invert: false,
                });
            }
            PreTokenizer::Punctuation { behavior } => {
                self.steps.push(Step::Split {
                    matcher: Matcher::Punctuation,
                    behavior: *behavior,
                    invert: false,
                });
            }
            PreTokenizer::WhitespaceSplit => {
                let matcher = Matcher::Class(unicode::SPACE);
                self.steps.push(Step::Split { matcher, behavior: Behavior::Removed, invert: false });
            }
            PreTokenizer::Metaspace { replacement, add_prefix_space, prepend_scheme, split } => {
                let scheme = match (prepend_scheme, add_prefix_space) {
                    (Some(scheme), _) => *scheme,
                    (None, Some(false)) => PrependScheme::Never,
                    (None, _) => PrependScheme::Always,
                };
                self.steps.push(Step::Metaspace {
                    mark: replacement.to_string(),
                    scheme,
                    split: split.unwrap_or(true),
                });
            }
            PreTokenizer::Sequence { pretokenizers } => {
                return pretokenizers.iter().try_for_each(|pre_tokenizer| self.add(file, pre_tokenizer));
            }
        }
        Ok(())
    }

    /// The pre-tokenizer of ordinary vocabularies: a scanner and nothing else.
    pub(crate) fn scanner(&self) -> Option<Scanner> {
        match self.steps[..] {
            [Step::Scan(scanner)] => Some(scanner),
            _ => None,
        }
    }

    /// Gives the pre-tokens of `text` to `each` in order. `first`: the text is the beginning of the whole.
    pub(crate) fn run(&self, text: &[u8], first: bool, each: &mut dyn FnMut(&[u8])) {
        run_steps(&self.steps, text, first, each);
    }
}

fn run_steps(steps: &[Step], text: &[u8], first: bool, each: &mut dyn FnMut(&[u8])) {
    let Some((step, rest)) = steps.split_first() else {
        if !text.is_empty() {
            each(text);
        }
        return;
    };
    let mut next_first = first;
    let mut next = |piece: &[u8]| {
        run_steps(rest, piece, next_first, each);
        next_first = false;
    };
    match step {
        Step::Scan(scanner) => scanner.run(text, next),
        Step::Split { matcher, behavior, invert } => split(text, matcher, *behavior, *invert, &mut next),
        Step::PrefixSpace if text.starts_with(b" ") || text.is_empty() => next(text),
        Step::PrefixSpace => next(&[b" ", text].concat()),
        Step::Metaspace { mark, scheme, split: cut } => {
            let mut marked = crate::vocab::replace(text, b" ", mark.as_bytes());
            let prefix = match scheme {
                PrependScheme::Always => true,
                PrependScheme::First => first,
                PrependScheme::Never => false,
            };
            if prefix && !marked.starts_with(mark.as_bytes()) {
                marked = [mark.as_bytes(), &marked].concat();
            }
            if *cut {
                split(&marked, &Matcher::String(mark.clone()), Behavior::MergedWithNext, false, &mut next);
            } else {
                next(&marked);
            }
        }
        Step::Alphabet => {
            let written = alphabet::to_text(text);
            // One character of the alphabet is one byte, so what follows may cut anywhere but not change the text.
            run_steps(rest, written.as_bytes(), first, &mut |piece| {
                let piece = std::str::from_utf8(piece).ok().and_then(alphabet::to_bytes);
                each(&piece.unwrap_or_default());
            });
        }
    }
}

impl Matcher {
    /// Gives all stretches of `text` in order, with whether each is a match. No stretch is empty.
    fn stretches(&self, text: &[u8], each: &mut dyn FnMut(&[u8], bool)) {
        match self {
            Matcher::Scanner(scanner) => scanner.run(text, |piece| each(piece, true)),
            Matcher::Regex(regex) => regex.split(text, each),
            Matcher::String(delimiter) => split_string(text, delimiter.as_bytes(), each),
            Matcher::Class(classes) => split_chars(text, |code| unicode::class(code) & classes != 0, each),
            Matcher::Punctuation => split_chars(
                text,
                |code| match u8::try_from(code) {
                    Ok(byte) if byte.is_ascii() => byte.is_ascii_punctuation(),
                    _ => unicode::class(code) & unicode::PUNCTUATION != 0,
                },
                each,
            ),
        }
    }
}

/// Each character that `is_match` is a match of its own.
fn split_chars(text: &[u8], is_match: impl Fn(u32) -> bool, each: &mut dyn FnMut(&[u8], bool)) {
    let (mut start, mut at) = (0, 0);
    while at < text.len() {
        let (code, len) = unicode::decode(&text[at..]);
        if code.is_some_and(&is_match) {
            if start < at {
                each(&text[start..at], false);
            }
            each(&text[at..at + len], true);
            start = at + len;
        }
        at += len;
    }
    if start < at {
        each(&text[start..], false);
    }
}

fn split_string(text: &[u8], delimiter: &[u8], each: &mut dyn FnMut(&[u8], bool)) {
    let (mut start, mut at) = (0, 0);
    while at < text.len() && !delimiter.is_empty() {
        if text[at..].starts_with(delimiter) {
            if start < at {
                each(&text[start..at], false);
            }
            each(delimiter, true);
            at += delimiter.len();
            start = at;
        } else {
            at += 1;
        }
    }
    if start < text.len() {
        each(&text[start..], false);
    }
}

/// Hugging Face's `SplitDelimiterBehavior`.
fn split(text: &[u8], matcher: &Matcher, behavior: Behavior, invert: bool, each: &mut dyn FnMut(&[u8])) {
    // The piece being put together: text[start..at]; `matched` is whether its last stretch was a match.
    let (mut start, mut at, mut matched) = (0, 0, false);
    matcher.stretches(text, &mut |stretch, is_match| {
        let is_match = is_match != invert;
        let end = at + stretch.len();
        let flush_before = match behavior {
            Behavior::Removed | Behavior::Isolated => true,
            Behavior::MergedWithPrevious => !is_match || matched,
            Behavior::MergedWithNext => is_match || !matched,
            Behavior::Contiguous => is_match != matched,
        };
        if flush_before && start < at {
            each(&text[start..at]);
            start = at;
        }
        if behavior == Behavior::Removed && is_match {
            start = end;
        }
        (at, matched) = (end, is_match);
    });
    if start < at {
        each(&text[start..at]);
    }
}

#[cfg(test)]
mod tests;

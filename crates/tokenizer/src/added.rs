//! Finding added tokens (`<|im_end|>`, `<think>`) in text, as Hugging Face's `AddedVocabulary` does.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use crate::TokenizerError;
use crate::normalize::Normalize;
use crate::spec::AddedToken;
use crate::tokenizer::Specials;
use crate::unicode;

/// A stretch of text: an added token, or what lies between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fragment<'t> {
    Token(u32),
    Text {
        text: &'t [u8],
        /// It begins where the whole text begins.
        first: bool,
    },
}

/// Names of more bytes than this are not looked for with a full table.
const MAX_TABLE: usize = 1 << 14;

/// A set of added tokens, looked for together: leftmost, then longest.
#[derive(Debug, Default)]
pub(crate) struct Finder {
    tokens: Vec<AddedToken>,
    automaton: Option<AhoCorasick>,
    /// None of the tokens counts where special tokens are text.
    all_special: bool,
}

impl Finder {
    /// Those of `tokens` whose `normalized` flag is as given; normalized ones are looked for in normalized form.
    pub(crate) fn new(
        file: &str,
        tokens: &[AddedToken],
        normalized: bool,
        normalize: &Normalize,
    ) -> Result<Finder, TokenizerError> {
        let wanted = |token: &&AddedToken| token.normalized == normalized && !token.content.is_empty();
        let tokens: Vec<AddedToken> = tokens.iter().filter(wanted).cloned().collect();
        if tokens.is_empty() {
            return Ok(Finder::default());
        }
        let patterns = tokens.iter().map(|token| match normalized {
            true => normalize.apply(token.content.as_bytes()),
            false => token.content.as_bytes().into(),
        });
        let mut builder = AhoCorasick::builder();
        builder.match_kind(MatchKind::LeftmostLongest);
        // A table of all transitions is fastest, but takes a kibibyte for each byte of the names.
        let bytes: usize = tokens.iter().map(|token| token.content.len()).sum();
        if bytes > MAX_TABLE {
            builder.kind(Some(AhoCorasickKind::ContiguousNFA));
        }
        let automaton = builder.build(patterns).map_err(|error| {
            TokenizerError::entry(file, "added_tokens", error.to_string(), "fewer or shorter added tokens")
        })?;
        let all_special = tokens.iter().all(|token| token.special);
        Ok(Finder { tokens, automaton: Some(automaton), all_special })
    }

    /// The bytes of the longest token that counts; 0 if none does.
    pub(crate) fn longest(&self, specials: Specials) -> usize {
        if self.all_special && specials == Specials::AsText {
            return 0;
        }
        self.tokens.iter().map(|token| token.content.len()).max().unwrap_or(0)
    }

    /// Whether the name of some token is in `text`.
    pub(crate) fn any(&self, text: &[u8], specials: Specials) -> bool {
        let counts = !(self.all_special && specials == Specials::AsText);
        counts && self.automaton.as_ref().is_some_and(|automaton| automaton.is_match(text))
    }

    /// Gives `text`, cut at the tokens, to `each` in order.
    pub(crate) fn cut<'t>(
        &self,
        text: &'t [u8],
        first: bool,
        specials: Specials,
        each: &mut dyn FnMut(Fragment<'t>),
    ) {
        let Some(automaton) = &self.automaton else {
            return each(Fragment::Text { text, first });
        };
        if self.all_special && specials == Specials::AsText {
            if !text.is_empty() {
                each(Fragment::Text { text, first });
            }
            return;
        }
        let mut done = 0;
        for found in automaton.find_iter(text) {
            let token = &self.tokens[found.pattern().as_usize()];
            let (mut start, mut end) = (found.start(), found.end());
            if (token.special && specials == Specials::AsText) || start < done || found.is_empty() {
                continue;
            }
            if token.single_word && (ends_with_word(&text[..start]) || starts_with_word(&text[end..])) {
                continue;
            }
            if token.lstrip {
                // Never into the token before.
                start = unicode::space_before(text, start).max(done);
            }
            if token.rstrip {
                end = unicode::space_after(text, end);
            }
            if done < start {
                each(Fragment::Text { text: &text[done..start], first: first && done == 0 });
            }
            each(Fragment::Token(token.id));
            done = end;
        }
        if done < text.len() {
            each(Fragment::Text { text: &text[done..], first: first && done == 0 });
        }
    }
}

/// A character of `\w`: letter, mark, decimal number or connector.
fn is_word(c: char) -> bool {
    use unicode_general_category::{GeneralCategory as G, get_general_category};
    let class = unicode::class(c as u32);
    class & (unicode::LETTER | unicode::UPPER | unicode::LOWER) != 0
        || matches!(get_general_category(c), G::DecimalNumber | G::LetterNumber | G::ConnectorPunctuation)
        || matches!(c, '\u{200C}' | '\u{200D}')
}

fn ends_with_word(text: &[u8]) -> bool {
    unicode::last_char(text).is_some_and(is_word)
}

fn starts_with_word(text: &[u8]) -> bool {
    unicode::first_char(text).is_some_and(is_word)
}

//! Where a text may be cut so that its parts have the ids of the whole, one after the other.
//!
//! For vocabularies whose pre-tokens a scanner finds. Their patterns have no match with
//!
//! - an ASCII letter and a space behind it,
//! - a newline and a letter or a number behind it,
//!
//! so a match begins between the two, and what a match is depends only on what follows its beginning. The part before the
//! seam ends with a letter, or with a newline that is its only white space there; that it is the end of the part and not
//! followed by other text means the same to the patterns. Neither does anything join across in NFC. Other normalizers
//! have no seams. Where added tokens count, none may be near.

use crate::pretokenize::PreTokenize;
use crate::tokenizer::Specials;
use crate::unicode;
use crate::{added::Finder, normalize::Normalize};

/// What seams depend on.
pub(crate) struct Seams<'a> {
    exact: &'a Finder,
    normalized: &'a Finder,
    specials: Specials,
    /// How far around a seam no added token may be.
    reach: usize,
}

/// What follows a seam must be visible: a character.
const AHEAD: usize = 4;

impl<'a> Seams<'a> {
    /// `None` if texts of this kind have no seams.
    pub(crate) fn new(
        pre_tokenize: &PreTokenize,
        normalize: &Normalize,
        exact: &'a Finder,
        normalized: &'a Finder,
        specials: Specials,
    ) -> Option<Seams<'a>> {
        pre_tokenize.scanner()?;
        if !normalize.keeps_ascii_apart() {
            return None;
        }
        let reach = exact.longest(specials).max(normalized.longest(specials));
        Some(Seams { exact, normalized, specials, reach: if reach == 0 { 0 } else { reach + AHEAD } })
    }

    /// How many bytes behind a seam must be there.
    pub(crate) fn ahead(&self) -> usize {
        self.reach.max(AHEAD)
    }

    /// The last seam at `from` or later.
    pub(crate) fn last(&self, text: &[u8], from: usize) -> Option<usize> {
        let end = (text.len() + 1).checked_sub(self.ahead())?;
        (from.max(2)..end).rev().find(|&at| self.is_seam(text, at))
    }

    /// The first seam at `from` or later.
    pub(crate) fn first(&self, text: &[u8], from: usize) -> Option<usize> {
        let end = (text.len() + 1).checked_sub(self.ahead())?;
        let from = from.max(2);
        // Seams are at spaces and behind newlines.
        memchr::memchr2_iter(b' ', b'\n', text.get(from - 1..end)?)
            .map(|at| from - 1 + at + usize::from(text[from - 1 + at] == b'\n'))
            .find(|at| (from..end).contains(at) && self.is_seam(text, *at))
    }

    fn is_seam(&self, text: &[u8], at: usize) -> bool {
        let candidate = match (text[at - 1], text[at]) {
            (before, b' ') => before.is_ascii_alphabetic() && text[at + 1].is_ascii_alphabetic(),
            (b'\n', _) => {
                // What is behind first: it is quicker to see, and newlines may be endless.
                let behind = unicode::decode(&text[at..]).0.map_or(0, unicode::class);
                let before = || unicode::last_char(&text[..at - 1]).map_or(0, |c| unicode::class(c as u32));
                behind & (unicode::LETTER | unicode::NUMBER) != 0 && before() & unicode::SPACE == 0
            }
            _ => false,
        };
        candidate && (self.reach == 0 || !self.token_near(text, at))
    }

    fn token_near(&self, text: &[u8], at: usize) -> bool {
        let near = &text[at.saturating_sub(self.reach)..text.len().min(at + self.reach)];
        self.exact.any(near, self.specials) || self.normalized.any(near, self.specials)
    }
}

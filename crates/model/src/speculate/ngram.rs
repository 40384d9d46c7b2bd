//! Drafts from the text itself: what followed when it last read like this.
//!
//! Prompt look-up (Saxena, "Prompt lookup decoding", 2023): the last tokens of the text are searched earlier in it, and what
//! followed there is the draft. The index is LZ77's: a hash of two tokens leads to their last place, and each place to
//! the one before with the same two; of the latest few the longest match wins, of equals the latest.
use std::collections::HashMap;

/// Places looked at for one draft.
const MOST_PLACES: usize = 16;
/// Matches are not measured beyond this.
const LONGEST: usize = 32;
/// No earlier place.
const NONE: u32 = u32::MAX;

/// The pairs of a text that grows.
#[derive(Default)]
pub(super) struct NgramIndex {
    tokens: Vec<u32>,
    /// The end of the last occurrence of a pair: the index of its second token.
    last: HashMap<[u32; 2], u32>,
    /// For each token as the second of a pair, the end of the pair's occurrence before.
    before: Vec<u32>,
}

/// An earlier place that reads like the end of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// Tokens that are the same, at least 2.
    pub len: usize,
    /// Where what followed begins.
    pub next: usize,
}

impl NgramIndex {
    /// Makes the index that of `tokens`. Cheap when they go on from those it has; `new_text` says that they may not.
    pub fn follow(&mut self, tokens: &[u32], new_text: bool) {
        if self.tokens.len() > tokens.len() || new_text && !tokens.starts_with(&self.tokens) {
            self.tokens.clear();
            self.last.clear();
            self.before.clear();
        }
        for &token in &tokens[self.tokens.len()..] {
            self.push(token);
        }
    }

    fn push(&mut self, token: u32) {
        let end = self.tokens.len() as u32;
        let pair = self.tokens.last().map(|&previous| [previous, token]);
        self.tokens.push(token);
        self.before.push(pair.and_then(|pair| self.last.insert(pair, end)).unwrap_or(NONE));
    }

    /// The longest match of the text followed by `next`.
    pub fn find(&self, next: u32) -> Option<Match> {
        let mut place = *self.last.get(&[*self.tokens.last()?, next])?;
        let mut best: Option<Match> = None;
        for _ in 0..MOST_PLACES {
            if place == NONE {
                break;
            }
            let end = place as usize;
            // `next` and the token before it are the same; how many more before those?
            let (earlier, text) = (&self.tokens[..end], &self.tokens);
            let pairs = earlier.iter().rev().zip(text.iter().rev());
            let len = 1 + pairs.take(LONGEST - 1).take_while(|(a, b)| a == b).count();
            if best.is_none_or(|best| len > best.len) {
                best = Some(Match { len, next: end + 1 });
            }
            place = self.before[end];
        }
        best
    }

    /// Up to `most` tokens that followed `found`. Where the match reaches the end of the text, `next` and what was drafted
    /// follow: a text that repeats itself is drafted on and on.
    pub fn draft(&self, found: Match, next: u32, most: usize, drafts: &mut Vec<u32>) {
        for index in 0..most {
            let at = found.next + index;
            let token = match at.checked_sub(self.tokens.len()) {
                None => self.tokens[at],
                Some(0) => next,
                Some(ahead) => drafts[ahead - 1],
            };
            drafts.push(token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(tokens: &[u32]) -> NgramIndex {
        let mut index = NgramIndex::default();
        index.follow(tokens, false);
        index
    }

    fn drafts(tokens: &[u32], next: u32, most: usize) -> Option<(usize, Vec<u32>)> {
        let index = index(tokens);
        let found = index.find(next)?;
        let mut drafts = Vec::new();
        index.draft(found, next, most, &mut drafts);
        Some((found.len, drafts))
    }

    #[test]
    fn the_longest_match_wins_and_of_equals_the_latest() {
        // "1 2 3" came with 4 after it, later "9 2 3" with 5.
        assert_eq!(drafts(&[1, 2, 3, 4, 9, 2, 3, 5, 1, 2], 3, 2), Some((3, vec![4, 9])));
        assert_eq!(drafts(&[1, 2, 3, 4, 9, 2, 3, 5, 8, 2], 3, 2), Some((2, vec![5, 8])));
        assert_eq!(drafts(&[1, 2, 3], 9, 4), None);
        assert_eq!(drafts(&[], 1, 4), None);
        assert_eq!(drafts(&[1], 1, 4), None);
    }

    #[test]
    fn a_text_that_repeats_itself_goes_on_and_on() {
        assert_eq!(drafts(&[7, 7], 7, 5).unwrap().1, [7; 5]);
        assert_eq!(drafts(&[1, 2, 1, 2], 1, 5).unwrap(), (3, vec![2, 1, 2, 1, 2]));
        assert_eq!(drafts(&[1, 2, 3, 1, 2], 3, 7).unwrap(), (3, vec![1, 2, 3, 1, 2, 3, 1]));
    }

    #[test]
    fn another_text_is_indexed_anew() {
        let mut index = index(&[1, 2, 3, 1]);
        assert!(index.find(2).is_some());
        index.follow(&[1, 2, 3, 1, 5], true);
        assert!(index.find(2).is_none(), "5 2 never came");
        index.follow(&[4, 2, 3, 1], true);
        assert!(index.find(2).is_none());
        index.follow(&[4, 2, 3, 4], true);
        assert_eq!(index.find(2), Some(Match { len: 2, next: 2 }));
        index.follow(&[4, 2], false);
        assert_eq!(index.find(4), None, "what is no longer there is forgotten");
    }

    /// Against the plainest search.
    #[test]
    fn equals_a_search_of_everything() {
        let mut state = 1u64;
        let mut random = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % n
        };
        for _ in 0..2000 {
            let tokens: Vec<u32> = (0..random(14)).map(|_| random(3) as u32).collect();
            let next = random(3) as u32;
            let text: Vec<u32> = tokens.iter().copied().chain([next]).collect();
            let same = |end: usize| {
                (0..=end).take_while(|&back| text[end - back] == text[text.len() - 1 - back]).count()
            };
            let expected = (1..tokens.len())
                .map(|end| Match { len: same(end), next: end + 1 })
                .filter(|found| found.len >= 2)
                .max_by_key(|found| (found.len, found.next));
            assert_eq!(index(&tokens).find(next), expected, "{tokens:?} {next}");
        }
    }
}

//! Endless pre-tokens in linear time: window by window.
//!
//! Merging takes the lowest rank first, the leftmost of equals. Up to the first merge across a boundary, two neighbouring
//! stretches behave as if they were alone. Hence: **tokens are what merging makes of a text if and only if any two
//! neighbours are what merging makes of their joined bytes** (the first merge across a boundary of the tokens would have
//! happened between these two alone too).
//!
//! (Text that needs much merging is taken over by the [automaton](crate::automaton) as soon as that pays.)
//!
//! So two windows that overlap and have a token in common, at the same place, are joined at it: to its left all neighbours
//! come from one window, to its right from the other. And a window with the bytes of the one before it needs no merging.

use crate::bpe::{Bpe, MAX_SEGMENT, Sink};
use crate::scratch::Scratch;

/// Bytes of a window, several times as many as the longest entries have.
const WINDOW: usize = 2048;
/// How far back the next window begins, at least.
const OVERLAP: usize = 512;

/// From this many bytes on windows pay.
pub(crate) const ENDLESS: usize = WINDOW + WINDOW / 2;

/// Whether a window is the same again soon: windows are then faster than any merging.
pub(crate) fn repeats(bytes: &[u8]) -> bool {
    let (Some(window), Some(beginning)) = (bytes.get(..WINDOW), bytes.get(1..OVERLAP)) else { return false };
    let found = memchr::memmem::find(beginning, &window[..16]);
    found.is_some_and(|shift| bytes[1 + shift..].starts_with(window))
}

/// The tokens of `bytes[start..end]`.
#[derive(Debug, Default)]
pub(crate) struct Window {
    start: usize,
    end: usize,
    tokens: Vec<u32>,
}

/// Why windows ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// With the text.
    AtEnd,
    /// The automaton pays.
    Due,
    /// They do not meet, or entries do not tell their lengths.
    Apart,
}

impl Bpe {
    /// The ids of a text without boundaries, of a vocabulary with a symbol for each byte.
    pub(crate) fn encode_endless(&self, bytes: &[u8], scratch: &mut Scratch, sink: &mut impl Sink) {
        let mut rest = bytes;
        let mut due = !repeats(rest);
        while !rest.is_empty() {
            if due {
                rest = &rest[self.by_automaton(rest, scratch, sink)..];
            }
            let (done, ended) = self.by_windows(rest, scratch, sink);
            rest = &rest[done..];
            due = ended == Ended::Due;
            if ended == Ended::Apart {
                for part in rest.chunks(MAX_SEGMENT) {
                    self.merge(part, scratch);
                    sink.push_all(&scratch.symbols);
                }
                return;
            }
        }
    }

    /// The ids of a beginning of `bytes`, which may be empty, where the automaton pays; how many bytes.
    pub(crate) fn by_automaton(&self, bytes: &[u8], scratch: &mut Scratch, sink: &mut impl Sink) -> usize {
        let mut done = 0;
        while done < bytes.len()
            && let Some(grammar) = self.grammar(scratch)
        {
            done += scratch.automaton.encode(grammar, &bytes[done..], sink);
        }
        done
    }

    /// Gives the ids of a beginning of `bytes` to `sink`; how many bytes, and why no more. Those that follow have the ids that
    /// they have alone.
    fn by_windows(&self, bytes: &[u8], scratch: &mut Scratch, sink: &mut impl Sink) -> (usize, Ended) {
        let mut left = Window::default();
        let mut right = Window::default();
        if !self.fill(&mut left, 0, bytes, scratch) {
            return (0, Ended::Apart);
        }
        // Of the left window: the first token that is not given yet, and its place.
        let mut first = 0;
        let mut at = 0;
        while left.end < bytes.len() {
            // To the last boundary that is far enough from the end to be trusted.
            let (mut keep, mut start) = (first, at);
            while let Some(&token) = left.tokens.get(keep) {
                let next = start + self.length(token);
                if next + OVERLAP > left.end {
                    break;
                }
                (keep, start) = (keep + 1, next);
            }
            if keep == first {
                return (at, Ended::Apart);
            }
            (keep, start) = self.alike(bytes, &left, first, (keep, start));
            right.start = start;
            right.end = (start + WINDOW).min(bytes.len());
            let like = &bytes[left.start..left.end];
            let repeats = like == &bytes[right.start..right.end];
            if repeats {
                right.tokens.clone_from(&left.tokens);
            } else if self.grammar(scratch).is_some() {
                return (at, Ended::Due);
            } else if !self.fill(&mut right, start, bytes, scratch) {
                return (at, Ended::Apart);
            }
            let Some((common, other)) = self.meet(&left, keep, &right) else { return (at, Ended::Apart) };
            sink.push_all(&left.tokens[first..common]);
            let before = first;
            at = start + right.tokens[..other].iter().map(|&token| self.length(token)).sum::<usize>();
            first = other;
            if repeats && first == before {
                // From here on it is the same again and again.
                let step = right.start - left.start;
                while bytes[right.start + step..].starts_with(like) {
                    sink.push_all(&left.tokens[first..common]);
                    right.start += step;
                    at += step;
                }
                right.end = right.start + like.len();
            }
            std::mem::swap(&mut left, &mut right);
        }
        sink.push_all(&left.tokens[first..]);
        (bytes.len(), Ended::AtEnd)
    }

    /// Where the next window has the bytes of this one, if that is not far: a boundary at or before the given one (a token's
    /// index and its place), later than `first`. In text that repeats itself windows then need no merging.
    fn alike(&self, bytes: &[u8], left: &Window, first: usize, end: (usize, usize)) -> (usize, usize) {
        let like = &bytes[left.start..left.end];
        let (mut keep, mut start) = end;
        for _ in 0..OVERLAP / 4 {
            if bytes[start..].starts_with(like) {
                return (keep, start);
            }
            if keep <= first + 1 {
                break;
            }
            keep -= 1;
            start -= self.length(left.tokens[keep]);
        }
        end
    }

    /// The first token that both windows have at the same place: its index in each. The right window begins at the token
    /// `from` of the left one.
    fn meet(&self, left: &Window, from: usize, right: &Window) -> Option<(usize, usize)> {
        let (mut i, mut j) = (from, 0);
        let (mut left_at, mut right_at) = (right.start, right.start);
        loop {
            let (a, b) = (*left.tokens.get(i)?, *right.tokens.get(j)?);
            if left_at == right_at && a == b {
                return Some((i, j));
            }
            if left_at <= right_at {
                (i, left_at) = (i + 1, left_at + self.length(a));
            } else {
                (j, right_at) = (j + 1, right_at + self.length(b));
            }
        }
    }

    fn length(&self, token: u32) -> usize {
        self.vocab.key(token).map_or(0, <[u8]>::len)
    }

    /// Merges the window that begins at `start`; false if the tokens' bytes are not the window's.
    fn fill(&self, window: &mut Window, start: usize, bytes: &[u8], scratch: &mut Scratch) -> bool {
        window.start = start;
        window.end = (start + WINDOW).min(bytes.len());
        self.merge(&bytes[start..window.end], scratch);
        self.add_cost(WINDOW);
        window.tokens.clone_from(&scratch.symbols);
        window.tokens.iter().map(|&token| self.length(token)).sum::<usize>() == window.end - start
    }
}

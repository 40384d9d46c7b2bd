//! Endless pre-tokens by an automaton: a step a byte, whatever the bytes are.
//!
//! Two facts about byte-pair merging carry it (see [`windows`](crate::windows) for the first).
//!
//! - Tokens are what merging makes of a text if and only if any two neighbours are what merging makes of their joined bytes.
//! - Hence, if `u` is the last token of a text and what is before it ends with the token `t`, then the text before `u` has the
//!   tokens that it has alone, and of all entries that end the text exactly one can follow the last token of what is before
//!   *it*.
//!
//! So the last token of each beginning of the text tells all: the tokens are found by going back from the end, from last
//! token to last token. The last token after one more byte is looked for among *threads*: entries that have begun at some
//! place and may follow the last token there. A *state* is the last token and the threads. States are few, as what counts of a
//! thread is only which entries it may still become: 1,240 for endless digits with GPT-2's 994 entries of digits. They and
//! the steps between them are made when a text first asks for them (`states.rs`), from tables about the vocabulary
//! (`grammar.rs`) that are made when long pre-tokens have cost more than making them does.
//!
//! One step needs the one before it, so eight parts of a text are stepped through in turn, and gone back through in turn. A
//! part begins as if the text did; what came before it is stepped on into it until both have the same state, which takes a
//! few bytes of most texts.

mod bits;
mod grammar;
mod states;
#[cfg(test)]
mod tests;

use crate::bpe::Sink;
pub(crate) use grammar::Grammar;
use states::{START, States, Step, length};

/// Parts that are stepped through in turn.
const LANES: usize = 8;
/// The bytes of a part are a multiple of this, so that texts that repeat something short have equal states at their beginnings.
const UNIT: usize = 240;
/// Parts of a block.
const PART: usize = 16 * UNIT;
/// Bytes whose last tokens are kept at a time.
const BLOCK: usize = LANES * PART;
/// Fewer than so many bytes a step that had to be made, and the automaton is given up.
const WORTH: usize = 64;

/// The automaton of one thread. Its memory is bounded.
#[derive(Debug, Default)]
pub(crate) struct Automaton {
    states: States,
    /// Of each beginning of the block the step that ended it.
    trace: Vec<Step>,
    /// Ids of the block, a part each.
    ids: Vec<u32>,
    /// Bytes since the states were made.
    bytes: usize,
    /// It does not pay.
    off: bool,
}

impl Automaton {
    pub(crate) fn is_off(&self) -> bool {
        self.off
    }

    /// Gives the ids of a beginning of `text` to `sink`; how long it is. What follows has the ids that it has alone. Less than
    /// all only where there is no more room for states: then they were forgotten, or the automaton is off.
    pub(crate) fn encode(&mut self, grammar: &Grammar, text: &[u8], sink: &mut impl Sink) -> usize {
        self.encode_blocks(grammar, text, (BLOCK, PART), sink)
    }

    /// [`encode`](Self::encode) with blocks and parts of so many bytes.
    fn encode_blocks(
        &mut self,
        grammar: &Grammar,
        text: &[u8],
        (block, part): (usize, usize),
        sink: &mut impl Sink,
    ) -> usize {
        let (mut base, mut size) = (0, block);
        while base < text.len() {
            let rest = &text[base..];
            let here = &rest[..rest.len().min(size)];
            let part = part.min(here.len() / LANES / UNIT * UNIT);
            if self.forward(grammar, here, part).is_none() {
                self.off = self.bytes < WORTH * self.states.made;
                self.states = States::with_room(self.states.room);
                self.bytes = 0;
                return base;
            }
            self.bytes += here.len();
            let end = if here.len() == rest.len() { here.len() } else { self.certain(here.len()) };
            // Nothing is certain yet: look further.
            if end == 0 {
                size *= 2;
                continue;
            }
            self.back(end, part, sink);
            base += end;
            size = block;
        }
        base
    }

    /// Finds the last token of each beginning of `text`. `None`: no room.
    fn forward(&mut self, grammar: &Grammar, text: &[u8], part: usize) -> Option<()> {
        self.trace.clear();
        self.trace.resize(text.len() + 1, 0);
        self.trace[0] = START;
        let mut at = 0;
        if part > 0 {
            self.parts(grammar, text, part)?;
            // What really comes before a part: on into it, until there is no difference.
            for start in (1..LANES).map(|lane| lane * part) {
                let mut step = self.trace[start];
                let places = &mut self.trace[start + 1..=start + part];
                for (&byte, place) in text[start..start + part].iter().zip(places) {
                    step = self.states.step(grammar, step, byte)?;
                    if *place == step {
                        break;
                    }
                    *place = step;
                }
            }
            at = LANES * part;
        }
        let mut step = self.trace[at];
        for (byte, place) in text[at..].iter().zip(&mut self.trace[at + 1..]) {
            step = self.states.step(grammar, step, *byte)?;
            *place = step;
        }
        Some(())
    }

    /// The first `LANES * part` steps, all parts beginning as if the text did.
    fn parts(&mut self, grammar: &Grammar, text: &[u8], part: usize) -> Option<()> {
        let mut steps = [START; LANES];
        for from in (0..part).step_by(UNIT) {
            self.stretch(text, part, from, &mut steps);
            for (lane, last) in steps.iter_mut().enumerate().filter(|(_, last)| **last == 0) {
                // From the first step on that was not known.
                let start = lane * part + from;
                let places = &mut self.trace[start + 1..=start + UNIT];
                let known = places.iter().position(|&step| step == 0).unwrap_or(0);
                let mut step = match known {
                    0 if from == 0 => START,
                    _ => self.trace[start + known],
                };
                let places = &mut self.trace[start + known + 1..=start + UNIT];
                for (&byte, place) in text[start + known..start + UNIT].iter().zip(places) {
                    step = self.states.step(grammar, step, byte)?;
                    *place = step;
                }
                *last = step;
            }
        }
        Some(())
    }

    /// `UNIT` steps of each part; where one is not known, all that follow are 0.
    #[inline(never)]
    fn stretch(&mut self, text: &[u8], part: usize, from: usize, steps: &mut [Step; LANES]) {
        let view = self.states.view();
        let mut texts: [&[u8; UNIT]; LANES] = [&[0; UNIT]; LANES];
        let mut rest = &mut self.trace[1..];
        let mut traces: [&mut [Step]; LANES] = Default::default();
        for lane in 0..LANES {
            let start = lane * part + from;
            texts[lane] = text[start..].first_chunk().unwrap_or(texts[lane]);
            let (mine, after) = rest.split_at_mut(part.min(rest.len()));
            (traces[lane], rest) = (&mut mine[from..from + UNIT], after);
        }
        let mut now = *steps;
        for at in 0..UNIT {
            for lane in 0..LANES {
                let step = view.step(now[lane], texts[lane][at]);
                now[lane] = step;
                traces[lane][at] = step;
            }
        }
        *steps = now;
    }

    /// The last boundary at `end` or before that stays one, whatever follows: where the ways back from all tokens that may
    /// come meet.
    fn certain(&self, end: usize) -> usize {
        let step = self.trace[end];
        let mut ways: Vec<usize> = self.states.depths(step).map(|depth| end - depth).collect();
        ways.push(end);
        loop {
            let (last, first) =
                ways.iter().fold((0, end), |(last, first), &at| (at.max(last), at.min(first)));
            if last == first {
                return last;
            }
            let before = last - length(self.trace[last]);
            ways.iter_mut().filter(|at| **at == last).for_each(|at| *at = before);
        }
    }

    /// Gives the ids of the first `end` bytes to `sink`, going back through all parts in turn.
    fn back(&mut self, end: usize, part: usize, sink: &mut impl Sink) {
        // All of a short text is the last part.
        let mut bounds = [0; LANES + 1];
        bounds[LANES] = end;
        for lane in (1..LANES).rev().take_while(|_| part > 0) {
            // Behind a boundary that is certain at `start`, but not behind the later one.
            let start = lane * part;
            let later = bounds[lane + 1];
            bounds[lane] = if start <= later { self.certain(start) } else { later };
        }
        self.ids.clear();
        self.ids.resize(end, 0);
        let mut at: [usize; LANES] = std::array::from_fn(|lane| bounds[lane + 1]);
        let mut put = at;
        let (trace, states, ids) = (&self.trace[..], &self.states, &mut self.ids[..]);
        let mut one = |at: &mut usize, put: &mut usize| {
            let step = trace[*at];
            *at -= length(step);
            *put -= 1;
            ids[*put] = states.id(step);
        };
        loop {
            let sure = (0..LANES).map(|lane| (at[lane] - bounds[lane]) / states.longest).min().unwrap_or(0);
            if sure == 0 {
                break;
            }
            for _ in 0..sure {
                for lane in 0..LANES {
                    one(&mut at[lane], &mut put[lane]);
                }
            }
        }
        for lane in 0..LANES {
            while at[lane] > bounds[lane] {
                one(&mut at[lane], &mut put[lane]);
            }
        }
        for lane in 0..LANES {
            sink.push_all(&self.ids[put[lane]..bounds[lane + 1]]);
        }
    }
}

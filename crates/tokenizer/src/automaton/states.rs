//! The states of the automaton and its table, which grows as text asks for it.

use std::collections::HashMap;
use std::ops::Range;

use super::bits;
use super::grammar::{Grammar, NONE};
use crate::hash::TextHash;

/// Entries of the table at most: 16 MiB.
const MAX_TABLE: usize = 1 << 22;
/// Words of threads' bits at most: 8 MiB.
const MAX_WORDS: usize = 1 << 20;

/// Where a step leads: the state, and in the lowest byte the length of the last token. 0: not known yet.
pub(super) type Step = u32;

/// Where a text begins.
pub(super) const START: Step = 1 << 8;

/// The state's number.
#[inline(always)]
pub(super) fn state(step: Step) -> usize {
    (step >> 8) as usize
}

/// The length of the last token.
#[inline(always)]
pub(super) fn length(step: Step) -> usize {
    step as usize & 0xFF
}

/// A token that has begun: the entries that it may still become, of those that begin with what was read of it.
#[derive(Clone, Debug)]
struct Thread {
    /// The entries longer than what was read.
    places: Range<u32>,
    /// Bytes read.
    depth: u32,
    /// Where the bits of those allowed by the token before begin; never none.
    bits: usize,
}

/// A state: the last token and the threads, which is all that later tokens depend on.
#[derive(Clone, Debug)]
struct State {
    token: u32,
    threads: Range<u32>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct States {
    /// The step for each state and class of bytes; of state 0 and class 0 none is known.
    table: Vec<Step>,
    /// The logarithm of a row's length.
    shift: u32,
    classes: [u16; 256],
    class_count: u16,
    states: Vec<State>,
    /// The id of each state's last token.
    ids: Vec<u32>,
    threads_of_states: Vec<u32>,
    threads: Vec<Thread>,
    words: Vec<u64>,
    state_index: HashMap<Box<[u32]>, u32, TextHash>,
    thread_index: HashMap<Box<[u64]>, u32, TextHash>,
    /// The length of the longest token so far.
    pub(super) longest: usize,
    /// Steps that were made.
    pub(super) made: usize,
    /// Entries of the table at most.
    pub(super) room: usize,
}

impl Default for States {
    fn default() -> States {
        States::with_room(MAX_TABLE)
    }
}

impl States {
    pub(super) fn with_room(room: usize) -> States {
        let nowhere = State { token: NONE, threads: 0..0 };
        States {
            table: vec![0; 32],
            shift: 4,
            classes: [0; 256],
            class_count: 0,
            // What is not known, and the start.
            states: vec![nowhere.clone(), nowhere],
            ids: vec![NONE; 2],
            threads_of_states: Vec::new(),
            threads: Vec::new(),
            words: Vec::new(),
            state_index: HashMap::default(),
            thread_index: HashMap::default(),
            longest: 1,
            made: 0,
            room,
        }
    }
}

/// What steps need of the table, so that it stays in registers.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    table: &'a [Step],
    classes: &'a [u16; 256],
    shift: u32,
}

impl View<'_> {
    /// Where `byte` leads, or 0.
    #[inline(always)]
    pub(super) fn step(self, from: Step, byte: u8) -> Step {
        let class = usize::from(self.classes[usize::from(byte)]);
        self.table.get((state(from) << self.shift) + class).copied().unwrap_or(0)
    }
}

impl States {
    #[inline(always)]
    pub(super) fn view(&self) -> View<'_> {
        View { table: &self.table, classes: &self.classes, shift: self.shift }
    }

    /// The id of the last token.
    #[inline(always)]
    pub(super) fn id(&self, step: Step) -> u32 {
        self.ids[state(step)]
    }

    /// How far back the tokens began that are not finished.
    pub(super) fn depths(&self, step: Step) -> impl Iterator<Item = usize> {
        let threads = self.states[state(step)].threads.clone();
        let threads = &self.threads_of_states[threads.start as usize..threads.end as usize];
        threads.iter().map(|&thread| self.threads[thread as usize].depth as usize)
    }

    /// Where `byte` leads; `None` if there is no more room.
    #[inline(always)]
    pub(super) fn step(&mut self, grammar: &Grammar, from: Step, byte: u8) -> Option<Step> {
        match self.view().step(from, byte) {
            0 => self.make(grammar, from, byte),
            step => Some(step),
        }
    }

    #[inline(never)]
    fn make(&mut self, grammar: &Grammar, from: Step, byte: u8) -> Option<Step> {
        let from = state(from);
        let State { token: before, threads } = self.states[from].clone();
        let mut key = vec![NONE];
        let mut token = None;
        for at in threads.start as usize..threads.end as usize {
            let thread = self.threads[self.threads_of_states[at] as usize].clone();
            let places = grammar.going_on(thread.places.clone(), thread.depth, byte);
            let bits =
                thread.bits..thread.bits + (thread.places.end - thread.places.start).div_ceil(64) as usize;
            let shift = (places.start - thread.places.start) as usize;
            let mut words = Vec::new();
            bits::append_part(&self.words[bits], shift, shift + places.len(), &mut words);
            self.go_on(grammar, places, thread.depth + 1, &words, &mut token, &mut key)?;
        }
        let mut words = Vec::new();
        grammar.following(before, byte, &mut words);
        self.go_on(grammar, grammar.of_byte(byte), 1, &words, &mut token, &mut key)?;
        // One token ends here, always: the last one of what was read.
        let token = token?;
        key[0] = token;
        let to = self.state_of(key, grammar.id(token))?;
        let step = to << 8 | grammar.len(token);
        self.longest = self.longest.max(length(step));
        self.made += 1;
        let class = self.class_of(byte)?;
        self.table[(from << self.shift) + class] = step;
        Some(step)
    }

    /// A thread that has read `depth` bytes: `words` says which of `places`, which begin with them, it may become. One of
    /// exactly these bytes is the last token; the rest, if there is any, goes to `key`.
    fn go_on(
        &mut self,
        grammar: &Grammar,
        mut places: Range<u32>,
        depth: u32,
        words: &[u64],
        token: &mut Option<u32>,
        key: &mut Vec<u32>,
    ) -> Option<()> {
        let count = places.len();
        if count == 0 {
            return Some(());
        }
        let whole = grammar.len(places.start) == depth;
        if whole {
            if bits::has(words, 0) {
                debug_assert!(token.is_none(), "two tokens end at one place");
                *token = Some(places.start);
            }
            places.start += 1;
        }
        let mut thread = vec![u64::from(places.start) << 32 | u64::from(places.end), u64::from(depth)];
        if bits::append_part(words, usize::from(whole), count, &mut thread) {
            key.push(self.thread_of(thread, places, depth)?);
        }
        Some(())
    }

    fn thread_of(&mut self, key: Vec<u64>, places: Range<u32>, depth: u32) -> Option<u32> {
        if let Some(&thread) = self.thread_index.get(&key[..]) {
            return Some(thread);
        }
        let bits = self.words.len();
        self.words.extend_from_slice(&key[2..]);
        let thread = self.threads.len() as u32;
        self.threads.push(Thread { places, depth, bits });
        self.thread_index.insert(key.into(), thread);
        (self.words.len() <= MAX_WORDS).then_some(thread)
    }

    /// The state of a token and threads.
    fn state_of(&mut self, key: Vec<u32>, id: u32) -> Option<u32> {
        if let Some(&state) = self.state_index.get(&key[..]) {
            return Some(state);
        }
        let first = self.threads_of_states.len() as u32;
        self.threads_of_states.extend_from_slice(&key[1..]);
        let state = self.states.len() as u32;
        self.states.push(State { token: key[0], threads: first..first + key.len() as u32 - 1 });
        self.ids.push(id);
        self.state_index.insert(key.into(), state);
        self.table.resize(self.states.len() << self.shift, 0);
        (self.table.len() <= self.room).then_some(state)
    }

    /// The class of a byte: its own.
    fn class_of(&mut self, byte: u8) -> Option<usize> {
        let class = usize::from(self.classes[usize::from(byte)]);
        if class != 0 {
            return Some(class);
        }
        self.class_count += 1;
        if usize::from(self.class_count) >> self.shift != 0 {
            let mut wider = vec![0; self.table.len() * 2];
            let row = 1 << self.shift;
            for (old, new) in self.table.chunks(row).zip(wider.chunks_mut(row * 2)) {
                new[..row].copy_from_slice(old);
            }
            self.table = wider;
            self.shift += 1;
        }
        self.classes[usize::from(byte)] = self.class_count;
        (self.table.len() <= self.room).then_some(self.class_count.into())
    }
}

//! What is known of a school of drafts: how often it is right, what its rounds cost, and whether it may go on.
use super::costs::Costs;

/// Tokens of debt that drafting may run into: at first, after a pause, and when it has proven itself by gaining as many.
const FIRST_DEBT: f64 = 2.0;
const RETRY_DEBT: f64 = 1.5;
const PROVEN_DEBT: f64 = 6.0;
/// Tokens of the first pause, how much longer each one after a failure is, and the longest.
const PAUSE: usize = 64;
const LONGER: usize = 3;
const LONGEST_PAUSE: usize = 1024;
/// Kinds of evidence.
const CLASSES: usize = 8;
/// How much older evidence weighs after each newer one.
pub(super) const DECAY: f64 = 0.98;
/// The first guess weighs as much as so many drafts.
const PRIOR: f64 = 4.0;

/// Who drafts in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum School {
    Shallow,
    Ngram,
}

/// Evidence that a draft is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class(usize);

impl Class {
    /// Of a draft that the shallow region gives this probability.
    pub fn of_probability(probability: f64) -> Self {
        Self(((probability * CLASSES as f64) as usize).min(CLASSES - 1))
    }

    /// Of a draft after so many tokens that match.
    pub fn of_match(len: usize) -> Self {
        Self(match len {
            0..=2 => 0,
            3 => 1,
            4 => 2,
            5..=6 => 3,
            7..=9 => 4,
            10..=14 => 5,
            15..=24 => 6,
            _ => 7,
        })
    }
}

/// How often drafts of a class were right, the latest counting most.
#[derive(Clone, Copy, Debug)]
struct Rate {
    guess: f64,
    right: f64,
    all: f64,
}

impl Rate {
    fn of(guess: f64) -> Self {
        Self { guess, right: 0.0, all: 0.0 }
    }

    fn push(&mut self, right: bool) {
        self.right = self.right * DECAY + f64::from(u8::from(right));
        self.all = self.all * DECAY + 1.0;
    }

    fn value(&self) -> f64 {
        (self.right + PRIOR * self.guess) / (self.all + PRIOR)
    }
}

/// What is known of a school.
pub(super) struct Pupil {
    pub costs: Costs,
    rates: [Rate; CLASSES],
    /// What its rounds gained over plain steps of the same time, in tokens a round; the latest count most.
    pub gain: f64,
    /// Tokens that its drafts have cost lately, how many they may cost, and how many they have gained since the last pause.
    debt: f64,
    credit: f64,
    gained: f64,
    /// Tokens of the pause that are left, and of the next one.
    pub pause_left: usize,
    next_pause: usize,
}

impl Pupil {
    pub fn of(school: School) -> Self {
        let guesses = match school {
            School::Shallow => std::array::from_fn(|class| (class as f64 + 0.5) / CLASSES as f64),
            School::Ngram => [0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9],
        };
        Self {
            costs: Costs::default(),
            rates: guesses.map(Rate::of),
            gain: 0.0,
            debt: 0.0,
            credit: FIRST_DEBT,
            gained: 0.0,
            pause_left: 0,
            next_pause: PAUSE,
        }
    }

    /// How probable a draft of this class is right.
    pub fn rate(&self, class: Class) -> f64 {
        self.rates[class.0].value()
    }

    /// Learns whether a draft was right.
    pub fn compared(&mut self, class: Class, right: bool) {
        self.rates[class.0].push(right);
    }

    /// Learns what a round gained, and pauses when drafting has become too dear.
    pub fn add_gain(&mut self, gain: f64) {
        self.gain = 0.9 * self.gain + 0.1 * gain;
        self.debt = (self.debt - gain).max(0.0);
        self.gained += gain;
        if self.gained > PROVEN_DEBT {
            self.credit = PROVEN_DEBT;
            self.next_pause = PAUSE;
        }
        if self.debt <= self.credit {
            return;
        }
        // What made it lose may be gone by the time it is tried again: costs are measured anew, rates weigh less.
        *self = Self {
            costs: Costs::default(),
            rates: self.rates.map(|rate| Rate { right: rate.right / 2.0, all: rate.all / 2.0, ..rate }),
            gain: 0.0,
            debt: 0.0,
            credit: RETRY_DEBT,
            gained: 0.0,
            pause_left: self.next_pause,
            next_pause: (LONGER * self.next_pause).min(LONGEST_PAUSE),
        };
    }
}

//! How many drafts a round gets.
//!
//! A round of n drafts costs `base + each * n` ([`Costs`]) and gives one token more than it has right drafts. A further draft
//! is worth its cost while the probability that it counts (it and all before it are right) per second is above the rate of tokens
//! without it; with the present rate as the yardstick this ends at the best rate there is (Dinkelbach's method). How
//! probable a draft is right is learnt for each kind of evidence: of the shallow region by its own probability, of the text by
//! the length of the match.
//!
//! What counts in the end is measured: the tokens that a school's rounds cost more than plain steps are added up, a round that
//! gains pays off what came before it (Page's cumulative sum), and when the debt is too high the school pauses for some
//! tokens, each time for longer, and is then tried anew.
use super::costs::{Line, Window};
use super::options::{DraftMode, MAX_DRAFTS, SpeculationOptions};
use super::pupil::{Class, DECAY, Pupil, School};

/// Plain steps are made this often, to know what they cost.
const PLAIN_EVERY: usize = 32;
/// Plain steps before the first drafts: the first of a run meets cold caches.
const FIRST_PLAIN: usize = 2;

/// A round that is over.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// Who drafted, or tried to.
    pub school: Option<School>,
    /// How many.
    pub drafts: usize,
    /// The drafts that were compared with the target's token: their classes, and whether they were right.
    pub compared: Vec<(Class, bool)>,
    /// Tokens the round gave.
    pub tokens: usize,
    pub seconds: f64,
}

/// What a round may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// No drafts.
    Plain,
    /// As many drafts as may be, whatever they are worth.
    Fixed(School),
    /// As many as are worth it.
    Adaptive,
}

/// Decides on drafts.
pub(super) struct Controller {
    options: SpeculationOptions,
    plain: Window,
    pupils: [Pupil; 2],
    /// Rounds since the last plain step.
    since_plain: usize,
    /// Tokens and seconds of the present, older ones fading.
    recent: (f64, f64),
}

impl Controller {
    pub fn new(options: SpeculationOptions) -> Self {
        Self {
            options,
            plain: Window::default(),
            pupils: [School::Shallow, School::Ngram].map(Pupil::of),
            since_plain: 0,
            recent: (0.0, 0.0),
        }
    }

    /// What the next round may do.
    pub fn plan(&mut self) -> Plan {
        let fixed = match self.options.mode {
            DraftMode::Auto => None,
            DraftMode::Shallow => Some(School::Shallow),
            DraftMode::Ngram => Some(School::Ngram),
        };
        // In the fixed modes nothing may depend on times, so that texts drawn by rejection are the same again.
        if self.since_plain >= PLAIN_EVERY || self.plain.count() == 0 {
            return Plan::Plain;
        }
        match fixed {
            Some(school) => Plan::Fixed(school),
            None if self.plain.count() < FIRST_PLAIN => Plan::Plain,
            None => Plan::Adaptive,
        }
    }

    /// Seconds of a plain step; 1 before it was measured.
    fn plain_seconds(&self) -> f64 {
        self.plain.median().unwrap_or(1.0)
    }

    /// Tokens per second that drafts must beat.
    fn rate(&self) -> f64 {
        let plain = 1.0 / self.plain_seconds();
        let (tokens, seconds) = self.recent;
        if seconds > 0.0 { plain.max(tokens / seconds) } else { plain }
    }

    /// Whether a further draft is worth its cost, when all before it are right with probability `reached`: the probability
    /// that it is too.
    pub fn worth(&self, school: School, class: Class, reached: f64) -> Option<f64> {
        let pupil = &self.pupils[school as usize];
        let reached = reached * pupil.rate(class);
        let Line { each, .. } = pupil.costs.line(self.plain_seconds());
        (reached > each * self.rate()).then_some(reached)
    }

    /// How many drafts to take from a match of `len` tokens, at most `most`, and what they gain over a plain step, in tokens.
    pub fn drafts_of_match(&self, len: usize, most: usize) -> (usize, f64) {
        let pupil = &self.pupils[School::Ngram as usize];
        let plain = self.plain_seconds();
        let (rate, line) = (self.rate(), pupil.costs.line(plain));
        let (mut reached, mut tokens, mut best) = (1.0, 1.0, (0, 0.0));
        for drafts in 1..=most {
            reached *= pupil.rate(Class::of_match(len + drafts - 1));
            tokens += reached;
            let gain = tokens - 1.0 - rate * (line.at(drafts) - plain);
            if gain > best.1 {
                best = (drafts, gain);
            }
        }
        best
    }

    /// Whether a school may draft now: its drafts have not been too dear lately.
    pub fn may(&self, school: School) -> bool {
        self.pupils[school as usize].pause_left == 0
    }

    /// Tokens that a school's rounds gained lately over plain steps.
    pub fn gain(&self, school: School) -> f64 {
        self.pupils[school as usize].gain
    }

    /// Learns from a round.
    pub fn learn(&mut self, round: &Outcome) {
        let (tokens, seconds) = self.recent;
        self.recent = (tokens * DECAY + round.tokens as f64, seconds * DECAY + round.seconds);
        for pupil in &mut self.pupils {
            pupil.pause_left = pupil.pause_left.saturating_sub(round.tokens);
        }
        let Some(school) = round.school else {
            self.plain.push(round.seconds);
            self.since_plain = 0;
            return;
        };
        self.since_plain += 1;
        let plain = self.plain_seconds();
        let pupil = &mut self.pupils[school as usize];
        pupil.costs.push(round.drafts, round.seconds);
        for &(class, right) in &round.compared {
            pupil.compared(class, right);
        }
        // What rounds like it cost counts: one that was interrupted is no reason to stop.
        pupil.add_gain(round.tokens as f64 - pupil.costs.expected(round.drafts, plain) / plain);
    }
}

/// The most drafts that any round may have.
pub(super) fn most(options: &SpeculationOptions, room: usize) -> usize {
    options.most_drafts().min(MAX_DRAFTS).min(room)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto() -> Controller {
        Controller::new(SpeculationOptions::default())
    }

    fn plain(controller: &mut Controller) {
        controller.learn(&Outcome { tokens: 1, seconds: 1.0, ..Outcome::default() });
    }

    /// Rounds of a world in which a round costs `base + each * drafts` and drafts are right with `share`; returns tokens per
    /// second, where a plain step takes one.
    fn simulate(controller: &mut Controller, share: f64, (base, each): (f64, f64), tokens: usize) -> f64 {
        let mut state = 7u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let (mut made, mut seconds, mut lost) = (0, 0.0, 0.0);
        let mut met = [false; MAX_DRAFTS + 1];
        while made < tokens {
            let mut round = Outcome { tokens: 1, seconds: 1.0, ..Outcome::default() };
            if controller.plan() == Plan::Adaptive && controller.may(School::Shallow) {
                round.school = Some(School::Shallow);
                let (class, mut reached) = (Class::of_probability(0.7), 1.0);
                while round.drafts < MAX_DRAFTS
                    && let Some(next) = controller.worth(School::Shallow, class, reached)
                {
                    reached = next;
                    round.drafts += 1;
                }
                round.seconds = base + each * round.drafts as f64;
                // The first round of a width makes room for itself; others are interrupted now and then.
                round.seconds *= if std::mem::replace(&mut met[round.drafts], true) { 1.0 } else { 5.0 };
                round.seconds *= if random() < 0.05 { 4.0 } else { 1.0 };
                lost += round.seconds - base - each * round.drafts as f64;
                for _ in 0..round.drafts {
                    let right = random() < share;
                    round.compared.push((class, right));
                    if !right {
                        break;
                    }
                    round.tokens += 1;
                }
            }
            made += round.tokens;
            seconds += round.seconds;
            controller.learn(&round);
        }
        // What is lost to interruptions is not the controller's.
        made as f64 / (seconds - lost)
    }

    #[test]
    fn good_drafts_gain_nearly_what_the_best_number_would() {
        for (share, base, each) in [(0.9, 1.1, 0.2), (0.7, 1.1, 0.2), (0.95, 1.0, 0.05), (0.6, 1.05, 0.1)] {
            let rate = |n: i32| {
                let tokens: f64 = (0..=n).map(|i| f64::powi(share, i)).sum();
                tokens / (base + each * f64::from(n))
            };
            let best = (1..=16).map(rate).fold(1.0, f64::max);
            let found = simulate(&mut auto(), share, (base, each), 20_000);
            assert!(found > 0.93 * best, "{share} {base} {each}: {found} of {best}");
        }
    }

    #[test]
    fn drafts_that_lose_cost_less_than_three_percent() {
        for (share, base, each) in [(0.0, 1.1, 0.2), (0.3, 1.3, 0.3), (0.5, 1.2, 0.5), (0.1, 1.0, 0.05)] {
            for tokens in [256, 5000] {
                let found = simulate(&mut auto(), share, (base, each), tokens);
                assert!(found > 0.97, "{share} {base} {each}, {tokens} tokens: {found}");
            }
        }
    }

    #[test]
    fn drafting_is_tried_again_and_stays_when_it_has_become_good() {
        let mut controller = auto();
        simulate(&mut controller, 0.0, (1.2, 0.3), 1000);
        let found = simulate(&mut controller, 0.9, (1.1, 0.2), 20_000);
        assert!(found > 1.5, "{found}");
    }

    #[test]
    fn longer_matches_get_more_drafts() {
        let mut controller = auto();
        (0..2).for_each(|_| plain(&mut controller));
        let drafts = |len| controller.drafts_of_match(len, MAX_DRAFTS).0;
        assert!(
            drafts(2) < drafts(4) && drafts(4) < drafts(30),
            "{} {} {}",
            drafts(2),
            drafts(4),
            drafts(30)
        );
        assert_eq!(controller.drafts_of_match(30, 3).0, 3);
    }

    #[test]
    fn fixed_numbers_do_not_depend_on_times() {
        let options =
            SpeculationOptions { mode: DraftMode::Ngram, drafts: Some(3), ..SpeculationOptions::default() };
        let plans = |seconds: f64| {
            let mut controller = Controller::new(options);
            let mut plans = Vec::new();
            for _ in 0..200 {
                let plan = controller.plan();
                plans.push(plan);
                let school = (plan != Plan::Plain).then_some(School::Ngram);
                controller.learn(&Outcome { school, drafts: 3, tokens: 1, seconds, ..Outcome::default() });
            }
            plans
        };
        assert_eq!(plans(1.0), plans(1e-9));
        assert!(plans(1.0).contains(&Plan::Plain));
        assert_eq!(plans(1.0)[1], Plan::Fixed(School::Ngram));
    }
}

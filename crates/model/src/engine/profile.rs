//! Where the time of passes goes, step by step.
//!
//! A pass is one step after the other on the thread that called it (what is shared among threads is inside a step), so a clock that
//! is read between them says how long each took. It is read only while somebody asked for it.
use std::cell::Cell;
use std::time::{Duration, Instant};

/// A part of a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Looking up the tokens' rows.
    Embedding,
    /// All norms but those of queries and keys, with the 8-bit forms made beside them, and sums with the hidden states that no
    /// product makes.
    Norms,
    /// Products with the weights of queries, keys and values.
    QueryKeyValue,
    /// Norms of queries and keys, and their rotation.
    Rotation,
    /// Writing keys and values into the cache.
    Cache,
    /// Scores, soft-max and weighted sums.
    Attention,
    /// Products with the weights of attention's output, as a rule added to the hidden states.
    Output,
    /// Routers, the choice of experts, bringing tokens to them and adding what they made.
    Routing,
    /// Products with gates and ups, and the activation between them.
    GateAndUp,
    /// Products with downs, as a rule added to the hidden states.
    Down,
    /// Foretelling weights of a model that is larger than its memory, and waiting for them.
    Waiting,
    /// Products with the head, and its soft-cap.
    Head,
}

impl Step {
    /// In the order of a pass.
    pub const ALL: [Self; 12] = [
        Self::Embedding,
        Self::Norms,
        Self::QueryKeyValue,
        Self::Rotation,
        Self::Cache,
        Self::Attention,
        Self::Output,
        Self::Routing,
        Self::GateAndUp,
        Self::Down,
        Self::Waiting,
        Self::Head,
    ];

    /// A few words, as "gate, up".
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Norms => "norms",
            Self::QueryKeyValue => "query, key, value",
            Self::Rotation => "rotation",
            Self::Cache => "cache",
            Self::Attention => "attention",
            Self::Output => "output",
            Self::Routing => "routing",
            Self::GateAndUp => "gate, up",
            Self::Down => "down",
            Self::Waiting => "waiting",
            Self::Head => "head",
        }
    }
}

/// How long the steps of some passes took, all layers together. See [`Engine::profiled`](super::Engine::profiled).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    times: [Duration; Step::ALL.len()],
}

impl Profile {
    /// The time of one step.
    pub fn of(&self, step: Step) -> Duration {
        self.times[step as usize]
    }

    /// All steps together.
    pub fn total(&self) -> Duration {
        self.times.iter().sum()
    }
}

/// Read between the steps of one pass.
pub(super) struct Clock {
    /// When the step under way began; `None`: nobody asked.
    begun: Option<Cell<Instant>>,
    times: [Cell<Duration>; Step::ALL.len()],
}

impl Clock {
    /// A clock that runs if there is something to add its times to.
    pub fn start(profile: Option<&Profile>) -> Self {
        Self { begun: profile.map(|_| Cell::new(Instant::now())), times: Default::default() }
    }

    /// `step` ends here, and the next one begins.
    pub fn lap(&self, step: Step) {
        if let Some(begun) = &self.begun {
            let now = Instant::now();
            let time = &self.times[step as usize];
            time.set(time.get() + now.duration_since(begun.replace(now)));
        }
    }

    /// Adds what the steps took.
    pub fn stop(&self, profile: &mut Option<Profile>) {
        if let Some(profile) = profile {
            profile.times.iter_mut().zip(&self.times).for_each(|(sum, time)| *sum += time.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_its_own_place_and_name() {
        for (place, step) in Step::ALL.into_iter().enumerate() {
            assert_eq!(step as usize, place);
            assert_eq!(Step::ALL.into_iter().filter(|other| other.name() == step.name()).count(), 1);
        }
    }

    #[test]
    fn laps_add_up_to_the_time_that_passed() {
        let mut profile = Some(Profile::default());
        let begun = Instant::now();
        let clock = Clock::start(profile.as_ref());
        for step in [Step::Norms, Step::Head, Step::Norms] {
            std::thread::sleep(Duration::from_millis(2));
            clock.lap(step);
        }
        clock.stop(&mut profile);
        let passed = begun.elapsed();
        let profile = profile.unwrap();
        assert!(profile.of(Step::Norms) >= Duration::from_millis(4), "{profile:?}");
        assert!(profile.of(Step::Head) >= Duration::from_millis(2), "{profile:?}");
        assert_eq!(profile.of(Step::Down), Duration::ZERO);
        assert_eq!(profile.total(), profile.of(Step::Norms) + profile.of(Step::Head));
        assert!(profile.total() <= passed, "{profile:?}, {passed:?}");
    }

    #[test]
    fn nobody_asked() {
        let clock = Clock::start(None);
        clock.lap(Step::Head);
        let mut none = None;
        clock.stop(&mut none);
        assert!(none.is_none() && clock.times.iter().all(|time| time.get().is_zero()));
    }
}

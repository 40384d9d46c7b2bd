//! What rounds cost on this machine, measured while they run.
use super::options::MAX_DRAFTS;

/// Samples of one kind that are remembered.
const WINDOW: usize = 8;

/// The latest times of one kind of round.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    samples: [f64; WINDOW],
    count: usize,
    median: f64,
}

impl Window {
    /// Adds a time in seconds.
    pub fn push(&mut self, seconds: f64) {
        self.samples[self.count % WINDOW] = seconds;
        self.count += 1;
        let mut sorted = self.samples;
        let sorted = &mut sorted[..self.count.min(WINDOW)];
        sorted.sort_unstable_by(f64::total_cmp);
        // The lower middle: what disturbs a measurement makes it longer.
        self.median = sorted[(sorted.len() - 1) / 2];
    }

    /// The middle of the latest; `None` before the first.
    pub fn median(&self) -> Option<f64> {
        (self.count > 0).then_some(self.median)
    }

    /// How many were measured.
    pub fn count(&self) -> usize {
        self.count
    }
}

/// Seconds of a round by its number of drafts.
#[derive(Clone, Debug, Default)]
pub(super) struct Costs {
    by_drafts: [Window; MAX_DRAFTS + 1],
    /// How much each window is to be believed: it fades while others are filled.
    weights: [f64; MAX_DRAFTS + 1],
}

/// Seconds of a round of n drafts: `base + each * n`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    pub base: f64,
    pub each: f64,
}

impl Line {
    /// Seconds of a round.
    pub fn at(self, drafts: usize) -> f64 {
        self.base + self.each * drafts as f64
    }
}

/// A draft's cost before one was measured, as a share of a plain step: low, so that it is tried.
const FIRST_GUESS: f64 = 0.15;
/// The first round of a width makes room for itself, so what was met once is believed up to this cost of a draft, and only where
/// nothing was met twice.
const WORST_GUESS: f64 = 0.5;
const ENOUGH: usize = 2;
/// What remains of a weight after each newer time.
const FADING: f64 = 0.98;

impl Costs {
    pub fn push(&mut self, drafts: usize, seconds: f64) {
        self.weights.iter_mut().for_each(|weight| *weight *= FADING);
        if let (Some(window), Some(weight)) = (self.by_drafts.get_mut(drafts), self.weights.get_mut(drafts)) {
            window.push(seconds);
            *weight = (*weight + 1.0).min(WINDOW as f64);
        }
    }

    /// Seconds of a round with so many drafts: the middle of the latest, or what the others make likely.
    pub fn expected(&self, drafts: usize, plain: f64) -> f64 {
        let window = self.by_drafts.get(drafts).filter(|window| window.count() >= ENOUGH);
        window.and_then(Window::median).unwrap_or_else(|| self.line(plain).at(drafts))
    }

    /// A draft's cost while hardly anything is known: the lowest that was met.
    fn guess(&self, plain: f64) -> f64 {
        let met = (1..=MAX_DRAFTS).filter_map(|drafts| {
            self.by_drafts[drafts].median().map(|median| (median - plain) / drafts as f64)
        });
        let lowest = met.fold(f64::INFINITY, f64::min);
        let guess = if lowest.is_finite() { lowest } else { FIRST_GUESS * plain };
        guess.clamp(FIRST_GUESS * plain, WORST_GUESS * plain)
    }

    /// The line through the medians. Passes have fixed costs and costs per token; where a kernel changes its way at some width
    /// a line is no law, but near enough to decide on.
    pub fn line(&self, plain: f64) -> Line {
        let known = |drafts: usize| {
            let window = &self.by_drafts[drafts];
            let median = window.median().filter(|_| window.count() >= ENOUGH)?;
            Some((drafts as f64, median, self.weights[drafts]))
        };
        let points = || (0..=MAX_DRAFTS).filter_map(known);
        let weight: f64 = points().map(|(.., w)| w).sum();
        if weight == 0.0 {
            return Line { base: plain, each: self.guess(plain) };
        }
        let mean =
            |value: &dyn Fn(f64, f64) -> f64| points().map(|(x, y, w)| w * value(x, y)).sum::<f64>() / weight;
        let (x, y) = (mean(&|x, _| x), mean(&|_, y| y));
        let spread = mean(&|a, _| (a - x) * (a - x));
        let each = if spread > 0.0 {
            mean(&|a, b| (a - x) * (b - y)) / spread
        } else if x > 0.0 {
            // One width alone: a plain step is the other point.
            (y - plain) / x
        } else {
            self.guess(plain)
        };
        // Nothing is for nothing, whatever noise says.
        let each = each.max(0.01 * plain);
        Line { base: y - each * x, each }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_forgets_and_ignores_outliers() {
        let mut window = Window::default();
        assert_eq!(window.median(), None);
        for seconds in [1.0, 9.0, 1.0, 1.0, 50.0, 1.0] {
            window.push(seconds);
        }
        assert_eq!(window.median(), Some(1.0));
        (0..8).for_each(|_| window.push(3.0));
        assert_eq!((window.median(), window.count()), (Some(3.0), 14));
    }

    #[test]
    fn the_line_is_that_of_the_costs() {
        let mut costs = Costs::default();
        assert_eq!(costs.line(2.0), Line { base: 2.0, each: 0.3 });
        costs.push(4, 40.0);
        assert_eq!(costs.line(2.0), Line { base: 2.0, each: 1.0 }, "the first of a width is hardly believed");
        costs.push(4, 4.0);
        assert_eq!(costs.line(2.0), Line { base: 2.0, each: 0.5 });
        (0..2).for_each(|_| costs.push(2, 3.4));
        let line = costs.line(2.0);
        assert!((line.base - 2.8).abs() < 1e-9 && (line.each - 0.3).abs() < 1e-9, "{line:?}");
        assert_eq!((costs.expected(4, 2.0), costs.expected(2, 2.0)), (4.0, 3.4));
        assert!((costs.expected(6, 2.0) - 4.6).abs() < 1e-9);
        // Noise that makes wider rounds cheaper does not make drafts free.
        (0..8).for_each(|_| costs.push(8, 1.0));
        assert!(costs.line(2.0).each > 0.0);
    }
}

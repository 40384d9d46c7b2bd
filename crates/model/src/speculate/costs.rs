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
}

/// Seconds of a round of n drafts: `base + each * n`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    pub base: f64,
    pub each: f64,
}

/// A draft's cost before one was measured, as a share of a plain step: low, so that it is tried.
const FIRST_GUESS: f64 = 0.15;

impl Costs {
    pub fn push(&mut self, drafts: usize, seconds: f64) {
        if let Some(window) = self.by_drafts.get_mut(drafts) {
            window.push(seconds);
        }
    }

    /// The middle of the latest times of rounds with so many drafts.
    pub fn median(&self, drafts: usize) -> Option<f64> {
        self.by_drafts.get(drafts).and_then(Window::median)
    }

    /// The line through the medians, each as heavy as it has samples. Passes have fixed costs and costs per token; where a
    /// kernel changes its way at some width a line is no law, but near enough to decide on.
    pub fn line(&self, plain: f64) -> Line {
        let points = || {
            self.by_drafts.iter().enumerate().filter_map(|(drafts, window)| {
                window.median().map(|median| (drafts as f64, median, window.count().min(WINDOW) as f64))
            })
        };
        let weight: f64 = points().map(|(.., w)| w).sum();
        if weight == 0.0 {
            return Line { base: plain, each: FIRST_GUESS * plain };
        }
        let mean =
            |value: &dyn Fn(f64, f64) -> f64| points().map(|(x, y, w)| w * value(x, y)).sum::<f64>() / weight;
        let (x, y) = (mean(&|x, _| x), mean(&|_, y| y));
        let spread = mean(&|a, _| (a - x) * (a - x));
        let each = if spread > 0.0 {
            mean(&|a, b| (a - x) * (b - y)) / spread
        } else {
            // One width alone: a plain step is the other point, if it tells anything.
            if x > 0.0 { (y - plain) / x } else { FIRST_GUESS * plain }
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
        costs.push(4, 4.0);
        assert_eq!(costs.line(2.0), Line { base: 2.0, each: 0.5 });
        costs.push(2, 3.4);
        let line = costs.line(2.0);
        assert!((line.base - 2.8).abs() < 1e-9 && (line.each - 0.3).abs() < 1e-9, "{line:?}");
        // Noise that makes wider rounds cheaper does not make drafts free.
        (0..8).for_each(|_| costs.push(8, 1.0));
        assert!(costs.line(2.0).each > 0.0);
    }
}

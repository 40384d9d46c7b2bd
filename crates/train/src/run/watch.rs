//! Is the loss still a loss?

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Losses that are averaged.
const WINDOW: usize = 20;

/// Watches the loss of each step. It is part of a checkpoint, so that a run that goes on sees what the uninterrupted one sees.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct LossWatch {
    last: VecDeque<f64>,
    /// The lowest mean of [`WINDOW`] losses.
    lowest: Option<f64>,
}

impl LossWatch {
    /// Takes the loss of a step; what is wrong with it, if something is.
    pub(super) fn take(&mut self, loss: f64, gradient_norm: f64, spike: f64) -> Option<String> {
        if !loss.is_finite() {
            return Some(format!("the loss is {loss}"));
        }
        if !gradient_norm.is_finite() {
            return Some(format!("the norm of the gradients is {gradient_norm}"));
        }
        self.last.push_back(loss);
        if self.last.len() <= WINDOW {
            return None;
        }
        self.last.pop_front();
        let mean = self.last.iter().sum::<f64>() / WINDOW as f64;
        let lowest = self.lowest.map_or(mean, |lowest| lowest.min(mean));
        self.lowest = Some(lowest);
        let high = spike > 0.0 && mean > lowest + spike;
        high.then(|| format!("the loss rose to {mean:.3} (mean of {WINDOW} steps) from {lowest:.3}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spikes_and_no_numbers_are_seen() {
        let mut watch = LossWatch::default();
        for step in 0..100 {
            assert_eq!(watch.take(8.0 - 0.05 * f64::from(step), 1.0, 1.0), None);
        }
        // One bad step is none; twenty are.
        assert_eq!(watch.take(9.0, 1.0, 1.0), None);
        let steps = (0..30).position(|_| watch.take(6.5, 1.0, 1.0).is_some());
        assert!(steps.is_some_and(|steps| steps > 3), "{steps:?}");
        assert!(watch.take(f64::NAN, 1.0, 0.0).unwrap().contains("NaN"));
        assert!(watch.take(3.0, f64::INFINITY, 0.0).unwrap().contains("inf"));
        assert_eq!(watch.take(100.0, 1.0, 0.0), None);
        let written = serde_json::to_string(&watch).unwrap();
        assert_eq!(serde_json::from_str::<LossWatch>(&written).unwrap(), watch);
    }
}

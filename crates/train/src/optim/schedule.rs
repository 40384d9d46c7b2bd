//! Warm-up, stable, decay.
use serde::{Deserialize, Serialize};

/// How learning rate, weight decay and quantization go over the steps: a recipe's table `schedule`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Steps in which the rate rises from 0.
    pub warm_up: u64,
    /// The share of all steps, the last ones, in which the rate falls to [`Schedule::least`].
    pub decay: f64,
    /// What the rate ends at, a share of the full one.
    pub least: f64,
    /// The share of all steps after which there is no more weight decay.
    pub weight_decay_until: f64,
    /// Steps in which quantization is phased in; 0: it is there from the first.
    pub lambda_steps: u64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { warm_up: 100, decay: 0.5, least: 0.02, weight_decay_until: 0.5, lambda_steps: 0 }
    }
}

impl Schedule {
    /// The factor of the learning rates at `step` (from 0) of `steps`.
    pub fn rate(&self, step: u64, steps: u64) -> f32 {
        let up = if step < self.warm_up { (step + 1) as f64 / self.warm_up as f64 } else { 1.0 };
        let falling = (steps as f64 * self.decay).max(1.0);
        let left = steps.saturating_sub(step) as f64 / falling;
        (up * left.min(1.0).max(self.least)) as f32
    }

    /// The factor of the weight decay.
    pub fn weight_decay(&self, step: u64, steps: u64) -> f32 {
        if (step as f64) < steps as f64 * self.weight_decay_until { 1.0 } else { 0.0 }
    }

    /// How far quantization is phased in.
    pub fn lambda(&self, step: u64) -> f32 {
        if self.lambda_steps == 0 { 1.0 } else { ((step + 1) as f32 / self.lambda_steps as f32).min(1.0) }
    }
}

//! The lines of a log.

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// The run begins, or goes on.
    Start(Start),
    /// A step was done.
    Step(Step),
    /// Held-out text was measured.
    HeldOut(HeldOut),
}

/// What a run is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The recipe's name.
    pub name: String,
    /// Steps done before.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Parameters.
    pub parameters: u64,
    /// Parameters that compute a token.
    pub active_parameters: u64,
    /// Tokens of a step.
    pub tokens_per_step: u64,
}

/// A step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its number; the first is 1.
    pub step: u64,
    /// Tokens predicted so far.
    pub tokens: u64,
    /// Of the whole model, nats a token.
    pub loss: f64,
    /// The same, per byte of text.
    pub bits_per_byte: f64,
    /// Of the early exit, nats a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_loss: Option<f64>,
    /// How evenly the experts are used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<ExpertLoad>,
    /// Of the matrices.
    pub learning_rate: f64,
    /// Norm of all gradients before clipping.
    pub gradient_norm: f64,
    /// Speed of this step.
    pub tokens_per_second: f64,
}

/// How many tokens experts get, relative to the mean of their layer: 1 is even.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExpertLoad {
    /// The busiest expert of all layers.
    pub most: f64,
    /// The idlest.
    pub least: f64,
}

/// A measurement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// After so many steps.
    pub step: u64,
    /// Nats a token.
    pub loss: f64,
    /// Bits a byte of text.
    pub bits_per_byte: f64,
    /// Of the early exit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_bits_per_byte: Option<f64>,
    /// What the model says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<String>,
}

impl Record {
    /// Steps done when it was written; `None` for the beginning of a run.
    pub fn step(&self) -> Option<u64> {
        match self {
            Record::Start(start) if start.step == 0 => None,
            Record::Start(start) => Some(start.step),
            Record::Step(step) => Some(step.step),
            Record::HeldOut(held_out) => Some(held_out.step),
        }
    }
}

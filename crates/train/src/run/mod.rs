//! A whole run: from a recipe to a model file.

mod card;
mod error;
mod learner;
mod network;
mod start;
mod sum;
mod training;
mod watch;

pub use error::RunError;
pub use learner::{File, Learner, Measured, Part, Updated};
pub use network::start;
pub use start::{Make, Options, start_with};
pub use sum::sum_of_parts;
pub use training::{Event, Observe, Outcome, Sampler, Training, checkpoints, model_file};

impl Measured {
    /// Adds those of other tokens.
    pub fn add(&mut self, other: &Measured) {
        self.loss += other.loss;
        self.exit_loss += other.exit_loss;
        self.exit_tokens += other.exit_tokens;
        self.tokens += other.tokens;
        if self.expert_tokens.is_empty() {
            self.expert_tokens.clone_from(&other.expert_tokens);
        } else {
            self.expert_tokens.iter_mut().zip(&other.expert_tokens).for_each(|(sum, value)| *sum += value);
        }
    }
}

#[cfg(test)]
mod tests;

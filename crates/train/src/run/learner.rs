//! What a run trains, as the loop sees it.

use std::path::Path;

use super::RunError;
use crate::checkpoint::{Checkpoint, CheckpointError, Tensor};

/// Rows that are computed together.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Ids, row after row.
    pub ids: &'a [u32],
    /// Ids of a row: the context and one more.
    pub width: usize,
    /// The step that it is part of, counted from 0.
    pub step: u64,
    /// Which of the step's parts it is.
    pub number: usize,
    /// Of how many.
    pub parts: usize,
}

/// Sums over tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Negative log-likelihood in nats.
    pub loss: f64,
    /// The same at the early exit; 0 without one.
    pub exit_loss: f64,
    /// Tokens that were predicted at the early exit.
    pub exit_tokens: f64,
    /// Tokens that were predicted.
    pub tokens: f64,
    /// Tokens for each expert of each layer, layer after layer; empty without experts. Whole numbers, so they add exactly.
    pub expert_tokens: Vec<f64>,
}

/// What the optimizer did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Updated {
    /// Of the matrices.
    pub learning_rate: f64,
    /// Norm of all gradients before clipping.
    pub gradient_norm: f64,
}

/// Tensors of a checkpoint: the name of a file and what it holds.
pub type File<'a> = (&'static str, Vec<Tensor<'a>>);

/// A model, its optimizer and its schedule.
pub trait Learner {
    /// One value for each parameter.
    type Gradients: Clone;

    /// Memory for gradients.
    fn gradients(&self) -> Self::Gradients;

    /// The gradients as lists of numbers, in a fixed order.
    fn slices(gradients: &mut Self::Gradients) -> Vec<&mut [f32]>;

    /// `sum += gradients`.
    fn add(sum: &mut Self::Gradients, gradients: &Self::Gradients);

    /// Computes the gradients of the mean loss of a step, as far as they come from this part: the sum over all parts is the
    /// gradient. What `gradients` held is overwritten.
    ///
    /// # Errors
    /// [`RunError`].
    fn compute(&mut self, part: &Part, gradients: &mut Self::Gradients) -> Result<Measured, RunError>;

    /// Changes the parameters; `measured` is of the whole step.
    ///
    /// # Errors
    /// [`RunError`].
    fn update(
        &mut self,
        step: u64,
        gradients: &mut Self::Gradients,
        measured: &Measured,
    ) -> Result<Updated, RunError>;

    /// Only measures.
    ///
    /// # Errors
    /// [`RunError`].
    fn measure(&mut self, ids: &[u32], width: usize) -> Result<Measured, RunError>;

    /// Parameters, and those that compute a token.
    fn parameters(&self) -> (u64, u64);

    /// Experts of a layer; 0 without.
    fn experts(&self) -> usize;

    /// Everything that it goes on from.
    fn state(&self) -> Vec<File<'_>>;

    /// Goes on from a checkpoint.
    ///
    /// # Errors
    /// [`CheckpointError`] if it holds something else.
    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError>;

    /// Writes the model file; the sample is generated from it.
    ///
    /// # Errors
    /// [`RunError`].
    fn export(&self, file: &Path) -> Result<(), RunError>;

    /// Writes weights, configuration, vocabulary and card as Hugging Face's tools read them.
    ///
    /// # Errors
    /// [`RunError`].
    fn publish(&self, folder: &Path, tokenizer_json: &str, card: &str) -> Result<(), RunError>;
}

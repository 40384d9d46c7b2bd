//! How well a model predicts a text.
//!
//! The text's tokens are cut into chunks of `context`, each computed from an empty sequence; the first half of a chunk is
//! context, the predictions of its second half are scored. A rest shorter than a chunk is left out.
use std::f64::consts::LN_2;

use chalot_tensor::exec::{Exec, ShapeError};
use chalot_tensor::softmax::softmax_rows;

use crate::engine::{Engine, EngineError};
use crate::sampler::argmax;
use crate::sequence::{Sequence, SequenceOptions};

/// Is told after every chunk: tokens done, tokens in all, the score so far.
pub type PerplexityProgress<'a> = dyn Fn(usize, usize, &Perplexity) + 'a;

/// How a text is scored.
#[derive(Clone, Copy, Default)]
pub struct PerplexityOptions<'a> {
    /// Tokens of a chunk. `None`: 512, or the model's context where that is shorter.
    pub context: Option<usize>,
    /// Replaces the first token of every chunk (which is never scored): for models that saw BOS before every text.
    pub bos: Option<u32>,
    /// Bytes of text that a token stands for; needed for [`Perplexity::bits_per_byte`].
    pub bytes_of: Option<&'a dyn Fn(u32) -> usize>,
    /// Told how far it is.
    pub progress: Option<&'a PerplexityProgress<'a>>,
    /// How the cache is kept; its `context` is ignored.
    pub sequence: SequenceOptions,
}

/// The score of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Perplexity {
    /// Tokens whose prediction was scored.
    pub tokens: usize,
    /// Sum of their negative log-likelihoods, in nats.
    pub nll: f64,
    /// Bytes of text they stand for, where [`PerplexityOptions::bytes_of`] told.
    pub bytes: Option<usize>,
}

impl Perplexity {
    /// Nats per token.
    pub fn mean_nll(&self) -> f64 {
        self.nll / self.tokens as f64
    }

    /// exp(nats per token).
    pub fn perplexity(&self) -> f64 {
        self.mean_nll().exp()
    }

    /// Bits per byte of text: comparable between models with different vocabularies.
    pub fn bits_per_byte(&self) -> Option<f64> {
        self.bytes.filter(|&bytes| bytes > 0).map(|bytes| self.nll / LN_2 / bytes as f64)
    }
}

/// Scores `tokens`.
///
/// # Errors
/// [`EngineError::Input`] when there are fewer tokens than one chunk, [`EngineError::ContextLength`] when a chunk is longer
/// than the model's context, [`EngineError::Option`] for a chunk of fewer than 2 tokens.
pub fn perplexity(
    engine: &mut Engine,
    tokens: &[u32],
    options: &PerplexityOptions<'_>,
) -> Result<Perplexity, EngineError> {
    let context = options.context.unwrap_or(engine.model().config.context_length.min(512));
    if context < 2 {
        return Err(EngineError::Option {
            option: "context",
            found: context.to_string(),
            expected: "at least 2",
        });
    }
    let mut seq =
        Sequence::new(engine.model(), SequenceOptions { context: Some(context), ..options.sequence })?;
    if tokens.len() < context {
        let what = "the text's tokens (perplexity needs at least one context of them)";
        return Err(EngineError::Input { what, found: tokens.len(), expected: context });
    }
    let score = Perplexity { bytes: options.bytes_of.map(|_| 0), ..Perplexity::default() };
    let mut scorer = Scorer { options, exec: engine.exec().clone(), row: Vec::new(), score };
    let mut chunk = vec![0; context];
    let all = tokens.len() / context * context;
    for (number, source) in tokens.chunks_exact(context).enumerate() {
        chunk.copy_from_slice(source);
        if let Some(bos) = options.bos {
            chunk[0] = bos;
        }
        scorer.chunk(engine, &mut seq, &chunk)?;
        if let Some(progress) = options.progress {
            progress((number + 1) * context, all, &scorer.score);
        }
    }
    Ok(scorer.score)
}

struct Scorer<'a> {
    options: &'a PerplexityOptions<'a>,
    exec: Exec,
    /// One row of logits, then of probabilities.
    row: Vec<f32>,
    score: Perplexity,
}

impl Scorer<'_> {
    fn chunk(&mut self, engine: &mut Engine, seq: &mut Sequence, chunk: &[u32]) -> Result<(), EngineError> {
        seq.truncate(0);
        let first = chunk.len() / 2;
        // The token before the first scored one predicts it; the last token predicts nothing that is scored.
        let (context, scored) = chunk[..chunk.len() - 1].split_at(first - 1);
        if !context.is_empty() {
            engine.prefill(seq, context)?;
        }
        let mut result = Ok(());
        engine.forward_all(seq, scored, &mut |index, logits| match self
            .negative_log_likelihood(logits, chunk[first + index])
        {
            Ok(nll) => self.add(chunk[first + index], nll),
            Err(error) => result = Err(error.into()),
        })?;
        result
    }

    fn add(&mut self, token: u32, nll: f64) {
        self.score.tokens += 1;
        self.score.nll += nll;
        if let (Some(bytes), Some(bytes_of)) = (&mut self.score.bytes, self.options.bytes_of) {
            *bytes += bytes_of(token);
        }
    }

    /// -ln softmax(logits)[target], in nats.
    ///
    /// The likeliest token's probability is 1 / sum of exp(logit - max), never small; the target's own could underflow.
    fn negative_log_likelihood(&mut self, logits: &[f32], target: u32) -> Result<f64, ShapeError> {
        self.row.clear();
        self.row.extend_from_slice(logits);
        softmax_rows(&self.exec, &mut self.row, logits.len())?;
        let likeliest = argmax(logits) as usize;
        let below = f64::from(logits[likeliest]) - f64::from(logits[target as usize]);
        Ok(below - f64::from(self.row[likeliest]).ln())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likelihoods_are_those_of_the_soft_max() {
        let options = PerplexityOptions::default();
        let exec = Exec::new(chalot_simd::Isa::best(), 1);
        let mut scorer = Scorer { options: &options, exec, row: Vec::new(), score: Perplexity::default() };
        let mut nll = |logits: &[f32], target| scorer.negative_log_likelihood(logits, target).unwrap();
        // softmax(0, ln 3) = (1/4, 3/4).
        let logits = [0.0, 3f32.ln()];
        assert!((nll(&logits, 0) - 4f64.ln()).abs() < 1e-6);
        assert!((nll(&logits, 1) - (4.0f64 / 3.0).ln()).abs() < 1e-6);
        // Far from zero nothing overflows, and what is too unlikely for f32 still has its likelihood.
        assert!((nll(&[1000.0, 1000.0], 1) - LN_2).abs() < 1e-6);
        assert_eq!(nll(&[500.0, -500.0], 1), 1000.0);
        assert!(nll(&[f32::NAN, 0.0], 1).is_nan(), "a broken model has no score");
    }

    #[test]
    fn units() {
        let score = Perplexity { tokens: 4, nll: 4.0 * LN_2, bytes: Some(8) };
        assert!((score.perplexity() - 2.0).abs() < 1e-12);
        assert!((score.bits_per_byte().unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(Perplexity { bytes: None, ..score }.bits_per_byte(), None);
    }
}

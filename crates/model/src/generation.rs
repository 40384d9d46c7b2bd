//! Text generation, token by token.
use std::time::{Duration, Instant};

use crate::engine::{Engine, EngineError};
use crate::sampler::Sampler;
use crate::sequence::Sequence;
use crate::speculate::{SpeculationStats, Speculator};

/// When a generation ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct GenerationOptions<'a> {
    /// Tokens that end the text; they are not part of it.
    pub stop: &'a [u32],
    /// The most tokens to generate. `None`: until the context is full.
    pub max_tokens: Option<usize>,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model chose this stop token.
    Stop(u32),
    /// [`GenerationOptions::max_tokens`] were generated.
    MaxTokens,
    /// The sequence has no room for another token.
    ContextFull,
}

/// What a generation cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GenerationStats {
    /// Tokens of the prompt that the sequence held already.
    pub reused_tokens: usize,
    /// Tokens of the prompt that were computed.
    pub prompt_tokens: usize,
    /// Time for them, the first choice included.
    pub prompt_time: Duration,
    /// Tokens that were generated, a stop token not counted.
    pub generated_tokens: usize,
    /// Tokens that were chosen after the prompt's pass.
    pub decode_steps: usize,
    /// Time for them, the time between calls not counted.
    pub decode_time: Duration,
    /// What speculation did, where there was any.
    pub speculation: Option<SpeculationStats>,
}

impl GenerationStats {
    /// Tokens of the prompt per second.
    pub fn prompt_rate(&self) -> f64 {
        rate(self.prompt_tokens, self.prompt_time)
    }

    /// Generated tokens per second, the prompt's pass not counted.
    pub fn decode_rate(&self) -> f64 {
        rate(self.decode_steps, self.decode_time)
    }
}

fn rate(count: usize, time: Duration) -> f64 {
    if count == 0 { 0.0 } else { count as f64 / time.as_secs_f64().max(1e-9) }
}

/// An iterator over the tokens that follow a prompt.
///
/// The prompt is the whole text so far. What the sequence, or another one of its pool, already holds of it is not computed
/// again, and what the sequence holds beyond it is forgotten: a conversation hands over all its tokens every time.
///
/// ```no_run
/// use std::{path::Path, sync::Arc};
///
/// use chalot_model::{
///     Engine, EngineOptions, Generation, GenerationOptions, LoadOptions, Sampler, SamplingParams, Sequence,
///     SequenceOptions, Source,
/// };
/// use chalot_simd::Isa;
/// use chalot_tensor::Exec;
///
/// let exec = Exec::new(Isa::best(), 2);
/// let model = Arc::new(Source::open(Path::new("model.gguf"))?.load(&exec, &LoadOptions::default())?);
/// let mut seq = Sequence::new(&model, SequenceOptions::default())?;
/// let mut engine = Engine::new(model, exec, EngineOptions::default())?;
/// let mut sampler = Sampler::new(SamplingParams { seed: 7, ..SamplingParams::default() })?;
///
/// let prompt = [1, 15043, 29892]; // from the model's tokenizer
/// let options = GenerationOptions { stop: &[2], max_tokens: Some(100) };
/// let mut generation = Generation::start(&mut engine, &mut seq, &mut sampler, &prompt, options)?;
/// for token in generation.by_ref() {
///     println!("{}", token?);
/// }
/// println!("{:.1} tokens/s", generation.stats().decode_rate());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Generation<'a> {
    engine: &'a mut Engine,
    seq: &'a mut Sequence,
    sampler: &'a mut Sampler,
    options: GenerationOptions<'a>,
    speculator: Option<&'a mut Speculator>,
    /// Chosen, and the sequence does not hold it yet.
    next: u32,
    finish: Option<Finish>,
    stats: GenerationStats,
}

impl<'a> Generation<'a> {
    /// Computes the prompt and chooses the first token.
    ///
    /// # Errors
    /// [`EngineError`] when the prompt is empty, does not fit the context or has a token that the model does not (the
    /// sequence is then unchanged), or when there is no memory for it (the sequence then holds what is known of it).
    pub fn start(
        engine: &'a mut Engine,
        seq: &'a mut Sequence,
        sampler: &'a mut Sampler,
        prompt: &[u32],
        options: GenerationOptions<'a>,
    ) -> Result<Self, EngineError> {
        let begin = Instant::now();
        // The last token is computed in any case: its logits are what is needed.
        let known = &prompt[..prompt.len().saturating_sub(1)];
        let used = seq.common_prefix(known);
        let (new, context) = (prompt.len() - used, seq.context());
        if used + new > context {
            return Err(EngineError::ContextOverflow { used, new, context });
        }
        engine.check(seq, prompt)?;
        let reused = seq.adopt(known);
        let new = prompt.len() - reused;
        seq.truncate(reused);
        let logits = engine.forward(seq, &prompt[reused..])?;
        let next = sampler.sample(logits, seq.tokens());
        let stats = GenerationStats {
            reused_tokens: reused,
            prompt_tokens: new,
            prompt_time: begin.elapsed(),
            ..GenerationStats::default()
        };
        Ok(Self { engine, seq, sampler, options, speculator: None, next, finish: None, stats })
    }

    /// From here on several tokens a pass where drafts are right: the same text (see [`crate::speculate`] for what that means
    /// where tokens are sampled). `None` leaves it as it is.
    ///
    /// # Errors
    /// [`EngineError`] when there is no memory for what drafting needs.
    pub fn speculate(
        mut self,
        speculator: impl Into<Option<&'a mut Speculator>>,
    ) -> Result<Self, EngineError> {
        self.speculator = speculator.into();
        if let Some(speculator) = &mut self.speculator {
            let begin = Instant::now();
            speculator.begin(self.seq, self.sampler)?;
            self.stats.prompt_time += begin.elapsed(); // the prompt's n-grams
        }
        Ok(self)
    }

    /// Why it ended; `None` while it has not.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// What it cost so far.
    pub fn stats(&self) -> GenerationStats {
        GenerationStats { speculation: self.speculator.as_ref().map(|s| s.stats()), ..self.stats }
    }

    /// Computes the token chosen last and chooses the one after it.
    fn step(&mut self) -> Result<(), EngineError> {
        let begin = Instant::now();
        self.next = match &mut self.speculator {
            None => {
                let logits = self.engine.forward(self.seq, &[self.next])?;
                self.sampler.sample(logits, self.seq.tokens())
            }
            Some(speculator) => {
                let left = |max: usize| max.saturating_sub(self.stats.generated_tokens);
                let most = self.options.max_tokens.map_or(usize::MAX, left);
                speculator.step(self.engine, self.seq, self.sampler, self.next, most)?
            }
        };
        self.stats.decode_steps += 1;
        self.stats.decode_time += begin.elapsed();
        Ok(())
    }

    fn end(&mut self, finish: Finish) -> Option<Result<u32, EngineError>> {
        self.finish = Some(finish);
        self.close();
        None
    }

    /// Takes out of the sequence what drafts have written ahead of its tokens, and counts the last round. It is done when the
    /// generation ends; who breaks off before should call it. (Without it nothing is wrong, only more memory in use: whoever
    /// goes on with the sequence writes over it.)
    pub fn close(&mut self) {
        if let Some(speculator) = &mut self.speculator {
            speculator.close(self.seq);
        }
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<u32, EngineError>;

    /// The next token. The one handed out last is computed only now, so no pass is wasted at the end.
    fn next(&mut self) -> Option<Self::Item> {
        if self.finish.is_some() {
            return None;
        }
        if self.options.max_tokens.is_some_and(|max| self.stats.generated_tokens >= max) {
            return self.end(Finish::MaxTokens);
        }
        if self.stats.generated_tokens > 0 {
            if self.seq.check_room(1).is_err() {
                return self.end(Finish::ContextFull);
            }
            if let Err(error) = self.step() {
                return Some(Err(error));
            }
        }
        if self.options.stop.contains(&self.next) {
            return self.end(Finish::Stop(self.next));
        }
        self.stats.generated_tokens += 1;
        Some(Ok(self.next))
    }
}

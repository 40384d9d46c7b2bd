//! A text in the making: prompt in, text out, as it comes.
use std::{ops::ControlFlow, time::Instant};

use chalot_model::{
    Engine, EngineOptions, Finish, Generation, GenerationOptions, GenerationStats, Sampler, Sequence,
    SequenceOptions,
};
use chalot_tokenizer::Tokenizer;
use serde::Serialize;

use crate::{error::Error, text_model::TextModel};

/// Prompt tokens between two calls of the listener, so that a long prompt can show its progress and be stopped.
const PROMPT_STEP: usize = 256;

/// How long generation goes on, and what of it is text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompletionOptions {
    /// Tokens at most; `None`: until the model ends the text or the context is full.
    pub max_tokens: Option<usize>,
    /// Go on after a token that ends generation.
    pub ignore_eos: bool,
    /// Give the listener the text of special tokens too.
    pub special: bool,
}

/// What a listener is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// `done` of the prompt's `total` new tokens are computed.
    Prompt {
        /// Computed so far.
        done: usize,
        /// To compute.
        total: usize,
    },
    /// More text, whole characters only.
    Text(&'a str),
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// The model ended its text.
    End,
    /// [`CompletionOptions::max_tokens`] are there.
    Length,
    /// The context is full.
    Context,
    /// The listener broke off.
    Interrupted,
}

/// What was generated and what it cost.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The tokens, without the one that ended them.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub stop: Stop,
    /// Tokens and times.
    pub stats: GenerationStats,
}

/// One text: a sequence of tokens, the engine that extends it and the tokenizer that reads it.
pub struct Session {
    tokenizer: Tokenizer,
    engine: Engine,
    sequence: Sequence,
}

impl Session {
    pub(crate) fn new(text_model: &TextModel, options: SequenceOptions) -> Result<Self, Error> {
        let model = text_model.model.clone();
        let sequence = Sequence::new(&model, options)?;
        let engine = Engine::new(model, text_model.exec().clone(), EngineOptions::default())?;
        Ok(Self { tokenizer: text_model.tokenizer.clone(), engine, sequence })
    }

    /// The tokens computed so far and their cache.
    pub fn sequence(&self) -> &Sequence {
        &self.sequence
    }

    /// Makes the text begin with `prompt` (what it has in common with the text so far is not computed again) and
    /// continues it. `listener` hears of every step and may break off.
    ///
    /// # Errors
    /// [`Error::PromptTooLong`]; [`Error::Engine`] for an empty prompt or a token that the model does not have.
    pub fn complete(
        &mut self,
        prompt: &[u32],
        sampler: &mut Sampler,
        options: &CompletionOptions,
        listener: &mut dyn FnMut(Step) -> ControlFlow<()>,
    ) -> Result<Completion, Error> {
        self.check_room(prompt)?;
        let mut completion =
            Completion { tokens: Vec::new(), stop: Stop::Interrupted, stats: GenerationStats::default() };
        let begin = Instant::now();
        let reused = self.prefill(prompt, listener)?;
        let (reused, ControlFlow::Continue(())) = reused else { return Ok(completion) };
        let prefill_time = begin.elapsed();
        let prefilled = self.sequence.len() - reused;

        let eog = if options.ignore_eos { &[] } else { self.tokenizer.eog_tokens() };
        let limits = GenerationOptions { stop: eog, max_tokens: options.max_tokens };
        let mut generation =
            Generation::start(&mut self.engine, &mut self.sequence, sampler, prompt, limits)?;
        let mut stream = self.tokenizer.stream().skip_specials(!options.special);
        let mut interrupted =
            listener(Step::Prompt { done: prompt.len() - reused, total: prompt.len() - reused });
        while interrupted.is_continue()
            && let Some(id) = generation.next().transpose()?
        {
            completion.tokens.push(id);
            interrupted = tell(listener, stream.push(id));
        }
        // The text may stop inside a character; what is there of it is shown as U+FFFD.
        let rest = tell(listener, stream.finish());
        completion.stop = match generation.finish() {
            _ if interrupted.is_break() || rest.is_break() => Stop::Interrupted,
            Some(Finish::Stop(_)) => Stop::End,
            Some(Finish::MaxTokens) => Stop::Length,
            Some(Finish::ContextFull) | None => Stop::Context,
        };
        let stats = generation.stats();
        completion.stats = GenerationStats {
            reused_tokens: reused,
            prompt_tokens: stats.prompt_tokens + prefilled,
            prompt_time: stats.prompt_time + prefill_time,
            ..stats
        };
        Ok(completion)
    }

    /// Computes the prompt but for its last step. Returns how many of its tokens were there before.
    fn prefill(
        &mut self,
        prompt: &[u32],
        listener: &mut dyn FnMut(Step) -> ControlFlow<()>,
    ) -> Result<(usize, ControlFlow<()>), Error> {
        let reused = self.sequence.common_prefix(prompt).min(prompt.len().saturating_sub(1));
        let new = &prompt[reused..];
        // The last step is left to the generation: it needs the logits of the last token.
        let head = &new[..new.len().saturating_sub(1) / PROMPT_STEP * PROMPT_STEP];
        if !head.is_empty() {
            self.sequence.truncate(reused);
        }
        for (index, step) in head.chunks(PROMPT_STEP).enumerate() {
            self.engine.prefill(&mut self.sequence, step)?;
            let done = (index + 1) * PROMPT_STEP;
            if listener(Step::Prompt { done, total: new.len() }).is_break() {
                return Ok((reused, ControlFlow::Break(())));
            }
        }
        Ok((reused, ControlFlow::Continue(())))
    }

    fn check_room(&self, prompt: &[u32]) -> Result<(), Error> {
        let (tokens, context) = (prompt.len(), self.sequence.context());
        let trained = self.engine.model().config.context_length;
        if tokens > context { Err(Error::PromptTooLong { tokens, context, trained }) } else { Ok(()) }
    }
}

fn tell(listener: &mut dyn FnMut(Step) -> ControlFlow<()>, text: &str) -> ControlFlow<()> {
    if text.is_empty() { ControlFlow::Continue(()) } else { listener(Step::Text(text)) }
}

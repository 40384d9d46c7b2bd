//! A text in the making: prompt in, text out, as it comes.
use std::{ops::ControlFlow, path::Path, time::Instant};

use chalot_model::{
    Engine, Fingerprint, Finish, Generation, GenerationOptions, GenerationStats, Sampler, Sequence,
    SequenceOptions, SpeculationOptions, Speculator,
};
use chalot_tokenizer::Tokenizer;
use serde::Serialize;

use crate::{error::Error, text_model::TextModel};

/// Prompt tokens (made whole passes of the engine) between two calls of the listener, so that a long prompt can show its progress and be stopped.
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
    speculator: Option<Speculator>,
}

impl Session {
    pub(crate) fn new(text_model: &TextModel, options: SequenceOptions) -> Result<Self, Error> {
        let sequence = Sequence::in_pool(&text_model.model, options, text_model.pool())?;
        Self::of(text_model, sequence)
    }

    pub(crate) fn restore(
        text_model: &TextModel,
        path: &Path,
        options: SequenceOptions,
    ) -> Result<(Self, Vec<u8>), Error> {
        let fingerprint = text_model.fingerprint();
        let (sequence, note) =
            Sequence::load(path, &text_model.model, &fingerprint, options, text_model.pool())?;
        Ok((Self::of(text_model, sequence)?, note))
    }

    fn of(text_model: &TextModel, sequence: Sequence) -> Result<Self, Error> {
        let model = text_model.model.clone();
        let engine = Engine::new(model, text_model.exec().clone(), text_model.engine_options())?
            .with_prefetcher(text_model.prefetcher().cloned());
        Ok(Self { tokenizer: text_model.tokenizer.clone(), engine, sequence, speculator: None })
    }

    /// Has the text drafted and verified from now on ([`chalot_model::speculate`]), or not (`None`, as at first). What was
    /// learnt about drafts so far is forgotten.
    ///
    /// # Errors
    /// [`Error::Engine`] when the options ask for what the model cannot do.
    pub fn speculate(&mut self, options: Option<SpeculationOptions>) -> Result<(), Error> {
        let speculator = |options| Speculator::new(self.engine.model(), options);
        self.speculator = options.map(speculator).transpose()?;
        Ok(())
    }

    /// Who drafts and verifies, if anybody does.
    pub fn speculator(&mut self) -> Option<&mut Speculator> {
        self.speculator.as_mut()
    }

    /// Writes the tokens so far, their keys and values and a note to a file, for [`TextModel::restore`].
    ///
    /// # Errors
    /// [`Error::Cache`] when the file cannot be written; an older one of that name is then as it was.
    pub fn save(&self, path: &Path, note: &[u8]) -> Result<(), Error> {
        let fingerprint = Fingerprint::of(self.engine.model());
        Ok(self.sequence.save(&fingerprint, note, path)?)
    }

    /// The tokens computed so far and their cache.
    pub fn sequence(&self) -> &Sequence {
        &self.sequence
    }

    /// Makes the text begin with `prompt` (what it has in common with the text so far, or with another text of the model, is
    /// not computed again) and continues it. `listener` hears of every step and may break off.
    ///
    /// # Errors
    /// [`Error::PromptTooLong`]; [`Error::Memory`] when there is no memory for all of it; [`Error::Engine`] for an empty prompt or a token that the model does not have.
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
        let reused = self.sequence.adopt(&prompt[..prompt.len().saturating_sub(1)]);
        let prefilled = self.prefill(prompt, reused, listener)?;
        let prefill_time = begin.elapsed();
        let Some(prefilled) = prefilled else { return Ok(completion) };

        let eog = if options.ignore_eos { &[] } else { self.tokenizer.eog_tokens() };
        let limits = GenerationOptions { stop: eog, max_tokens: options.max_tokens };
        let (engine, sequence) = (&mut self.engine, &mut self.sequence);
        let mut generation = Generation::start(engine, sequence, sampler, prompt, limits)?
            .speculate(self.speculator.as_mut())?;
        let mut stream = self.tokenizer.stream().skip_specials(!options.special);
        let mut interrupted =
            listener(Step::Prompt { done: prompt.len() - reused, total: prompt.len() - reused });
        while interrupted.is_continue()
            && let Some(id) = generation.next().transpose()?
        {
            completion.tokens.push(id);
            interrupted = tell(listener, stream.push(id));
        }
        generation.close();
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

    /// Computes the prompt after its first `reused` tokens, but for the last step: the generation needs the logits of
    /// the last token. Returns how many tokens it computed, `None` when the listener broke off.
    fn prefill(
        &mut self,
        prompt: &[u32],
        reused: usize,
        listener: &mut dyn FnMut(Step) -> ControlFlow<()>,
    ) -> Result<Option<usize>, Error> {
        let new = &prompt[reused..];
        let step_len = PROMPT_STEP.next_multiple_of(self.engine.options().chunk);
        let head = new.len().saturating_sub(1) / step_len * step_len;
        self.sequence.truncate(reused);
        self.sequence.reserve(new.len())?;
        if head > 0 && listener(Step::Prompt { done: 0, total: new.len() }).is_break() {
            return Ok(None);
        }
        for (index, step) in new[..head].chunks(step_len).enumerate() {
            self.engine.prefill(&mut self.sequence, step)?;
            let done = (index + 1) * step_len;
            if listener(Step::Prompt { done, total: new.len() }).is_break() {
                return Ok(None);
            }
        }
        Ok(Some(head))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OpenOptions;
    use chalot_model::{DraftMode, SamplingParams};
    use chalot_tensor::exec::Exec;
    use chalot_tokenizer::Specials;

    fn model() -> TextModel {
        TextModel::builtin(&Exec::new(chalot_simd::Isa::best(), 2), &OpenOptions::default()).unwrap()
    }

    fn greedy() -> Sampler {
        Sampler::new(SamplingParams::greedy()).unwrap()
    }

    fn options(max_tokens: usize) -> CompletionOptions {
        CompletionOptions { max_tokens: Some(max_tokens), ignore_eos: true, special: false }
    }

    /// Prompts of these lengths one after the other in one session equal each alone, and the counts of computed and
    /// reused tokens are right: no matter what the sequence held before.
    #[test]
    fn a_session_that_was_used_gives_the_same_tokens_as_a_new_one() {
        // Two models: texts of one share what they begin with.
        let (model, apart) = (model(), model());
        let mut used = model.session(SequenceOptions::default()).unwrap();
        for (length, first) in [(300, 5), (20, 5), (400, 9), (400, 9), (1, 9), (257, 9), (257, 5)] {
            let prompt: Vec<u32> = (0..length).map(|i| (first + 31 * i) % 2000).collect();
            let expected_reuse = used.sequence().common_prefix(&prompt).min(prompt.len() - 1);
            let mut new = apart.session(SequenceOptions::default()).unwrap();
            let run = |session: &mut Session| {
                session
                    .complete(&prompt, &mut greedy(), &options(8), &mut |_| ControlFlow::Continue(()))
                    .unwrap()
            };
            let (again, alone) = (run(&mut used), run(&mut new));
            assert_eq!(again.tokens, alone.tokens, "{length} tokens from {first}");
            assert_eq!((alone.stats.prompt_tokens, alone.stats.reused_tokens), (prompt.len(), 0));
            assert_eq!(again.stats.reused_tokens, expected_reuse);
            assert_eq!(again.stats.prompt_tokens + expected_reuse, prompt.len());
            assert_eq!((again.stop, again.stats.generated_tokens), (Stop::Length, 8));
        }
    }

    #[test]
    fn a_listener_may_break_off_at_any_step() {
        let model = model();
        let prompt: Vec<u32> = (0..300).collect();
        let mut steps = 0;
        for allowed in 0..5 {
            let mut session = model.session(SequenceOptions::default()).unwrap();
            steps = 0;
            let listener = &mut |_: Step| {
                steps += 1;
                if steps > allowed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let completion = session.complete(&prompt, &mut greedy(), &options(50), listener).unwrap();
            assert_eq!(completion.stop, Stop::Interrupted, "after {allowed} steps");
            assert!(completion.tokens.len() < 50);
        }
        assert!(steps >= 5, "the last one got as far as text");
    }

    /// A listener that waits for some words breaks off inside a draft; what it got, what is kept, and what comes when it goes on
    /// are as without drafts.
    #[test]
    fn stop_words_inside_a_draft() {
        let (model, apart) = (model(), model());
        let words = "the old king and the young king and the old king and the young king and the";
        let prompt = model.prompt(words, Specials::AsText);
        let run = |session: &mut Session, prompt: &[u32], stop: &str| {
            let mut text = String::new();
            let completion = session.complete(prompt, &mut greedy(), &options(60), &mut |step| {
                if let Step::Text(piece) = step {
                    text.push_str(piece);
                }
                if text.contains(stop) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            (completion.unwrap().tokens, text)
        };
        let mut plain = model.session(SequenceOptions::default()).unwrap();
        let (tokens, whole) = run(&mut plain, &prompt, "no text has this");
        assert_eq!(tokens.len(), 60);
        let mut drafting = apart.session(SequenceOptions::default()).unwrap();
        drafting
            .speculate(Some(SpeculationOptions {
                mode: DraftMode::Ngram,
                drafts: Some(8),
                ..SpeculationOptions::default()
            }))
            .unwrap();
        let speculator = drafting.speculator().expect("on");
        let (text, beginning) = (tokens.clone(), prompt.len());
        // Every draft is right, so the stop lies inside one.
        speculator.set_filter(Some(Box::new(move |position, draft| {
            text.get(position - beginning).copied().unwrap_or(draft)
        })));
        for end in 1..whole.len().min(40) {
            let Some(stop) = whole.get(end - 1..end + 3) else { continue };
            let expected = run(&mut plain, &prompt, stop);
            let found = run(&mut drafting, &prompt, stop);
            assert_eq!(found, expected, "{stop:?}");
            assert_eq!(drafting.sequence().tokens(), plain.sequence().tokens(), "{stop:?}");
            let text = [&prompt[..], &found.0].concat();
            assert_eq!(run(&mut drafting, &text, "never").0, run(&mut plain, &text, "never").0, "{stop:?}");
        }
    }

    #[test]
    fn prompts_that_are_empty_or_too_long_are_errors() {
        let model = model();
        let mut session = model.session(SequenceOptions { context: Some(8), kv: None }).unwrap();
        let mut complete = |prompt: &[u32]| {
            session.complete(prompt, &mut greedy(), &options(4), &mut |_| ControlFlow::Continue(()))
        };
        assert!(matches!(complete(&[]), Err(Error::Engine(_))));
        let error = complete(&[1; 10]).unwrap_err();
        assert!(matches!(error, Error::PromptTooLong { tokens: 10, context: 8, .. }), "{error}");
        // A prompt that fills the context still has a next token.
        let full = complete(&[1; 8]).unwrap();
        assert_eq!((full.tokens.len(), full.stop), (1, Stop::Context));
    }
}

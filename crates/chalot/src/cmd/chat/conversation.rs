//! What was said so far, and the model's next words.
//!
//! Every turn renders the whole conversation; the session computes only what is new at its end.
use std::io;

use chalot::{
    Completion, CompletionOptions, Error, Message, Session, TextModel,
    model::{Sampler, SamplingParams},
    tokenizer::Specials,
};

use serde::{Deserialize, Serialize};

use crate::{cmd::run::complete, console::Console};

/// A long answer. Small models sometimes find no end by themselves.
const ANSWER_TOKENS: usize = 512;
/// Without a chat template nothing tells a model to stop; a paragraph is what fits between two turns.
const PLAIN_TOKENS: usize = 128;
/// Of the context, this share at most is kept free for the answer, and never more than this many tokens.
const ROOM_SHARE: usize = 4;
const ROOM_TOKENS: usize = 512;

/// What stands beside the text in a cache file.
#[derive(Serialize, Deserialize)]
struct Note {
    system: Option<String>,
    messages: Vec<Message>,
    /// Without a template: the text so far.
    text: Vec<u32>,
}

/// A conversation with a model.
pub struct Conversation<'m> {
    model: &'m TextModel,
    session: Session,
    sampler: Sampler,
    max_tokens: Option<usize>,
    system: Option<String>,
    /// With a template: what was said, the system's words not included.
    messages: Vec<Message>,
    /// Without one: the text so far.
    text: Vec<u32>,
}

/// What one turn gave.
pub struct Answer {
    pub completion: Completion,
    /// Messages (with a template) or tokens (without) that were forgotten to make room.
    pub dropped: usize,
    pub has_template: bool,
}

impl Answer {
    pub fn dropped_what(&self) -> String {
        format!("{} {}", self.dropped, if self.has_template { "messages" } else { "tokens" })
    }
}

impl<'m> Conversation<'m> {
    /// Whom it is with.
    pub fn model(&self) -> &'m TextModel {
        self.model
    }

    pub fn new(
        model: &'m TextModel,
        session: Session,
        sampling: SamplingParams,
        system: Option<String>,
        max_tokens: Option<usize>,
    ) -> anyhow::Result<Self> {
        let sampler = Sampler::new(sampling)?;
        Ok(Self { model, session, sampler, max_tokens, system, messages: Vec::new(), text: Vec::new() })
    }

    /// The text.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// What [`Conversation::resume`] needs to go on.
    pub fn note(&self) -> anyhow::Result<Vec<u8>> {
        let (system, messages, text) = (self.system.clone(), self.messages.clone(), self.text.clone());
        Ok(serde_json::to_vec(&Note { system, messages, text })?)
    }

    /// Goes on with an earlier conversation, and says how many messages it has; `None`: there is none. A system's words given
    /// now take the place of the earlier ones.
    pub fn resume(&mut self, note: &[u8]) -> Option<usize> {
        let Note { system, messages, text } = serde_json::from_slice(note).ok()?;
        let vocab = self.model.model.config.vocab_size;
        self.system = self.system.take().or(system);
        self.messages = messages;
        self.text = text.into_iter().filter(|&token| (token as usize) < vocab).collect();
        Some(self.messages.len() + usize::from(!self.text.is_empty()))
    }

    pub fn reset(&mut self) {
        self.messages.clear();
        self.text.clear();
    }

    pub fn set_system(&mut self, words: Option<String>) {
        self.system = words;
        self.reset();
    }

    /// Says `text` and passes on the answer piece by piece. After an error the conversation is what it was before.
    pub fn answer(
        &mut self,
        text: &str,
        console: Console,
        sink: &mut dyn FnMut(&str) -> io::Result<()>,
    ) -> anyhow::Result<Answer> {
        if self.model.template.is_some() {
            self.reply(text, console, sink)
        } else {
            self.go_on(text, console, sink)
        }
    }

    /// With a template: a message and its reply.
    fn reply(
        &mut self,
        text: &str,
        console: Console,
        sink: &mut dyn FnMut(&str) -> io::Result<()>,
    ) -> anyhow::Result<Answer> {
        let mut messages = self.messages.clone();
        messages.push(Message::new("user", text));
        let (prompt, dropped) = self.fit(&mut messages)?;
        let max_tokens = Some(self.max_tokens.unwrap_or(ANSWER_TOKENS));
        let options = CompletionOptions { max_tokens, ..CompletionOptions::default() };
        let mut words = String::new();
        let completion =
            complete(&mut self.session, &prompt, &mut self.sampler, &options, console, &mut |piece| {
                words.push_str(piece);
                sink(piece)
            })?;
        messages.push(Message::new("assistant", words));
        self.messages = messages;
        Ok(Answer { completion, dropped, has_template: true })
    }

    /// The tokens of `messages`; the oldest are dropped until they and an answer fit.
    fn fit(&self, messages: &mut Vec<Message>) -> anyhow::Result<(Vec<u32>, usize)> {
        let before = messages.len();
        loop {
            let prompt = self.render(messages)?;
            if prompt.len() <= self.room() || messages.len() == 1 {
                return Ok((prompt, before - messages.len()));
            }
            // A question goes with its answer: templates insist that they alternate.
            messages.drain(..2.min(messages.len() - 1));
        }
    }

    fn render(&self, messages: &[Message]) -> Result<Vec<u32>, Error> {
        let Some(template) = &self.model.template else { return Ok(Vec::new()) };
        let mut all: Vec<_> =
            self.system.iter().map(|words| Message::new("system", words.as_str())).collect();
        all.extend_from_slice(messages);
        Ok(self.model.prompt(&template.render(&all, true)?, Specials::Parse))
    }

    /// Without a template: the text goes on from the user's words.
    fn go_on(
        &mut self,
        text: &str,
        console: Console,
        sink: &mut dyn FnMut(&str) -> io::Result<()>,
    ) -> anyhow::Result<Answer> {
        let mut prompt = self.text.clone();
        if prompt.is_empty() {
            prompt = self.model.prompt(text, Specials::AsText);
        } else {
            prompt.extend(self.model.tokenizer.encode(format!("\n{text}"), Specials::AsText));
        }
        let dropped = prompt.len().saturating_sub(self.room());
        if dropped > 0 {
            // Half of the room at once, so that the cache is not computed anew for every turn.
            let keep = self.room() / 2;
            let from = prompt.len() - keep;
            let bos = self.model.prompt("", Specials::AsText);
            prompt = bos.into_iter().chain(prompt.drain(from..)).collect();
        }
        let max_tokens = Some(self.max_tokens.unwrap_or(PLAIN_TOKENS));
        let options = CompletionOptions { max_tokens, ..CompletionOptions::default() };
        let completion = complete(&mut self.session, &prompt, &mut self.sampler, &options, console, sink)?;
        self.text = prompt;
        self.text.extend(&completion.tokens);
        Ok(Answer { completion, dropped, has_template: false })
    }

    /// Tokens of prompt that leave room for an answer.
    fn room(&self) -> usize {
        let context = self.session.sequence().context();
        context - (context / ROOM_SHARE).min(ROOM_TOKENS)
    }
}

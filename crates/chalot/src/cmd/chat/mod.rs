//! `chalot chat`: turns with a model.
mod conversation;
mod input;

use std::io::{self, Write};

use chalot::{Stop, TemplateOrigin, TextModel};

use self::{
    conversation::Conversation,
    input::{Input, Line},
};
use super::{drafts, open, prefetched};
use crate::{
    args::Chat,
    cmd::run::figures,
    console::Console,
    settings::Settings,
    terminal_input::{clear_interrupt, interrupted},
};

const HELP: &str = "\
/help           this
/reset          forget the conversation
/system TEXT    tell the model what to be, and start anew; without TEXT: forget it
/exit           end (so does Ctrl-D)
Ctrl-C          stops an answer";

/// Talks until the user ends it.
pub fn chat(args: Chat, settings: &Settings) -> anyhow::Result<()> {
    let console = settings.console;
    let model = open::open(args.model.as_ref(), &args.holding, args.memory.kv_budget, settings)?;
    let (sampling, drawn_seed) = open::sampling(&args.sampling, &model.sampling);
    let (mut session, note) = open::session(&model, &args.memory, &args.holding, settings)?;
    drafts::drafting(&mut session, &model, &args.drafting)?;
    introduce(&open::name(args.model.as_deref()), &model, args.system.is_some(), console);

    let mut conversation = Conversation::new(&model, session, sampling, args.system.clone(), args.tokens)?;
    if let Some(note) = note {
        match conversation.resume(&note) {
            Some(0) => (),
            Some(messages) => console.note(&format!("the conversation goes on after {messages} messages")),
            None => console
                .note("the cache file was not written by a chat: its text is of use, but no conversation"),
        }
    }
    let mut input = Input::new()?;
    if let Some(seed) = drawn_seed {
        console.note(&format!("seed: {seed}"));
    }
    if input.is_interactive() {
        console.note("/help lists the commands, Ctrl-D ends the chat");
    }
    loop {
        let text = match input.next()? {
            Line::Text(text) => text,
            Line::Again => continue,
            Line::End => break,
        };
        match Command::parse(&text) {
            Some(Command::Exit) => break,
            Some(Command::Help) => console.note(HELP),
            Some(Command::Reset) => {
                conversation.reset();
                console.note("the conversation is forgotten");
            }
            Some(Command::System(words)) => {
                conversation.set_system(words);
                console.note("the conversation starts anew");
            }
            Some(Command::Unknown(name)) => console.complain(&format!("no command {name}; /help lists them")),
            None => {
                if let Err(error) = turn(&mut conversation, &text, args.stats, console) {
                    // At a prompt the user can try something else; a script cannot.
                    if !input.is_interactive() {
                        return Err(error);
                    }
                    console.complain(&format!("{error:#}"));
                }
            }
        }
    }
    open::keep(conversation.session(), &conversation.note()?, &args.memory, settings)
}

/// One question and its answer, which goes to stdout as it comes and ends with a line break.
fn turn(conversation: &mut Conversation, text: &str, stats: bool, console: Console) -> anyhow::Result<()> {
    let mut ends_line = false;
    let answer = conversation.answer(text, console, &mut |piece: &str| {
        let mut out = io::stdout().lock();
        out.write_all(piece.as_bytes())?;
        ends_line = piece.ends_with('\n');
        out.flush()
    });
    if interrupted() {
        clear_interrupt();
        console.note(" (stopped)");
    }
    let answer = answer?;
    if !ends_line {
        writeln!(io::stdout().lock())?;
    }
    if answer.dropped > 0 {
        console.note(&format!("the context is full: the oldest {} are forgotten", answer.dropped_what()));
    }
    match answer.completion.stop {
        Stop::Context => console.note("the context is full: the answer is cut off; /reset starts anew"),
        Stop::Length if answer.has_template => {
            let tokens = answer.completion.tokens.len();
            console.note(&format!("the answer is cut off after {tokens} tokens; -n N allows more"));
        }
        _ => {}
    }
    if stats {
        console.note(&(figures(&answer.completion.stats) + &prefetched::figures(conversation.model())));
        if let Some(speculation) = &answer.completion.stats.speculation {
            console.note(&drafts::figures(speculation));
        }
    }
    Ok(())
}

fn introduce(name: &str, model: &TextModel, has_system: bool, console: Console) {
    match model.template.as_ref().map(|template| template.origin()) {
        Some(TemplateOrigin::Model) => console.note(&format!("{name}, with its own chat template")),
        Some(TemplateOrigin::ChatMl) => {
            console.note(&format!("{name} has no chat template; its vocabulary knows ChatML, which is used"));
        }
        None => {
            console.note(&format!(
                "{name} has no chat template: it goes on from your words instead of answering them"
            ));
            if has_system {
                console.note("--system has no effect without a chat template");
            }
        }
    }
}

/// What a line that begins with a slash asks for.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Help,
    Reset,
    Exit,
    System(Option<String>),
    Unknown(String),
}

impl Command {
    /// `None`: not a command but something to say.
    fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        let rest = line.strip_prefix('/')?;
        let (name, words) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        // A path or a comment in code may begin with a slash; a command is one lower-case word.
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase()) {
            return None;
        }
        Some(match name {
            "help" => Self::Help,
            "reset" => Self::Reset,
            "exit" | "quit" => Self::Exit,
            "system" => Self::System(Some(words.trim()).filter(|words| !words.is_empty()).map(str::to_owned)),
            _ => Self::Unknown(format!("/{name}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        assert_eq!(Command::parse(" /exit "), Some(Command::Exit));
        assert_eq!(Command::parse("/system Be brief. "), Some(Command::System(Some("Be brief.".into()))));
        assert_eq!(Command::parse("/system"), Some(Command::System(None)));
        assert_eq!(Command::parse("/rest"), Some(Command::Unknown("/rest".into())));
        for text in ["hello", "", "/", "/usr/bin is a folder", "// a comment", "1/2"] {
            assert_eq!(Command::parse(text), None, "{text}");
        }
    }
}

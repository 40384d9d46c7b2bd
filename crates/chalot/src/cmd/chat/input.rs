//! The user's lines: edited at a terminal, or read from a pipe.
use std::{
    fs,
    io::{self, BufRead, IsTerminal, Write},
    path::PathBuf,
};

use anyhow::Context;
use rustyline::{DefaultEditor, error::ReadlineError};

/// What the user did.
pub enum Line {
    /// Said something.
    Text(String),
    /// Nothing that counts.
    Again,
    /// Left.
    End,
}

/// Where lines come from.
pub enum Input {
    Terminal { editor: Box<DefaultEditor>, history: Option<PathBuf> },
    Pipe,
}

impl Input {
    pub fn new() -> anyhow::Result<Self> {
        if !io::stdin().is_terminal() {
            return Ok(Self::Pipe);
        }
        let mut editor = Box::new(DefaultEditor::new().context("the terminal")?);
        let history = crate::cmd::doctor::cache_folder().map(|folder| folder.join("chat_history"));
        if let Some(file) = &history {
            // The first time there is none.
            let _ = editor.load_history(file);
        }
        Ok(Self::Terminal { editor, history })
    }

    pub fn is_interactive(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    pub fn next(&mut self) -> anyhow::Result<Line> {
        let line = match self {
            Self::Pipe => {
                let mut line = String::new();
                if io::stdin().lock().read_line(&mut line).context("stdin")? == 0 {
                    return Ok(Line::End);
                }
                line
            }
            Self::Terminal { editor, .. } => match editor.readline("> ") {
                Ok(line) => {
                    if !line.trim().is_empty() {
                        let _ = editor.add_history_entry(&line);
                    }
                    line
                }
                Err(ReadlineError::Interrupted) => {
                    let _ = writeln!(io::stderr(), "(/exit or Ctrl-D ends the chat)");
                    return Ok(Line::Again);
                }
                Err(ReadlineError::Eof) => return Ok(Line::End),
                Err(error) => return Err(error).context("the terminal"),
            },
        };
        let text = line.trim_end_matches(['\n', '\r']);
        Ok(if text.trim().is_empty() { Line::Again } else { Line::Text(text.to_owned()) })
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        // A history that cannot be kept is no reason to complain at the end of a conversation.
        if let Self::Terminal { editor, history: Some(file) } = self {
            if let Some(folder) = file.parent() {
                let _ = fs::create_dir_all(folder);
            }
            let _ = editor.save_history(file);
        }
    }
}

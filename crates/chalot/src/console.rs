//! stderr as its reader wants it: notes, figures and bars, or silence; colours only where they are seen.
use std::{
    cell::RefCell,
    fmt,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// What takes less than this needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// How to talk to the user.
#[derive(Clone, Copy, Debug)]
pub struct Console {
    quiet: bool,
    stderr_is_terminal: bool,
    stdout_is_terminal: bool,
    color: bool,
}

impl Console {
    /// Looks at the streams, at `NO_COLOR` (<https://no-color.org>: set and not empty) and at `TERM`.
    pub fn new(quiet: bool, no_color: bool) -> Self {
        let no_color = no_color
            || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            quiet,
            stderr_is_terminal: io::stderr().is_terminal(),
            stdout_is_terminal: io::stdout().is_terminal(),
            color: !no_color,
        }
    }

    /// A line on stderr, unless quiet.
    pub fn note(self, text: &str) {
        if self.quiet {
            return;
        }
        // A closed stderr is no reason to stop.
        let _ = match self.color && self.stderr_is_terminal {
            true => writeln!(io::stderr(), "\x1b[2m{text}\x1b[0m"),
            false => writeln!(io::stderr(), "{text}"),
        };
    }

    /// An error that the command survives.
    pub fn complain(self, text: &str) {
        let _ = writeln!(io::stderr(), "error: {text}");
    }

    /// `text` in bold, for stdout.
    pub fn bold(self, text: &str) -> String {
        if self.color && self.stdout_is_terminal { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A bar that counts to an end not yet known; it appears when the work takes longer than a second.
    pub fn bar(self, what: &'static str, unit: Unit) -> Bar {
        let wanted = self.stderr_is_terminal && !self.quiet;
        Bar {
            what,
            unit,
            color: self.color,
            started: Instant::now(),
            state: RefCell::new(State::waiting(wanted)),
        }
    }
}

/// What a bar counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Tokens,
}

/// A progress bar on stderr; gone when dropped.
pub struct Bar {
    what: &'static str,
    unit: Unit,
    color: bool,
    started: Instant,
    state: RefCell<State>,
}

enum State {
    /// Not asked for: stderr is no terminal, or quiet.
    Off,
    /// Not yet worth showing.
    Waiting,
    Shown(ProgressBar),
}

impl State {
    fn waiting(wanted: bool) -> Self {
        if wanted { Self::Waiting } else { Self::Off }
    }
}

impl Bar {
    /// `done` of `total`, with a few words behind the bar.
    pub fn set(&self, done: u64, total: u64, words: &str) {
        let mut state = self.state.borrow_mut();
        if matches!(*state, State::Waiting) && self.started.elapsed() >= PATIENCE && done < total {
            *state = State::Shown(self.show());
        }
        if let State::Shown(bar) = &*state {
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(words.to_owned());
        }
    }

    fn show(&self) -> ProgressBar {
        let counts = match self.unit {
            Unit::Bytes => "{bytes}/{total_bytes} ({bytes_per_sec})",
            Unit::Tokens => "{human_pos}/{human_len} tokens ({rate})",
        };
        let bar = if self.color { "{bar:30.cyan/dim}" } else { "{bar:30}" };
        let style = ProgressStyle::with_template(&format!("{{prefix}} {bar} {counts}, {{eta}} left {{msg}}"))
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .with_key("rate", |state: &ProgressState, out: &mut dyn fmt::Write| {
                // A bar that cannot be written is no reason to stop.
                let _ = write!(out, "{:.0} tok/s", state.per_sec());
            });
        let progress = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        // The rate and the time left count from the start, not from when the bar was first shown.
        progress.with_style(style).with_prefix(self.what).with_elapsed(self.started.elapsed())
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let State::Shown(bar) = &*self.state.borrow() {
            bar.finish_and_clear();
        }
    }
}

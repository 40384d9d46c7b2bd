//! stderr as its reader wants it: notes, figures and bars, or silence; colours only where they are seen.
use std::{
    fmt,
    io::{self, IsTerminal, Write},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// What takes less than this needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);
/// A bar's time left is counted down this often, even where nothing happens.
const TICK: Duration = Duration::from_millis(250);

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

    /// Whether stdout shows colours.
    pub fn colored(self) -> bool {
        self.color && self.stdout_is_terminal
    }

    /// Whether bars are shown.
    pub fn has_bars(self) -> bool {
        self.stderr_is_terminal && !self.quiet
    }

    /// Columns of the terminal; 80 where there is none.
    pub fn width(self) -> usize {
        terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0))
    }

    /// A bar that counts to an end not yet known; it appears when the work takes longer than a second.
    pub fn bar(self, what: &'static str, unit: Unit) -> Bar {
        Bar { shown: self.has_bars().then(|| Shown::later(style(unit, self.color), what)) }
    }
}

/// What a bar counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Merges,
    Steps,
    Tokens,
    /// Steps whose time left the caller tells.
    Training,
}

/// A progress bar on stderr; gone when dropped.
pub struct Bar {
    shown: Option<Shown>,
}

impl Bar {
    /// `done` of `total`, with a few words behind the bar.
    pub fn set(&self, done: u64, total: u64, words: &str) {
        if let Some(Shown { bar, .. }) = &self.shown {
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(words.to_owned());
        }
    }

    /// A line above the bar.
    pub fn note(&self, console: Console, text: &str) {
        match &self.shown {
            Some(Shown { bar, .. }) => bar.suspend(|| console.note(text)),
            None => console.note(text),
        }
    }
}

/// A bar and the thread that shows it when its time has come: the work may be silent for longer than that.
struct Shown {
    bar: ProgressBar,
    /// Closed when the work is done.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Shown {
    fn later(style: ProgressStyle, what: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let bar = bar.with_style(style).with_prefix(what);
        let (end, ended) = mpsc::channel();
        let later = bar.clone();
        let thread = thread::spawn(move || {
            if ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                later.set_draw_target(ProgressDrawTarget::stderr());
                later.enable_steady_tick(TICK);
            }
        });
        Self { bar, end: Some(end), thread: Some(thread) }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // It cannot panic, and if it did there would be no bar: no loss.
            let _ = thread.join();
        }
        self.bar.finish_and_clear();
    }
}

fn style(unit: Unit, color: bool) -> ProgressStyle {
    let counts = match unit {
        Unit::Bytes => "{bytes}/{total_bytes} ({bytes_per_sec})",
        Unit::Merges => "{human_pos}/{human_len} entries",
        Unit::Steps => "{human_pos}/{human_len}",
        Unit::Tokens => "{human_pos}/{human_len} tokens ({rate})",
        Unit::Training => "{human_pos}/{human_len} steps",
    };
    let left = if unit == Unit::Training { "" } else { "{left}" };
    let bar = if color { "{bar:30.cyan/dim}" } else { "{bar:30}" };
    ProgressStyle::with_template(&format!("{{prefix}} {bar} {counts}{left} {{msg}}"))
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        // A bar that cannot be written is no reason to stop.
        .with_key("rate", |state: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = write!(out, "{:.0} tok/s", state.per_sec());
        })
        .with_key("left", |state: &ProgressState, out: &mut dyn fmt::Write| {
            // Before the first step nobody knows.
            if state.pos() > 0 {
                let _ = write!(out, ", {:#} left", HumanDuration(state.eta()));
            }
        })
}

//! What is seen of a run: a bar, or where there is no terminal a line now and then.
use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use chalot::tokenizer::train::Progress as VocabularyProgress;
use chalot_train::{
    data::Progress,
    run::{Event, Observe},
};

use crate::{
    cmd::{bytes, count},
    console::{Bar, Console, Unit},
    terminal_input::interrupted,
};

/// Without a bar, a line this often.
const LINE: Duration = Duration::from_secs(60);

/// Shows a run and hears Ctrl-C.
pub struct Watcher {
    console: Console,
    /// Whether this process talks.
    shown: bool,
    bar: Option<(&'static str, Bar)>,
    begin: Option<Instant>,
    /// Tokens and seconds of steps in this process.
    tokens: f64,
    seconds: f64,
    /// Moving averages, which single steps do not shake.
    loss: f64,
    rate: f64,
    line: Instant,
    tokens_per_step: f64,
}

impl Watcher {
    /// Nothing is seen until something happens.
    pub fn new(console: Console, shown: bool) -> Watcher {
        Watcher {
            console,
            shown,
            bar: None,
            begin: None,
            tokens: 0.0,
            seconds: 0.0,
            loss: f64::NAN,
            rate: f64::NAN,
            line: Instant::now(),
            tokens_per_step: 0.0,
        }
    }

    /// Of all steps in this process.
    pub fn tokens_per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.tokens / self.seconds } else { 0.0 }
    }

    fn bar(&mut self, what: &'static str, unit: Unit, done: u64, total: u64, words: &str) {
        if !self.shown {
            return;
        }
        if self.bar.as_ref().is_none_or(|(shown, _)| *shown != what) {
            self.bar = None;
            self.bar = Some((what, self.console.bar(what, unit)));
        }
        if let Some((_, bar)) = &self.bar {
            bar.set(done, total, words);
        }
    }

    fn note(&self, text: &str) {
        match &self.bar {
            _ if !self.shown => {}
            Some((_, bar)) => bar.note(self.console, text),
            None => self.console.note(text),
        }
    }
}

impl Observe for Watcher {
    fn preparing(&mut self, progress: Progress) -> ControlFlow<()> {
        match progress {
            Progress::Reading => {}
            Progress::Vocabulary(VocabularyProgress::Counting { bytes, .. }) => {
                self.bar("counting", Unit::Bytes, bytes, bytes, "");
            }
            Progress::Vocabulary(VocabularyProgress::Merging { done, total }) => {
                self.bar("merging", Unit::Merges, done, total, "");
            }
            Progress::Encoding { bytes, total } => self.bar("encoding", Unit::Bytes, bytes, total, ""),
        }
        stop_or_go()
    }

    fn hear(&mut self, event: Event) -> ControlFlow<()> {
        match event {
            Event::Prepared(summary) => {
                self.bar = None;
                self.note(&format!(
                    "texts: {} documents, {}, {} tokens; held out: {} documents, {}",
                    summary.documents,
                    bytes(summary.bytes),
                    count(summary.tokens),
                    summary.held_out_documents,
                    bytes(summary.held_out_bytes)
                ));
            }
            Event::Begin(start) => {
                self.begin = Some(Instant::now());
                self.tokens_per_step = start.tokens_per_step as f64;
                let active = match start.active_parameters == start.parameters {
                    true => String::new(),
                    false => format!(", {} of them for a token", count(start.active_parameters)),
                };
                self.note(&format!(
                    "{}: {} parameters{active}; {} steps of {} tokens{}",
                    start.name,
                    count(start.parameters),
                    start.steps,
                    start.tokens_per_step,
                    if start.step > 0 {
                        format!("; going on after step {}", start.step)
                    } else {
                        String::new()
                    }
                ));
            }
            Event::Step { step, steps, epochs } => {
                let seconds = self.tokens_per_step / step.tokens_per_second.max(1e-9);
                self.tokens += self.tokens_per_step;
                self.seconds += seconds;
                let mean = |old: f64, new: f64, share: f64| {
                    if old.is_nan() { new } else { old + share * (new - old) }
                };
                self.loss = mean(self.loss, step.loss, 0.05);
                self.rate = mean(self.rate, step.tokens_per_second, 0.1);
                let left =
                    Duration::from_secs_f64((steps - step.step) as f64 * self.tokens_per_step / self.rate);
                let words = format!(
                    "loss {:.3}, {:.3} bits/byte, {:.0} tok/s, {epochs:.2} epochs, {} left",
                    self.loss,
                    step.bits_per_byte,
                    self.rate,
                    duration(left)
                );
                self.bar("training", Unit::Training, step.step, steps, &words);
                if !self.console.has_bars() && self.line.elapsed() > LINE {
                    self.line = Instant::now();
                    self.note(&format!("step {} of {steps}: {words}", step.step));
                }
            }
            Event::HeldOut(held_out) => {
                let exit = held_out
                    .exit_bits_per_byte
                    .map_or(String::new(), |bits| format!(", early exit {bits:.4}"));
                self.note(&format!(
                    "step {}: {:.4} bits a byte of held-out text{exit}",
                    held_out.step, held_out.bits_per_byte
                ));
                if let Some(sample) = &held_out.sample {
                    self.note(&format!("  | {}", sample.trim_end().replace('\n', "\n  | ")));
                }
            }
            Event::Checkpoint(_) => {}
            Event::Note(text) => self.note(&text),
        }
        stop_or_go()
    }
}

fn stop_or_go() -> ControlFlow<()> {
    if interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// 3 h 05 min, 12 min, 40 s.
fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_for_people() {
        let text = |seconds| duration(Duration::from_secs(seconds));
        assert_eq!([text(40), text(750), text(11_100)], ["40 s", "12 min", "3 h 05 min"]);
    }
}

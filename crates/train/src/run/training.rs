//! The loop: steps, measurements, checkpoints.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::learner::{Learner, Measured, Part};
use super::watch::LossWatch;
use super::{RunError, sum_of_parts};
use crate::checkpoint::{Checkpoint, CheckpointError, Checkpoints, write_tensors};
use crate::data::{Prepared, Progress, Rows, Summary, Windows, held_out};
use crate::log::{ExpertLoad, HeldOut, Log, Record, Start, Step};
use crate::processes::{Processes, add_all, decide};
use crate::recipe::Recipe;

/// The name of the state in a checkpoint.
const STATE: &str = "state.json";

/// What a checkpoint knows beside the tensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct State {
    /// Steps done; with the seed it decides which rows and random numbers come next.
    step: u64,
    /// Tokens predicted.
    tokens: u64,
    /// Of the vocabulary of the shards.
    vocabulary: String,
    /// What they were made of.
    contents: String,
    recipe: serde_json::Value,
    watch: LossWatch,
}

/// What a run tells.
#[derive(Debug)]
pub enum Event<'a> {
    /// The texts are ready.
    Prepared(&'a Summary),
    /// It begins or goes on.
    Begin(&'a Start),
    /// A step was done.
    Step {
        /// Its figures.
        step: &'a Step,
        /// Steps in all.
        steps: u64,
        /// How often the texts have been read.
        epochs: f64,
    },
    /// Held-out text was measured.
    HeldOut(&'a HeldOut),
    /// A checkpoint was written.
    Checkpoint(&'a Path),
    /// Something that is worth a line.
    Note(String),
}

/// Hears what happens and says whether the run goes on.
pub trait Observe: Send {
    /// The texts are prepared.
    fn preparing(&mut self, progress: Progress) -> ControlFlow<()>;

    /// Something happened. A run that does not go on ends with a checkpoint.
    fn hear(&mut self, event: Event) -> ControlFlow<()>;
}

/// Makes a sample text with the model in a file.
pub type Sampler<'a> = dyn Fn(&Path) -> Result<String, RunError> + 'a;

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All steps were done.
    Finished {
        /// The last measurement.
        held_out: HeldOut,
    },
    /// The observer broke off.
    Stopped {
        /// Steps done.
        step: u64,
        /// What to go on from.
        checkpoint: PathBuf,
    },
}

/// A run.
pub struct Training<'a, L: Learner> {
    /// What decides everything.
    pub recipe: &'a Recipe,
    /// Where it writes.
    pub folder: &'a Path,
    /// The texts.
    pub prepared: &'a Prepared,
    /// The model.
    pub learner: &'a mut L,
    /// The processes that share the work.
    pub processes: &'a dyn Processes,
    /// Makes the samples.
    pub sampler: &'a Sampler<'a>,
}

/// The checkpoints of a run in `folder`.
pub fn checkpoints(folder: &Path, recipe: &Recipe) -> Checkpoints {
    Checkpoints::new(&folder.join("checkpoints"), recipe.checkpoint.keep)
}

/// The model file of a run in `folder`.
pub fn model_file(folder: &Path) -> PathBuf {
    folder.join("model.gguf")
}

impl<L: Learner> Training<'_, L> {
    /// Trains from the beginning, or from a checkpoint.
    ///
    /// # Errors
    /// [`RunError`]; what was done until the last checkpoint is not lost.
    pub fn run(mut self, from: Option<&Checkpoint>, observer: &mut dyn Observe) -> Result<Outcome, RunError> {
        let train = &self.recipe.train;
        let mut state = self.begin(from)?;
        let mut windows = Windows::new(self.prepared, train.context, train.cut, self.recipe.seed)?;
        let rows = held_out(self.prepared, train.context, self.recipe.evaluate.tokens)?;
        let first = self.processes.rank() == 0;
        let mut log = match first {
            true => Some(Log::open(self.folder, state.step)?),
            false => None,
        };
        let (parameters, active_parameters) = self.learner.parameters();
        let start = Start {
            name: self.recipe.name.clone(),
            step: state.step,
            steps: train.steps,
            parameters,
            active_parameters,
            tokens_per_step: train.tokens(),
        };
        let mut go_on = observer.hear(Event::Begin(&start));
        write(&mut log, Record::Start(start))?;
        let checkpoints = checkpoints(self.folder, self.recipe);
        let mut gradients = Some(self.learner.gradients());
        let mut measured_last = None;
        while state.step < train.steps {
            if decide(self.processes, go_on.is_break())? {
                let checkpoint = match first {
                    true => self.checkpoint(&checkpoints, &state)?,
                    false => self.folder.into(),
                };
                return Ok(Outcome::Stopped { step: state.step, checkpoint });
            }
            let step = self.step(&mut state, &mut windows, &mut gradients).map_err(|error| match error {
                RunError::Diverged { step, what, mend, .. } => {
                    let last = checkpoints.list().unwrap_or_default().into_iter().next();
                    let checkpoint = last.map(|(_, path)| path.display().to_string());
                    RunError::Diverged { step, what, mend, checkpoint }
                }
                error => error,
            })?;
            let epochs = windows.epochs(state.step * train.rows as u64);
            go_on = observer.hear(Event::Step { step: &step, steps: train.steps, epochs });
            write(&mut log, Record::Step(step))?;
            let end = state.step == train.steps;
            if first && (end || state.step.is_multiple_of(self.recipe.evaluate.every)) {
                let held_out = self.evaluate(state.step, &rows)?;
                go_on = merge(go_on, observer.hear(Event::HeldOut(&held_out)));
                write(&mut log, Record::HeldOut(held_out.clone()))?;
                measured_last = Some(held_out);
            }
            if first && (end || state.step.is_multiple_of(self.recipe.checkpoint.every)) {
                let path = self.checkpoint(&checkpoints, &state)?;
                go_on = merge(go_on, observer.hear(Event::Checkpoint(&path)));
            }
        }
        let held_out = match measured_last {
            Some(held_out) => held_out,
            // All steps were done before.
            None if first => self.evaluate(state.step, &rows)?,
            None => HeldOut::default(),
        };
        if first {
            self.learner.export(&model_file(self.folder))?;
        }
        Ok(Outcome::Finished { held_out })
    }

    fn begin(&mut self, from: Option<&Checkpoint>) -> Result<State, RunError> {
        let processes = self.processes.size();
        if !processes.is_power_of_two() || processes > self.recipe.train.parts() {
            return Err(RunError::model(
                format!("train.micro_rows: a step has {} parts", self.recipe.train.parts()),
                format!(
                    "{processes} processes cannot share them; start 1, 2, 4, ... or lower train.micro_rows"
                ),
            ));
        }
        let recipe =
            serde_json::to_value(self.recipe).map_err(|error| RunError::model("the recipe", error))?;
        let vocabulary = self.prepared.tokenizer.fingerprint();
        let contents = self.prepared.summary.contents.clone();
        let Some(checkpoint) = from else {
            return Ok(State { vocabulary, contents, recipe, ..State::default() });
        };
        let bytes = checkpoint.file(STATE)?;
        let state: State = serde_json::from_slice(bytes).map_err(|error| {
            CheckpointError::damaged(&checkpoint.path(STATE), error.to_string(), "the state of a run")
        })?;
        let file = checkpoint.path(STATE).display().to_string();
        let other =
            |found: String, expected: String| CheckpointError::Other { file: file.clone(), found, expected };
        for table in ["model", "seed"] {
            if state.recipe[table] != recipe[table] {
                let (found, expected) =
                    (format!("{table} = {}", state.recipe[table]), recipe[table].to_string());
                return Err(other(found, expected).into());
            }
        }
        if state.vocabulary != vocabulary || state.contents != contents {
            return Err(
                other("other texts or another vocabulary".into(), "those in its folder data".into()).into()
            );
        }
        self.learner.restore(checkpoint)?;
        Ok(State { recipe, ..state })
    }

    /// One step of the optimizer.
    fn step(
        &mut self,
        state: &mut State,
        windows: &mut Windows,
        gradients: &mut Option<L::Gradients>,
    ) -> Result<Step, RunError> {
        let begin = Instant::now();
        let train = &self.recipe.train;
        let parts = train.parts();
        let own = parts / self.processes.size();
        let first_part = own * self.processes.rank();
        let first_row = state.step * train.rows as u64 + (first_part * train.micro_rows()) as u64;
        let rows = windows.rows(first_row, own * train.micro_rows());
        let experts = self.learner.experts();
        let mut compute = |part: usize, (gradients, measured): &mut (L::Gradients, Measured)| {
            let from = part * train.micro_rows();
            let ids = rows.range(from..from + train.micro_rows());
            let number = first_part + part;
            let part = Part { ids, width: rows.width, step: state.step, number, parts };
            *measured = self.learner.compute(&part, gradients)?;
            Ok::<_, RunError>(())
        };
        let memory = match gradients.take() {
            Some(gradients) => gradients,
            None => return Err(RunError::model("the gradients", "they are in use")),
        };
        let memory = (memory, Measured::default());
        let (mut sum, mut measured) = sum_of_parts(own, memory, &mut compute, &|sum, part| {
            L::add(&mut sum.0, &part.0);
            sum.1.add(&part.1);
        })?;
        let bytes = bytes_of(&rows, self.prepared);
        let mut counts =
            vec![measured.loss, measured.exit_loss, measured.exit_tokens, measured.tokens, bytes];
        counts.append(&mut measured.expert_tokens);
        add_all(self.processes, &mut L::slices(&mut sum), &mut counts)?;
        let bytes = counts[4];
        measured = Measured {
            loss: counts[0],
            exit_loss: counts[1],
            exit_tokens: counts[2],
            tokens: counts[3],
            expert_tokens: counts.split_off(5),
        };
        let loss = measured.loss / measured.tokens;
        let updated = match loss.is_finite() {
            true => self.learner.update(state.step, &mut sum, &measured)?,
            false => super::Updated::default(),
        };
        *gradients = Some(sum);
        state.step += 1;
        state.tokens += measured.tokens as u64;
        if let Some(what) = state.watch.take(loss, updated.gradient_norm, train.spike) {
            return Err(RunError::Diverged {
                step: state.step,
                what,
                mend: format!(
                    "lower the learning rates in [optimizer] (here {:.2e}) or raise its warm-up",
                    updated.learning_rate
                ),
                checkpoint: None,
            });
        }
        Ok(Step {
            step: state.step,
            tokens: state.tokens,
            loss,
            bits_per_byte: measured.loss / std::f64::consts::LN_2 / bytes,
            exit_loss: (measured.exit_tokens > 0.0).then_some(measured.exit_loss / measured.exit_tokens),
            experts: load(&measured.expert_tokens, experts),
            learning_rate: updated.learning_rate,
            gradient_norm: updated.gradient_norm,
            tokens_per_second: measured.tokens / begin.elapsed().as_secs_f64().max(1e-9),
        })
    }

    fn evaluate(&mut self, step: u64, rows: &Rows) -> Result<HeldOut, RunError> {
        let together = self.recipe.train.micro_rows();
        let mut sum = Measured::default();
        for from in (0..rows.len()).step_by(together) {
            let to = (from + together).min(rows.len());
            sum.add(&self.learner.measure(rows.range(from..to), rows.width)?);
        }
        let bytes = bytes_of(rows, self.prepared);
        let bits = |loss: f64| loss / std::f64::consts::LN_2 / bytes;
        let sample = match self.recipe.evaluate.sample {
            0 => None,
            _ => {
                let file = model_file(self.folder);
                self.learner.export(&file)?;
                Some((self.sampler)(&file)?)
            }
        };
        Ok(HeldOut {
            step,
            loss: sum.loss / sum.tokens,
            bits_per_byte: bits(sum.loss),
            exit_bits_per_byte: (sum.exit_tokens > 0.0).then(|| bits(sum.exit_loss)),
            sample,
        })
    }

    fn checkpoint(&self, checkpoints: &Checkpoints, state: &State) -> Result<PathBuf, RunError> {
        let tensors = self.learner.state();
        let write_state = |out: &mut dyn Write| Ok(serde_json::to_writer_pretty(out, state)?);
        let fills: Vec<_> = tensors
            .iter()
            .map(|(name, tensors)| (*name, move |out: &mut dyn Write| write_tensors(out, tensors)))
            .collect();
        let mut files: Vec<(&str, &crate::checkpoint::Fill)> =
            fills.iter().map(|(name, fill)| (*name, fill as &crate::checkpoint::Fill)).collect();
        files.push((STATE, &write_state));
        Ok(checkpoints.write(state.step, &files)?)
    }
}

fn write(log: &mut Option<Log>, record: Record) -> Result<(), RunError> {
    match log {
        Some(log) => Ok(log.write(&record)?),
        None => Ok(()),
    }
}

fn merge(a: ControlFlow<()>, b: ControlFlow<()>) -> ControlFlow<()> {
    if a.is_break() { a } else { b }
}

/// Bytes of text that the targets of some rows stand for; an end-of-text id is none.
fn bytes_of(rows: &Rows, prepared: &Prepared) -> f64 {
    let targets = rows.ids.chunks_exact(rows.width).flat_map(|row| &row[1..]);
    let bytes = targets
        .filter(|id| !prepared.tokenizer.is_special(**id))
        .map(|&id| prepared.tokenizer.token_bytes(id).map_or(0, <[u8]>::len));
    bytes.sum::<usize>() as f64
}

/// The busiest and the idlest expert, relative to the mean.
fn load(tokens: &[f64], experts: usize) -> Option<ExpertLoad> {
    let layers = tokens.chunks_exact(experts.max(1)).filter(|_| experts > 0);
    let relative = layers.flat_map(|layer| {
        let mean = layer.iter().sum::<f64>() / experts as f64;
        layer.iter().map(move |tokens| tokens / mean.max(1e-9))
    });
    relative.fold(None, |load: Option<ExpertLoad>, value| {
        let load = load.unwrap_or(ExpertLoad { most: value, least: value });
        Some(ExpertLoad { most: load.most.max(value), least: load.least.min(value) })
    })
}

//! From a recipe to a run: its folder, its texts, the checkpoint it goes on from.

use std::fs;
use std::path::Path;

use chalot_formats::gguf::Value;
use chalot_tensor::exec::Exec;
use chalot_tokenizer::GgufVocab;

use super::training::{Event, Observe, Outcome, Sampler, Training, checkpoints};
use super::{Learner, RunError, card};
use crate::checkpoint::Checkpoint;
use crate::data::{DataError, Prepared, ReadVocabulary};
use crate::processes::{Processes, decide};
use crate::recipe::Recipe;

/// What is run, and how.
pub struct Options<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// Its file: paths in it are relative to its folder.
    pub recipe_file: &'a Path,
    /// The folder to write into.
    pub folder: &'a Path,
    /// What the paths of texts are relative to instead.
    pub texts: Option<&'a Path>,
    /// Go on from the newest checkpoint, if there is one.
    pub resume: bool,
    /// Go on from this one.
    pub checkpoint: Option<&'a Path>,
    /// Delete the checkpoints of an earlier run.
    pub force: bool,
    /// Where to compute.
    pub exec: &'a Exec,
    /// Who computes.
    pub processes: &'a dyn Processes,
    /// How a vocabulary is written into a GGUF file.
    pub metadata: &'a dyn Fn(GgufVocab) -> Vec<(String, Value)>,
    /// How the file of `tokenizer.file` is read.
    pub read_vocabulary: &'a ReadVocabulary<'a>,
}

/// Makes what is trained.
pub type Make<'a, L> = dyn Fn(&Options, &Prepared) -> Result<L, RunError> + 'a;

/// Does everything that a recipe says: prepares the texts, trains, measures, exports.
///
/// # Errors
/// [`RunError`]; what was done until the last checkpoint is not lost.
pub fn start_with<L: Learner>(
    options: &Options,
    make: &Make<L>,
    observer: &mut dyn Observe,
    sampler: &Sampler,
) -> Result<Outcome, RunError> {
    let first = options.processes.rank() == 0;
    let from = begin(options, first, observer)?;
    let data = options.folder.join("data");
    let prepared = match first {
        true => prepare(options, from.is_some(), &data, observer).and_then(|prepared| {
            settle(options)?;
            Ok(prepared)
        }),
        false => Ok(None),
    };
    // The others wait for it, also to hear that it failed.
    let ready = decide(options.processes, prepared.is_ok())?;
    let prepared = match prepared? {
        Some(prepared) => prepared,
        None if ready => Prepared::open(options.recipe, &data)?,
        None => return Err(RunError::model("the texts", "process 0 could not prepare them")),
    };
    let _ = observer.hear(Event::Prepared(&prepared.summary));
    let mut learner = make(options, &prepared)?;
    let training = Training {
        recipe: options.recipe,
        folder: options.folder,
        prepared: &prepared,
        learner: &mut learner,
        processes: options.processes,
        sampler,
    };
    let outcome = training.run(from.as_ref(), observer)?;
    if let (Outcome::Finished { held_out }, true) = (&outcome, first) {
        let folder = options.folder.join("hf");
        let card = card::card(options.recipe, &prepared.summary, learner.parameters(), held_out);
        learner.publish(&folder, &prepared.tokenizer.to_json(), &card)?;
        let path = folder.join("tokenizer_config.json");
        fs::write(&path, &prepared.tokenizer_config).map_err(|error| DataError::io(&path, error))?;
        let path = folder.join("generation_config.json");
        let sampling = serde_json::to_string_pretty(&options.recipe.sampling).unwrap_or_default();
        fs::write(&path, sampling).map_err(|error| DataError::io(&path, error))?;
    }
    Ok(outcome)
}

/// Finds the checkpoint to go on from, and refuses to begin anew where others are.
fn begin(options: &Options, first: bool, observer: &mut dyn Observe) -> Result<Option<Checkpoint>, RunError> {
    let checkpoints = checkpoints(options.folder, options.recipe);
    let from = match (options.resume, options.checkpoint) {
        (_, Some(checkpoint)) => Some(Checkpoint::open(checkpoint)?),
        (true, None) => checkpoints.newest()?,
        (false, None) => None,
    };
    if !first {
        return Ok(from);
    }
    if options.resume && from.is_none() {
        let _ = observer.hear(Event::Note("no checkpoint to go on from: the run begins anew".into()));
    }
    if !options.resume
        && !options.force
        && let Some((step, _)) = checkpoints.list()?.first()
    {
        return Err(RunError::Exists { folder: options.folder.display().to_string(), step: *step });
    }
    Ok(from)
}

/// Makes the folder ready. The texts are there by now: where they are not, nothing is made and no earlier run is removed.
fn settle(options: &Options) -> Result<(), RunError> {
    let folder = options.folder;
    if !options.resume {
        checkpoints(folder, options.recipe).remove()?;
    }
    fs::create_dir_all(folder).map_err(|error| DataError::io(folder, error))?;
    let copy = folder.join("recipe.toml");
    if options.recipe_file.is_file() && options.recipe_file.canonicalize().ok() != copy.canonicalize().ok() {
        fs::copy(options.recipe_file, &copy).map_err(|error| DataError::io(&copy, error))?;
    }
    Ok(())
}

fn prepare(
    options: &Options,
    going_on: bool,
    data: &Path,
    observer: &mut dyn Observe,
) -> Result<Option<Prepared>, RunError> {
    if going_on && data.exists() {
        return Ok(Some(Prepared::open(options.recipe, data)?));
    }
    let base = options.recipe_file.parent().unwrap_or(Path::new(""));
    let texts = options.texts.unwrap_or(base);
    let mut watch = |progress| observer.preparing(progress);
    let threads = options.exec.pool.threads();
    Ok(Some(Prepared::prepare(
        options.recipe,
        base,
        texts,
        data,
        threads,
        options.read_vocabulary,
        &mut watch,
    )?))
}

//! `chalot train`: a model from texts.
mod plot;
mod watcher;

use std::{fs, ops::ControlFlow, path::Path};

use chalot::{
    CompletionOptions, OpenOptions, Step, TextModel,
    model::{Sampler, SamplingParams, SequenceOptions},
    read_tokenizer,
    tensor::Exec,
    tokenizer::Specials,
    vocab_to_metadata,
};
use chalot_train::{
    log,
    plot::{Run, svg, terminal},
    processes::{Alone, Processes},
    recipe::{Evaluation, Recipe},
    run::{Options, Outcome, RunError, model_file, start},
};
use serde::Serialize;

use crate::{
    args::{self, TrainAction},
    cmd::print_json,
    settings::Settings,
    terminal_input::catch_interrupts,
};
use watcher::Watcher;

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    model: String,
    steps: u64,
    finished: bool,
    loss: Option<f64>,
    bits_per_byte: Option<f64>,
    exit_bits_per_byte: Option<f64>,
    tokens_per_second: f64,
}

/// Trains, or plots.
pub fn train(args: &args::TrainModel, settings: &Settings) -> anyhow::Result<()> {
    let path = match (&args.action, &args.recipe) {
        (Some(TrainAction::Plot(args)), _) => return plot::plot(args, settings),
        // clap demands a recipe where there is no action.
        (None, None) => return Ok(()),
        (None, Some(path)) => path,
    };
    let recipe = Recipe::read(path)?;
    let folder = args.out.clone().unwrap_or_else(|| Recipe::default_folder(path));
    let exec = settings.exec();
    let processes = processes(args)?;
    let options = Options {
        recipe: &recipe,
        recipe_file: path,
        folder: &folder,
        texts: args.texts.as_deref(),
        resume: args.resume,
        checkpoint: args.checkpoint.as_deref(),
        force: args.force,
        exec: &exec,
        processes: &*processes,
        metadata: &|vocab| vocab_to_metadata(vocab),
        read_vocabulary: &|path| Ok(read_tokenizer(path, None)?),
    };
    catch_interrupts();
    let mut watcher = Watcher::new(settings.console, processes.rank() == 0);
    let sampler = |file: &Path| sample(file, &exec, &recipe.evaluate, recipe.seed);
    let outcome = start(&options, &mut watcher, &sampler)?;
    let tokens_per_second = watcher.tokens_per_second();
    drop(watcher);
    if processes.rank() > 0 {
        return Ok(());
    }
    let steps = recipe.train.steps;
    let mut report = Report {
        model: model_file(&folder).display().to_string(),
        steps,
        finished: true,
        loss: None,
        bits_per_byte: None,
        exit_bits_per_byte: None,
        tokens_per_second,
    };
    match outcome {
        Outcome::Finished { held_out } => {
            curves(&folder, &recipe.name, settings)?;
            settings.console.note(&format!(
                "{}: {:.4} bits a byte of held-out text; try it: chalot run {0}",
                report.model, held_out.bits_per_byte
            ));
            report.loss = Some(held_out.loss);
            report.bits_per_byte = Some(held_out.bits_per_byte);
            report.exit_bits_per_byte = held_out.exit_bits_per_byte;
        }
        Outcome::Stopped { step, checkpoint } => {
            settings.console.note(&format!(
                "stopped after step {step} of {steps}, checkpoint in {}; add --resume to the same command to go on",
                checkpoint.display()
            ));
            (report.steps, report.finished) = (step, false);
        }
    }
    if args.json { print_json(&report) } else { Ok(()) }
}

#[cfg(feature = "mpi")]
fn processes(args: &args::TrainModel) -> anyhow::Result<Box<dyn Processes>> {
    match args.mpi {
        true => Ok(Box::new(chalot_train::processes::Mpi::join()?)),
        false => Ok(Box::new(Alone)),
    }
}

#[cfg(not(feature = "mpi"))]
fn processes(_: &args::TrainModel) -> anyhow::Result<Box<dyn Processes>> {
    Ok(Box::new(Alone))
}

/// Draws the curves of a finished run, on stderr and beside the model.
fn curves(folder: &Path, name: &str, settings: &Settings) -> anyhow::Result<()> {
    let runs = [Run { label: name.into(), records: log::read(folder)? }];
    let picture = folder.join(plot::FILE);
    fs::write(&picture, svg(&runs, name))
        .map_err(|error| anyhow::anyhow!("{}: {error}", picture.display()))?;
    if settings.console.has_bars() {
        settings.console.note(terminal(&runs, settings.console.width(), false).trim_end());
    }
    Ok(())
}

/// What the model in a file says, computed as everyone will compute it.
fn sample(file: &Path, exec: &Exec, evaluation: &Evaluation, seed: u64) -> Result<String, RunError> {
    let say = || -> Result<String, chalot::Error> {
        let model = TextModel::open(file, exec, &OpenOptions::default())?;
        let mut session = model.session(SequenceOptions::default())?;
        let params =
            SamplingParams { temperature: evaluation.temperature.value(), seed, ..SamplingParams::default() };
        let mut sampler = Sampler::new(params)?;
        let prompt = model.prompt(&evaluation.prompt, Specials::AsText);
        let options =
            CompletionOptions { max_tokens: Some(evaluation.sample), ..CompletionOptions::default() };
        let mut text = evaluation.prompt.clone();
        session.complete(&prompt, &mut sampler, &options, &mut |step| {
            if let Step::Text(more) = step {
                text.push_str(more);
            }
            ControlFlow::Continue(())
        })?;
        Ok(text)
    };
    say().map_err(|error| RunError::model("the sample", error))
}

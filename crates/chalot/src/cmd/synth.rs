//! `chalot synth`: a model of random weights in a file.
use std::path::Path;

use chalot::{
    BUILTIN_NAME, builtin,
    formats::gguf::Value,
    model::{
        ModelConfig, Source,
        synthetic::{SHAPES, shape, write_synthetic},
    },
};

use crate::{
    args::{Synth, bench::Weights},
    cmd::bytes,
    console::Unit,
    failure::Usage,
    settings::Settings,
};

/// Writes the file.
pub fn synth(args: &Synth, settings: &Settings) -> anyhow::Result<()> {
    if args.output.exists() && !args.force {
        return Err(
            Usage(format!("{}: is there already; --force overwrites it", args.output.display())).into()
        );
    }
    let config = shape(&args.shape)
        .ok_or_else(|| Usage(format!("--shape {}: known are {}", args.shape, SHAPES.join(", "))))?;
    let mut packing = args.packing.clone();
    packing.resolve(settings.tuning.values.packing);
    write(&config, (&packing, &args.head), args.seed, &args.output, settings)?;
    let size = std::fs::metadata(&args.output).map_or(0, |file| file.len());
    settings.console.note(&format!("{}: {}", args.output.display(), bytes(size)));
    Ok(())
}

/// Writes a model of random weights, with a bar; the built-in tokenizer is put inside where the vocabulary is large enough.
pub fn write(
    config: &ModelConfig,
    (packing, head): (&Weights, &Weights),
    seed: u64,
    path: &Path,
    settings: &Settings,
) -> anyhow::Result<()> {
    let bar = settings.console.bar("random weights", Unit::Steps);
    let progress = |done: usize, total: usize| bar.set(done as u64, total as u64, "");
    let mut metadata = tokenizer(config)?;
    metadata.push(("general.random_weights".into(), Value::Bool(true)));
    write_synthetic(config, (packing.format, head.format), seed, &metadata, path, &progress)?;
    Ok(())
}

/// The built-in tokenizer's keys, if the model has as many tokens.
fn tokenizer(config: &ModelConfig) -> anyhow::Result<Vec<(String, Value)>> {
    let source = Source::from_static(builtin(), BUILTIN_NAME)?;
    let fits = source.config()?.vocab_size <= config.vocab_size;
    let pairs = source.gguf().into_iter().flat_map(|gguf| gguf.metadata.iter());
    let pairs = pairs.filter(|(key, _)| fits && key.starts_with("tokenizer."));
    Ok(pairs.map(|(key, value)| (key.to_owned(), value.clone())).collect())
}

//! `chalot convert`: any supported model to a native file, its tokenizer and chat template inside.
use std::{fs, path::Path};

use anyhow::{Context, bail};
use chalot::{
    Error,
    formats::gguf::Value,
    model::{ConvertOptions, ConvertTo, Source, SourceKind, convert as convert_model},
    read_tokenizer, sampling_of, template_source, tokenizer_of, vocab_to_metadata,
};

use super::{bytes, count};
use crate::{
    args::{Convert, Target},
    console::{Console, Unit},
    settings::Settings,
};

/// Converts.
pub fn convert(args: Convert, settings: &Settings) -> anyhow::Result<()> {
    let console = settings.console;
    check_output(&args)?;
    let source = Source::open(&args.input)?;
    let metadata = metadata(&source, &args, console)?;

    let options = ConvertOptions {
        to: args.to.map_or(ConvertTo::Keep, |target| match target {
            Target::Trit2 => ConvertTo::Trit2,
            Target::Trit5 => ConvertTo::Trit5,
            Target::Int8 => ConvertTo::Int8,
            Target::Int4 => ConvertTo::Int4,
        }),
        // A native file keeps its own; another program's takes the one that is fastest here.
        packing: Some(settings.tuning.values.packing).filter(|_| source.kind() != SourceKind::Native),
        name: args.name.as_deref(),
        progress: None,
    };
    let bar = console.bar("converting", Unit::Bytes);
    let progress = |done, total| bar.set(done, total, "");
    convert_model(
        &source,
        &settings.exec(),
        &ConvertOptions { progress: Some(&progress), ..options },
        &metadata,
        &args.output,
    )?;
    drop(bar);

    console.note(&format!("{}: {}", args.input.display(), size(&source)));
    console.note(&format!("{}: {}", args.output.display(), size(&Source::open(&args.output)?)));
    Ok(())
}

/// What can be refused before anything is read.
fn check_output(args: &Convert) -> anyhow::Result<()> {
    let out = args.output.display();
    match fs::metadata(&args.output) {
        Ok(metadata) if metadata.is_dir() => bail!("{out}: is a folder; name the file to write"),
        Ok(_) if !args.force => {
            bail!("{out}: exists already; name another file, or overwrite it with --force")
        }
        _ => {}
    }
    let folder =
        args.output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        bail!("{out}: there is no folder {}; make it first", folder.display());
    }
    Ok(())
}

/// What goes into the file beside the model: who made it, tokenizer, chat template.
fn metadata(source: &Source, args: &Convert, console: Console) -> anyhow::Result<Vec<(String, Value)>> {
    let mut pairs: Vec<(String, Value)> = Vec::new();
    if let Some(gguf) = source.gguf() {
        let kept = |key: &str| match key {
            // These describe the weights of the old file; the writer sets its own.
            "general.architecture" | "general.alignment" | "general.name" => false,
            "general.file_type" | "general.quantization_version" => false,
            _ => key.starts_with("general."),
        };
        pairs.extend(
            gguf.metadata.iter().filter(|(key, _)| kept(key)).map(|(key, value)| (key.into(), value.clone())),
        );
    }
    match (&args.tokenizer, source.gguf()) {
        // A GGUF file's own keys pass through as they are.
        (None, Some(gguf)) => {
            let keys = gguf.metadata.iter().filter(|(key, _)| key.starts_with("tokenizer."));
            pairs.extend(keys.map(|(key, value)| (key.into(), value.clone())));
            return Ok(pairs);
        }
        (Some(file), _) => {
            let vocab_size = source.config()?.vocab_size;
            pairs.extend(vocab_to_metadata(read_tokenizer(file, Some(vocab_size))?.to_gguf()));
        }
        (None, None) => match tokenizer_of(source) {
            Ok(tokenizer) => pairs.extend(vocab_to_metadata(tokenizer.to_gguf())),
            // Weights alone are still worth converting; to run them, --tokenizer will be needed each time.
            Err(error @ Error::NoTokenizer { .. }) => {
                console.note(&format!("note: {error}; the new file has none"))
            }
            Err(error) => return Err(error).context("the tokenizer"),
        },
    }
    if source.gguf().is_none() {
        pairs.extend(sampling_of(source)?.to_gguf());
    }
    if let Some(template) = template_source(source)? {
        pairs.push(("tokenizer.chat_template".into(), Value::from(template)));
    }
    Ok(pairs)
}

/// `97.9 MiB, 134.5 M weights of 5.83 bits`.
fn size(source: &Source) -> String {
    let description = source.describe();
    let weights = description.parameters.max(1);
    let bits = description.bytes as f64 * 8.0 / weights as f64;
    format!("{}, {} weights of {bits:.2} bits", bytes(description.bytes), count(description.parameters))
}

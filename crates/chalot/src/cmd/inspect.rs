//! `chalot inspect`: what is in a model file.
use std::{
    fmt::Display,
    io::{self, BufWriter, Write},
};

use chalot::{
    BUILTIN_NAME, builtin,
    model::{BrainMap, ModelConfig, Source, load::Description},
    template_source,
    tokenizer::Tokenizer,
    tokenizer_of,
};
use serde::Serialize;

use super::{bytes, count, print_json};
use crate::{args::Inspect, console::Console, settings::Settings};

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    description: Description,
    bits_per_weight: Option<f64>,
    /// Weights by the form they are stored in, the most frequent first.
    forms: Vec<Form>,
    tokenizer: Option<TokenizerFacts>,
    /// Why there is none.
    tokenizer_problem: Option<String>,
    chat_template: Option<String>,
}

#[derive(Serialize)]
struct Form {
    form: String,
    tensors: usize,
    weights: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct TokenizerFacts {
    tokens: usize,
    bos: Option<Token>,
    eos: Option<Token>,
    /// Tokens after which generation ends.
    ends: Vec<Token>,
    add_bos: bool,
}

#[derive(Serialize)]
struct Token {
    id: u32,
    text: String,
}

/// Prints what is there.
pub fn inspect(args: Inspect, settings: &Settings) -> anyhow::Result<()> {
    let source = match &args.model {
        Some(path) => Source::open(path)?,
        None => Source::from_static(builtin(), BUILTIN_NAME)?,
    };
    let report = Report::new(&source);
    if args.json { print_json(&report) } else { Ok(report.print(args.tensors, settings.console)?) }
}

impl Report {
    fn new(source: &Source) -> Self {
        let description = source.describe();
        let (tokenizer, tokenizer_problem) = match tokenizer_of(source) {
            Ok(tokenizer) => (Some(TokenizerFacts::new(&tokenizer)), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let weights = description.parameters;
        Self {
            bits_per_weight: (weights > 0).then(|| description.bytes as f64 * 8.0 / weights as f64),
            forms: forms(&description),
            tokenizer,
            tokenizer_problem,
            chat_template: template_source(source).ok().flatten(),
            description,
        }
    }

    fn print(&self, tensors: bool, console: Console) -> io::Result<()> {
        let mut out = BufWriter::new(io::stdout().lock());
        let description = &self.description;
        let mut line = |name: &str, value: &dyn Display| {
            writeln!(out, "{} {value}", console.bold(&format!("{name:<14}")))
        };
        line("file", &description.file)?;
        line("kind", &format_args!("{}, architecture {}", description.kind, description.architecture))?;
        match (&description.config, &description.problem) {
            (Some(config), _) => shape(config, &mut line)?,
            (None, Some(problem)) if !description.tensors.is_empty() => line("cannot run", problem)?,
            _ => line("model", &"none: a vocabulary alone")?,
        }
        if let Some(bits) = self.bits_per_weight {
            line("parameters", &count(description.parameters))?;
            line("weights", &format_args!("{}, {bits:.2} bits each", bytes(description.bytes)))?;
            for form in &self.forms {
                let share = 100.0 * form.bytes as f64 / description.bytes.max(1) as f64;
                line(
                    &format!("  {}", form.form),
                    &format_args!(
                        "{} in {} tensors, {share:.1}% of the bytes",
                        count(form.weights),
                        form.tensors
                    ),
                )?;
            }
        }
        match (&self.tokenizer, &self.tokenizer_problem) {
            (Some(tokenizer), _) => tokenizer.print(&mut line)?,
            (None, problem) => line("tokenizer", &problem.as_deref().unwrap_or("none"))?,
        }
        let template = self
            .chat_template
            .as_ref()
            .map_or("none".to_owned(), |source| format!("yes, {}", bytes(source.len() as u64)));
        line("chat template", &template)?;
        if !description.metadata.is_empty() {
            writeln!(out, "\n{}", console.bold("metadata"))?;
            for (key, value) in &description.metadata {
                writeln!(out, "  {key} = {}", one_line(value))?;
            }
        }
        if tensors {
            self.print_tensors(&mut out, console)?;
        } else if !description.tensors.is_empty() {
            writeln!(out, "\n{} tensors; --tensors lists them", description.tensors.len())?;
        }
        out.flush()
    }

    fn print_tensors(&self, out: &mut impl Write, console: Console) -> io::Result<()> {
        let tensors = &self.description.tensors;
        let width = tensors.iter().map(|tensor| tensor.name.len()).max().unwrap_or(0);
        let shapes: Vec<_> = tensors
            .iter()
            .map(|tensor| tensor.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(" x "))
            .collect();
        let shape_width = shapes.iter().map(String::len).max().unwrap_or(0);
        writeln!(out, "\n{}", console.bold("tensors"))?;
        for (tensor, shape) in tensors.iter().zip(&shapes) {
            let size = bytes(tensor.bytes);
            writeln!(
                out,
                "  {:<width$}  {shape:>shape_width$}  {:<10}  {size:>10}",
                tensor.name, tensor.form
            )?;
        }
        Ok(())
    }
}

type Line<'a> = dyn FnMut(&str, &dyn Display) -> io::Result<()> + 'a;

fn shape(config: &ModelConfig, line: &mut Line) -> io::Result<()> {
    if !config.name.is_empty() {
        line("name", &config.name)?;
    }
    let experts = match &config.experts {
        Some(experts) => format!(
            ", {} experts of {}, {} for each token",
            experts.count, experts.intermediate_size, experts.top_k
        ),
        None => String::new(),
    };
    line(
        "model",
        &format_args!(
            "{} family, {} layers of width {}, {} heads of {} ({} for keys and values), feed-forward {}{experts}",
            config.family,
            config.num_layers(),
            config.hidden_size,
            config.num_heads,
            config.head_dim,
            config.num_kv_heads,
            config.intermediate_size,
        ),
    )?;
    line("context", &format_args!("{} tokens", config.context_length))?;
    match config.shallow_layers {
        0 => Ok(()),
        _ => line("brain map", &BrainMap::of(config)),
    }
}

impl TokenizerFacts {
    fn new(tokenizer: &Tokenizer) -> Self {
        let token = |id| Token { id, text: tokenizer.token_text(id).unwrap_or_default() };
        Self {
            tokens: tokenizer.vocab_size(),
            bos: tokenizer.bos().map(token),
            eos: tokenizer.eos().map(token),
            ends: tokenizer.eog_tokens().iter().copied().map(token).collect(),
            add_bos: tokenizer.add_bos(),
        }
    }

    fn print(&self, line: &mut Line) -> io::Result<()> {
        let token = |token: &Token| format!("{} (id {})", token.text, token.id);
        let name = |id: &Option<Token>| id.as_ref().map_or_else(|| "none".into(), token);
        line("tokenizer", &format_args!("{} tokens", self.tokens))?;
        let added = if self.add_bos { "before every prompt" } else { "not added" };
        line("  BOS", &format_args!("{}, {added}", name(&self.bos)))?;
        line("  EOS", &name(&self.eos))?;
        let ends: Vec<_> = self.ends.iter().map(token).collect();
        line("  ends", &if ends.is_empty() { "none".to_owned() } else { ends.join(", ") })
    }
}

fn forms(description: &Description) -> Vec<Form> {
    let mut forms: Vec<Form> = Vec::new();
    for tensor in &description.tensors {
        let weights: u64 = tensor.shape.iter().map(|&dim| dim as u64).product();
        match forms.iter_mut().find(|form| form.form == tensor.form) {
            Some(form) => {
                form.tensors += 1;
                form.weights += weights;
                form.bytes += tensor.bytes;
            }
            None => forms.push(Form { form: tensor.form.clone(), tensors: 1, weights, bytes: tensor.bytes }),
        }
    }
    forms.sort_by_key(|form| std::cmp::Reverse(form.weights));
    forms
}

/// Escapes what would break the table or the terminal, and cuts what is long.
fn one_line(text: &str) -> String {
    const LONG: usize = 160;
    let mut shown = String::new();
    for c in text.chars().take(LONG) {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    if text.chars().nth(LONG).is_some() {
        shown.push_str("...");
    }
    shown
}

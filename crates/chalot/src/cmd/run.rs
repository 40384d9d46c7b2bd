//! `chalot run`: a text and its continuation.
use std::{
    cell::RefCell,
    io::{self, Write},
    ops::ControlFlow,
    time::Instant,
};

use anyhow::Context;
use chalot::{
    Completion, CompletionOptions, Session, Step, Stop, TextModel,
    model::{GenerationStats, Sampler, SamplingParams},
    tokenizer::Specials,
};
use serde::Serialize;

use super::{
    drafts::{self, Drafts},
    open, prefetched,
};
use crate::{
    args::Run,
    cmd::{bytes, count, print_json},
    console::{Console, Unit},
    failure::Usage,
    settings::Settings,
    terminal_input::{catch_interrupts, interrupted, read_stdin, read_text, stdin_is_fed},
};

/// A story of this many tokens fills a screen and takes a few seconds.
const DEFAULT_TOKENS: usize = 256;

/// What is to be done.
struct Job {
    prompt: String,
    sampling: SamplingParams,
    /// The seed that was drawn because none was given.
    drawn_seed: Option<u64>,
    options: CompletionOptions,
}

impl Job {
    fn new(args: &Run, prompt: String, model: &TextModel) -> Self {
        let (sampling, drawn_seed) = open::sampling(&args.sampling, &model.sampling);
        let options = CompletionOptions {
            max_tokens: Some(args.tokens.unwrap_or(DEFAULT_TOKENS)),
            ignore_eos: args.ignore_eos,
            special: args.special,
        };
        Self { prompt, sampling, drawn_seed, options }
    }
}

fn prompt(args: &Run) -> anyhow::Result<String> {
    match (&args.prompt, &args.file) {
        (Some(prompt), _) => Ok(prompt.clone()),
        (None, Some(file)) => read_text(file),
        (None, None) if stdin_is_fed() => read_stdin(),
        (None, None) => Ok(String::new()),
    }
}

/// Generates.
///
/// stdout gets the generated text, without the prompt, and one line break, always one: a shell's `$(...)` takes it off, a
/// file of the text ends as text files do, and nothing else can run into the text. `--json` has the text alone.
pub fn run(args: Run, settings: &Settings) -> anyhow::Result<()> {
    let console = settings.console;
    let prompt = prompt(&args)?;
    let begin = Instant::now();
    let model = open::open(args.model.as_ref(), &args.holding, args.memory.kv_budget, settings)?;
    let job = Job::new(&args, prompt, &model);
    let (mut session, _) = open::session(&model, &args.memory, &args.holding, settings)?;
    drafts::drafting(&mut session, &model, &args.drafting)?;
    let load_time = begin.elapsed();

    let prompt = model.prompt(&job.prompt, if args.special { Specials::Parse } else { Specials::AsText });
    if prompt.is_empty() {
        let mend = "give a prompt with -p TEXT, with -f FILE or through a pipe";
        return Err(Usage(format!("this model has no BOS token to start from: {mend}")).into());
    }
    let mut sampler = Sampler::new(job.sampling.clone())?;
    let mut output = Output { text: String::new(), print: !args.json };
    let completion =
        complete(&mut session, &prompt, &mut sampler, &job.options, console, &mut |text| output.push(text))?;

    open::keep(&session, b"", &args.memory, settings)?;
    if args.json {
        let report =
            Report::new(open::name(args.model.as_deref()), &job, &output.text, &completion, &model, settings);
        return print_json(&report);
    }
    output.end()?;
    console.note(&figures(&completion.stats));
    if let Some(seed) = job.drawn_seed {
        console.note(&format!("seed: {seed} (the same text again: --seed {seed})"));
    }
    if completion.stop == Stop::Context {
        console.note(&format!("stopped: the context of {} tokens is full", session.sequence().context()));
    }
    if args.stats {
        if let Some(speculation) = &completion.stats.speculation {
            console.note(&drafts::figures(speculation));
        }
        console.note(&more_figures(&model, &session, load_time.as_secs_f64(), settings));
    }
    Ok(())
}

/// Runs a completion with a bar for a long prompt; Ctrl-C ends it, and so does a `sink` that fails.
pub fn complete(
    session: &mut Session,
    prompt: &[u32],
    sampler: &mut Sampler,
    options: &CompletionOptions,
    console: Console,
    sink: &mut dyn FnMut(&str) -> io::Result<()>,
) -> anyhow::Result<Completion> {
    catch_interrupts();
    let bar = RefCell::new(Some(console.bar("prompt", Unit::Tokens)));
    let mut failed = None;
    let completion = session.complete(prompt, sampler, options, &mut |step| {
        match step {
            Step::Prompt { done, total } if done < total => {
                if let Some(bar) = &*bar.borrow() {
                    bar.set(done as u64, total as u64, "");
                }
            }
            // The bar is wiped before the first text appears in its place.
            Step::Prompt { .. } => drop(bar.take()),
            Step::Text(text) => {
                if let Err(error) = sink(text) {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
        }
        if interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    match failed {
        Some(error) => Err(error).context("stdout"),
        None => Ok(completion),
    }
}

/// The text, on its way to stdout or kept for the report.
struct Output {
    text: String,
    print: bool,
}

impl Output {
    fn push(&mut self, text: &str) -> io::Result<()> {
        self.text.push_str(text);
        if !self.print {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn end(&self) -> anyhow::Result<()> {
        writeln!(io::stdout().lock()).context("stdout")
    }
}

/// `prompt: 5 tokens, 120 tok/s; generated: 256 tokens, 48.1 tok/s`.
pub fn figures(stats: &GenerationStats) -> String {
    let speed =
        |count: usize, rate: f64| if count == 0 { String::new() } else { format!(", {} tok/s", round(rate)) };
    let reused = match stats.reused_tokens {
        0 => String::new(),
        reused => format!(" ({reused} more were there)"),
    };
    format!(
        "prompt: {} tokens{reused}{}; generated: {} tokens{}",
        stats.prompt_tokens,
        speed(stats.prompt_tokens, stats.prompt_rate()),
        stats.generated_tokens,
        speed(stats.decode_steps, stats.decode_rate()),
    )
}

/// Three digits are what a measurement on a busy machine is worth.
fn round(rate: f64) -> String {
    if rate < 10.0 {
        format!("{rate:.2}")
    } else if rate < 100.0 {
        format!("{rate:.1}")
    } else {
        format!("{rate:.0}")
    }
}

fn more_figures(model: &TextModel, session: &Session, load_seconds: f64, settings: &Settings) -> String {
    let weights = &model.model;
    format!(
        "loaded in {load_seconds:.2} s; {} parameters in {}, {} read for each token; cache: {} for {} tokens as {}; \
         kernels: {}, {} threads",
        count(weights.parameters()),
        bytes(weights.bytes()),
        bytes(weights.bytes_per_token()),
        bytes(session.sequence().kv().bytes() as u64),
        session.sequence().len(),
        session.sequence().kv().shape().ty.name(),
        settings.isa,
        settings.threads,
    ) + &prefetched::figures(model)
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    model: String,
    prompt: &'a str,
    text: &'a str,
    tokens: &'a [u32],
    stop: Stop,
    prompt_tokens: usize,
    reused_tokens: usize,
    prompt_tokens_per_second: Option<f64>,
    generated_tokens: usize,
    generated_tokens_per_second: Option<f64>,
    /// What speculation did; null where it was off.
    speculation: Option<Drafts>,
    temperature: f32,
    seed: u64,
    isa: &'static str,
    threads: usize,
    /// Of a model whose weights are read ahead.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefetch: Option<prefetched::Prefetched>,
}

impl<'a> Report<'a> {
    fn new(
        model: String,
        job: &'a Job,
        text: &'a str,
        completion: &'a Completion,
        text_model: &TextModel,
        settings: &Settings,
    ) -> Self {
        let stats = &completion.stats;
        Self {
            model,
            prompt: &job.prompt,
            text,
            tokens: &completion.tokens,
            stop: completion.stop,
            prompt_tokens: stats.prompt_tokens,
            reused_tokens: stats.reused_tokens,
            prompt_tokens_per_second: (stats.prompt_tokens > 0).then(|| stats.prompt_rate()),
            generated_tokens: stats.generated_tokens,
            generated_tokens_per_second: (stats.decode_steps > 0).then(|| stats.decode_rate()),
            speculation: stats.speculation.as_ref().map(Drafts::new),
            temperature: job.sampling.temperature,
            seed: job.sampling.seed,
            isa: settings.isa.name(),
            threads: settings.threads,
            prefetch: prefetched::Prefetched::of(text_model),
        }
    }
}

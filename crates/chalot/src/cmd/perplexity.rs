//! `chalot perplexity`: how well a model predicts a text.
use std::io::{self, Write};

use chalot::{
    model::{Engine, Perplexity, PerplexityOptions, perplexity as score},
    tokenizer::Specials,
};
use serde::Serialize;

use super::{open, print_json};
use crate::{args, console::Unit, failure::Usage, settings::Settings, terminal_input::read_bytes};

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    model: String,
    file: String,
    context: usize,
    chunks: usize,
    /// Tokens of the text that were computed.
    text_tokens: usize,
    /// Of these, tokens whose prediction was scored.
    tokens: usize,
    /// Nats per scored token.
    nll: f64,
    ppl: f64,
    bits_per_byte: Option<f64>,
}

/// Scores a text.
pub fn perplexity(args: args::Perplexity, settings: &Settings) -> anyhow::Result<()> {
    let text = read_bytes(&args.file)?;
    let model = open::open(args.model.as_ref(), &args.holding, None, settings)?;
    let mut tokens = model.tokenizer.encode(&text, Specials::AsText);
    let limit = args.tokens.or(args.chunks.map(|chunks| chunks.saturating_mul(args.ctx)));
    tokens.truncate(limit.unwrap_or(usize::MAX));
    if tokens.len() < args.ctx {
        return Err(Usage(format!(
            "there are {} tokens of text, fewer than one piece of {}; take a longer text or a smaller --ctx",
            tokens.len(),
            args.ctx
        ))
        .into());
    }
    let bos = match (args.bos, model.tokenizer.bos()) {
        (true, None) => return Err(Usage("--bos: this model has no BOS token; leave it out".into()).into()),
        (true, bos) => bos,
        (false, _) => None,
    };

    let mut engine = Engine::new(model.model.clone(), model.exec().clone(), model.engine_options())?;
    let bar = settings.console.bar("scoring", Unit::Tokens);
    let options = PerplexityOptions {
        context: Some(args.ctx),
        bos,
        bytes_of: Some(&|id| model.tokenizer.token_bytes(id).map_or(0, |bytes| bytes.len())),
        progress: Some(&|done, total, so_far: &Perplexity| {
            bar.set(done as u64, total as u64, &format!("ppl {:.3}", so_far.perplexity()));
        }),
        sequence: open::sequence(None, &args.holding),
    };
    let result = score(&mut engine, &tokens, &options)?;
    drop(bar);

    let report = Report {
        model: open::name(args.model.as_deref()),
        file: args.file.display().to_string(),
        context: args.ctx,
        chunks: tokens.len() / args.ctx,
        text_tokens: tokens.len() / args.ctx * args.ctx,
        tokens: result.tokens,
        nll: result.mean_nll(),
        ppl: result.perplexity(),
        bits_per_byte: result.bits_per_byte(),
    };
    if args.json { print_json(&report) } else { report.print() }
}

impl Report {
    fn print(&self) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "tokens         {} scored, of {} in {} pieces",
            self.tokens, self.text_tokens, self.chunks
        )?;
        writeln!(out, "nll            {:.5} nats per token", self.nll)?;
        writeln!(out, "perplexity     {:.4}", self.ppl)?;
        if let Some(bits) = self.bits_per_byte {
            writeln!(out, "bits per byte  {bits:.4}")?;
        }
        Ok(())
    }
}

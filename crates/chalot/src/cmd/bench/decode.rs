//! `chalot bench decode`: tokens one after the other, as a share of the read bandwidth.
use std::{
    hint::black_box,
    io::{self, Write},
    time::Instant,
};

use chalot::model::{Engine, EngineOptions, Sequence};
use serde::Serialize;

use super::{
    median, percent,
    subject::{Described, Subject},
    yardsticks::Bandwidth,
};
use crate::{
    args::bench::Decode,
    cmd::{bytes, print_json},
    settings::Settings,
};

/// Tokens of a round: few, so that yardstick and work are close in time.
const ROUND: usize = 4;

/// What `--json` prints. The keys are stable.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    described: Described,
    tokens: usize,
    tokens_per_second: f64,
    bytes_per_token: u64,
    /// The machine's read bandwidth, in 10^9 bytes per second.
    bandwidth_gbs: f64,
    /// Bytes that tokens read per second, as a share of it.
    bandwidth_share: f64,
    /// With a depth: bytes of keys and values that a token reads, the speed without a past, measured in turn, and the time to
    /// read them at the bandwidth as a share of what the past costs.
    kv_bytes_per_token: Option<u64>,
    tokens_per_second_without_past: Option<f64>,
    kv_share: Option<f64>,
    /// The time of a token over that without a past and to read these bytes at the bandwidth.
    token_over_reading: Option<f64>,
    /// With drafts: the time of a pass over them and the token before, with the logits of all, measured in turn, over that of a token.
    drafts: Option<usize>,
    verification_over_token: Option<f64>,
}

pub fn decode(args: &Decode, settings: &Settings) -> anyhow::Result<()> {
    let new = args.tokens + 1;
    let verified = args.draft.map(|drafts| drafts + 1);
    let room = new.max(verified.unwrap_or(0)) + verified.unwrap_or(0);
    let mut subject = Subject::new(&args.of, (args.depth, room), EngineOptions::default(), settings)?;
    let (exec, bytes_per_token) = (subject.exec(), subject.bytes_per_token());
    let mut bandwidth = Bandwidth::new();
    let mut speeds = Vec::new();
    let mut without_past = Vec::new();
    let mut verifications = Vec::new();
    let Subject { engine, sequence, tokens, .. } = &mut subject;
    let mut shallow = sequence.fork(0);
    // The first token makes room for everything.
    engine.forward(sequence, &tokens[..1])?;
    if let Some(verified) = verified {
        verify(engine, sequence, &tokens[..verified])?;
    }
    for round in tokens[1..new].chunks(ROUND) {
        if args.depth > 0 {
            shallow.truncate(0);
            engine.forward(&mut shallow, &tokens[..1])?;
            let start = Instant::now();
            for token in round {
                black_box(engine.forward(&mut shallow, std::slice::from_ref(token))?);
            }
            without_past.push(round.len() as f64 / start.elapsed().as_secs_f64());
        }
        bandwidth.sample(&exec, bytes_per_token as usize);
        let start = Instant::now();
        for token in round {
            black_box(engine.forward(sequence, std::slice::from_ref(token))?);
        }
        let speed = round.len() as f64 / start.elapsed().as_secs_f64();
        speeds.push(speed);
        if let Some(verified) = verified {
            verifications.push(verify(engine, sequence, &tokens[..verified])? * speed);
        }
    }
    let (tokens_per_second, bandwidth) = (median(speeds), bandwidth.median());
    let past = (args.depth > 0).then(|| {
        let shape = sequence.kv().shape();
        // The measured tokens are on average half of them deeper.
        let depth = args.depth + new / 2;
        let bytes = shape.block_bytes() as u64 * shape.layers as u64 * depth as u64 / 64;
        let without = median(without_past);
        let (token, shallow, reading) = (1.0 / tokens_per_second, 1.0 / without, bytes as f64 / bandwidth);
        (bytes, without, reading / (token - shallow), token / (shallow + reading))
    });
    let report = Report {
        described: subject.described,
        tokens: args.tokens,
        tokens_per_second,
        bytes_per_token,
        bandwidth_gbs: bandwidth / 1e9,
        bandwidth_share: bytes_per_token as f64 * tokens_per_second / bandwidth,
        kv_bytes_per_token: past.map(|(bytes, ..)| bytes),
        tokens_per_second_without_past: past.map(|(_, speed, ..)| speed),
        kv_share: past.map(|(.., share, _)| share),
        token_over_reading: past.map(|(.., over)| over),
        drafts: args.draft,
        verification_over_token: verified.map(|_| median(verifications)),
    };
    if args.json { print_json(&report) } else { report.print() }
}

/// Seconds of a pass over these tokens with the logits of all; the sequence stays as it is.
fn verify(engine: &mut Engine, sequence: &mut Sequence, tokens: &[u32]) -> anyhow::Result<f64> {
    let len = sequence.tokens().len();
    let start = Instant::now();
    engine.forward_all(sequence, tokens, &mut |_, logits| {
        black_box(logits);
    })?;
    let seconds = start.elapsed().as_secs_f64();
    sequence.truncate(len);
    Ok(seconds)
}

impl Report {
    fn print(&self) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        let gbs = self.bytes_per_token as f64 * self.tokens_per_second / 1e9;
        writeln!(out, "{}", self.described.line())?;
        writeln!(out, "tokens per second   {:.2}", self.tokens_per_second)?;
        writeln!(out, "a token reads       {}", bytes(self.bytes_per_token))?;
        writeln!(out, "weights             {gbs:.1} GB/s")?;
        writeln!(out, "read bandwidth      {:.1} GB/s", self.bandwidth_gbs)?;
        writeln!(out, "share               {}", percent(self.bandwidth_share))?;
        if let (Some(read), Some(speed), Some(share), Some(over)) = (
            self.kv_bytes_per_token,
            self.tokens_per_second_without_past,
            self.kv_share,
            self.token_over_reading,
        ) {
            let cost = 1e3 / self.tokens_per_second - 1e3 / speed;
            writeln!(out, "without the past    {speed:.2} tokens per second")?;
            writeln!(out, "the past            {cost:.2} ms, {} read", bytes(read))?;
            writeln!(out, "share               {}", percent(share))?;
            writeln!(out, "a token takes       {over:.2} times as long as without the past and reading it")?;
        }
        if let (Some(drafts), Some(over)) = (self.drafts, self.verification_over_token) {
            writeln!(out, "{drafts:<2} drafts verified  {over:.2} times as long as a token")?;
        }
        Ok(())
    }
}

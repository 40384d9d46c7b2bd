//! `chalot bench attention`: a prompt's attention as a share of the peak of `f32` multiply-adds and against the plain way;
//! one token's as a share of the read bandwidth.
use std::{
    fs,
    hint::black_box,
    io::{self, Write},
    time::Instant,
};

use chalot::tensor::{
    Activations, Exec, Format, Matrix,
    attention::{AttentionParams, AttentionScratch, KvBlock, KvType, attention as attend},
    elementwise::scale_assign,
    math::fma_peak,
    matmul,
    softmax::softmax_rows,
};
use serde::Serialize;

use super::{median, percent, yardsticks::Bandwidth};
use crate::{
    args::bench::Attention,
    cmd::{bytes, print_json},
    failure::Usage,
    settings::Settings,
};

/// Of more tokens the matrix of scores of one head is larger than 256 MiB.
const NAIVE_TOKENS: usize = 8192;
/// Layers that one token attends to in turn take as much, so that no cache holds them.
const RESIDENT: usize = 160 << 20;
/// Tasks of a sample of the peak for each thread: some 10 milliseconds.
const PEAK_TASKS: usize = 200;

/// What `--json` prints. The keys are stable.
#[derive(Serialize)]
struct Report {
    tokens: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    kv: &'static str,
    threads: usize,
    isa: &'static str,
    milliseconds: f64,
    /// Multiply-adds per second, in 10^9, those of what a token sees alone; and the machine's peak of `f32` ones.
    gfmas: f64,
    peak_gfmas: f64,
    peak_share: f64,
    naive_milliseconds: Option<f64>,
    speedup_over_naive: Option<f64>,
    /// By how much the process's peak of memory rose above inputs, cache and output; where the system does not tell, what
    /// attention holds for itself.
    extra_bytes: u64,
    decode: Option<Decode>,
}

/// One token.
#[derive(Serialize)]
struct Decode {
    depth: usize,
    f16_microseconds: f64,
    int8_microseconds: f64,
    int8_over_f16: f64,
    bandwidth_gbs: f64,
    /// Bytes of keys and values per second, as a share of the bandwidth.
    f16_bandwidth_share: f64,
    int8_bandwidth_share: f64,
}

pub fn attention(args: &Attention, settings: &Settings) -> anyhow::Result<()> {
    let (heads, head_dim) = (args.heads, args.head_dim);
    let kv_heads = args.kv_heads.unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        return Err(Usage(format!("--kv-heads {kv_heads}: does not divide the {heads} query heads")).into());
    }
    let scale = 1.0 / (head_dim as f32).sqrt();
    let params = AttentionParams { heads, kv_heads, head_dim, scale, soft_cap: None, window: None };
    let exec = settings.exec();
    let report = prompt(args, params, &exec, settings)?;
    if args.json { print_json(&report) } else { report.print() }
}

/// Random numbers of -1 to 1.
fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let number = |i: u32| ((i ^ seed).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0;
    (0..n as u32).map(number).collect()
}

fn prompt(
    args: &Attention,
    params: AttentionParams,
    exec: &Exec,
    settings: &Settings,
) -> anyhow::Result<Report> {
    let AttentionParams { heads, kv_heads, head_dim, .. } = params;
    let (tokens, ty) = (args.tokens, KvType::from(args.kv));
    let q = numbers(tokens * heads * head_dim, 1);
    let (k, v) = (numbers(tokens * kv_heads * head_dim, 2), numbers(tokens * kv_heads * head_dim, 3));
    let block = || KvBlock::new(ty, kv_heads, head_dim);
    let mut blocks: Vec<_> = (0..tokens.div_ceil(KvBlock::TOKENS)).map(|_| block()).collect();
    let mut out = vec![0.0; q.len()];
    // Pages that were never written are not there yet.
    black_box(&mut out).fill(1.0);
    let mut scratch = AttentionScratch::new();
    let mut run = |scratch: &mut AttentionScratch| -> anyhow::Result<f64> {
        let start = Instant::now();
        let per_block = KvBlock::TOKENS * kv_heads * head_dim;
        for (block, (k, v)) in blocks.iter_mut().zip(k.chunks(per_block).zip(v.chunks(per_block))) {
            block.write(exec, 0, k, v)?;
        }
        attend(exec, &params, scratch, &q, 0, &blocks, &mut out)?;
        Ok(start.elapsed().as_secs_f64())
    };
    // The first makes room for everything: what it takes is the memory that attention needs.
    let peak_before = Peak::reset();
    run(&mut scratch)?;
    let extra_bytes = peak_before.and_then(Peak::rise).unwrap_or(scratch.bytes() as u64);

    let naive = !args.no_naive && tokens <= NAIVE_TOKENS;
    let (mut times, mut naive_times, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        peaks.push(fma_peak(exec, PEAK_TASKS * exec.pool.threads()));
        times.push(run(&mut scratch)?);
        if naive {
            naive_times.push(plain(exec, &params, &q, &k, &v)?);
        }
    }
    let (seconds, peak) = (median(times), median(peaks));
    let naive = naive.then(|| median(naive_times));
    let seen = tokens as f64 * (tokens as f64 + 1.0) / 2.0;
    let speed = 2.0 * seen * (heads * head_dim) as f64 / seconds;
    let decode = (args.depth > 0).then(|| decode(args, &params, exec, settings)).transpose()?;
    Ok(Report {
        tokens,
        heads,
        kv_heads,
        head_dim,
        kv: ty.name(),
        threads: exec.pool.threads(),
        isa: exec.isa.name(),
        milliseconds: seconds * 1e3,
        gfmas: speed / 1e9,
        peak_gfmas: peak / 1e9,
        peak_share: speed / peak,
        naive_milliseconds: naive.map(|naive| naive * 1e3),
        speedup_over_naive: naive.map(|naive| naive / seconds),
        extra_bytes,
        decode,
    })
}

/// The plain way, with our own products: scores, mask, soft-max, values, head by head. Returns the seconds.
fn plain(exec: &Exec, params: &AttentionParams, q: &[f32], k: &[f32], v: &[f32]) -> anyhow::Result<f64> {
    let AttentionParams { heads, kv_heads, head_dim, scale, .. } = *params;
    let tokens = q.len() / (heads * head_dim);
    let (mut input, mut scores) = (Activations::new(), vec![0.0; tokens * tokens]);
    let (mut out, mut all) = (vec![0.0; tokens * head_dim], vec![0.0; q.len()]);
    // Memory is there, as in the measured rounds of the other.
    black_box(&mut scores).fill(1.0);
    black_box(&mut all).fill(1.0);
    let start = Instant::now();
    for head in 0..heads {
        let kv_head = head / (heads / kv_heads);
        let rows = |x: &[f32], heads: usize, head: usize| -> Vec<f32> {
            x.chunks_exact(head_dim).skip(head).step_by(heads).flatten().copied().collect()
        };
        let (keys, values) = (rows(k, kv_heads, kv_head), rows(v, kv_heads, kv_head));
        let mut columns = vec![0.0; values.len()];
        for (token, row) in values.chunks_exact(head_dim).enumerate() {
            for (d, x) in row.iter().enumerate() {
                columns[d * tokens + token] = *x;
            }
        }
        let keys = Matrix::from_f32(exec, Format::F32, tokens, head_dim, &keys)?;
        let values = Matrix::from_f32(exec, Format::F32, head_dim, tokens, &columns)?;
        input.set(tokens, head_dim).copy_from_slice(&rows(q, heads, head));
        matmul(exec, &keys, &mut input, &mut scores)?;
        scale_assign(exec, &mut scores, scale);
        for (token, row) in scores.chunks_exact_mut(tokens).enumerate() {
            row[token + 1..].fill(f32::NEG_INFINITY);
        }
        softmax_rows(exec, &mut scores, tokens)?;
        input.set(tokens, tokens).copy_from_slice(&scores);
        matmul(exec, &values, &mut input, &mut out)?;
        for (to, from) in
            all.chunks_exact_mut(head_dim).skip(head).step_by(heads).zip(out.chunks_exact(head_dim))
        {
            to.copy_from_slice(from);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    black_box(all);
    Ok(seconds)
}

fn decode(
    args: &Attention,
    params: &AttentionParams,
    exec: &Exec,
    settings: &Settings,
) -> anyhow::Result<Decode> {
    settings.console.note(&format!("one token at depth {}", args.depth));
    let AttentionParams { heads, kv_heads, head_dim, .. } = *params;
    let q = numbers(heads * head_dim, 4);
    let mut out = vec![0.0; q.len()];
    let mut scratch = AttentionScratch::new();
    let (blocks, token) = (args.depth.div_ceil(KvBlock::TOKENS), KvBlock::TOKENS * kv_heads * head_dim);
    let (k, v) = (numbers(token, 5), numbers(token, 6));
    // One of the one type, one of the other, in turn.
    let mut layers = Vec::new();
    let bytes = |ty| KvBlock::bytes_of(ty, kv_heads, head_dim) * args.depth / KvBlock::TOKENS;
    for i in 0..2 * (RESIDENT / bytes(KvType::F16).max(1)).clamp(1, 32) {
        let ty = [KvType::F16, KvType::Int8][i % 2];
        let layer = (0..blocks).map(|_| {
            let mut block = KvBlock::new(ty, kv_heads, head_dim);
            block.write(exec, 0, &k, &v).map(|()| block)
        });
        layers.push((ty, bytes(ty), layer.collect::<Result<Vec<_>, _>>()?));
    }
    let mut bandwidth = Bandwidth::new();
    let mut times = [Vec::new(), Vec::new()];
    let mut bytes_of = [0, 0];
    for round in 0..=args.rounds {
        for (ty, bytes, layer) in &layers {
            bandwidth.sample(exec, *bytes);
            let start = Instant::now();
            attend(exec, params, &mut scratch, &q, args.depth - 1, layer, &mut out)?;
            // The first round makes room.
            if round > 0 {
                let kind = usize::from(*ty == KvType::Int8);
                times[kind].push(start.elapsed().as_secs_f64());
                bytes_of[kind] = *bytes;
            }
            black_box(&mut out);
        }
    }
    let [f16, int8] = times.map(median);
    let bandwidth = bandwidth.median();
    let share = |bytes: usize, seconds: f64| bytes as f64 / seconds / bandwidth;
    Ok(Decode {
        depth: args.depth,
        f16_microseconds: f16 * 1e6,
        int8_microseconds: int8 * 1e6,
        int8_over_f16: f16 / int8,
        bandwidth_gbs: bandwidth / 1e9,
        f16_bandwidth_share: share(bytes_of[0], f16),
        int8_bandwidth_share: share(bytes_of[1], int8),
    })
}

/// The memory of this process when its peak was reset.
#[derive(Clone, Copy)]
struct Peak(u64);

impl Peak {
    /// Makes the peak what is in use now; `None` where the system cannot.
    fn reset() -> Option<Self> {
        fs::write("/proc/self/clear_refs", "5").ok()?;
        status("VmRSS:").map(Self)
    }

    /// By how much the peak is above.
    fn rise(self) -> Option<u64> {
        Some(status("VmHWM:")?.saturating_sub(self.0))
    }
}

/// A line of the process's status, in bytes.
fn status(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

impl Report {
    fn print(&self) -> anyhow::Result<()> {
        let Self { tokens, heads, kv_heads, head_dim, kv, threads, isa, .. } = self;
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "{tokens} tokens, causal, {heads} heads of {head_dim} on {kv_heads}, {kv}, {threads} threads, {isa}"
        )?;
        writeln!(out, "time                {:.2} ms", self.milliseconds)?;
        writeln!(out, "multiply-adds       {:.1} G/s", self.gfmas)?;
        writeln!(out, "peak                {:.1} G/s", self.peak_gfmas)?;
        writeln!(out, "share               {}", percent(self.peak_share))?;
        writeln!(out, "extra memory        {}", bytes(self.extra_bytes))?;
        if let (Some(naive), Some(speedup)) = (self.naive_milliseconds, self.speedup_over_naive) {
            writeln!(out, "the plain way       {naive:.2} ms, {speedup:.2} times as long")?;
        }
        if let Some(decode) = &self.decode {
            writeln!(out, "one token after {} tokens", decode.depth)?;
            let share = percent(decode.f16_bandwidth_share);
            writeln!(
                out,
                "f16                 {:.1} us, {share} of the read bandwidth",
                decode.f16_microseconds
            )?;
            let share = percent(decode.int8_bandwidth_share);
            writeln!(
                out,
                "int8                {:.1} us, {share} of the read bandwidth",
                decode.int8_microseconds
            )?;
            writeln!(out, "read bandwidth      {:.1} GB/s", decode.bandwidth_gbs)?;
            writeln!(out, "int8 over f16       {:.2}", decode.int8_over_f16)?;
        }
        Ok(())
    }
}

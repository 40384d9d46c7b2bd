//! The speed of attention as a share of what this machine can do, measured in the same run:
//! `cargo bench -p chalot-tensor --bench attention [-- [THREADS [ROUNDS]] [prompts|decoding] [ISA]]`.
use std::{env, time::Instant};

use chalot_simd::Isa;
use chalot_tensor::{
    attention::{AttentionParams, AttentionScratch, KvBlock, KvType, attention},
    exec::Exec,
    math::fma_peak,
    yardstick::read_bandwidth,
};

/// A sequence of `total` positions of one layer.
struct Layer {
    params: AttentionParams,
    blocks: Vec<KvBlock>,
    total: usize,
}

fn numbers(n: usize, seed: u32) -> Vec<f32> {
    (0..n as u32)
        .map(|i| ((i ^ seed).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0)
        .collect()
}

impl Layer {
    fn new(exec: &Exec, heads: usize, kv_heads: usize, head_dim: usize, ty: KvType, total: usize) -> Self {
        let scale = 1.0 / (head_dim as f32).sqrt();
        let params = AttentionParams { heads, kv_heads, head_dim, scale, soft_cap: None, window: None };
        let token = kv_heads * head_dim;
        let blocks = (0..total.div_ceil(KvBlock::TOKENS))
            .map(|i| {
                let mut block = KvBlock::new(ty, kv_heads, head_dim);
                let (k, v) = (numbers(64 * token, i as u32), numbers(64 * token, !i as u32));
                block.write(exec, 0, &k, &v).expect("64 tokens fit");
                block
            })
            .collect();
        Self { params, blocks, total }
    }

    /// Seconds for the last `m` queries.
    fn seconds(&self, exec: &Exec, scratch: &mut AttentionScratch, m: usize) -> f64 {
        let q = numbers(m * self.params.heads * self.params.head_dim, 77);
        let mut out = vec![0.0; q.len()];
        let start = Instant::now();
        attention(exec, &self.params, scratch, &q, self.total - m, &self.blocks, &mut out)
            .expect("shapes fit");
        start.elapsed().as_secs_f64()
    }

    /// Multiply-adds of the unmasked part, for the last `m` queries.
    fn multiply_adds(&self, m: usize) -> f64 {
        let keys: usize = (self.total - m..self.total).map(|p| p + 1).sum();
        2.0 * (keys * self.params.heads * self.params.head_dim) as f64
    }
}

/// The best of several: neighbours only ever slow a measurement down.
fn best(x: impl IntoIterator<Item = f64>) -> f64 {
    x.into_iter().fold(0.0, f64::max)
}

fn main() {
    let mut arguments = env::args().skip(1).filter_map(|arg| arg.parse::<usize>().ok());
    let threads = arguments.next().unwrap_or(1);
    let rounds = arguments.next().unwrap_or(12);
    let named = |word: &str| env::args().any(|arg| arg == word);
    let isas = Isa::available();
    let chosen = |isa: &&Isa| if isas.iter().any(|isa| named(isa.name())) { named(isa.name()) } else { true };
    for &isa in isas.iter().filter(chosen).filter(|isa| **isa != Isa::scalar()) {
        let exec = Exec::new(isa, threads);
        println!("{} x {threads}", isa.name());
        if !named("decoding") {
            prompts(&exec, rounds);
        }
        if !named("prompts") {
            decoding(&exec, rounds);
        }
    }
}

fn prompts(exec: &Exec, rounds: usize) {
    println!("prompt: tokens heads/kv dim type | ms | share of the FMA peak, unmasked half only");
    let mut scratch = AttentionScratch::new();
    for (tokens, heads, kv_heads, dim, ty) in [
        (2048, 4, 4, 64, KvType::F32),
        (2048, 4, 4, 128, KvType::F32),
        (2048, 4, 1, 128, KvType::F32),
        (2048, 4, 1, 128, KvType::F16),
        (2048, 4, 1, 128, KvType::Int8),
        (2048, 4, 4, 128, KvType::Int8),
        (2048, 3, 1, 64, KvType::F16),
        (2048, 4, 4, 80, KvType::F32),
        (8192, 1, 1, 64, KvType::F32),
        (256, 20, 5, 128, KvType::F16),
    ] {
        let layer = Layer::new(exec, heads, kv_heads, dim, ty, tokens);
        let (mut speeds, mut peaks) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            peaks.push(fma_peak(exec, 100 * exec.pool.threads()));
            speeds.push(1.0 / layer.seconds(exec, &mut scratch, tokens));
        }
        let (speed, peak) = (best(speeds), best(peaks));
        println!(
            "{tokens:6} {heads:2}/{kv_heads:2} {dim:4} {ty:?} | {:8.2} ms | {:.1}% of {:.1} GFMA/s",
            1e3 / speed,
            100.0 * layer.multiply_adds(tokens) * speed / peak,
            peak / 1e9
        );
    }
}

fn decoding(exec: &Exec, rounds: usize) {
    println!("decode: depth m heads/kv dim type | us | bytes read per second, share of the bandwidth");
    let memory = vec![1u8; 160 << 20];
    let mut scratch = AttentionScratch::new();
    for (depth, m, heads, kv_heads, dim, ty) in [
        (4096, 1, 20, 5, 128, KvType::F16),
        (4096, 1, 20, 5, 128, KvType::Int8),
        (4096, 1, 20, 5, 128, KvType::F32),
        (4096, 1, 32, 32, 64, KvType::F16),
        (4096, 1, 32, 32, 64, KvType::Int8),
        (4096, 1, 32, 8, 128, KvType::F16),
        (4096, 5, 20, 5, 128, KvType::F16),
        (4096, 5, 20, 5, 128, KvType::Int8),
        (8192, 1, 20, 5, 128, KvType::F16),
        (8192, 1, 20, 5, 128, KvType::Int8),
        (512, 1, 20, 5, 128, KvType::F16),
        (64, 1, 20, 5, 128, KvType::F16),
    ] {
        // As many layers as keep the caches cold.
        let bytes = KvBlock::new(ty, kv_heads, dim).bytes() * depth / KvBlock::TOKENS;
        let layers: Vec<Layer> =
            (0..(160 << 20) / bytes).map(|_| Layer::new(exec, heads, kv_heads, dim, ty, depth)).collect();
        let (mut speeds, mut bandwidths) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            bandwidths.push(read_bandwidth(exec, &memory));
            speeds.extend(layers.iter().map(|layer| 1.0 / layer.seconds(exec, &mut scratch, m)));
        }
        let (speed, bandwidth) = (best(speeds), best(bandwidths));
        println!(
            "{depth:6} {m} {heads:2}/{kv_heads:2} {dim:4} {ty:?} | {:8.1} us | {:.1} GB/s, {:.0}% of {:.1}",
            1e6 / speed,
            bytes as f64 * speed / 1e9,
            100.0 * bytes as f64 * speed / bandwidth,
            bandwidth / 1e9
        );
    }
}

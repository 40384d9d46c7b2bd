//! The speed of attention as a share of what this machine can do, measured in the same run:
//! `cargo bench -p chalot-tensor --bench attention [-- THREADS]`.
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
    (0..n as u32).map(|i| ((i ^ seed).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
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
        attention(exec, &self.params, scratch, &q, self.total - m, &self.blocks, &mut out).expect("shapes fit");
        start.elapsed().as_secs_f64()
    }

    /// Multiply-adds of the unmasked part, for the last `m` queries.
    fn multiply_adds(&self, m: usize) -> f64 {
        let keys: usize = (self.total - m..self.total).map(|p| p + 1).sum();
        2.0 * (keys * self.params.heads * self.params.head_dim) as f64
    }
}

fn median(mut x: Vec<f64>) -> f64 {
    x.sort_by(f64::total_cmp);
    x[x.len() / 2]
}

fn main() {
    let mut numbers = env::args().skip(1).filter_map(|arg| arg.parse::<usize>().ok());
    let threads = numbers.next().unwrap_or(1);
    let kinds: Vec<Isa> = Isa::available();
    for isa in kinds.into_iter().filter(|isa| ["avx512", "avx2"].contains(&isa.name())) {
        let exec = Exec::new(isa, threads);
        let mut scratch = AttentionScratch::new();
        println!("{} x {threads}", isa.name());
        println!("prompt: tokens heads/kv dim type | ms | share of the FMA peak, unmasked half only");
        for (tokens, heads, kv_heads, dim, ty) in [
            (2048, 32, 32, 64, KvType::F32),
            (2048, 32, 32, 128, KvType::F32),
            (2048, 32, 8, 128, KvType::F32),
            (2048, 32, 8, 128, KvType::F16),
            (2048, 20, 5, 128, KvType::F16),
            (2048, 9, 3, 64, KvType::F32),
            (2048, 32, 32, 80, KvType::F32),
        ] {
            let layer = Layer::new(&exec, heads, kv_heads, dim, ty, tokens);
            let (mut times, mut shares) = (Vec::new(), Vec::new());
            for _ in 0..5 {
                let before = fma_peak(&exec, 400 * threads);
                let seconds = layer.seconds(&exec, &mut scratch, tokens);
                let peak = (before + fma_peak(&exec, 400 * threads)) / 2.0;
                times.push(seconds);
                shares.push(layer.multiply_adds(tokens) / seconds / peak);
            }
            println!(
                "{tokens:6} {heads}/{kv_heads} {dim:4} {ty:?} | {:8.2} ms | {:.1}%",
                1e3 * median(times),
                100.0 * median(shares)
            );
        }
        println!("decode: depth m heads/kv dim type | us | bytes read per second, share of the bandwidth");
        let memory = vec![1u8; 160 << 20];
        for (depth, m, heads, kv_heads, dim, ty) in [
            (4096, 1, 20, 5, 128, KvType::F16),
            (4096, 1, 20, 5, 128, KvType::F32),
            (4096, 1, 32, 32, 64, KvType::F16),
            (4096, 1, 32, 8, 128, KvType::F16),
            (4096, 5, 20, 5, 128, KvType::F16),
            (512, 1, 20, 5, 128, KvType::F16),
        ] {
            // As many layers as keep the caches cold.
            let bytes = 2 * depth * kv_heads * dim * if ty == KvType::F16 { 2 } else { 4 };
            let layers: Vec<Layer> = (0..(160 << 20) / bytes)
                .map(|_| Layer::new(&exec, heads, kv_heads, dim, ty, depth))
                .collect();
            let (mut times, mut shares) = (Vec::new(), Vec::new());
            for _ in 0..3 {
                let bandwidth = read_bandwidth(&exec, &memory);
                let seconds: f64 = layers.iter().map(|layer| layer.seconds(&exec, &mut scratch, m)).sum();
                times.push(seconds / layers.len() as f64);
                shares.push((bytes * layers.len()) as f64 / seconds / bandwidth);
            }
            let seconds = median(times);
            println!(
                "{depth:6} {m} {heads}/{kv_heads} {dim:4} {ty:?} | {:8.1} us | {:.1} GB/s {:.0}%",
                1e6 * seconds,
                bytes as f64 / seconds / 1e9,
                100.0 * median(shares)
            );
        }
    }
}

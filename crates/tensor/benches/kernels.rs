//! Products as a share of what the machine can do, measured in turn in one run.
//!
//!     cargo bench -p chalot-tensor --bench kernels [-- FILTER]
//!
//! One token: bytes of weights per second, over the bandwidth of a plain read of as many bytes. 512 tokens:
//! multiply-adds per second, over the peak of the dot-product instruction. Samples are short and interleaved, and the
//! speed that a tenth of them reach is taken: neighbours only ever slow a sample down.
use std::{hint::black_box, time::Instant};

use bytes::Bytes;
use chalot_simd::{AlignedVec, Arena, Isa};
use chalot_tensor::{Activations, Exec, Matrix, MatrixSpec, matmul, yardstick};

/// Outputs and inputs of BitNet b1.58 2B-4T's up projection.
const SHAPE: (usize, usize) = (6912, 2560);
/// Outputs of the product with 512 tokens: fewer, so that a sample is short.
const PREFILL_ROWS: usize = 768;
/// Enough copies of the weights that none is in a cache when it is read again.
const RESIDENT_BYTES: usize = 192 << 20;
const ROUNDS: usize = 4;

fn main() {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let formats = [
        "trit2/tensor",
        "trit5/tensor",
        "trit2/128",
        "trit5/128",
        "int8/row",
        "int8/32",
        "int4/32",
        "int4m/32",
        "f16",
        "bf16",
        "f32",
    ];
    let mut memory = AlignedVec::<u8>::zeroed(RESIDENT_BYTES);
    memory.fill(1);
    for isa in Isa::available().into_iter().filter(|&isa| isa != Isa::scalar()) {
        for threads in [1, 2] {
            let exec = Exec::new(isa, threads);
            for format in formats {
                let name = format!("{isa} {threads} {format}");
                if name.contains(&filter) {
                    bench(&name, &exec, format, &memory);
                }
            }
        }
    }
}

fn bench(name: &str, exec: &Exec, format: &str, memory: &[u8]) {
    let spec = MatrixSpec { format: format.parse().expect("a format"), rows: SHAPE.0, cols: SHAPE.1 };
    let bytes = spec.image_len().expect("a small matrix");
    let mut arena = Arena::default(); // in huge pages, as the matrices of a model
    let matrices: Vec<Matrix> = (0..RESIDENT_BYTES.div_ceil(bytes))
        .map(|seed| random_matrix(spec, seed as u64 + 1).kept_in(&mut arena))
        .collect();
    let wide = random_matrix(MatrixSpec { rows: PREFILL_ROWS, ..spec }, 1);
    let (mut one, mut five, mut many) = (Product::new(1), Product::new(5), Product::new(512));
    let (mut read, mut decode, mut five_tokens) = (vec![], vec![], vec![]);
    let (mut peak, mut prefill, mut renewed) = (vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        for (index, w) in matrices.iter().enumerate() {
            let start = (index * bytes) % (memory.len() - bytes.min(memory.len() - 1));
            read.push(yardstick::read_bandwidth(exec, &memory[start..][..bytes.min(memory.len() - start)]));
            one.renew();
            five.renew();
            decode.push(one.per_second(exec, w));
            five_tokens.push(five.per_second(exec, &matrices[(index + matrices.len() / 2) % matrices.len()]));
        }
        for _ in 0..8 {
            peak.extend(yardstick::dot_peak(exec, 40 * exec.pool.threads()));
            many.renew();
            renewed.push(many.per_second(exec, &wide));
            prefill.push(many.per_second(exec, &wide));
        }
    }
    let (decode, read, five) = (fast(decode) * bytes as f64, fast(read), fast(five_tokens) * bytes as f64);
    let quantize = 1.0 / (1.0 / fast(renewed) - 1.0 / fast(prefill.clone())) * (SHAPE.1 * 512) as f64;
    let (prefill, peak) = (fast(prefill) * (PREFILL_ROWS * SHAPE.1 * 512) as f64, fast(peak));
    println!(
        "{name:22} m=1 {:6.2} GB/s ({:3.0}% of {:5.1})  m=5 {:4.2}x  m=512 {:6.1} GMAC/s ({:3.0}% of {:5.1})  input {:4.2} G/s",
        decode / 1e9,
        100.0 * decode / read,
        read / 1e9,
        decode / five,
        prefill / 1e9,
        100.0 * prefill / peak,
        peak / 1e9,
        quantize / 1e9,
    );
}

/// The input and output of a product.
struct Product {
    x: Activations,
    input: Vec<f32>,
    y: Vec<f32>,
    m: usize,
}

impl Product {
    fn new(m: usize) -> Self {
        let mut state = 1_u32;
        let input = (0..m * SHAPE.1)
            .map(|_| {
                state = state.wrapping_mul(1664525).wrapping_add(1013904223);
                (state >> 16) as f32 / 32768.0 - 1.0
            })
            .collect();
        Self { x: Activations::new(), input, y: vec![0.0; m * SHAPE.0], m }
    }

    fn renew(&mut self) {
        self.x.set(self.m, SHAPE.1).copy_from_slice(&self.input);
    }

    /// Includes the quantization of the activations if they were renewed.
    fn per_second(&mut self, exec: &Exec, w: &Matrix) -> f64 {
        let start = Instant::now();
        matmul(exec, w, &mut self.x, &mut self.y[..self.m * w.rows()]).expect("shapes fit");
        black_box(&mut self.y);
        1.0 / start.elapsed().as_secs_f64()
    }
}

/// Random codes; scales and floats of tame random bits.
fn random_matrix(spec: MatrixSpec, seed: u64) -> Matrix {
    let len = spec.image_len().expect("a small matrix");
    let mut image = AlignedVec::<u8>::zeroed(len);
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for eight in image.as_chunks_mut::<8>().0 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Without the upper exponent bits no float, of 16 bits or 32, is infinite or NaN.
        *eight = (state & 0xBFFF_BFFF_BFFF_BFFF).to_le_bytes();
    }
    Matrix::from_image(spec, Bytes::from_owner(image)).expect("the length fits")
}

/// The speed that a tenth of the samples reach.
fn fast(mut x: Vec<f64>) -> f64 {
    x.sort_by(|a, b| b.total_cmp(a));
    x.get(x.len() / 10).copied().unwrap_or(f64::NAN)
}

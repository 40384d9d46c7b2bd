//! `chalot bench kernels`: single products, as shares of the read bandwidth and of the peak of 8-bit products.
use std::{
    hint::black_box,
    io::{self, Write},
    time::Instant,
};

use chalot::{
    model::synthetic::{SHAPES, random_matrix, shape},
    simd::Arena,
    tensor::{Activations, Exec, Matrix, MatrixError, MatrixSpec, matmul},
};
use serde::Serialize;

use super::{
    median, percent,
    yardsticks::{Bandwidth, Peak},
};
use crate::{
    args::bench::{Kernels, Weights},
    cmd::print_json,
    failure::Usage,
    settings::Settings,
};

const FORMATS: [&str; 9] =
    ["trit2", "trit5", "trit2/128", "trit5/128", "int8", "int8/32", "int4", "int4m/32", "f16"];
/// Tokens of the products.
const TOKENS: [usize; 3] = [1, 5, 512];
/// Copies of a matrix take as much, so that none is in a cache when it is read again.
const RESIDENT: usize = 192 << 20;
/// A small matrix stays in a cache with so many copies too; then that is what is measured.
const COPIES: usize = 64;
/// Products of few tokens in a round.
const FEW: usize = 4;

/// One row of what `--json` prints. The keys are stable.
#[derive(Serialize)]
struct Row {
    shape: String,
    packing: String,
    threads: usize,
    isa: &'static str,
    rows: usize,
    cols: usize,
    tokens: usize,
    microseconds: f64,
    /// Bytes of weights per second, in 10^9, and the machine's read bandwidth.
    gbs: f64,
    bandwidth_gbs: f64,
    bandwidth_share: f64,
    /// Multiply-adds per second, in 10^9; the machine's peak of 8-bit ones and the share of it, where weights are integers
    /// and there are vector kernels.
    gmacs: f64,
    peak_gmacs: Option<f64>,
    peak_share: Option<f64>,
}

pub fn kernels(args: &Kernels, settings: &Settings) -> anyhow::Result<()> {
    let config = shape(&args.shape)
        .ok_or_else(|| Usage(format!("--shape {}: known are {}", args.shape, SHAPES.join(", "))))?;
    let exec = settings.exec();
    let all = || FORMATS.iter().filter_map(|name| name.parse().ok()).collect();
    let formats: Vec<Weights> = args.packing.clone().map_or_else(all, |one| vec![one]);
    let mut rows = Vec::new();
    for weights in formats {
        settings.console.note(&format!("measuring {}", weights.name));
        let format = weights.format;
        let spec = MatrixSpec { format, rows: config.intermediate_size, cols: config.hidden_size };
        rows.extend(measure(args, &weights, spec, &exec)?);
    }
    if args.json { print_json(&rows) } else { print(&rows) }
}

fn measure(args: &Kernels, weights: &Weights, spec: MatrixSpec, exec: &Exec) -> anyhow::Result<Vec<Row>> {
    let bytes = spec.image_len()?;
    let copies = RESIDENT.div_ceil(bytes).clamp(2, COPIES);
    let mut arena = Arena::default(); // in huge pages, as the matrices of a model
    let matrices: Vec<Matrix> = (1..=copies)
        .map(|seed| Ok(random_matrix(spec, seed as u64)?.kept_in(&mut arena)))
        .collect::<Result<_, MatrixError>>()?;
    let mut next = matrices.iter().cycle();
    let mut products = TOKENS.map(|tokens| Product::new(tokens, &spec));
    let (mut bandwidth, mut peak) = (Bandwidth::new(), Peak::default());
    for product in &mut products {
        // The first product makes room.
        product.run(exec, &matrices[0])?;
        product.times.clear();
    }
    for _ in 0..args.rounds {
        for product in &mut products {
            let few = product.tokens < TOKENS[2];
            for matrix in next.by_ref().take(if few { FEW } else { 1 }) {
                if few {
                    bandwidth.sample(exec, bytes);
                } else {
                    peak.sample(exec);
                }
                product.run(exec, matrix)?;
            }
        }
    }
    let (bandwidth, peak) = (bandwidth.median() / 1e9, peak.median().map(|peak| peak / 1e9));
    let peak = peak.filter(|_| spec.format.scale_by().is_some());
    Ok(products
        .into_iter()
        .map(|Product { tokens, times, .. }| {
            let seconds = median(times);
            let gbs = bytes as f64 / seconds / 1e9;
            let gmacs = (tokens * spec.rows * spec.cols) as f64 / seconds / 1e9;
            Row {
                shape: args.shape.clone(),
                packing: weights.name.clone(),
                threads: exec.pool.threads(),
                isa: exec.isa.name(),
                rows: spec.rows,
                cols: spec.cols,
                tokens,
                microseconds: seconds * 1e6,
                gbs,
                bandwidth_gbs: bandwidth,
                bandwidth_share: gbs / bandwidth,
                gmacs,
                peak_gmacs: peak,
                peak_share: peak.map(|peak| gmacs / peak),
            }
        })
        .collect())
}

/// A product's tokens, its output, and how long it took.
struct Product {
    tokens: usize,
    input: Vec<f32>,
    x: Activations,
    y: Vec<f32>,
    times: Vec<f64>,
}

impl Product {
    fn new(tokens: usize, spec: &MatrixSpec) -> Self {
        let input = (0..tokens * spec.cols).map(|i| (i as f32 * 0.7).sin()).collect();
        let y = vec![0.0; tokens * spec.rows];
        Self { tokens, input, x: Activations::new(), y, times: Vec::new() }
    }

    fn run(&mut self, exec: &Exec, w: &Matrix) -> anyhow::Result<()> {
        self.x.set(self.tokens, w.cols()).copy_from_slice(&self.input);
        let start = Instant::now();
        matmul(exec, w, &mut self.x, &mut self.y)?;
        self.times.push(start.elapsed().as_secs_f64());
        black_box(&mut self.y);
        Ok(())
    }
}

fn print(rows: &[Row]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if let Some(row) = rows.first() {
        let threads = if row.threads == 1 { "1 thread".into() } else { format!("{} threads", row.threads) };
        writeln!(out, "{}: {} x {}, {threads}, {}", row.shape, row.rows, row.cols, row.isa)?;
        writeln!(
            out,
            "{:10} {:>6} {:>10} {:>7} {:>5} {:>8} {:>5}",
            "packing", "tokens", "us", "GB/s", "share", "GMAC/s", "share"
        )?;
    }
    for row in rows {
        writeln!(
            out,
            "{:10} {:>6} {:>10.1} {:>7.1} {:>5} {:>8.1} {:>5}",
            row.packing,
            row.tokens,
            row.microseconds,
            row.gbs,
            percent(row.bandwidth_share),
            row.gmacs,
            row.peak_share.map_or_else(|| "-".into(), percent),
        )?;
    }
    Ok(())
}

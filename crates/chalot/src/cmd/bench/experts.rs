//! `chalot bench experts`: a mixture beside a dense model of equal work, and the pool beside threads made for each layer.
use std::{
    hint::black_box,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use chalot::{
    model::{
        Engine, EngineOptions, LayerConfig, Model, ModelConfig, Sequence, SequenceOptions,
        synthetic::{TokenTrace, shape, synthetic},
    },
    tensor::Exec,
};
use serde::Serialize;

use super::{median, percent};
use crate::{
    args::bench::ExpertsBench,
    cmd::{bytes, count, print_json},
    failure::Usage,
    settings::Settings,
};

const SEED: u64 = 1;
/// Tokens of a round: few, so that both models are measured close in time.
const ROUND: usize = 8;
/// Times that work is started and joined.
const STARTS: usize = 2000;

/// What `--json` prints. The keys are stable.
#[derive(Serialize)]
struct Report {
    shape: String,
    packing: String,
    threads: usize,
    isa: &'static str,
    tokens: usize,
    parameters: u64,
    bytes_per_token: u64,
    tokens_per_second: f64,
    dense_parameters: u64,
    dense_bytes_per_token: u64,
    dense_tokens_per_second: f64,
    /// The mixture's speed as a share of the dense model's: the median of the rounds.
    dense_share: f64,
    /// To start and join a layer's work with threads spawned for it, and on the pool, of a pass under way.
    spawn_microseconds: f64,
    pool_microseconds: f64,
    spawn_over_pool: f64,
}

pub fn experts(args: &ExpertsBench, settings: &Settings) -> anyhow::Result<()> {
    let config = shape(&args.shape).filter(|config| config.experts.is_some()).ok_or_else(|| {
        Usage(format!("--shape {}: it has no experts; ask for moe-2b or moe-64x24", args.shape))
    })?;
    let exec = settings.exec();
    settings.console.note(&format!("making random weights of {}, and of a dense model", args.shape));
    let make = |config| synthetic(config, args.packing.format, args.head.format, SEED).map(Arc::new);
    let (mixture, dense) = (make(config.clone())?, make(dense_twin(&config))?);
    let (mut of_mixture, mut of_dense) = (Runner::new(&mixture, &exec)?, Runner::new(&dense, &exec)?);
    let tokens: Vec<u32> = TokenTrace::new(config.vocab_size, SEED).take(args.tokens + ROUND).collect();
    let (mut fast, mut slow, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for (round, tokens) in tokens.chunks(ROUND).enumerate() {
        let (a, b) = (of_mixture.speed(tokens)?, of_dense.speed(tokens)?);
        // The first round makes room for everything.
        if round > 0 {
            fast.push(a);
            slow.push(b);
            shares.push(a / b);
        }
    }
    let (spawn, pool) = starting_costs(&exec);
    let report = Report {
        shape: args.shape.clone(),
        packing: args.packing.name.clone(),
        threads: exec.pool.threads(),
        isa: exec.isa.name(),
        tokens: args.tokens,
        parameters: mixture.parameters(),
        bytes_per_token: mixture.bytes_per_token(),
        tokens_per_second: median(fast),
        dense_parameters: dense.parameters(),
        dense_bytes_per_token: dense.bytes_per_token(),
        dense_tokens_per_second: median(slow),
        dense_share: median(shares),
        spawn_microseconds: 1e6 * spawn,
        pool_microseconds: 1e6 * pool,
        spawn_over_pool: spawn / pool,
    };
    if args.json { print_json(&report) } else { report.print() }
}

/// The mixture with one network a layer, as wide as what a token visits.
fn dense_twin(config: &ModelConfig) -> ModelConfig {
    let width = config.experts.as_ref().map_or(0, |experts| experts.top_k * experts.intermediate_size);
    let layers = config.layers.iter().map(|layer| LayerConfig { experts: false, ..*layer });
    ModelConfig { intermediate_size: width, layers: layers.collect(), experts: None, ..config.clone() }
}

/// A model and the text that it generates.
struct Runner {
    engine: Engine,
    sequence: Sequence,
}

impl Runner {
    fn new(model: &Arc<Model>, exec: &Exec) -> anyhow::Result<Self> {
        let engine = Engine::new(model.clone(), exec.clone(), EngineOptions::default())?;
        Ok(Self { engine, sequence: Sequence::new(model, SequenceOptions::default())? })
    }

    /// Tokens per second.
    fn speed(&mut self, tokens: &[u32]) -> anyhow::Result<f64> {
        let start = Instant::now();
        for token in tokens {
            black_box(self.engine.forward(&mut self.sequence, std::slice::from_ref(token))?);
        }
        Ok(tokens.len() as f64 / start.elapsed().as_secs_f64())
    }
}

/// Seconds to have every thread at work at the same time and to join them: with threads spawned for it, and on the pool.
fn starting_costs(exec: &Exec) -> (f64, f64) {
    let threads = exec.pool.threads();
    let started = AtomicUsize::new(0);
    let task = |_: usize| {
        started.fetch_add(1, Ordering::Relaxed);
        // The pool has as many threads as there are tasks, so that each has one and all come here.
        while started.load(Ordering::Relaxed) < threads {
            std::hint::spin_loop();
        }
    };
    let time = |work: &dyn Fn()| {
        started.store(0, Ordering::Relaxed);
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    let _awake = exec.pool.stay_awake();
    let pool: Vec<f64> = (0..STARTS).map(|_| time(&|| exec.pool.run(threads, &task))).collect();
    let spawn = |_| {
        time(&|| {
            std::thread::scope(|scope| {
                (1..threads).for_each(|index| drop(scope.spawn(move || task(index))));
                task(0);
            });
        })
    };
    (median((0..STARTS).map(spawn).collect()), median(pool))
}

impl Report {
    fn print(&self) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        let threads = if self.threads == 1 { "1 thread".into() } else { format!("{} threads", self.threads) };
        writeln!(out, "{}, {}, {threads}, {}", self.shape, self.packing, self.isa)?;
        writeln!(
            out,
            "mixture             {:.2} tokens per second ({} parameters, {} read for each token)",
            self.tokens_per_second,
            count(self.parameters),
            bytes(self.bytes_per_token)
        )?;
        writeln!(
            out,
            "dense               {:.2} tokens per second ({} parameters, {} read for each token)",
            self.dense_tokens_per_second,
            count(self.dense_parameters),
            bytes(self.dense_bytes_per_token)
        )?;
        writeln!(out, "share               {}", percent(self.dense_share))?;
        writeln!(
            out,
            "threads spawned     {:.2} us to start and join a layer's work",
            self.spawn_microseconds
        )?;
        writeln!(out, "the pool            {:.2} us", self.pool_microseconds)?;
        writeln!(out, "spawned over pool   {:.0}", self.spawn_over_pool)?;
        Ok(())
    }
}

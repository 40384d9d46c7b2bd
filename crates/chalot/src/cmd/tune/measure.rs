//! The work that candidates do, in turn.
use std::{
    hint::black_box,
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use chalot::{
    model::{
        Engine, Model, Sequence, SequenceOptions,
        synthetic::{SHAPES, shape, synthetic},
    },
    simd::Isa,
    tensor::{Exec, Format, Packing, ScaleBy},
};

use crate::{failure::Usage, tuning::Values};

/// Layers that a token reads: more than caches hold.
const LAYERS: usize = 8;
/// Layers that a long prompt goes through: enough to have every operation, few enough to be done soon.
const PROMPT_LAYERS: usize = 2;
/// The head is no part of what is measured.
const VOCAB: usize = 256;
const SEED: u64 = 1;

/// Tokens of the works.
const PROMPT: usize = 512;
const FEW: [usize; 4] = [16, 24, 64, 128];
const TURN: (usize, usize) = (32, 8);
const DECODE: usize = 4;

/// What candidates are measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// One token after the other.
    Decode,
    /// A short prompt and some tokens one after the other.
    Turn,
    /// Passes of more tokens than a draft and fewer than a chunk.
    Few,
    /// A long prompt.
    Prompt,
}

impl Work {
    /// For people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Work::Decode => "token after token",
            Work::Turn => "32 tokens, then 8 singly",
            Work::Few => "16 to 128 tokens",
            Work::Prompt => "512 tokens",
        }
    }

    fn layers(self) -> usize {
        if self == Work::Prompt { PROMPT_LAYERS } else { LAYERS }
    }
}

/// How long candidates are measured.
pub struct Patience {
    /// All of them together.
    pub time: Duration,
    /// At least and at most, whatever the time.
    pub rounds: RangeInclusive<usize>,
}

/// Where candidates are compared: the models with random weights are made when they are needed, and kept.
pub struct Bench {
    shape: String,
    isa: Isa,
    models: Vec<(Packing, usize, Arc<Model>)>,
}

impl Bench {
    /// For a shape known by name.
    ///
    /// # Errors
    /// [`Usage`] when it is not known.
    pub fn new(name: &str, isa: Isa) -> Result<Self, Usage> {
        match shape(name) {
            Some(_) => Ok(Self { shape: name.to_owned(), isa, models: Vec::new() }),
            None => Err(Usage(format!("--shape {name}: known are {}", SHAPES.join(", ")))),
        }
    }

    /// The speeds of every candidate, in products of weights per second: in each round one of each, beginning with another
    /// one every time.
    ///
    /// # Errors
    /// None that a candidate could cause.
    pub fn compare(
        &mut self,
        work: Work,
        candidates: &[Values],
        patience: &Patience,
    ) -> anyhow::Result<Vec<Vec<f64>>> {
        let mut runs: Vec<Run> = Vec::new();
        for values in candidates {
            let model = self.model(values.packing, work.layers())?;
            let same = runs.iter().find(|run| run.engine.exec().pool.threads() == values.threads);
            // Candidates share threads where they can: none then wakes up what another has put to sleep.
            let exec = same
                .map_or_else(|| Exec::new(self.isa, values.threads), |run| run.engine.exec().clone())
                .with_tiling(values.tiling);
            runs.push(Run::new(&model, exec, values)?);
        }
        for run in &mut runs {
            run.work(work)?; // makes room for everything
        }
        let mut speeds = vec![Vec::new(); runs.len()];
        let start = Instant::now();
        for round in 0..*patience.rounds.end() {
            if round >= *patience.rounds.start() && start.elapsed() >= patience.time {
                break;
            }
            for turn in 0..runs.len() {
                let index = (round + turn) % runs.len();
                speeds[index].push(runs[index].work(work)?);
            }
        }
        Ok(speeds)
    }

    fn model(&mut self, packing: Packing, layers: usize) -> anyhow::Result<Arc<Model>> {
        let known = self.models.iter().find(|(p, l, _)| (*p, *l) == (packing, layers));
        if let Some((_, _, model)) = known {
            return Ok(model.clone());
        }
        let mut config = shape(&self.shape).ok_or_else(|| Usage(format!("no shape {}", self.shape)))?;
        config.layers.truncate(layers);
        config.vocab_size = VOCAB;
        let model = synthetic(config, packing.scaled(ScaleBy::Tensor), Format::Int8(ScaleBy::Row), SEED)?;
        let model = Arc::new(model);
        self.models.push((packing, layers, model.clone()));
        Ok(model)
    }
}

/// A candidate at work.
struct Run {
    engine: Engine,
    sequence: Sequence,
    tokens: Vec<u32>,
    /// Weights that a token meets.
    weights: f64,
}

impl Run {
    fn new(model: &Arc<Model>, exec: Exec, values: &Values) -> anyhow::Result<Self> {
        let embedding = model.embedding.rows() * model.embedding.cols();
        Ok(Self {
            engine: Engine::new(model.clone(), exec, values.engine_options())?,
            sequence: Sequence::new(model, SequenceOptions::default())?,
            tokens: (0..PROMPT as u32).map(|i| i.wrapping_mul(2_654_435_761) % VOCAB as u32).collect(),
            weights: (model.parameters() - embedding as u64) as f64,
        })
    }

    /// Does the work once and returns its speed in products of weights per second.
    fn work(&mut self, work: Work) -> anyhow::Result<f64> {
        self.sequence.truncate(0);
        let (start, tokens) = match work {
            Work::Decode => {
                self.pass(1)?; // wakes the threads
                let start = Instant::now();
                for _ in 0..DECODE {
                    self.pass(1)?;
                }
                (start, DECODE)
            }
            Work::Turn => {
                let start = Instant::now();
                self.pass(TURN.0)?;
                for _ in 0..TURN.1 {
                    self.pass(1)?;
                }
                (start, TURN.0 + TURN.1)
            }
            Work::Few => {
                let start = Instant::now();
                for tokens in FEW {
                    self.pass(tokens)?;
                }
                (start, FEW.iter().sum())
            }
            Work::Prompt => {
                let start = Instant::now();
                self.pass(PROMPT)?;
                (start, PROMPT)
            }
        };
        Ok(tokens as f64 * self.weights / start.elapsed().as_secs_f64())
    }

    fn pass(&mut self, tokens: usize) -> anyhow::Result<()> {
        black_box(self.engine.forward(&mut self.sequence, &self.tokens[..tokens])?);
        Ok(())
    }
}

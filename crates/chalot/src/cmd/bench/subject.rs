//! The model that is measured.
use std::sync::Arc;

use chalot::model::{
    Engine, EngineOptions, Ffn, Model, Sequence, SequenceOptions,
    synthetic::{SHAPES, shape, synthetic},
};
use chalot::tensor::Exec;
use serde::Serialize;

use crate::{args::bench::Of, failure::Usage, settings::Settings};

const SEED: u64 = 1;
/// A typing mistake rather than a wish.
const MOST_TOKENS: usize = 1 << 17;

/// What the result says about the model.
#[derive(Serialize)]
pub struct Described {
    pub shape: String,
    pub packing: String,
    pub head: String,
    pub threads: usize,
    pub isa: &'static str,
    /// How many were computed, and how many the shape has.
    pub layers: usize,
    pub shape_layers: usize,
    /// Tokens that were there before the measured ones.
    pub depth: usize,
    /// The type of keys and values.
    pub kv: &'static str,
}

/// A synthetic model, its engine, and a sequence that holds `depth` tokens.
pub struct Subject {
    pub described: Described,
    pub model: Arc<Model>,
    pub engine: Engine,
    pub sequence: Sequence,
    /// Enough to be measured with; made up.
    pub tokens: Vec<u32>,
}

impl Subject {
    /// Makes the model and computes the first `depth` tokens.
    pub fn new(
        of: &Of,
        (depth, new): (usize, usize),
        options: EngineOptions,
        settings: &Settings,
    ) -> anyhow::Result<Self> {
        let mut config = shape(&of.shape)
            .ok_or_else(|| Usage(format!("--shape {}: known are {}", of.shape, SHAPES.join(", "))))?;
        let asked = depth.saturating_add(new);
        if asked > MOST_TOKENS {
            let asked = format!("--depth {depth} and {new} more tokens");
            return Err(Usage(format!("{asked}: more than the {MOST_TOKENS} that are measured here")).into());
        }
        // Random weights know nothing of lengths.
        config.context_length = config.context_length.max(asked);
        let shape_layers = config.num_layers();
        let layers = of.layers.unwrap_or(shape_layers);
        if layers > shape_layers {
            return Err(
                Usage(format!("--layers {layers}: {} has {shape_layers}; ask for fewer", of.shape)).into()
            );
        }
        config.layers.truncate(layers);
        let tokens = (0..depth.max(new) as u64)
            .map(|i| (i.wrapping_mul(2_654_435_761) % config.vocab_size as u64) as u32)
            .collect();
        settings.console.note(&format!("making random weights of {}", of.shape));
        let model = Arc::new(synthetic(config, of.packing.format, of.head.format, SEED)?);
        let exec = settings.exec();
        let described = Described {
            shape: of.shape.clone(),
            packing: of.packing.name.clone(),
            head: of.head.name.clone(),
            threads: exec.pool.threads(),
            isa: exec.isa.name(),
            layers,
            shape_layers,
            depth,
            kv: "",
        };
        let engine = Engine::new(model.clone(), exec, options)?;
        let sequence = Sequence::new(&model, SequenceOptions { context: None, kv: of.kv.map(Into::into) })?;
        let mut subject = Self { described, model, engine, sequence, tokens };
        subject.described.kv = subject.sequence.kv().shape().ty.name();
        if depth > 0 {
            subject.engine.prefill(&mut subject.sequence, &subject.tokens[..depth])?;
        }
        Ok(subject)
    }

    /// The threads.
    pub fn exec(&self) -> Exec {
        self.engine.exec().clone()
    }

    /// Bytes of weights that a token reads. Looking up its embedding counts nothing.
    pub fn bytes_per_token(&self) -> u64 {
        let embedding = &self.model.embedding;
        self.model.bytes_per_token() - embedding.bytes() as u64 / embedding.rows() as u64
    }

    /// Multiply-adds of a token with the layers' matrices, and with the head.
    pub fn products(&self) -> (u64, u64) {
        let layers = self.model.layers.iter().flat_map(|layer| {
            let attention = &layer.attention;
            let ffn = match &layer.ffn {
                Ffn::Dense(ffn) => Some([&ffn.gate, &ffn.up, &ffn.down]),
                // No shape has experts.
                Ffn::Experts(_) => None,
            };
            [&attention.q, &attention.k, &attention.v, &attention.o]
                .into_iter()
                .chain(ffn.into_iter().flatten())
        });
        let size = |rows: usize, cols: usize| rows as u64 * cols as u64;
        let head = self.model.head();
        (layers.map(|l| size(l.weight.rows(), l.weight.cols())).sum(), size(head.rows(), head.cols()))
    }
}

impl Described {
    /// "bitnet-2b (4 of 30 layers), trit2, head int8, 2 threads, avx512"
    pub fn line(&self) -> String {
        let layers = if self.layers == self.shape_layers {
            String::new()
        } else {
            format!(" ({} of {} layers)", self.layers, self.shape_layers)
        };
        let threads = if self.threads == 1 { "1 thread".into() } else { format!("{} threads", self.threads) };
        let depth = if self.depth == 0 {
            String::new()
        } else {
            format!(", after {} tokens ({})", self.depth, self.kv)
        };
        format!(
            "{}{layers}, {}, head {}, {threads}, {}{depth}",
            self.shape, self.packing, self.head, self.isa
        )
    }
}

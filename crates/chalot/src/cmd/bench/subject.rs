//! The model that is measured.
use std::{path::Path, sync::Arc};

use chalot::model::{
    Engine, EngineOptions, Ffn, GatedFfn, LoadOptions, Model, Sequence, SequenceOptions, Source, Step,
    synthetic::{SHAPES, shape, synthetic},
};
use chalot::tensor::{Exec, Matrix};
use serde::Serialize;

use crate::{args::bench::Of, console::Unit, failure::Usage, settings::Settings};

const SEED: u64 = 1;
/// A typing mistake rather than a wish.
const MOST_TOKENS: usize = 1 << 17;

/// What the result says about the model.
#[derive(Serialize)]
pub struct Described {
    /// The file, as typed; null for random weights.
    pub model: Option<String>,
    /// The shape's name; of a file the name inside, or the file's own.
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

/// A model, its engine, and a sequence that holds `depth` tokens.
pub struct Subject {
    pub described: Described,
    pub model: Arc<Model>,
    pub engine: Engine,
    pub sequence: Sequence,
    /// Enough to be measured with; made up.
    pub tokens: Vec<u32>,
}

impl Subject {
    /// Makes or opens the model and computes the first `depth` tokens.
    pub fn new(
        of: &Of,
        (depth, new): (usize, usize),
        options: EngineOptions,
        settings: &Settings,
    ) -> anyhow::Result<Self> {
        let exec = settings.exec();
        let tokens = depth.saturating_add(new);
        let fits = |most: usize, what: &str| {
            let asked = format!("--depth {depth} and {new} more tokens");
            if tokens > most {
                Err(Usage(format!("{asked}: more than the {most} that {what}")))
            } else {
                Ok(())
            }
        };
        let mut described = Described {
            model: None,
            shape: of.shape.clone(),
            packing: of.packing.name.clone(),
            head: of.head.name.clone(),
            threads: exec.pool.threads(),
            isa: exec.isa.name(),
            layers: 0,
            shape_layers: 0,
            depth,
            kv: "",
        };
        let model = if let Some(path) = &of.model {
            let source = Source::open(path)?;
            fits(source.config()?.context_length, &format!("{} was made for", path.display()))?;
            let model = load(&source, &exec, settings)?;
            described.of_file(path, &model);
            model
        } else {
            let mut config = shape(&of.shape)
                .ok_or_else(|| Usage(format!("--shape {}: known are {}", of.shape, SHAPES.join(", "))))?;
            fits(MOST_TOKENS, "are measured here")?;
            // Random weights know nothing of lengths.
            config.context_length = config.context_length.max(tokens);
            described.shape_layers = config.num_layers();
            described.layers = of.layers.unwrap_or(described.shape_layers);
            if described.layers > described.shape_layers {
                let Described { layers, shape_layers, .. } = described;
                let refused = format!("--layers {layers}: {} has {shape_layers}; ask for fewer", of.shape);
                return Err(Usage(refused).into());
            }
            config.layers.truncate(described.layers);
            settings.console.note(&format!("making random weights of {}", of.shape));
            synthetic(config, of.packing.format, of.head.format, SEED)?
        };
        let vocab = model.config.vocab_size as u64;
        let tokens =
            (0..depth.max(new) as u64).map(|i| (i.wrapping_mul(2_654_435_761) % vocab) as u32).collect();
        let model = Arc::new(model);
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
        (visited(&self.model).map(|(_, matrix)| products(matrix)).sum(), products(self.model.head()))
    }

    /// Bytes of the matrices that a token meets in a step, and multiply-adds with them.
    pub fn work_of(&self, step: Step) -> (u64, u64) {
        let matrices = visited(&self.model).chain([(Step::Head, self.model.head())]);
        let of_step = matrices.filter(|(of, _)| *of == step).map(|(_, matrix)| matrix);
        of_step.fold((0, 0), |(bytes, all), matrix| (bytes + matrix.bytes() as u64, all + products(matrix)))
    }
}

/// Multiply-adds of a token with a matrix.
fn products(matrix: &Matrix) -> u64 {
    matrix.rows() as u64 * matrix.cols() as u64
}

/// The matrices of all layers that one token meets, and in which step: of the experts some, of the routers none, as they are tiny.
fn visited(model: &Model) -> impl Iterator<Item = (Step, &Matrix)> {
    let top_k = model.config.experts.as_ref().map_or(0, |experts| experts.top_k);
    model.layers.iter().flat_map(move |layer| {
        let attention = &layer.attention;
        let ffns: Vec<&GatedFfn> = match &layer.ffn {
            Ffn::Dense(ffn) => vec![ffn],
            Ffn::Experts(ffn) => ffn.experts.iter().take(top_k).chain(&ffn.shared).collect(),
        };
        let ffns = ffns.into_iter().flat_map(|GatedFfn { gate, up, down, .. }| {
            [(Step::GateAndUp, gate), (Step::GateAndUp, up), (Step::Down, down)]
        });
        let inputs = [&attention.q, &attention.k, &attention.v].map(|input| (Step::QueryKeyValue, input));
        let attention = inputs.into_iter().chain([(Step::Output, &attention.o)]);
        attention.chain(ffns).map(|(step, linear)| (step, &linear.weight))
    })
}

/// The weights of a file, each in the form closest to what is there.
fn load(source: &Source, exec: &Exec, settings: &Settings) -> anyhow::Result<Model> {
    let bar = settings.console.bar("loading", Unit::Bytes);
    let progress = |done, total| bar.set(done, total, "");
    Ok(source.load(exec, &LoadOptions { progress: Some(&progress), ..LoadOptions::default() })?)
}

impl Described {
    /// Says what came out of a file: the formats of its layers' matrices, in the order of their first use.
    fn of_file(&mut self, path: &Path, model: &Model) {
        let mut formats: Vec<String> = Vec::new();
        for (_, matrix) in visited(model) {
            let format = matrix.format().to_string();
            if !formats.contains(&format) {
                formats.push(format);
            }
        }
        self.model = Some(path.display().to_string());
        let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        self.shape = Some(&model.config.name).filter(|name| !name.is_empty()).cloned().unwrap_or_else(stem);
        self.packing = formats.join("+");
        self.head = model.head().format().to_string();
        self.layers = model.layers.len();
        self.shape_layers = self.layers;
    }

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

//! The tables of a recipe and their defaults.

use chalot_model::RecommendedSampling;
use serde::{Deserialize, Serialize};

use crate::network::Architecture;
use crate::optim::{OptimizerOptions, Schedule};

/// Everything that decides what a run makes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What the model is called.
    pub name: String,
    /// All random numbers come from it.
    #[serde(default = "one")]
    pub seed: u64,
    /// Of the weights; written into the model card.
    #[serde(default)]
    pub license: Option<String>,
    /// A sentence or two about the model; written into the model card.
    #[serde(default)]
    pub description: Option<String>,
    /// Sampling that goes with the model; written into its files.
    #[serde(default)]
    pub sampling: RecommendedSampling,
    /// The texts.
    pub data: Data,
    /// The vocabulary.
    pub tokenizer: Vocabulary,
    /// The model.
    pub model: Architecture,
    /// A run or a model whose weights it begins with.
    #[serde(default)]
    pub start: Option<Beginning>,
    /// How long, and how much at a time.
    pub train: Training,
    /// What is minimised beside the loss of the whole model.
    #[serde(default)]
    pub objective: Objective,
    /// How parameters are moved.
    #[serde(default)]
    pub optimizer: OptimizerOptions,
    /// How learning rate, weight decay and quantization go over the steps.
    #[serde(default)]
    pub schedule: Schedule,
    /// Measuring on held-out text.
    #[serde(default)]
    pub evaluate: Evaluation,
    /// What is kept to go on from.
    #[serde(default)]
    pub checkpoint: Checkpoints,
}

/// `[data]`: the texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// What they are made of.
    pub texts: Vec<TextSource>,
    /// Which of them are only measured.
    pub held_out: HeldOut,
    /// What is done to them first.
    #[serde(default)]
    pub prepare: Prepare,
}

/// `[[data.texts]]`: a file or a folder of texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSource {
    /// Plain text, JSON lines or parquet, also packed with gzip, zstd or xz; a folder of such files; or a list of them.
    pub path: Paths,
    /// Where it can be had by everyone.
    #[serde(default)]
    pub source: Option<String>,
    /// Its licence; written into the model card.
    #[serde(default)]
    pub license: Option<String>,
    /// A list of the texts that are used: `repeat <TAB> opening words <TAB> name`.
    #[serde(default)]
    pub books: Option<String>,
    /// How often an epoch reads it, where no list says so.
    #[serde(default = "one_usize")]
    pub repeat: usize,
    /// What stands between two texts of a plain file; empty: a file is one text.
    #[serde(default = "end_of_text")]
    pub separator: String,
    /// The field of JSON lines or the column of a parquet file that holds the text.
    #[serde(default = "text")]
    pub field: String,
}

/// One path, or a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a path or a list of paths")]
pub enum Paths {
    /// One.
    One(String),
    /// Several, read as one collection.
    Several(Vec<String>),
}

impl Paths {
    /// All of them.
    pub fn names(&self) -> &[String] {
        match self {
            Paths::One(path) => std::slice::from_ref(path),
            Paths::Several(paths) => paths,
        }
    }
}

/// `[data.held_out]`: whole texts (books) that are only measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// Each text with such a number.
    #[serde(default)]
    pub every: Option<usize>,
    /// One text in so many, by a hash of its words: the same ones whatever else there is.
    #[serde(default)]
    pub hash: Option<usize>,
    /// Texts whose names contain one of these.
    #[serde(default)]
    pub names: Vec<String>,
}

/// What is done to the texts before they are encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prepare {
    /// A text is a document, as it is.
    #[default]
    Nothing,
    /// Books become chapters of clean prose.
    Prose,
}

/// `[tokenizer]`: a vocabulary to train, or one to take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vocabulary {
    /// Entries, special tokens and single bytes among them.
    #[serde(default = "vocabulary_size")]
    pub size: usize,
    /// A vocabulary to take instead of training one: tokenizer.json, .tiktoken, or a .gguf file, which may be a model.
    #[serde(default)]
    pub file: Option<String>,
    /// How text is cut before merging: gpt2, cl100k, o200k, llama3, qwen2, or a regular expression.
    #[serde(default = "gpt2")]
    pub pattern: String,
    /// The token between two documents, from which generation begins.
    #[serde(default = "end_of_text")]
    pub end_of_text: String,
    /// More special tokens.
    #[serde(default)]
    pub special_tokens: Vec<String>,
}

/// `[train]`: how long, and how much at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Steps of the optimizer.
    pub steps: u64,
    /// Tokens of a row that are predicted.
    pub context: usize,
    /// Rows of a step.
    pub rows: usize,
    /// Rows that are computed together; `rows` is this times a power of two. The sum of the gradients of all parts is the same
    /// for any number of processes.
    #[serde(default)]
    pub micro_rows: Option<usize>,
    /// Where rows begin.
    #[serde(default)]
    pub cut: Cut,
    /// The run stops when the mean loss of 20 steps is higher than the lowest such mean by so much, in nats; 0: never.
    #[serde(default = "spike")]
    pub spike: f64,
}

/// Where rows begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cut {
    /// One behind the other.
    #[default]
    Anywhere,
    /// With a document or a paragraph of narration, so that a model that begins from nothing begins like that.
    Paragraphs,
}

/// `[start]`: weights of another run, or of a finished model. The vocabulary must be the same: name the
/// model, or the run's `data/tokenizer.json`, in `tokenizer.file`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beginning {
    /// The folder of the run; its newest checkpoint is taken. Weights of the same name and shape are copied, and experts
    /// become slices of the feed-forward layers of a dense model. Its vocabulary is in `data/tokenizer.json`.
    #[serde(default)]
    pub run: Option<String>,
    /// A model file or Hugging Face folder that this program wrote, of the same architecture. What ternary weights were before
    /// they were rounded is lost, so the first steps go a little back.
    #[serde(default)]
    pub model: Option<String>,
}

/// `[objective]`: what is minimised beside the loss of the whole model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Objective {
    /// Factor of the loss at the early exit; 0: the exit is not trained.
    pub exit_weight: f32,
    /// The share of a part's rows on which the exit is trained.
    pub exit_share: f32,
    /// The share of the exit's aim that is the whole model's distribution instead of the text (Hinton et al. 2015): drafts are
    /// right where both say the same.
    pub exit_teacher: f32,
    /// The share of the run in which `exit_weight` rises from 0.
    pub exit_rise: f32,
    /// Probability with which the last layer is left out; earlier ones less, those of the shallow region never.
    pub layer_drop: f32,
    /// Factor of the square of the logits' log-sum-exp.
    pub z_loss: f32,
    /// The same for the routers.
    pub router_z_loss: f32,
    /// Factor of the balance loss of a sequence.
    pub balance_loss: f32,
    /// How far each step moves an expert's selection bias against its load.
    pub balance_rate: f32,
    /// Keep only the inputs of layers and compute the rest again on the way back: less memory, a third more time.
    pub recompute: bool,
}

impl Default for Objective {
    fn default() -> Objective {
        Objective {
            exit_weight: 0.2,
            exit_share: 0.25,
            exit_teacher: 0.0,
            exit_rise: 0.1,
            layer_drop: 0.0,
            z_loss: 1e-4,
            router_z_loss: 1e-3,
            balance_loss: 1e-3,
            balance_rate: 1e-3,
            recompute: false,
        }
    }
}

/// `[evaluate]`: measuring on held-out text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Evaluation {
    /// Each so many steps, and at the end.
    pub every: u64,
    /// At most so many tokens of held-out text.
    pub tokens: usize,
    /// Tokens of the sample; 0: no sample.
    pub sample: usize,
    /// What the sample goes on from.
    pub prompt: String,
    /// Of the sample; 0: the likeliest token each time.
    pub temperature: Temperature,
}

impl Default for Evaluation {
    fn default() -> Evaluation {
        let temperature = Temperature::default();
        Evaluation { every: 500, tokens: 32_768, sample: 100, prompt: String::new(), temperature }
    }
}

/// In hundredths, so that it can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "f32", into = "f32")]
pub struct Temperature(u32);

impl Temperature {
    /// As a number.
    pub fn value(self) -> f32 {
        self.0 as f32 / 100.0
    }
}

impl Default for Temperature {
    fn default() -> Temperature {
        Temperature(80)
    }
}

impl From<f32> for Temperature {
    fn from(value: f32) -> Temperature {
        Temperature((value * 100.0).round() as u32)
    }
}

impl From<Temperature> for f32 {
    fn from(temperature: Temperature) -> f32 {
        temperature.value()
    }
}

/// `[checkpoint]`: what is kept to go on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Checkpoints {
    /// Each so many steps, and at the end.
    pub every: u64,
    /// How many of the newest are kept.
    pub keep: usize,
}

impl Default for Checkpoints {
    fn default() -> Checkpoints {
        Checkpoints { every: 500, keep: 2 }
    }
}

impl Training {
    /// Rows that are computed together.
    pub fn micro_rows(&self) -> usize {
        self.micro_rows.unwrap_or(self.rows)
    }

    /// Parts of a step: a power of two.
    pub fn parts(&self) -> usize {
        self.rows / self.micro_rows().max(1)
    }

    /// Tokens that a step predicts.
    pub fn tokens(&self) -> u64 {
        (self.rows * self.context) as u64
    }
}

fn one() -> u64 {
    1
}

fn one_usize() -> usize {
    1
}

fn vocabulary_size() -> usize {
    4096
}

fn end_of_text() -> String {
    "<|endoftext|>".into()
}

fn text() -> String {
    "text".into()
}

fn gpt2() -> String {
    "gpt2".into()
}

fn spike() -> f64 {
    1.5
}

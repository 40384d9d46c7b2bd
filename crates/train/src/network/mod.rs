//! A model with master weights: forward and backward passes, written out.
//!
//! A layer is that of [`chalot_model::engine`], with the same kernels:
//!
//! ```text
//! h += o(sub_norm(attention(rope(qk_norm(q, k)), v)))        of norm(h)
//! h += down(sub_norm(relu(gate)^2 up))                       of norm(h), or a mixture of such networks
//! ```
//!
//! **Invariant:** with `lambda` 1 the logits are those of the exported file, bit for bit: weights are quantized by the
//! same function, products are the same kernels, a token's bits do not depend on the tokens beside it.
//!
//! **Invariant:** gradients do not depend on the number of threads: work is cut into pieces of fixed size.
mod architecture;
mod attention;
mod ffn;
mod from_model;
mod gradients;
mod head;
mod mixture;
mod parameter;
mod pass;
mod prepared;
mod seen;

use chalot_model::ModelConfig;
use chalot_tensor::exec::Exec;
use chalot_tensor::matrix::Matrix;
use chalot_tensor::rope::RopeTable;

pub use architecture::{Architecture, EmbeddingFormat, ExpertsArchitecture};
pub use gradients::{Gradients, Losses};
pub use parameter::{Kind, Parameter};

use self::parameter::{EMBEDDING, Layout};
pub(crate) use self::parameter::{FfnIds, LayerFfn, LayerIds};
use self::pass::Work;
pub(crate) use self::pass::try_run;
use self::prepared::Prepared;
use crate::error::TrainError;
pub use crate::ops::cross_entropy::IGNORED;

/// Rows of token ids that are computed together.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Tokens of a row.
    pub length: usize,
    /// Row after row.
    pub inputs: &'a [u32],
    /// What follows each input; [`IGNORED`] where nothing is to be predicted.
    pub targets: &'a [u32],
}

/// What a step does beside predicting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOptions {
    /// How far quantization is phased in, 0 to 1; a network that is not ternary takes it as 0.
    pub lambda: f32,
    /// What gradients are multiplied by: 1 over the tokens of the step makes the gradient of its mean loss.
    pub weight: f32,
    /// Factor of the loss at the early exit.
    pub exit_weight: f32,
    /// The share of a batch's rows on which the exit is trained (a head costs much in a small model).
    pub exit_share: f32,
    /// The share of the exit's aim that is the whole model's distribution instead of the text.
    pub exit_teacher: f32,
    /// Probability with which the last layer is left out; earlier ones less, in proportion, those of the shallow region never.
    pub layer_drop: f32,
    /// Factor of the square of the logits' log-sum-exp.
    pub z_loss: f32,
    /// The same for the routers.
    pub router_z_loss: f32,
    /// Factor of the balance loss of a sequence.
    pub balance_loss: f32,
    /// Decides which layers are left out.
    pub seed: u64,
    /// Keep only the layers' inputs and compute the rest again on the way back: less memory, a third more time.
    pub recompute: bool,
}

impl Default for StepOptions {
    fn default() -> Self {
        Self {
            lambda: 1.0,
            weight: 1.0,
            exit_weight: 0.0,
            exit_share: 1.0,
            exit_teacher: 0.0,
            layer_drop: 0.0,
            z_loss: 0.0,
            router_z_loss: 0.0,
            balance_loss: 0.0,
            seed: 0,
            recompute: false,
        }
    }
}

/// A model in training.
pub struct Network {
    config: ModelConfig,
    ternary: bool,
    embedding: EmbeddingFormat,
    exec: Exec,
    parameters: Vec<Parameter>,
    layers: Vec<LayerIds>,
    final_norm: usize,
    /// Added to routing logits for the choice of experts; a list for each layer, empty where it is dense.
    selection: Vec<Vec<f32>>,
    rope: RopeTable,
    prepared: Option<Prepared>,
    work: Work,
}

/// What the passes read.
#[derive(Clone, Copy)]
struct Context<'a> {
    pub config: &'a ModelConfig,
    pub exec: &'a Exec,
    pub parameters: &'a [Parameter],
    pub layers: &'a [LayerIds],
    pub final_norm: usize,
    pub selection: &'a [Vec<f32>],
    pub rope: &'a RopeTable,
    pub prepared: &'a Prepared,
    /// Whether the head takes 8-bit activations.
    pub head_lambda: f32,
}

impl<'a> Context<'a> {
    fn value(&self, id: usize) -> &'a [f32] {
        &self.parameters[id].value
    }

    fn matrix(&self, id: usize) -> &'a Matrix {
        self.prepared.matrix(id)
    }

    /// Where the numbers of parameters `first..=last` are.
    fn range(&self, first: usize, last: usize) -> std::ops::Range<usize> {
        self.parameters[first].offset..self.parameters[last].offset + self.parameters[last].value.len()
    }

    /// The effective weights of parameters `first..=last`, which are one matrix with all their rows.
    fn dense(&self, first: usize, last: usize) -> &'a [f32] {
        &self.prepared.dense[self.range(first, last)]
    }

    fn lambda(&self) -> f32 {
        self.prepared.lambda
    }

    fn eps(&self) -> f32 {
        self.config.norm_eps
    }
}

impl Network {
    /// A network with random weights.
    ///
    /// # Errors
    /// [`TrainError`] when the description contradicts itself.
    pub fn new(
        architecture: &Architecture,
        vocab_size: usize,
        exec: Exec,
        seed: u64,
    ) -> Result<Self, TrainError> {
        let config = architecture.resolve(vocab_size)?;
        let Layout { parameters, layers, final_norm } = Layout::new(&config, seed);
        let rope = &config.rope[0];
        let table = RopeTable::new(rope.dims, rope.theta, &rope.scaling, config.context_length);
        let rope = table.map_err(|error| TrainError::Architecture {
            field: "rope_theta",
            found: error.to_string(),
            expected: "a rotation that exists".into(),
        })?;
        let count = config.experts.as_ref().map_or(0, |experts| experts.count);
        let selection = layers.iter().map(|layer| match layer.ffn {
            LayerFfn::Dense(_) => Vec::new(),
            LayerFfn::Experts(_) => vec![0.0; count],
        });
        Ok(Self {
            selection: selection.collect(),
            config,
            ternary: architecture.ternary,
            embedding: architecture.embedding,
            exec,
            parameters,
            layers,
            final_norm,
            rope,
            prepared: None,
            work: Work::default(),
        })
    }

    /// What the model is.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Whether its layers are ternary.
    pub fn ternary(&self) -> bool {
        self.ternary
    }

    /// How its embedding is kept.
    pub fn embedding_format(&self) -> EmbeddingFormat {
        self.embedding
    }

    /// Where it computes.
    pub fn exec(&self) -> &Exec {
        &self.exec
    }

    /// The parameters, in their order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The parameters, to be changed; only their values may be.
    pub fn parameters_mut(&mut self) -> &mut [Parameter] {
        if let Some(prepared) = &mut self.prepared {
            prepared.lambda = f32::NAN; // matches no step: the weights are quantized anew
        }
        &mut self.parameters
    }

    /// The name and the weights of the selection biases, one for each layer of experts: what is trained without gradients.
    pub fn state(&self) -> Vec<(String, &[f32])> {
        let layers = self.selection.iter().enumerate().filter(|(_, bias)| !bias.is_empty());
        layers.map(|(index, bias)| (selection_name(index), &bias[..])).collect()
    }

    /// The selection biases of a layer; empty where it is dense.
    pub(crate) fn selection_bias(&self, layer: usize) -> &[f32] {
        &self.selection[layer]
    }

    /// Where a layer's parameters are.
    pub(crate) fn layer_ids(&self, layer: usize) -> &LayerIds {
        &self.layers[layer]
    }

    /// Takes parameters or selection biases by name.
    ///
    /// # Errors
    /// [`TrainError::State`] when there is no such thing here or it has another length.
    pub fn load(&mut self, name: &str, values: &[f32]) -> Result<(), TrainError> {
        let biases = (0..self.selection.len()).find(|&index| selection_name(index) == name);
        let slot = match biases {
            Some(index) => Some(&mut self.selection[index]),
            None => {
                let found = self.parameters_mut().iter_mut().find(|parameter| parameter.name == name);
                found.map(|parameter| &mut parameter.value)
            }
        };
        let fail = |expected: String| {
            let found = format!("{} numbers", values.len());
            Err(TrainError::State { what: "parameter", name: name.into(), found, expected })
        };
        match slot {
            None => fail("no parameter of this name".into()),
            Some(slot) if slot.len() != values.len() => fail(format!("{} numbers", slot.len())),
            Some(slot) => {
                slot.copy_from_slice(values);
                Ok(())
            }
        }
    }

    /// Moves the selection biases against the load: an expert with more than its share becomes less likely to be chosen, by
    /// `rate`, one with less more likely (Wang et al. 2024, "Auxiliary-loss-free load balancing").
    pub fn balance(&mut self, load: &[Vec<u64>], rate: f32) {
        for (bias, load) in self.selection.iter_mut().zip(load) {
            let total: u64 = load.iter().sum();
            for (bias, &visits) in bias.iter_mut().zip(load) {
                let over = (visits * load.len() as u64).cmp(&total) as i8;
                *bias -= rate * f32::from(over);
            }
        }
    }

    /// Takes what it can from another network: what has the same name and shape is copied, be the other one float or
    /// ternary; of a dense layer, every expert takes the slice of inner units that its number, modulo the slices there
    /// are, stands for ("upcycling", Komatsuzaki et al. 2022); the rest keeps its first values.
    pub fn take_from(&mut self, from: &Network) {
        for (bias, from) in self.selection.iter_mut().zip(&from.selection) {
            if bias.len() == from.len() {
                bias.copy_from_slice(from);
            }
        }
        let names: std::collections::HashMap<_, _> =
            from.parameters.iter().map(|parameter| (parameter.name.as_str(), parameter)).collect();
        for parameter in self.parameters_mut() {
            if let Some(from) = names.get(parameter.name.as_str())
                && from.shape == parameter.shape
            {
                parameter.value.copy_from_slice(&from.value);
                continue;
            }
            let Some((layer, rest)) = parameter.name.split_once(".mlp.experts.") else { continue };
            if rest == "ffn_sub_norm.weight" {
                continue;
            }
            let Some((expert, part)) = rest.split_once('.') else { continue };
            let (Ok(expert), Some(from)) =
                (expert.parse::<usize>(), names.get(format!("{layer}.mlp.{part}").as_str()))
            else {
                continue;
            };
            slice_units(parameter, from, expert, part.starts_with("down"));
        }
    }

    /// Quantizes the weights for a step, unless that is done.
    fn prepare(&mut self, lambda: f32) -> Result<(), TrainError> {
        let lambda = if self.ternary { lambda.clamp(0.0, 1.0) } else { 0.0 };
        if self.prepared.as_ref().is_some_and(|prepared| prepared.lambda == lambda) {
            return Ok(());
        }
        let format = self.embedding.format();
        let old = self.prepared.take();
        let made = Prepared::new(&self.exec, &self.parameters, format, lambda, old);
        self.prepared = Some(made.map_err(|(id, error)| match error {
            chalot_tensor::MatrixError::NotFinite { .. } => {
                TrainError::NotFinite { name: self.parameters[id].name.clone() }
            }
            error => error.into(),
        })?);
        Ok(())
    }

    fn split(&mut self) -> Option<(Context<'_>, &mut Work)> {
        let context = Context {
            config: &self.config,
            exec: &self.exec,
            parameters: &self.parameters,
            layers: &self.layers,
            final_norm: self.final_norm,
            selection: &self.selection,
            rope: &self.rope,
            prepared: self.prepared.as_ref()?,
            head_lambda: if self.embedding == EmbeddingFormat::Int8 { 1.0 } else { 0.0 },
        };
        Some((context, &mut self.work))
    }

    /// Computes the losses of a batch and adds `options.weight` times the gradients of their sum to `gradients`.
    ///
    /// # Errors
    /// [`TrainError`] when the batch does not fit or weights are not finite.
    pub fn forward_backward(
        &mut self,
        batch: &Batch<'_>,
        options: &StepOptions,
        gradients: &mut Gradients,
    ) -> Result<Losses, TrainError> {
        self.check(batch)?;
        self.prepare(options.lambda)?;
        if let Some(prepared) = &mut self.prepared {
            let head = (self.embedding == EmbeddingFormat::Int8).then_some((EMBEDDING, EMBEDDING));
            let ternary = prepared.lambda == 1.0;
            let layers = self.layers.iter().filter(|_| ternary).flat_map(LayerIds::products);
            prepared.for_way_back(&self.exec, &self.parameters, head.into_iter().chain(layers));
        }
        match self.split() {
            Some((context, work)) => pass::step(&context, work, batch, options, Some(&mut gradients.data)),
            None => Ok(Losses::default()),
        }
    }

    /// Only the losses, those of the exit on all rows.
    ///
    /// # Errors
    /// As [`Network::forward_backward`].
    pub fn evaluate(&mut self, batch: &Batch<'_>, lambda: f32, exit: bool) -> Result<Losses, TrainError> {
        self.check(batch)?;
        self.prepare(lambda)?;
        let options = StepOptions { exit_weight: f32::from(u8::from(exit)), ..StepOptions::default() };
        match self.split() {
            Some((context, work)) => pass::step(&context, work, batch, &options, None),
            None => Ok(Losses::default()),
        }
    }

    /// The logits `[rows][length][vocab]` of a batch, whose targets do not matter.
    ///
    /// # Errors
    /// As [`Network::forward_backward`].
    pub fn logits(&mut self, batch: &Batch<'_>, lambda: f32) -> Result<Vec<f32>, TrainError> {
        self.check(batch)?;
        self.prepare(lambda)?;
        match self.split() {
            Some((context, work)) => pass::logits(&context, work, batch),
            None => Ok(Vec::new()),
        }
    }

    fn check(&self, batch: &Batch<'_>) -> Result<(), TrainError> {
        let fail = |what, found, expected: String| Err(TrainError::Batch { what, found, expected });
        let (length, vocab) = (batch.length, self.config.vocab_size);
        if length == 0 || length > self.config.context_length {
            return fail("a row's length", length, format!("1 to {}", self.config.context_length));
        }
        if batch.inputs.is_empty() || !batch.inputs.len().is_multiple_of(length) {
            return fail("the number of inputs", batch.inputs.len(), format!("whole rows of {length}"));
        }
        if batch.targets.len() != batch.inputs.len() {
            return fail("the number of targets", batch.targets.len(), format!("{}", batch.inputs.len()));
        }
        let targets = batch.targets.iter().filter(|&&target| target != IGNORED);
        match batch.inputs.iter().chain(targets).find(|&&id| id as usize >= vocab) {
            Some(&id) => fail("a token", id as usize, format!("below {vocab}")),
            None => Ok(()),
        }
    }
}

/// The tensor of a layer's selection biases.
fn selection_name(layer: usize) -> String {
    format!("model.layers.{layer}.mlp.gate.e_score_correction_bias")
}

/// Fills an expert's matrix with the units of a dense one: rows (gate, up) or columns (`down`).
fn slice_units(expert: &mut Parameter, dense: &Parameter, index: usize, down: bool) {
    let (rows, cols) = (expert.shape[0], expert.shape[1]);
    let (units, of) = if down { (cols, dense.shape[1]) } else { (rows, dense.shape[0]) };
    let first = index * units;
    for r in 0..rows {
        for c in 0..cols {
            let from = if down { r * of + (first + c) % of } else { (first + r) % of * cols + c };
            expert.value[r * cols + c] = dense.value[from];
        }
    }
}

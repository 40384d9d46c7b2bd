//! A network, its optimizer and its schedule as what a run trains.

use std::path::Path;

use chalot_formats::gguf::Value;
use chalot_model::{LoadOptions, Source};
use chalot_tensor::Packing;

use super::RunError;
use super::learner::{File, Learner, Measured, Part, Updated};
use super::start::{Options, start_with};
use super::training::{Observe, Outcome, Sampler, checkpoints};
use crate::checkpoint::{Checkpoint, CheckpointError, Tensor, read_tensors};
use crate::data::Prepared;
use crate::error::TrainError;
use crate::export;
use crate::network::{Batch, Gradients, Losses, Network, StepOptions};
use crate::optim::{Method, Optimizer};
use crate::random::Random;
use crate::recipe::{Recipe, RecipeError};

const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";

/// Does everything that a recipe says.
///
/// # Errors
/// [`RunError`]; what was done until the last checkpoint is not lost.
pub fn start(options: &Options, observer: &mut dyn Observe, sampler: &Sampler) -> Result<Outcome, RunError> {
    start_with(options, &Trained::new, observer, sampler)
}

/// A network in training.
struct Trained {
    network: Network,
    optimizer: Optimizer,
    recipe: Recipe,
    /// The vocabulary and the name, as the model file has them.
    metadata: Vec<(String, Value)>,
    /// Inputs and targets of a part.
    inputs: Vec<u32>,
    targets: Vec<u32>,
}

impl From<TrainError> for RunError {
    fn from(error: TrainError) -> RunError {
        RunError::Train(Box::new(error))
    }
}

impl Trained {
    fn new(options: &Options, prepared: &Prepared) -> Result<Trained, RunError> {
        let recipe = options.recipe.clone();
        let vocab_size = prepared.tokenizer.vocab_size();
        let mut network = Network::new(&recipe.model, vocab_size, options.exec.clone(), recipe.seed)?;
        let context = network.config().context_length;
        if recipe.train.context > context {
            return Err(RecipeError::Key {
                file: options.recipe_file.display().to_string(),
                key: "train.context".into(),
                found: format!("{} tokens, and the model's context is {context}", recipe.train.context),
                mend: "raise model.context or lower train.context".into(),
            }
            .into());
        }
        if let Some(beginning) = &recipe.start {
            let base = options.recipe_file.parent().unwrap_or(Path::new(""));
            if let Some(run) = &beginning.run {
                take_weights(&mut network, &base.join(run), options, prepared)?;
            }
            if let Some(model) = &beginning.model {
                take_model(&mut network, &base.join(model))?;
            }
        }
        let optimizer = Optimizer::new(recipe.optimizer.clone(), network.parameters());
        let mut metadata = vec![("general.name".to_owned(), Value::from(recipe.name.clone()))];
        if let Some(license) = &recipe.license {
            metadata.push(("general.license".to_owned(), Value::from(license.clone())));
        }
        metadata.extend(recipe.sampling.to_gguf());
        metadata.extend((options.metadata)(prepared.tokenizer.to_gguf()));
        Ok(Trained { network, optimizer, recipe, metadata, inputs: Vec::new(), targets: Vec::new() })
    }

    /// 0 at `step` 0, 1 from the share `rise` of all steps on.
    fn risen(&self, step: u64, rise: f32) -> f32 {
        let over = f64::from(rise) * self.recipe.train.steps as f64;
        if over < 1.0 { 1.0 } else { (step as f64 / over).min(1.0) as f32 }
    }

    fn split(&mut self, ids: &[u32], width: usize) {
        self.inputs.clear();
        self.targets.clear();
        for row in ids.chunks_exact(width) {
            self.inputs.extend_from_slice(&row[..width - 1]);
            self.targets.extend_from_slice(&row[1..]);
        }
    }
}

/// Weights of another run.
fn take_weights(
    network: &mut Network,
    run: &Path,
    options: &Options,
    prepared: &Prepared,
) -> Result<(), RunError> {
    let recipe = Recipe::read(&run.join("recipe.toml"))?;
    let Some(checkpoint) = checkpoints(run, &recipe).newest()? else {
        return Err(RunError::model("start.run", format!("{} has no checkpoint", run.display())));
    };
    let vocab_size = prepared.tokenizer.vocab_size();
    let mut other = Network::new(&recipe.model, vocab_size, options.exec.clone(), recipe.seed)?;
    load(&mut other, &checkpoint)?;
    network.take_from(&other);
    Ok(())
}

/// Weights of a finished model.
fn take_model(network: &mut Network, path: &Path) -> Result<(), RunError> {
    let refused = |error: &dyn std::fmt::Display| RunError::model("start.model", error);
    let source = Source::open(path).map_err(|error| refused(&error))?;
    let model = source.load(network.exec(), &LoadOptions::default()).map_err(|error| refused(&error))?;
    network.take_model(&model).map_err(|error| refused(&error))
}

fn load(network: &mut Network, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
    for tensor in read_tensors(checkpoint, WEIGHTS)? {
        network.load(&tensor.name, &tensor.data).map_err(|error| other(checkpoint, WEIGHTS, &error))?;
    }
    Ok(())
}

fn other(checkpoint: &Checkpoint, file: &str, error: &TrainError) -> CheckpointError {
    CheckpointError::Other {
        file: checkpoint.path(file).display().to_string(),
        found: error.to_string(),
        expected: "another model".into(),
    }
}

fn measured(losses: &Losses) -> Measured {
    Measured {
        loss: losses.main,
        exit_loss: losses.exit,
        exit_tokens: losses.exit_tokens as f64,
        tokens: losses.tokens as f64,
        expert_tokens: losses.load.iter().flatten().map(|&visits| visits as f64).collect(),
    }
}

impl Learner for Trained {
    type Gradients = Gradients;

    fn gradients(&self) -> Gradients {
        Gradients::new(self.network.parameters())
    }

    fn slices(gradients: &mut Gradients) -> Vec<&mut [f32]> {
        vec![&mut gradients.data]
    }

    fn add(sum: &mut Gradients, gradients: &Gradients) {
        sum.add(gradients);
    }

    fn compute(&mut self, part: &Part, gradients: &mut Gradients) -> Result<Measured, RunError> {
        gradients.clear(self.network.exec());
        self.split(part.ids, part.width);
        let objective = &self.recipe.objective;
        let has_exit = self.network.config().shallow_layers > 0;
        let step = StepOptions {
            lambda: self.recipe.schedule.lambda(part.step),
            weight: 1.0 / self.recipe.train.tokens() as f32,
            exit_weight: match has_exit {
                true => objective.exit_weight * self.risen(part.step + 1, objective.exit_rise),
                false => 0.0,
            },
            exit_share: objective.exit_share,
            exit_teacher: objective.exit_teacher,
            layer_drop: objective.layer_drop,
            z_loss: objective.z_loss,
            router_z_loss: objective.router_z_loss,
            balance_loss: objective.balance_loss,
            seed: Random::new(&[self.recipe.seed, part.step, part.number as u64]).bits(),
            recompute: objective.recompute,
        };
        let batch = Batch { length: part.width - 1, inputs: &self.inputs, targets: &self.targets };
        Ok(measured(&self.network.forward_backward(&batch, &step, gradients)?))
    }

    fn update(
        &mut self,
        step: u64,
        gradients: &mut Gradients,
        measured: &Measured,
    ) -> Result<Updated, RunError> {
        let (schedule, steps) = (&self.recipe.schedule, self.recipe.train.steps);
        let (rate, decay) = (schedule.rate(step, steps), schedule.weight_decay(step, steps));
        let exec = self.network.exec().clone();
        let norm = self.optimizer.step(&exec, self.network.parameters_mut(), gradients, rate, decay)?;
        // The run stops at the last good checkpoint.
        if !norm.is_finite() {
            return Ok(Updated { learning_rate: 0.0, gradient_norm: norm });
        }
        let experts = self.experts();
        if experts > 0 {
            let mut load = measured.expert_tokens.chunks_exact(experts);
            let visits: Vec<Vec<u64>> = (self.network.config().layers.iter())
                .map(|layer| match layer.experts {
                    true => load.next().unwrap_or_default().iter().map(|&visits| visits as u64).collect(),
                    false => Vec::new(),
                })
                .collect();
            self.network.balance(&visits, self.recipe.objective.balance_rate);
        }
        let full = match self.recipe.optimizer.matrices {
            Method::Muon => self.recipe.optimizer.muon_rate,
            Method::AdamW => self.recipe.optimizer.adamw_rate,
        };
        Ok(Updated { learning_rate: f64::from(rate * full), gradient_norm: norm })
    }

    fn measure(&mut self, ids: &[u32], width: usize) -> Result<Measured, RunError> {
        self.split(ids, width);
        let batch = Batch { length: width - 1, inputs: &self.inputs, targets: &self.targets };
        let exit = self.network.config().shallow_layers > 0;
        Ok(measured(&self.network.evaluate(&batch, 1.0, exit)?))
    }

    fn parameters(&self) -> (u64, u64) {
        let config = self.network.config();
        let of_experts = |name: &str| name.contains(".mlp.experts.");
        let (mut all, mut idle) = (0.0, 0.0);
        for parameter in self.network.parameters() {
            let count = parameter.value.len() as f64;
            all += count;
            if let Some(experts) = config.experts.as_ref().filter(|_| of_experts(&parameter.name)) {
                idle += count * (1.0 - experts.top_k as f64 / experts.count as f64);
            }
        }
        (all as u64, (all - idle).round() as u64)
    }

    fn experts(&self) -> usize {
        self.network.config().experts.as_ref().map_or(0, |experts| experts.count)
    }

    fn state(&self) -> Vec<File<'_>> {
        let parameters = self.network.parameters().iter().map(|parameter| Tensor {
            name: parameter.name.clone(),
            shape: parameter.shape.clone(),
            data: (&parameter.value).into(),
        });
        let biases = self.network.state().into_iter();
        let biases = biases.map(|(name, data)| Tensor { name, shape: vec![data.len()], data: data.into() });
        let optimizer = self.optimizer.state(self.network.parameters()).into_iter();
        let optimizer =
            optimizer.map(|(name, shape, data)| Tensor { name, shape: shape.to_vec(), data: data.into() });
        vec![(WEIGHTS, parameters.chain(biases).collect()), (OPTIMIZER, optimizer.collect())]
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        load(&mut self.network, checkpoint)?;
        let tensors = read_tensors(checkpoint, OPTIMIZER)?;
        let state = tensors.iter().map(|tensor| (tensor.name.as_str(), &tensor.data[..]));
        let loaded = self.optimizer.load_state(self.network.parameters(), checkpoint.step, state);
        loaded.map_err(|error| other(checkpoint, OPTIMIZER, &error))
    }

    fn export(&self, file: &Path) -> Result<(), RunError> {
        Ok(export::native(&self.network, Packing::Trit5, &self.recipe.name, &self.metadata, file)?)
    }

    fn publish(&self, folder: &Path, tokenizer_json: &str, card: &str) -> Result<(), RunError> {
        Ok(export::hugging_face(&self.network, &self.recipe.name, tokenizer_json, card, folder)?)
    }
}

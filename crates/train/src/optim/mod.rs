//! Optimizers: from gradients to a step of the parameters.
//!
//! Matrices of layers are moved by [`Muon`] or [`AdamW`], all else (embedding, router, norms) by [`AdamW`].
mod adamw;
mod muon;
mod schedule;

use chalot_tensor::exec::Exec;
use chalot_tensor::parts::Parts;
use serde::{Deserialize, Serialize};

pub use adamw::AdamW;
pub use muon::Muon;
pub use schedule::Schedule;

use crate::error::TrainError;
use crate::network::{Gradients, Kind, Parameter};

/// What moves the matrices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Momentum made orthogonal.
    #[default]
    Muon,
    /// Adam with decoupled weight decay.
    AdamW,
}

/// How parameters are moved: a recipe's table `optimizer`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerOptions {
    /// What moves the matrices.
    pub matrices: Method,
    /// Learning rate of the matrices with Muon.
    pub muon_rate: f32,
    /// Learning rate of the matrices with AdamW.
    pub adamw_rate: f32,
    /// Learning rate of embedding, router and norms.
    pub other_rate: f32,
    /// Weight decay of the matrices, a share of the learning rate.
    pub weight_decay: f32,
    /// Momentum of Muon.
    pub momentum: f32,
    /// AdamW's decay of the mean.
    pub beta1: f32,
    /// AdamW's decay of the mean square.
    pub beta2: f32,
    /// The largest norm of all gradients; 0: any.
    pub clip: f32,
}

impl Default for OptimizerOptions {
    fn default() -> Self {
        Self {
            matrices: Method::Muon,
            muon_rate: 0.02,
            adamw_rate: 0.003,
            other_rate: 0.004,
            weight_decay: 0.05,
            momentum: 0.95,
            beta1: 0.9,
            beta2: 0.95,
            clip: 1.0,
        }
    }
}

/// The state of all parameters' optimization.
pub struct Optimizer {
    options: OptimizerOptions,
    steps: u64,
    /// By parameter.
    first: Vec<Vec<f32>>,
    /// Mean squares; empty for what Muon moves.
    second: Vec<Vec<f32>>,
    muon: Muon,
}

impl Optimizer {
    /// For these parameters.
    pub fn new(options: OptimizerOptions, parameters: &[Parameter]) -> Self {
        let zeros = |parameter: &Parameter| vec![0.0; parameter.value.len()];
        let second = |parameter: &Parameter| {
            if is_muon(&options, parameter) { Vec::new() } else { zeros(parameter) }
        };
        Self {
            steps: 0,
            first: parameters.iter().map(zeros).collect(),
            second: parameters.iter().map(second).collect(),
            muon: Muon::default(),
            options,
        }
    }

    /// The options.
    pub fn options(&self) -> &OptimizerOptions {
        &self.options
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Moves the parameters: learning rates are multiplied by `rate`, weight decay by `decay`. Gradients are clipped on
    /// their way; returns their norm before that. When that is not finite, nothing changes.
    ///
    /// # Errors
    /// A product's shapes do not fit: a mistake in this crate.
    pub fn step(
        &mut self,
        exec: &Exec,
        parameters: &mut [Parameter],
        gradients: &Gradients,
        rate: f32,
        decay: f32,
    ) -> Result<f64, TrainError> {
        let norm = gradients.norm(exec);
        // Weights that are no numbers are of no use to anyone.
        if !norm.is_finite() {
            return Ok(norm);
        }
        let too_long = self.options.clip > 0.0 && norm > f64::from(self.options.clip);
        let clip = if too_long { (f64::from(self.options.clip) / norm) as f32 } else { 1.0 };
        self.steps += 1;
        let Self { options, steps, first, second, muon } = self;
        let adamw = AdamW::at(options.beta1, options.beta2, *steps);
        // Large matrices first, so that the threads end together.
        let mut order: Vec<usize> = (0..parameters.len()).collect();
        order.sort_by_key(|&id| std::cmp::Reverse(parameters[id].value.len()));
        muon.make_room(parameters.len());
        let (values, first, second) =
            (Parts::new(parameters, 1), Parts::new(first, 1), Parts::new(second, 1));
        crate::network::try_run(exec, order.len(), &|task| {
            let id = order[task];
            let (parameter, first, second) =
                (&mut values.take(id)[0], &mut first.take(id)[0], &mut second.take(id)[0]);
            let gradient = &gradients.data[parameter.offset..][..parameter.value.len()];
            let decay = if parameter.kind == Kind::Matrix { decay * options.weight_decay } else { 0.0 };
            if is_muon(options, parameter) {
                let (rows, cols) = (parameter.shape[0], parameter.shape[1]);
                let rate = rate * options.muon_rate;
                let shape = (rows, cols);
                return muon.step(
                    exec,
                    id,
                    shape,
                    &mut parameter.value,
                    gradient,
                    clip,
                    first,
                    options.momentum,
                    rate,
                    decay,
                );
            }
            let own = if parameter.kind == Kind::Matrix { options.adamw_rate } else { options.other_rate };
            adamw.step(&mut parameter.value, gradient, clip, first, second, rate * own, decay);
            Ok(())
        })?;
        Ok(norm)
    }

    /// What there is to keep: `name.first` and, where AdamW works, `name.second`, in the parameters' order.
    pub fn state<'a>(&'a self, parameters: &'a [Parameter]) -> Vec<(String, &'a [usize], &'a [f32])> {
        let mut state = Vec::new();
        for ((parameter, first), second) in parameters.iter().zip(&self.first).zip(&self.second) {
            state.push((format!("{}.first", parameter.name), &parameter.shape[..], &first[..]));
            if !second.is_empty() {
                state.push((format!("{}.second", parameter.name), &parameter.shape[..], &second[..]));
            }
        }
        state
    }

    /// Takes back what [`Optimizer::state`] gave, after so many steps.
    ///
    /// # Errors
    /// [`TrainError::State`] when something is missing, unknown or of another length.
    pub fn load_state<'a>(
        &mut self,
        parameters: &[Parameter],
        steps: u64,
        state: impl IntoIterator<Item = (&'a str, &'a [f32])>,
    ) -> Result<(), TrainError> {
        let fail = |name: &str, found: String, expected: String| {
            Err(TrainError::State { what: "optimizer state", name: name.into(), found, expected })
        };
        let expected = self.first.len() + self.second.iter().filter(|second| !second.is_empty()).count();
        let mut seen = 0;
        for (name, values) in state {
            let slot = name.rsplit_once('.').and_then(|(parameter, which)| {
                let id = parameters.iter().position(|known| known.name == parameter)?;
                match which {
                    "first" => Some(&mut self.first[id]),
                    "second" => Some(&mut self.second[id]),
                    _ => None,
                }
            });
            match slot {
                Some(slot) if slot.len() == values.len() => slot.copy_from_slice(values),
                Some(slot) => {
                    let expected = format!("{} numbers", slot.len());
                    return fail(name, format!("{} numbers", values.len()), expected);
                }
                None => return fail(name, "a state".into(), "no such parameter".into()),
            }
            seen += 1;
        }
        if seen != expected {
            return fail("all", format!("{seen} tensors"), format!("{expected}"));
        }
        self.steps = steps;
        Ok(())
    }
}

fn is_muon(options: &OptimizerOptions, parameter: &Parameter) -> bool {
    options.matrices == Method::Muon && parameter.kind == Kind::Matrix
}

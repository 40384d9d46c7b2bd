//! The tensors of a foreign file under the names of their roles, checked against the configuration.
use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use chalot_formats::TensorType;
use chalot_tensor::matrix::Format;

use super::OWN_FAMILY;
use super::assemble::for_each_tensor;
use super::names::{Names, Part, Projection, Role, Where};
use crate::config::ModelConfig;
use crate::error::{ModelError, Shape};

/// A tensor where it lies.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// The file it lies in, as the user named it.
    pub(crate) file: String,
    /// Its name there.
    pub(crate) name: String,
    /// Outermost dimension first; what [`Coding`] packs is unpacked here.
    pub(crate) shape: Vec<usize>,
    /// The data.
    pub(crate) bytes: Bytes,
    /// How the data are to be read.
    pub(crate) coding: Coding,
    /// A number that all weights are multiplied by, from a tensor of its own.
    pub(crate) scale: Option<f32>,
}

/// How a tensor's bytes become weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// As ggml defines the type.
    Ggml(TensorType),
    /// Hugging Face's packed BitNet weights, four rows a byte.
    PackedBitnet,
    /// Floats that are to be quantized to ternary by the absmean rule: the model was trained that way.
    Absmean(TensorType),
    /// Floats that are to be rounded to a format: the model was trained that way.
    Rounded(TensorType, Format),
    /// Floats -1, 0 and 1: codes whose scale stands elsewhere.
    Codes(TensorType),
}

impl Stored {
    /// Rows of the matrix.
    pub(crate) fn rows(&self) -> usize {
        // The file bounds the product of all dimensions, but one that is 0 hides what the others come to.
        self.shape.iter().rev().skip(1).fold(1, |rows, &dim| rows.saturating_mul(dim))
    }

    /// Columns of the matrix.
    pub(crate) fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// A [`ModelError::Tensor`] about this one.
    pub(crate) fn error(&self, found: impl Into<String>, expected: &str, mend: &str) -> ModelError {
        ModelError::Tensor {
            file: self.file.clone(),
            tensor: self.name.clone(),
            found: found.into(),
            expected: expected.into(),
            mend: mend.into(),
        }
    }

    /// The experts of a stack `[count][rows][cols]`, one by one.
    pub(crate) fn unstack(&self) -> Result<Vec<Stored>, ModelError> {
        let &[count, rows, cols] = self.shape.as_slice() else {
            return Err(self.error(
                format!("shape {}", Shape(self.shape.clone())),
                "three dimensions: experts, rows, columns",
                super::DAMAGED,
            ));
        };
        // A scale for the whole tensor stands at its end, where no expert's part could carry it.
        let contiguous = !matches!(self.coding, Coding::Ggml(TensorType::I2S) | Coding::PackedBitnet);
        if !contiguous || count == 0 || !self.bytes.len().is_multiple_of(count) {
            return Err(self.error(
                format!("{count} experts in {} bytes", self.bytes.len()),
                "experts that lie one after the other",
                "convert the model again with another tensor type",
            ));
        }
        let len = self.bytes.len() / count;
        let part = |expert: usize| Stored {
            shape: vec![rows, cols],
            bytes: self.bytes.slice(expert * len..(expert + 1) * len),
            ..self.clone()
        };
        Ok((0..count).map(part).collect())
    }
}

/// All tensors of a model.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    /// The file or folder, as the user named it.
    pub(crate) file: String,
    /// How it names tensors.
    pub(crate) names: Names,
    /// By name; stacks of experts taken apart.
    pub(crate) tensors: HashMap<String, Stored>,
    /// The shapes of those stacks, by name.
    pub(crate) stacks: HashMap<String, Vec<usize>>,
}

/// Which half of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Weight,
    Bias,
}

/// What to do about a file whose tensors and configuration contradict each other.
const MEND: &str =
    "the weights and the configuration do not belong together: download or convert the model again";

impl Store {
    /// The name of a tensor of this file.
    fn name(&self, role: Role, kind: Kind) -> String {
        match kind {
            Kind::Weight => self.names.weight(role),
            Kind::Bias => self.names.bias(role),
        }
    }

    /// The tensor of a role.
    pub(crate) fn get(&self, role: Role, kind: Kind) -> Option<&Stored> {
        self.tensors.get(&self.name(role, kind))
    }

    /// The tensor of a role, which [`Store::check`] has seen.
    pub(crate) fn required(&self, role: Role, kind: Kind, shape: &[usize]) -> Result<&Stored, ModelError> {
        let Some(stored) = self.get(role, kind) else { return Err(self.missing(role, kind, shape)) };
        if stored.shape != shape {
            return Err(ModelError::TensorShape {
                file: stored.file.clone(),
                tensor: stored.name.clone(),
                found: Shape(stored.shape.clone()),
                expected: Shape(shape.to_vec()),
                mend: MEND.into(),
            });
        }
        Ok(stored)
    }

    fn missing(&self, role: Role, kind: Kind, shape: &[usize]) -> ModelError {
        ModelError::MissingTensor {
            file: self.file.clone(),
            tensor: self.name(role, kind),
            expected: Shape(shape.to_vec()),
            mend: MEND.into(),
        }
    }

    /// What is wrong with the stack that lacks an expert: GGUF files have no tensor of the single one's name
    /// to miss.
    fn wrong_stack(&self, layer: usize, projection: Projection, count: usize, shape: &[usize]) -> ModelError {
        let role = Role::Layer(layer, Part::Ffn(Where::Stacked, projection));
        let tensor = self.names.weight(role);
        let expected = [&[count], shape].concat();
        match self.stacks.get(&tensor) {
            None => self.missing(role, Kind::Weight, &expected),
            Some(found) => ModelError::TensorShape {
                file: self.file.clone(),
                tensor,
                found: Shape(found.clone()),
                expected: Shape(expected),
                mend: MEND.into(),
            },
        }
    }

    /// Checks that every tensor the configuration needs is there in its shape, and that no other is. Nothing
    /// is allocated on the configuration's word alone: the first missing tensor ends the check.
    pub(crate) fn check(&self, config: &ModelConfig) -> Result<(), ModelError> {
        let mut used = HashSet::new();
        let mut error = None;
        for_each_tensor(config, &mut |role, kind, shape| {
            if let Err(wrong) = self.required(role, kind, shape) {
                let count = config.experts.as_ref().map_or(0, |experts| experts.count);
                error = Some(match role {
                    Role::Layer(layer, Part::Ffn(Where::Expert(_), projection))
                        if self.names == Names::Gguf =>
                    {
                        self.wrong_stack(layer, projection, count, shape)
                    }
                    _ => wrong,
                });
                return false;
            }
            used.insert(self.name(role, kind));
            true
        });
        if let Some(error) = error {
            return Err(error);
        }
        // Only our own models have one; in others it might mean something else.
        let layers = (0..config.num_layers()).filter(|_| config.family == OWN_FAMILY);
        used.extend(layers.map(|layer| self.names.weight(Role::Layer(layer, Part::SelectionBias))));
        // A tied head may be stored all the same; it is the embedding again.
        used.insert(self.names.weight(Role::Head));
        let mut unexpected: Vec<&str> =
            self.tensors.keys().map(String::as_str).filter(|name| !used.contains(*name)).collect();
        unexpected.sort_unstable();
        match unexpected.first() {
            None => Ok(()),
            Some(first) => Err(ModelError::UnexpectedTensors {
                file: self.file.clone(),
                tensor: (*first).into(),
                count: unexpected.len(),
                mend: "this model needs something that the decoder does not compute".into(),
            }),
        }
    }
}

//! Reading the native file: matrices are views of the mapped bytes.
use std::cell::RefCell;
use std::collections::HashSet;

use bytes::Bytes;
use chalot_formats::TensorType;
use chalot_formats::gguf::{Gguf, TensorInfo};
use chalot_tensor::exec::Exec;
use chalot_tensor::matrix::{Matrix, MatrixSpec};

use super::{CONFIG_KEY, IMAGE_ALIGNMENT, MATRIX_KEY, experts_name};
use crate::config::{ExpertsConfig, ModelConfig};
use crate::error::{ModelError, Shape};
use crate::load::LoadOptions;
use crate::load::assemble::{Usage, Weights};
use crate::load::names::{Names, Part, Projection, Role};
use crate::load::recode::recode;

const DAMAGED: &str = "the file is damaged: convert or download the model again";

/// The configuration in a native file.
pub(crate) fn config(file: &str, gguf: &Gguf) -> Result<ModelConfig, ModelError> {
    let json = gguf.metadata.required_str(CONFIG_KEY)?;
    let config: ModelConfig = serde_json::from_str(json).map_err(|error| {
        let mend = "the file is damaged, or written by a newer version of this program";
        ModelError::config(
            file,
            CONFIG_KEY,
            format_args!("JSON that cannot be read ({error})"),
            "a configuration",
            mend,
        )
    })?;
    config.validate(file)?;
    Ok(config)
}

/// The weights of a native file.
pub(crate) struct Native<'a> {
    pub(crate) file: &'a str,
    pub(crate) gguf: &'a Gguf,
    pub(crate) bytes: &'a Bytes,
    pub(crate) exec: &'a Exec,
    pub(crate) options: &'a LoadOptions<'a>,
    /// Tensors that were asked for.
    used: RefCell<HashSet<String>>,
}

impl<'a> Native<'a> {
    pub(crate) fn new(
        file: &'a str,
        gguf: &'a Gguf,
        bytes: &'a Bytes,
        exec: &'a Exec,
        options: &'a LoadOptions<'a>,
    ) -> Self {
        Self { file, gguf, bytes, exec, options, used: RefCell::default() }
    }

    fn error(&self, tensor: &str, found: impl Into<String>, expected: impl Into<String>) -> ModelError {
        ModelError::Tensor {
            file: self.file.into(),
            tensor: tensor.into(),
            found: found.into(),
            expected: expected.into(),
            mend: DAMAGED.into(),
        }
    }

    /// The tensor `name` of type `ty`, and its bytes.
    fn tensor(
        &self,
        name: &str,
        ty: TensorType,
        shape: &[usize],
    ) -> Result<(&TensorInfo, Bytes), ModelError> {
        let Some(info) = self.gguf.tensor(name) else {
            return Err(ModelError::MissingTensor {
                file: self.file.into(),
                tensor: name.into(),
                expected: Shape(shape.to_vec()),
                mend: DAMAGED.into(),
            });
        };
        if info.ty != ty {
            return Err(self.error(name, format!("type {}", info.ty), format!("type {ty}")));
        }
        self.used.borrow_mut().insert(name.into());
        // The range was checked against the length of these bytes when the file was opened.
        Ok((info, self.bytes.slice(info.range.clone())))
    }

    /// The specifications that the key of tensor `name` holds.
    fn specs<const N: usize>(&self, name: &str) -> Result<[MatrixSpec; N], ModelError> {
        let key = format!("{MATRIX_KEY}{name}");
        let text = self.gguf.metadata.required_str(&key)?;
        let specs: Result<Vec<MatrixSpec>, _> = text.split("; ").map(str::parse).collect();
        let specs = specs
            .map_err(|error| self.error(name, error.to_string(), format!("{N} of them in key {key}")))?;
        specs.try_into().map_err(|specs: Vec<MatrixSpec>| {
            self.error(name, format!("{} specifications in key {key}", specs.len()), N.to_string())
        })
    }

    /// A matrix of the expected shape from its image.
    fn view(
        &self,
        name: &str,
        spec: MatrixSpec,
        (rows, cols): (usize, usize),
        image: Bytes,
        usage: Usage,
    ) -> Result<Matrix, ModelError> {
        if (spec.rows, spec.cols) != (rows, cols) {
            return Err(ModelError::TensorShape {
                file: self.file.into(),
                tensor: name.into(),
                found: Shape(vec![spec.rows, spec.cols]),
                expected: Shape(vec![rows, cols]),
                mend: DAMAGED.into(),
            });
        }
        let failed = |source| ModelError::Matrix { file: self.file.into(), tensor: name.into(), source };
        let matrix = Matrix::from_image(spec, image).map_err(failed)?;
        recode(self.exec, matrix, usage, self.options).map_err(failed)
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        let (info, bytes) = self.tensor(name, TensorType::F32, &[len])?;
        if info.elements() != len {
            return Err(ModelError::TensorShape {
                file: self.file.into(),
                tensor: name.into(),
                found: Shape(info.dims.iter().rev().copied().collect()),
                expected: Shape(vec![len]),
                mend: DAMAGED.into(),
            });
        }
        let (numbers, _) = bytes.as_chunks::<4>();
        Ok(numbers.iter().map(|&number| f32::from_le_bytes(number)).collect())
    }
}

impl Weights for Native<'_> {
    fn matrix(&self, role: Role, usage: Usage, rows: usize, cols: usize) -> Result<Matrix, ModelError> {
        let name = Names::Gguf.weight(role);
        let (_, image) = self.tensor(&name, TensorType::I8, &[rows, cols])?;
        let [spec] = self.specs(&name)?;
        self.view(&name, spec, (rows, cols), image, usage)
    }

    fn bias(&self, role: Role, len: usize) -> Result<Vec<f32>, ModelError> {
        self.vector(&Names::Gguf.bias(role), len)
    }

    fn norm(&self, role: Role, len: usize) -> Result<Vec<f32>, ModelError> {
        self.vector(&Names::Gguf.weight(role), len)
    }

    fn experts(
        &self,
        layer: usize,
        hidden: usize,
        config: &ExpertsConfig,
    ) -> Result<[Vec<Matrix>; 3], ModelError> {
        let count = config.count;
        let name = experts_name(layer);
        let (info, bytes) = self.tensor(&name, TensorType::I8, &[count])?;
        let specs = self.specs::<3>(&name)?;
        let stride = info.cols();
        if info.dims.len() != 2 || info.rows() != count {
            let found = Shape(info.dims.iter().rev().copied().collect());
            return Err(self.error(&name, format!("shape {found}"), format!("{count} experts")));
        }
        let mut stacks = [const { Vec::new() }; 3];
        for expert in 0..count {
            let mut start = 0;
            for ((stack, spec), projection) in stacks.iter_mut().zip(specs).zip(Projection::ALL) {
                let failed =
                    |source| ModelError::Matrix { file: self.file.into(), tensor: name.clone(), source };
                let len = spec.image_len().map_err(failed)?;
                let end = start + len.min(stride);
                if end > stride || len > stride {
                    let expected = format!("images of {specs:?} inside it");
                    return Err(self.error(&name, format!("a stride of {stride} bytes"), expected));
                }
                let image = bytes.slice(expert * stride + start..expert * stride + end);
                let shape = projection.shape(hidden, config.intermediate_size);
                stack.push(self.view(&name, spec, shape, image, Usage::Linear)?);
                start = end.next_multiple_of(IMAGE_ALIGNMENT);
            }
        }
        Ok(stacks)
    }

    fn selection_bias(&self, layer: usize, count: usize) -> Result<Option<Vec<f32>>, ModelError> {
        let name = Names::Gguf.weight(Role::Layer(layer, Part::SelectionBias));
        if self.gguf.tensor(&name).is_none() {
            return Ok(None);
        }
        self.vector(&name, count).map(Some)
    }

    fn finish(&self) -> Result<(), ModelError> {
        let used = self.used.borrow();
        let mut unexpected = self.gguf.tensors.iter().filter(|tensor| !used.contains(&tensor.name));
        match unexpected.next() {
            None => Ok(()),
            Some(first) => Err(ModelError::UnexpectedTensors {
                file: self.file.into(),
                tensor: first.name.clone(),
                count: 1 + unexpected.count(),
                mend: "the file is damaged, or written by a newer version of this program".into(),
            }),
        }
    }
}

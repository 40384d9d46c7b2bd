//! What is in a model file, for `inspect`.
use chalot_formats::gguf::Value;
use serde::Serialize;

use super::source::{Content, Source};
use crate::config::ModelConfig;
use crate::native::MATRIX_KEY;

/// What is in a model file. Made without decoding any weights, and also for models that we cannot run.
#[derive(Clone, Debug, Serialize)]
pub struct Description {
    /// The file or folder, as it was named.
    pub file: String,
    /// What kind of thing it is.
    pub kind: &'static str,
    /// The architecture, in the file's own word.
    pub architecture: String,
    /// Number of weights in all tensors.
    pub parameters: u64,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// What the model is; `None` where it is not supported.
    pub config: Option<ModelConfig>,
    /// Why it is not.
    pub problem: Option<String>,
    /// Metadata, in the order of the file; long arrays are only counted.
    pub metadata: Vec<(String, String)>,
    /// The tensors, in the order of the file.
    pub tensors: Vec<TensorDescription>,
}

/// A tensor in a model file.
#[derive(Clone, Debug, Serialize)]
pub struct TensorDescription {
    /// Its name.
    pub name: String,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// How it is stored: a GGUF type, a safetensors dtype, or the form of a native matrix.
    pub form: String,
    /// Its length.
    pub bytes: u64,
}

impl Source {
    /// What is in the file.
    pub fn describe(&self) -> Description {
        let (config, problem) = match self.config() {
            Ok(config) => (Some(config), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let (architecture, metadata, tensors) = match &self.content {
            Content::Native { gguf, .. } | Content::Gguf { gguf, .. } => {
                let architecture = gguf.metadata.get("general.architecture").map(show);
                let pairs = gguf.metadata.iter().filter(|(key, _)| !key.starts_with(MATRIX_KEY));
                let metadata = pairs.map(|(key, value)| (key.to_owned(), show(value))).collect();
                let tensors = gguf.tensors.iter().map(|info| {
                    let stored: Vec<usize> = info.dims.iter().rev().copied().collect();
                    let spec = gguf.metadata.str(&format!("{MATRIX_KEY}{}", info.name)).ok().flatten();
                    let (form, shape) = match spec.and_then(|spec| native_form(spec, &stored)) {
                        Some(described) => described,
                        None => (info.ty.to_string(), stored),
                    };
                    TensorDescription { name: info.name.clone(), shape, form, bytes: info.range.len() as u64 }
                });
                (architecture, metadata, tensors.collect())
            }
            Content::Hf { config, shards, .. } => {
                let architecture = config.strings("architectures").ok().flatten();
                let architecture = architecture.and_then(|names| names.first().map(|&name| name.to_owned()));
                let pairs = config.object().iter();
                let metadata = pairs.map(|(key, value)| (key.clone(), value.to_string())).collect();
                let tensors = shards.iter().map(|(_, info)| TensorDescription {
                    name: info.name.clone(),
                    shape: info.shape.clone(),
                    form: info.dtype.to_string(),
                    bytes: info.range.len() as u64,
                });
                (architecture, metadata, tensors.collect())
            }
            Content::Llama2c { header, bytes } => {
                let store = super::llama2c::store(self.file(), header, bytes);
                let mut tensors: Vec<TensorDescription> = store
                    .tensors
                    .into_values()
                    .map(|stored| TensorDescription {
                        name: stored.name,
                        shape: stored.shape,
                        form: "F32".into(),
                        bytes: stored.bytes.len() as u64,
                    })
                    .collect();
                tensors.sort_by(|a, b| a.name.cmp(&b.name));
                (Some("llama2.c".to_owned()), Vec::new(), tensors)
            }
        };
        let elements =
            |tensor: &TensorDescription| tensor.shape.iter().map(|&dim| dim as u64).product::<u64>();
        Description {
            file: self.file().into(),
            kind: self.kind().name(),
            architecture: architecture.unwrap_or_else(|| "unknown".into()),
            parameters: tensors.iter().map(elements).sum(),
            bytes: tensors.iter().map(|tensor: &TensorDescription| tensor.bytes).sum(),
            config,
            problem,
            metadata,
            tensors,
        }
    }
}

/// Form and shape of a native matrix, or of a layer's experts (`[count][rows * cols of all three]`).
fn native_form(spec: &str, stored: &[usize]) -> Option<(String, Vec<usize>)> {
    let specs: Vec<chalot_tensor::matrix::MatrixSpec> =
        spec.split("; ").map(|spec| spec.parse().ok()).collect::<Option<_>>()?;
    match specs.as_slice() {
        [one] => Some((one.format.to_string(), vec![one.rows, one.cols])),
        many => {
            let weights = many
                .iter()
                .try_fold(0usize, |sum, spec| sum.checked_add(spec.rows.checked_mul(spec.cols)?))?;
            let mut forms: Vec<String> = many.iter().map(|spec| spec.format.to_string()).collect();
            forms.dedup(); // all three have the same, as a rule
            Some((forms.join("; "), vec![*stored.first()?, weights]))
        }
    }
}

/// A metadata value for people: long arrays are counted, long texts cut.
fn show(value: &Value) -> String {
    const LONG: usize = 200;
    let array = match value {
        Value::String(text) => {
            let mut shown: String = text.chars().take(LONG).collect();
            if shown.len() < text.len() {
                shown.push_str(&format!("... ({} bytes)", text.len()));
            }
            return shown;
        }
        Value::Array(array) => array,
        Value::Bool(value) => return value.to_string(),
        number => {
            let integer = number.as_i64().map(|number| number.to_string());
            let unsigned = || number.as_u64().map(|number| number.to_string());
            let float = || number.as_f64().map(|number| (number as f32).to_string());
            return integer.or_else(unsigned).or_else(float).unwrap_or_else(|| number.describe());
        }
    };
    let items = array.to_f64s().filter(|items| items.len() <= 16);
    match (items, array.as_strings().filter(|items| items.len() <= 16)) {
        (Some(items), _) => format!("{items:?}"),
        (None, Some(items)) => format!("{items:?}"),
        (None, None) => format!("{} items", array.len()),
    }
}

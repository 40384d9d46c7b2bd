//! What can go wrong with a model, in one line that says what to do.
use std::fmt;

use chalot_formats::FormatError;
use chalot_tensor::exec::ShapeError;
use chalot_tensor::matrix::MatrixError;

/// A model that cannot be read, is not one we know, or is asked for what it cannot do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The operating system refused.
    #[error("{file}: {source}{}", io_mend(source))]
    Io {
        /// The path as the user named it.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A mapped file became shorter while it was in use.
    #[error(
        "{file}: the file was truncated while it was in use: it has {found} bytes, {expected} when it was opened; restore it \
         and start again (--no-mmap reads it into memory instead)"
    )]
    Truncated {
        /// The path as the user named it.
        file: String,
        /// Its bytes now.
        found: u64,
        /// Its bytes when it was opened.
        expected: u64,
    },
    /// A memory budget for weights that do not lie in a mapped file.
    #[error(
        "{file}: a memory budget needs weights that lie in the file as the kernels read them; make such a file once with \
         'chalot convert', and do not use --no-mmap"
    )]
    NotMapped {
        /// The path as the user named it.
        file: String,
    },
    /// A memory budget that cannot hold what every token needs.
    #[error("{file}: a memory budget of {found} bytes is too small; this model needs at least {expected}")]
    Budget {
        /// The path as the user named it.
        file: String,
        /// The budget in bytes.
        found: u64,
        /// The least that will do.
        expected: u64,
    },
    /// The container (GGUF, safetensors, JSON) is damaged or of an unknown kind.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Neither a model file nor a model folder.
    #[error("{file}: {found}, expected {expected}; {mend}")]
    NotAModel {
        /// The path as the user named it.
        file: String,
        /// What lies there.
        found: String,
        /// What could have lain there.
        expected: String,
        /// What to do.
        mend: String,
    },
    /// A family we have no function for.
    #[error("{file}: architecture '{found}' is not supported; supported are {}", crate::load::SUPPORTED.join(", "))]
    UnsupportedArchitecture {
        /// The file.
        file: String,
        /// Its architecture string.
        found: String,
    },
    /// A number of the configuration is missing, wrong, or not supported.
    #[error("{file}: {field} is {found}, expected {expected}; {mend}")]
    Config {
        /// The file.
        file: String,
        /// The field or metadata key.
        field: String,
        /// Its value, or "missing".
        found: String,
        /// What it may be.
        expected: String,
        /// What to do.
        mend: String,
    },
    /// A tensor that the configuration needs is not in the file.
    #[error("{file}: tensor {tensor} is missing, expected one of shape {expected}; {mend}")]
    MissingTensor {
        /// The file.
        file: String,
        /// The tensor's name in this kind of file.
        tensor: String,
        /// Its shape, rows first.
        expected: Shape,
        /// What to do.
        mend: String,
    },
    /// A tensor of the wrong shape.
    #[error("{file}: tensor {tensor} has shape {found}, expected {expected}; {mend}")]
    TensorShape {
        /// The file.
        file: String,
        /// The tensor's name in this kind of file.
        tensor: String,
        /// Its shape, rows first.
        found: Shape,
        /// The shape the configuration asks for.
        expected: Shape,
        /// What to do.
        mend: String,
    },
    /// Tensors that the configuration has no use for: computing without them would be wrong.
    #[error("{file}: {count} tensors are not part of this architecture, the first is {tensor}; {mend}")]
    UnexpectedTensors {
        /// The file.
        file: String,
        /// The first one's name.
        tensor: String,
        /// How many.
        count: usize,
        /// What to do.
        mend: String,
    },
    /// A tensor whose content cannot be used.
    #[error("{file}: tensor {tensor}: {found}, expected {expected}; {mend}")]
    Tensor {
        /// The file.
        file: String,
        /// The tensor's name in this kind of file.
        tensor: String,
        /// What is wrong.
        found: String,
        /// What it may be.
        expected: String,
        /// What to do.
        mend: String,
    },
    /// A matrix could not be built.
    #[error("{file}: tensor {tensor}: {source}")]
    Matrix {
        /// The file.
        file: String,
        /// The tensor's name in this kind of file.
        tensor: String,
        /// Why.
        source: MatrixError,
    },
    /// Slices that do not fit an operation: a mistake in this library, not of a file.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

/// What to do when the system refuses, where that can be told.
fn io_mend(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::NotFound => "; check the path",
        std::io::ErrorKind::PermissionDenied => "; check the file's permissions",
        _ => "",
    }
}

/// A tensor's shape, outermost dimension first; prints as `2560 x 6912`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape(pub Vec<usize>);

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("(scalar)");
        }
        for (index, dim) in self.0.iter().enumerate() {
            write!(f, "{}{dim}", if index == 0 { "" } else { " x " })?;
        }
        Ok(())
    }
}

impl ModelError {
    /// A [`ModelError::Config`].
    pub(crate) fn config(
        file: &str,
        field: &str,
        found: impl fmt::Display,
        expected: &str,
        mend: &str,
    ) -> Self {
        Self::Config {
            file: file.into(),
            field: field.into(),
            found: found.to_string(),
            expected: expected.into(),
            mend: mend.into(),
        }
    }

    /// A [`ModelError::Io`].
    pub(crate) fn io(file: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io { file: file.display().to_string(), source }
    }
}

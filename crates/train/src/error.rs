//! What can go wrong in a training step.
use chalot_model::ModelError;
use chalot_tensor::exec::ShapeError;
use chalot_tensor::matrix::MatrixError;

/// Why a network could not be made, trained or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The description of the model contradicts itself.
    #[error("model.{field} is {found}; expected {expected}")]
    Architecture {
        /// The field of the recipe's table `model`.
        field: &'static str,
        /// Its value.
        found: String,
        /// What would do.
        expected: String,
    },
    /// A batch does not fit the model.
    #[error("batch: {what} is {found}; expected {expected}")]
    Batch {
        /// What is wrong.
        what: &'static str,
        /// Its value.
        found: usize,
        /// What would do.
        expected: String,
    },
    /// Saved values do not fit the model or optimizer they are loaded into.
    #[error("{what} `{name}`: found {found}; expected {expected} (is it of another model?)")]
    State {
        /// Parameter, optimizer state, ...
        what: &'static str,
        /// Which.
        name: String,
        /// What there is.
        found: String,
        /// What would do.
        expected: String,
    },
    /// A weight has become infinite or not a number.
    #[error(
        "weights of `{name}` are no longer finite; lower the learning rate, or go back to an earlier checkpoint"
    )]
    NotFinite {
        /// The parameter.
        name: String,
    },
    /// Lengths that do not fit an operation: a mistake in this crate.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A matrix could not be made.
    #[error(transparent)]
    Matrix(#[from] MatrixError),
    /// The model could not be written.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A file could not be written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
}

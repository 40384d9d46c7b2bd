//! Texts to batches of ids.
//!
//! [`Prepared::prepare`] reads the texts of a recipe, splits off what is held out, trains the vocabulary (or takes one) and
//! writes shards of ids into the run's folder; [`Windows`] cuts them into rows, in an order that is a function of the seed
//! and of nothing else.

mod books;
mod error;
mod prepare;
mod prose;
mod texts;
mod windows;

pub use error::DataError;
pub use prepare::{Prepared, Progress, ReadVocabulary, Split, Summary};
pub use windows::{Rows, Windows, held_out};

#[cfg(test)]
pub(crate) mod tests;

//! The recipe of a run: a TOML file, read once and checked before anything is done.

mod check;
mod error;
mod tables;

use std::path::{Path, PathBuf};

pub use error::RecipeError;
pub use tables::{
    Beginning, Checkpoints, Cut, Data, Evaluation, HeldOut, Objective, Paths, Prepare, Recipe, Temperature,
    TextSource, Training, Vocabulary,
};

impl Recipe {
    /// Reads a recipe.
    ///
    /// # Errors
    /// [`RecipeError`] names the key and the mend.
    pub fn read(path: &Path) -> Result<Recipe, RecipeError> {
        let file = path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|source| RecipeError::Io { file: file.clone(), source })?;
        Self::parse(&file, &text)
    }

    /// Parses the text of a recipe; messages call it `file`.
    ///
    /// # Errors
    /// [`RecipeError`] names the key and the mend.
    pub fn parse(file: &str, text: &str) -> Result<Recipe, RecipeError> {
        let recipe: Recipe = toml::from_str(text).map_err(|source| RecipeError::Toml {
            file: file.into(),
            found: error::one_line(&source, text),
        })?;
        recipe.check().map_err(|(key, found, mend)| RecipeError::Key {
            file: file.into(),
            key,
            found,
            mend,
        })?;
        Ok(recipe)
    }

    /// The folder that a run of the recipe `path` writes into by default: `runs/NAME` beside it.
    pub fn default_folder(path: &Path) -> PathBuf {
        let stem = path.file_stem().unwrap_or_default();
        path.parent().unwrap_or(Path::new("")).join("runs").join(stem)
    }
}

#[cfg(test)]
mod tests;

//! Lists of books: which texts of a collection are used, by the words they begin with.
//!
//! A line is `repeat <TAB> opening words <TAB> name`, or begins with `#`. The words are compared without Markdown's marks,
//! with plain quotes and dashes and single spaces, so that a list fits a collection however its files are written.

use std::fs;
use std::path::Path;

use super::DataError;

/// One line of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Book {
    /// How often an epoch reads it; 0: not at all.
    pub(super) repeat: usize,
    pub(super) opening: String,
    pub(super) name: String,
}

/// A list.
#[derive(Clone, Debug, Default)]
pub(super) struct Books {
    pub(super) books: Vec<Book>,
}

/// Characters of a text that may be its opening.
const OPENING: usize = 800;

impl Book {
    /// The beginning of a text as openings are compared.
    pub(super) fn opening_of(text: &str) -> String {
        let plain: String = text
            .chars()
            .take(OPENING)
            .map(|c| if c.is_alphanumeric() || c == '.' || c == ',' { c } else { ' ' })
            .collect();
        plain.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Which of the texts that begin with `openings` is meant. Before the opening words there may be a head that names author
    /// and title.
    pub(super) fn among(&self, openings: &[String]) -> Option<usize> {
        let begins = openings.iter().position(|opening| opening.starts_with(&self.opening));
        begins.or_else(|| openings.iter().position(|opening| opening.contains(&self.opening)))
    }
}

impl Books {
    pub(super) fn read(path: &Path) -> Result<Books, DataError> {
        let text = fs::read_to_string(path).map_err(|error| DataError::io(path, error))?;
        let mut books = Vec::new();
        for (at, line) in text.lines().enumerate() {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let wrong = |found: String, expected: &str| DataError::List {
                file: path.display().to_string(),
                line: at + 1,
                found,
                expected: expected.into(),
            };
            let fields: Vec<&str> = line.split('\t').collect();
            let [repeat, opening, name] = fields[..] else {
                return Err(wrong(
                    format!("{} fields", fields.len()),
                    "three, separated by tabs: how often it is read, its opening words, its name",
                ));
            };
            let repeat =
                repeat.trim().parse().map_err(|_| wrong(format!("{repeat:?}"), "a whole number first"))?;
            let opening = Book::opening_of(opening);
            if opening.is_empty() {
                return Err(wrong("no opening words".into(), "the first words of the text"));
            }
            books.push(Book { repeat, opening, name: name.trim().into() });
        }
        Ok(Books { books })
    }
}

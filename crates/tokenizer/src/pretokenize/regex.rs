//! Patterns that have no scanner: a general engine with look-around.

use crate::TokenizerError;

/// A compiled regular expression.
#[derive(Debug)]
pub(crate) struct Regex {
    regex: fancy_regex::Regex,
}

impl Regex {
    /// `entry` is the file's field, for the error.
    pub(crate) fn new(file: &str, entry: &str, pattern: &str) -> Result<Regex, TokenizerError> {
        // Hostile patterns must neither compile to gigabytes nor backtrack for ever.
        let built = fancy_regex::RegexBuilder::new(pattern).backtrack_limit(1_000_000).build();
        let regex = built.map_err(|error| {
            TokenizerError::entry(
                file,
                entry,
                format!("{}: {error}", crate::error::quote(pattern)),
                "a regular expression with Perl's syntax",
            )
        })?;
        Ok(Regex { regex })
    }

    /// Gives all stretches of `text` in order, with whether each is a match; none is empty. Bytes that are no UTF-8 are
    /// stretches without a match, and so is what follows where the engine gives up (its backtracking is bounded).
    pub(crate) fn split(&self, text: &[u8], each: &mut dyn FnMut(&[u8], bool)) {
        for chunk in text.utf8_chunks() {
            let valid = chunk.valid();
            let mut done = 0;
            for found in self.regex.find_iter(valid).map_while(Result::ok) {
                if found.start() == found.end() {
                    continue;
                }
                if done < found.start() {
                    each(&valid.as_bytes()[done..found.start()], false);
                }
                each(found.as_str().as_bytes(), true);
                done = found.end();
            }
            if done < valid.len() {
                each(&valid.as_bytes()[done..], false);
            }
            if !chunk.invalid().is_empty() {
                each(chunk.invalid(), false);
            }
        }
    }
}

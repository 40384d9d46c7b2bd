//! The one error of this crate.

use std::fmt;

/// What kind of trouble a [`FormatError`] reports, for programs that branch on it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused to open, read, write or rename the file.
    Io,
    /// The file is not of the format it was taken for.
    NotThisFormat,
    /// The right format in a version, dialect or tensor type that this crate does not read.
    Unsupported,
    /// The file ends before the data it declares.
    Truncated,
    /// A count, length or product that cannot be true, or that would take too much memory.
    TooLarge,
    /// A field breaks a rule of the format.
    Malformed,
    /// A key or a tensor name occurs twice.
    Duplicate,
    /// Two tensors claim the same bytes.
    Overlap,
    /// An offset is not a multiple of the alignment.
    Misaligned,
    /// A key, file or tensor that is needed is not there.
    Missing,
    /// A key holds a value of another type than asked for.
    WrongType,
}

/// A file that could not be read or written: which file, which field or tensor of it, what was found
/// there, what was expected, and what to do about it. Displayed as one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {place}: found {found}, expected {expected}; {mend}")]
pub struct FormatError {
    /// The kind of trouble.
    pub kind: ErrorKind,
    /// The file, as the caller named it.
    pub file: String,
    /// The field, key or tensor.
    pub place: String,
    /// What stands there.
    pub found: String,
    /// What should stand there.
    pub expected: String,
    /// What to do.
    pub mend: &'static str,
}

/// The mend for a file whose bytes contradict each other.
pub(crate) const DAMAGED: &str =
    "the file is damaged or was not written completely: download or convert it again";

impl FormatError {
    /// An error whose mend is to get an undamaged copy of the file, unless [`FormatError::mend`] says otherwise.
    pub(crate) fn new(
        kind: ErrorKind,
        file: &str,
        place: impl fmt::Display,
        found: impl fmt::Display,
        expected: impl fmt::Display,
    ) -> Self {
        Self {
            kind,
            file: one_line(file),
            place: place.to_string(),
            found: found.to_string(),
            expected: expected.to_string(),
            mend: DAMAGED,
        }
    }

    /// Replaces the mend.
    pub(crate) fn mend(mut self, mend: &'static str) -> Self {
        self.mend = mend;
        self
    }

    /// An operating system error on `file` while doing `place`.
    pub(crate) fn io(file: &str, place: impl fmt::Display, error: &std::io::Error) -> Self {
        let mend = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path",
            std::io::ErrorKind::PermissionDenied => "check the permissions of the file and of its folder",
            std::io::ErrorKind::StorageFull => "free some disk space, or choose another disk",
            _ => "check the disk and the path, then try again",
        };
        Self::new(ErrorKind::Io, file, place, quote(&error.to_string()), "no error").mend(mend)
    }
}

/// `text` from a file, in quotes, on one line, and short enough for a message.
pub(crate) fn quote(text: &str) -> String {
    format!("\"{}\"", one_line(text))
}

/// `text` without line breaks or control characters, cut after 96 characters.
pub(crate) fn one_line(text: &str) -> String {
    const LIMIT: usize = 96;
    let mut out = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == LIMIT {
            out.push('…');
            break;
        }
        match c {
            // Escaping every non-ASCII letter would make ordinary paths unreadable; only what could break the line is.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_with_all_parts() {
        let error = FormatError::new(ErrorKind::Malformed, "a\nb.gguf", "key \"k\"", 3, "4");
        let text = error.to_string();
        assert!(!text.contains('\n'), "{text}");
        for part in ["a\\nb.gguf", "key \"k\"", "found 3", "expected 4", DAMAGED] {
            assert!(text.contains(part), "{text} lacks {part}");
        }
    }

    #[test]
    fn long_names_are_cut() {
        assert!(quote(&"x".repeat(10_000)).chars().count() < 110);
        assert_eq!(quote("Ünïcode\u{7}"), "\"Ünïcode\\u{7}\"");
    }

    #[test]
    fn errors_stay_small_enough_to_return_by_value() {
        assert!(size_of::<FormatError>() < 128);
    }
}

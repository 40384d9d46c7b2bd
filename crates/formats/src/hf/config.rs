//! `config.json` with typed access.

use std::path::Path;

use serde_json::{Map, Value};

use super::read_small_file;
use crate::error::{ErrorKind, FormatError, quote};

/// Longer files are refused: real ones take a few kilobytes, and a parsed value takes a multiple of its text.
const MAX_CONFIG: usize = 1 << 20;

/// A JSON object of a configuration file. The typed getters return `Ok(None)` for a field that is absent or
/// `null` (which Hugging Face's files use alike) and an error that names file and field for one that holds
/// something else; their `required_` forms turn absence into an error too.
#[derive(Clone, Debug)]
pub struct Config {
    file: String,
    /// Path of this object in the file: empty, or like `rope_scaling.`.
    path: String,
    object: Map<String, Value>,
}

/// A getter and its `required_` form.
macro_rules! getters {
    ($($name:ident $required:ident $ty:ty, $expected:literal, $convert:expr, $doc:literal;)*) => {$(
        #[doc = $doc]
        ///
        /// # Errors
        /// The field holds something else.
        pub fn $name(&self, field: &str) -> Result<Option<$ty>, FormatError> {
            self.typed(field, $expected, $convert)
        }

        #[doc = $doc]
        ///
        /// # Errors
        /// The field is not there or holds something else.
        pub fn $required(&self, field: &str) -> Result<$ty, FormatError> {
            self.$name(field)?.ok_or_else(|| self.missing(field, $expected))
        }
    )*};
}

impl Config {
    /// Parses the JSON object `bytes` of a file that messages call `file`.
    ///
    /// # Errors
    /// More than 1 MiB, no JSON, or no object.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Config, FormatError> {
        if bytes.len() > MAX_CONFIG {
            let found = format!("{} bytes", bytes.len());
            return Err(FormatError::new(ErrorKind::TooLarge, file, "size", found, "at most 1 MiB"));
        }
        match serde_json::from_slice(bytes) {
            Ok(object) => Ok(Config { file: file.to_owned(), path: String::new(), object }),
            Err(e) => Err(FormatError::new(
                ErrorKind::Malformed,
                file,
                "JSON",
                quote(&e.to_string()),
                "a JSON object",
            )),
        }
    }

    /// Reads and parses a file.
    ///
    /// # Errors
    /// It cannot be read, or as [`Config::parse`].
    pub fn read(path: &Path) -> Result<Config, FormatError> {
        Config::parse(&path.display().to_string(), &read_small_file(path, MAX_CONFIG)?)
    }

    /// The file, as it was named.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// A field as it stands in the file, `null` included.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.object.get(field)
    }

    /// All fields.
    pub fn object(&self) -> &Map<String, Value> {
        &self.object
    }

    getters! {
        str required_str &str, "a string", Value::as_str, "A string.";
        usize required_usize usize, "an integer that is not negative", |v| v.as_u64()?.try_into().ok(), "A size or a count.";
        f64 required_f64 f64, "a number", Value::as_f64, "A number.";
        f32 required_f32 f32, "a number", |v| v.as_f64().map(|x| x as f32), "A number, rounded to single precision.";
        bool required_bool bool, "a boolean", Value::as_bool, "A boolean.";
        strings required_strings Vec<&str>, "an array of strings", |v| v.as_array()?.iter().map(Value::as_str).collect(), "An array of strings.";
        f64s required_f64s Vec<f64>, "an array of numbers", |v| v.as_array()?.iter().map(Value::as_f64).collect(), "An array of numbers.";
        ids required_ids Vec<u32>, "a token id or an array of them", token_ids, "A token id or an array of them (`eos_token_id` may be either).";
    }

    /// An object inside this one, such as `rope_scaling` or `text_config`.
    ///
    /// # Errors
    /// The field holds something else.
    pub fn section(&self, field: &str) -> Result<Option<Config>, FormatError> {
        let object = self.typed(field, "an object", Value::as_object)?;
        Ok(object.map(|object| Config {
            file: self.file.clone(),
            path: format!("{}{field}.", self.path),
            object: object.clone(),
        }))
    }

    /// An error about a field whose value has the right type and yet cannot be used.
    pub fn unsupported(&self, field: &str, expected: &str, mend: &'static str) -> FormatError {
        let found =
            self.object.get(field).map_or_else(|| "no such field".to_owned(), |v| quote(&v.to_string()));
        FormatError::new(ErrorKind::Unsupported, &self.file, self.place(field), found, expected).mend(mend)
    }

    fn typed<'a, T>(
        &'a self,
        field: &str,
        expected: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, FormatError> {
        match self.object.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match convert(value) {
                Some(converted) => Ok(Some(converted)),
                None => Err(FormatError::new(
                    ErrorKind::WrongType,
                    &self.file,
                    self.place(field),
                    quote(&value.to_string()),
                    expected,
                )
                .mend("correct the field, or download the file again")),
            },
        }
    }

    fn missing(&self, field: &str, expected: &str) -> FormatError {
        FormatError::new(ErrorKind::Missing, &self.file, self.place(field), "no such field", expected)
            .mend("this is no configuration of a model that is supported, or an incomplete one")
    }

    fn place(&self, field: &str) -> String {
        format!("field {}", quote(&format!("{}{field}", self.path)))
    }
}

fn token_ids(value: &Value) -> Option<Vec<u32>> {
    let id = |v: &Value| v.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(ids) => ids.iter().map(id).collect(),
        one => Some(vec![id(one)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let json = br#"{"hidden_size": 64, "eps": 1e-5, "tie": true, "none": null, "neg": -1, "eos_token_id": [1, 2],
            "bos_token_id": 7, "names": ["a", "b"], "rope_scaling": {"factor": "8"}}"#;
        Config::parse("config.json", json).unwrap()
    }

    #[test]
    fn typed_access() {
        let c = config();
        assert_eq!(c.required_usize("hidden_size").unwrap(), 64);
        assert_eq!(c.f64("eps").unwrap(), Some(1e-5));
        assert_eq!(c.bool("tie").unwrap(), Some(true));
        assert_eq!(c.usize("none").unwrap(), None);
        assert_eq!(c.usize("absent").unwrap(), None);
        assert_eq!(c.ids("eos_token_id").unwrap(), Some(vec![1, 2]));
        assert_eq!(c.ids("bos_token_id").unwrap(), Some(vec![7]));
        assert_eq!(c.strings("names").unwrap(), Some(vec!["a", "b"]));
    }

    #[test]
    fn files_are_read_up_to_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let error = Config::read(&path).unwrap_err();
        assert_eq!((error.kind, error.mend), (ErrorKind::Io, "check the path"));
        std::fs::write(&path, "{\"a\": 1}").unwrap();
        assert_eq!(Config::read(&path).unwrap().required_usize("a").unwrap(), 1);
        std::fs::write(&path, vec![b' '; MAX_CONFIG + 1]).unwrap();
        assert_eq!(Config::read(&path).unwrap_err().kind, ErrorKind::TooLarge);
    }

    #[test]
    fn errors_name_the_field_with_its_path() {
        let c = config();
        let error = c.section("rope_scaling").unwrap().unwrap().f64("factor").unwrap_err();
        assert_eq!(error.kind, ErrorKind::WrongType);
        assert!(error.to_string().contains("config.json: field \"rope_scaling.factor\": found"), "{error}");
        assert_eq!(c.usize("neg").unwrap_err().kind, ErrorKind::WrongType);
        assert_eq!(c.required_str("absent").unwrap_err().kind, ErrorKind::Missing);
        assert_eq!(c.section("names").unwrap_err().kind, ErrorKind::WrongType);
        assert_eq!(Config::parse("c", b"[1]").unwrap_err().kind, ErrorKind::Malformed);
        assert_eq!(Config::parse("c", &[b' '; MAX_CONFIG + 1]).unwrap_err().kind, ErrorKind::TooLarge);
        assert_eq!(
            Config::parse("c", "[".repeat(1 << 19).as_bytes()).unwrap_err().kind,
            ErrorKind::Malformed
        );
    }
}

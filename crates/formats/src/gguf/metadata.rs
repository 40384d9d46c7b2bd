//! The metadata of a file: an ordered map with typed access.

use super::value::{Array, Value};
use crate::error::{ErrorKind, FormatError, quote};

/// The key/value pairs of a file, in its order, with unique keys. The typed getters return `Ok(None)` for a
/// key that is not there and an error that names file and key for one that holds something else; their
/// `required_` forms turn absence into an error too. Integer getters take any integer type that holds the
/// value, number getters any number.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    file: String,
    pairs: Vec<(String, Value)>,
    /// Indices into `pairs`, sorted by key.
    by_key: Vec<u32>,
}

/// A getter, its `required_` form, and the words for what it expects.
macro_rules! getters {
    ($($name:ident $required:ident $ty:ty, $expected:literal, $convert:expr, $doc:literal;)*) => {$(
        #[doc = $doc]
        ///
        /// # Errors
        /// The key holds something else.
        pub fn $name(&self, key: &str) -> Result<Option<$ty>, FormatError> {
            self.typed(key, $expected, $convert)
        }

        #[doc = $doc]
        ///
        /// # Errors
        /// The key is not there or holds something else.
        pub fn $required(&self, key: &str) -> Result<$ty, FormatError> {
            self.$name(key)?.ok_or_else(|| self.missing(key, $expected))
        }
    )*};
}

impl Metadata {
    /// Takes unique keys in file order.
    pub(crate) fn new(file: &str, pairs: Vec<(String, Value)>) -> Result<Metadata, FormatError> {
        let mut by_key: Vec<u32> = (0..pairs.len() as u32).collect();
        by_key.sort_unstable_by(|&a, &b| pairs[a as usize].0.cmp(&pairs[b as usize].0));
        if let Some(twice) = by_key.windows(2).find(|w| pairs[w[0] as usize].0 == pairs[w[1] as usize].0) {
            let key = &pairs[twice[0] as usize].0;
            return Err(FormatError::new(
                ErrorKind::Duplicate,
                file,
                format_args!("metadata key {}", quote(key)),
                "the key more than once",
                "unique keys",
            ));
        }
        Ok(Metadata { file: file.to_owned(), pairs, by_key })
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let at = self.by_key.binary_search_by(|&i| self.pairs[i as usize].0.as_str().cmp(key)).ok()?;
        Some(&self.pairs[self.by_key[at] as usize].1)
    }

    /// All pairs, in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.pairs.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    getters! {
        str required_str &str, "a string", Value::as_str, "A string.";
        u64 required_u64 u64, "an integer that is not negative", Value::as_u64, "An integer that is not negative.";
        i64 required_i64 i64, "an integer", Value::as_i64, "An integer.";
        usize required_usize usize, "an integer that is not negative", |v| v.as_u64().and_then(|x| x.try_into().ok()), "A size or a count.";
        u32 required_u32 u32, "an integer from 0 to 4294967295", |v| v.as_u64().and_then(|x| x.try_into().ok()), "A token id or the like.";
        f64 required_f64 f64, "a number", Value::as_f64, "A number.";
        f32 required_f32 f32, "a number", |v| v.as_f64().map(|x| x as f32), "A number, in single precision (exact where the file holds an f32).";
        bool required_bool bool, "a boolean", Value::as_bool, "A boolean.";
        array required_array &Array, "an array", Value::as_array, "An array of any type.";
        strings required_strings &[String], "an array of strings", |v| v.as_array()?.as_strings(), "An array of strings.";
        bools required_bools &[bool], "an array of booleans", |v| v.as_array()?.as_bools(), "An array of booleans.";
        i64s required_i64s Vec<i64>, "an array of integers", |v| v.as_array()?.to_i64s(), "An array of integers.";
        f64s required_f64s Vec<f64>, "an array of numbers", |v| v.as_array()?.to_f64s(), "An array of numbers.";
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, FormatError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match convert(value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(FormatError::new(
                ErrorKind::WrongType,
                &self.file,
                format_args!("metadata key {}", quote(key)),
                describe(value),
                expected,
            )),
        }
    }

    fn missing(&self, key: &str, expected: &str) -> FormatError {
        FormatError::new(
            ErrorKind::Missing,
            &self.file,
            format_args!("metadata key {}", quote(key)),
            "no such key",
            expected,
        )
        .mend("the file is incomplete or of another architecture than it says: download or convert it again")
    }
}

/// Numbers and strings with their value, since `-1` says more than `i32`.
fn describe(value: &Value) -> String {
    match (value.as_f64(), value.as_str()) {
        (Some(number), _) => format!("{number} ({})", value.describe()),
        (_, Some(text)) => format!("{} ({})", quote(text), value.describe()),
        _ => value.describe(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Metadata {
        let pairs = vec![
            ("b".to_owned(), Value::from(-1i32)),
            ("a".to_owned(), Value::from("text")),
            ("c".to_owned(), Value::from(vec![1u8, 2])),
            ("e".to_owned(), Value::from(1e-5f32)),
        ];
        Metadata::new("m.gguf", pairs).unwrap()
    }

    #[test]
    fn keeps_the_order_and_finds_by_key() {
        let m = metadata();
        assert_eq!(m.iter().map(|(k, _)| k).collect::<Vec<_>>(), ["b", "a", "c", "e"]);
        assert_eq!(m.str("a").unwrap(), Some("text"));
        assert_eq!(m.str("zz").unwrap(), None);
        assert_eq!(m.required_i64("b").unwrap(), -1);
        assert_eq!(m.i64s("c").unwrap(), Some(vec![1, 2]));
        assert_eq!(m.f32("e").unwrap(), Some(1e-5));
    }

    #[test]
    fn errors_name_file_key_found_and_expected() {
        let m = metadata();
        assert_eq!(
            m.u64("b").unwrap_err().to_string(),
            format!(
                "m.gguf: metadata key \"b\": found -1 (i32), expected an integer that is not negative; {}",
                crate::error::DAMAGED
            )
        );
        assert_eq!(m.strings("c").unwrap_err().kind, ErrorKind::WrongType);
        assert_eq!(m.required_f64("zz").unwrap_err().kind, ErrorKind::Missing);
    }

    #[test]
    fn a_key_may_stand_only_once() {
        let pairs = vec![("a".to_owned(), Value::from(1u8)), ("a".to_owned(), Value::from(1u8))];
        assert_eq!(Metadata::new("m", pairs).unwrap_err().kind, ErrorKind::Duplicate);
    }
}

//! A JSON object a line.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::InputError;
use super::open::Source;

const BLOCK: usize = 1 << 18;

/// The texts of a file of JSON lines.
pub(super) struct JsonLines {
    source: Source,
    field: String,
    buffer: Vec<u8>,
    start: usize,
    line: u64,
    ended: bool,
}

impl JsonLines {
    pub(super) fn new(source: Source, field: &str) -> JsonLines {
        JsonLines { source, field: field.into(), buffer: Vec::new(), start: 0, line: 0, ended: false }
    }

    /// The next line that is not empty.
    fn line(&mut self) -> Result<Option<std::ops::Range<usize>>, InputError> {
        let mut searched = self.start;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[searched..]) {
                let line = self.start..searched + at;
                self.start = line.end + 1;
                searched = self.start;
                self.line += 1;
                if self.buffer[line.clone()].trim_ascii().is_empty() {
                    continue;
                }
                return Ok(Some(line));
            }
            if self.ended {
                let line = self.start..self.buffer.len();
                self.start = line.end;
                self.line += 1;
                return Ok(Some(line).filter(|line| !self.buffer[line.clone()].trim_ascii().is_empty()));
            }
            searched = self.buffer.len() - self.start;
            self.buffer.drain(..self.start);
            self.start = 0;
            let len = self.buffer.len();
            self.buffer.resize(len + BLOCK, 0);
            let count = self.source.read(&mut self.buffer[len..])?;
            self.buffer.truncate(len + count);
            self.ended = count == 0;
        }
    }

    fn text(&self, line: &[u8]) -> Result<String, InputError> {
        let wrong = |found: String, mend: String| InputError::Entry {
            file: self.source.file.clone(),
            entry: format!("line {}", self.line),
            found,
            mend,
        };
        if std::str::from_utf8(line).is_err() {
            return Err(InputError::not_utf8(&self.source.file, self.line));
        }
        let mut json = serde_json::Deserializer::from_slice(line);
        let found = FieldOf(&self.field).deserialize(&mut json).and_then(|found| json.end().map(|()| found));
        match found {
            Ok(Some(text)) => Ok(text.into_owned()),
            Ok(None) => Err(wrong(
                format!("no field {:?}", self.field),
                "name the field that holds the text, or remove the line".into(),
            )),
            Err(error) => Err(wrong(
                format!("not a JSON object with a string {:?}: {error}", self.field),
                "mend or remove the line".into(),
            )),
        }
    }
}

impl Iterator for JsonLines {
    type Item = Result<String, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.line() {
            Ok(line) => line.map(|line| self.text(&self.buffer[line])),
            Err(error) => Some(Err(error)),
        }
    }
}

/// One field of an object; the others are passed over.
struct FieldOf<'a>(&'a str);

/// A string, borrowed where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.into())))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

impl<'de> DeserializeSeed<'de> for FieldOf<'_> {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FieldOf<'_> {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Text(key)) = map.next_key()? {
            if key == self.0 {
                let Text(text) = map.next_value()?;
                found = Some(text);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

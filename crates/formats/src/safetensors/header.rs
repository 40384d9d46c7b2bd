//! The JSON header.

use std::fmt;

use ::safetensors::Dtype;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::TensorInfo;
use crate::error::{ErrorKind, FormatError, quote};

/// Longer headers are refused: 16 MiB describe some 130,000 tensors, and parsing takes a small multiple.
const MAX_HEADER: usize = 16 << 20;
/// More dimensions are refused before they take memory.
const MAX_DIMS: usize = 8;
/// More free-form strings are refused; real files hold a handful.
const MAX_METADATA: usize = 10_000;
const METADATA: &str = "__metadata__";

pub(super) struct Header {
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) metadata: Vec<(String, String)>,
}

pub(super) fn parse(file: &str, bytes: &[u8]) -> Result<Header, FormatError> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(FormatError::new(
            ErrorKind::Truncated,
            file,
            "header length",
            format_args!("a file of {} bytes", bytes.len()),
            "at least 8",
        ));
    };
    let declared = u64::from_le_bytes(*length);
    let limit = MAX_HEADER.min(rest.len());
    let length = match usize::try_from(declared) {
        Ok(length) if length <= limit => length,
        _ => {
            let kind = if declared > MAX_HEADER as u64 { ErrorKind::TooLarge } else { ErrorKind::Truncated };
            return Err(FormatError::new(
                kind,
                file,
                "header length",
                declared,
                format_args!("at most {limit}"),
            ));
        }
    };
    let (json, data) = rest.split_at(length);
    let raw: RawHeader = serde_json::from_slice(json).map_err(|error| {
        FormatError::new(
            ErrorKind::Malformed,
            file,
            "JSON header",
            quote(&error.to_string()),
            "names with dtype, shape and data_offsets",
        )
    })?;
    let data_start = 8 + length;
    let mut tensors = raw.tensors;
    tensors.sort_by_key(|(_, raw)| (raw.data_offsets, raw.shape.len()));
    let mut position = 0;
    let mut checked = Vec::with_capacity(tensors.len());
    for (name, raw) in tensors {
        let len = check(file, &name, &raw, position, data.len())?;
        let start = data_start + position;
        position += len;
        checked.push(TensorInfo { name, dtype: raw.dtype, shape: raw.shape, range: start..start + len });
    }
    if position != data.len() {
        return Err(FormatError::new(
            ErrorKind::Malformed,
            file,
            "end of the data",
            format_args!("tensors up to byte {position}"),
            format_args!("up to the end of the data at byte {}", data.len()),
        ));
    }
    Ok(Header { tensors: checked, metadata: raw.metadata })
}

/// The data length of a tensor that must begin at `position`, where the one before it ends.
fn check(
    file: &str,
    name: &str,
    raw: &RawTensor,
    position: usize,
    data_len: usize,
) -> Result<usize, FormatError> {
    let error = |kind, found: String, expected: String| {
        Err(FormatError::new(kind, file, format_args!("tensor {}", quote(name)), found, expected))
    };
    let (start, end) = raw.data_offsets;
    if end > data_len as u64 {
        let found = format!("data up to byte {end}");
        return error(ErrorKind::Truncated, found, format!("at most the {data_len} bytes after the header"));
    }
    if start != position as u64 {
        let kind = if start < position as u64 { ErrorKind::Overlap } else { ErrorKind::Malformed };
        return error(
            kind,
            format!("data from byte {start}"),
            format!("from byte {position}, where the last ends"),
        );
    }
    let bits = raw
        .shape
        .iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim))
        .and_then(|elements| elements.checked_mul(raw.dtype.bitsize()));
    match bits {
        Some(bits) if bits.is_multiple_of(8) && end.checked_sub(start) == Some((bits / 8) as u64) => {
            Ok(bits / 8)
        }
        _ => error(
            ErrorKind::Malformed,
            format!("shape {:?} of {} at bytes {start}..{end}", raw.shape, raw.dtype),
            "a byte range of the size of shape and dtype".into(),
        ),
    }
}

struct RawHeader {
    tensors: Vec<(String, RawTensor)>,
    metadata: Vec<(String, String)>,
}

struct RawTensor {
    dtype: Dtype,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

// Written by hand: a derived map would let the last of two tensors with one name win, and collect shapes of
// any length.
impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a map of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader { tensors: Vec::new(), metadata: Vec::new() };
                let mut has_metadata = false;
                while let Some(key) = map.next_key::<String>()? {
                    if key != METADATA {
                        header.tensors.push((key, map.next_value()?));
                    } else if std::mem::replace(&mut has_metadata, true) {
                        return Err(A::Error::duplicate_field(METADATA));
                    } else {
                        header.metadata = map.next_value::<Strings>()?.0;
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(HeaderVisitor)
    }
}

impl<'de> Deserialize<'de> for RawTensor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TensorVisitor;
        impl<'de> Visitor<'de> for TensorVisitor {
            type Value = RawTensor;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a tensor with dtype, shape and data_offsets")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawTensor, A::Error> {
                let (mut dtype, mut shape, mut data_offsets) = (None, None, None);
                while let Some(key) = map.next_key::<String>()? {
                    let again = match key.as_str() {
                        "dtype" => dtype.replace(map.next_value()?).is_some(),
                        "shape" => shape.replace(map.next_value::<Shape>()?.0).is_some(),
                        "data_offsets" => data_offsets.replace(map.next_value()?).is_some(),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            false
                        }
                    };
                    if again {
                        return Err(A::Error::custom(format_args!("{key} occurs twice")));
                    }
                }
                Ok(RawTensor {
                    dtype: dtype.ok_or_else(|| A::Error::missing_field("dtype"))?,
                    shape: shape.ok_or_else(|| A::Error::missing_field("shape"))?,
                    data_offsets: data_offsets.ok_or_else(|| A::Error::missing_field("data_offsets"))?,
                })
            }
        }
        deserializer.deserialize_map(TensorVisitor)
    }
}

struct Shape(Vec<usize>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShapeVisitor;
        impl<'de> Visitor<'de> for ShapeVisitor {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(f, "at most {MAX_DIMS} dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut shape = Vec::with_capacity(4);
                while let Some(dim) = seq.next_element()? {
                    if shape.len() == MAX_DIMS {
                        return Err(A::Error::invalid_length(MAX_DIMS + 1, &self));
                    }
                    shape.push(dim);
                }
                Ok(Shape(shape))
            }
        }
        deserializer.deserialize_seq(ShapeVisitor)
    }
}

struct Strings(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StringsVisitor;
        impl<'de> Visitor<'de> for StringsVisitor {
            type Value = Strings;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strings, A::Error> {
                let mut strings = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    if strings.len() == MAX_METADATA {
                        return Err(A::Error::custom(format_args!("more than {MAX_METADATA} strings")));
                    }
                    strings.push(pair);
                }
                Ok(Strings(strings))
            }
        }
        deserializer.deserialize_map(StringsVisitor)
    }
}

//! The forms in which weights are kept.
use std::{fmt, str::FromStr};

/// How many weights share a scale.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum ScaleBy {
    /// One scale for the whole matrix.
    Tensor,
    /// One scale for each row (output).
    Row,
    /// One scale for each run of this many columns of a row; the last run of a row may be shorter.
    Group(usize),
}

/// The two encodings of ternary weights; same values, same products.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Packing {
    /// Two bits a weight.
    Trit2,
    /// Five weights a byte, in base 3: 1.6 bits a weight.
    Trit5,
}

impl Packing {
    /// The format of this packing with scales of this granularity.
    pub fn scaled(self, scale_by: ScaleBy) -> Format {
        match self {
            Packing::Trit2 => Format::Trit2(scale_by),
            Packing::Trit5 => Format::Trit5(scale_by),
        }
    }
}

/// The form in which a matrix keeps its weights.
///
/// The text form (`Display`, `FromStr`) is the one in native files: `f32`, `f16`, `bf16`, `int8/row`, `int8/32`,
/// `int4/32`, `int4m/32` (with minima), `trit2/tensor`, `trit5/row`, `trit2/128`, ...
///
/// ```
/// use chalot_tensor::matrix::{Format, ScaleBy};
///
/// assert_eq!("trit5/128".parse(), Ok(Format::Trit5(ScaleBy::Group(128))));
/// assert_eq!(Format::Int4 { mins: true }.to_string(), "int4m/32");
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
    /// 8-bit integers: value = scale * code, code in -128..=127. Scales by row (f32) or group of 32 (f16).
    Int8(ScaleBy),
    /// 4-bit integers in groups of 32 with f16 scales: value = scale * (code - 8), code in 0..=15;
    /// with `mins`, value = scale * code + min.
    Int4 {
        /// Whether groups have a minimum (f16).
        mins: bool,
    },
    /// Ternary, two bits a weight: value = scale * code, code -1, 0 or 1; f32 scales by tensor, row, or group of
    /// 64, 128 or 256.
    Trit2(ScaleBy),
    /// Ternary, 1.6 bits a weight, otherwise as [`Format::Trit2`].
    Trit5(ScaleBy),
}

impl Format {
    /// Columns in a group of the 4- and 8-bit formats.
    pub const INT_GROUP: usize = 32;

    /// How many weights share a scale; `None` for floats.
    pub fn scale_by(self) -> Option<ScaleBy> {
        match self {
            Format::F32 | Format::F16 | Format::Bf16 => None,
            Format::Int8(scale_by) | Format::Trit2(scale_by) | Format::Trit5(scale_by) => Some(scale_by),
            Format::Int4 { .. } => Some(ScaleBy::Group(Self::INT_GROUP)),
        }
    }

    /// Columns in a group, when scales are by group.
    pub fn group(self) -> Option<usize> {
        match self.scale_by() {
            Some(ScaleBy::Group(group)) => Some(group),
            _ => None,
        }
    }

    /// The packing, when the weights are ternary.
    pub fn packing(self) -> Option<Packing> {
        match self {
            Format::Trit2(_) => Some(Packing::Trit2),
            Format::Trit5(_) => Some(Packing::Trit5),
            _ => None,
        }
    }

    /// `None` when the format exists, otherwise which granularities do.
    pub(super) fn missing(self) -> Option<&'static str> {
        let exists = match self {
            Format::F32 | Format::F16 | Format::Bf16 | Format::Int4 { .. } => true,
            Format::Int8(by) => matches!(by, ScaleBy::Row | ScaleBy::Group(Self::INT_GROUP)),
            Format::Trit2(by) | Format::Trit5(by) => {
                !matches!(by, ScaleBy::Group(g) if !matches!(g, 64 | 128 | 256))
            }
        };
        match self {
            _ if exists => None,
            Format::Int8(_) => Some("int8 has scales by `row` or `32`"),
            _ => Some("ternary formats have scales by `tensor`, `row`, `64`, `128` or `256`"),
        }
    }
}

impl fmt::Display for ScaleBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScaleBy::Tensor => f.write_str("tensor"),
            ScaleBy::Row => f.write_str("row"),
            ScaleBy::Group(group) => write!(f, "{group}"),
        }
    }
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Packing::Trit2 => "trit2",
            Packing::Trit5 => "trit5",
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Format::F32 => f.write_str("f32"),
            Format::F16 => f.write_str("f16"),
            Format::Bf16 => f.write_str("bf16"),
            Format::Int8(by) => write!(f, "int8/{by}"),
            Format::Int4 { mins: false } => write!(f, "int4/{}", Self::INT_GROUP),
            Format::Int4 { mins: true } => write!(f, "int4m/{}", Self::INT_GROUP),
            Format::Trit2(by) => write!(f, "trit2/{by}"),
            Format::Trit5(by) => write!(f, "trit5/{by}"),
        }
    }
}

/// A text that is no [`Format`], [`Packing`] or [`MatrixSpec`](super::MatrixSpec).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is no {what}; expected {expected}")]
pub struct ParseFormatError {
    pub(super) what: &'static str,
    pub(super) found: String,
    pub(super) expected: &'static str,
}

impl FromStr for Packing {
    type Err = ParseFormatError;

    fn from_str(text: &str) -> Result<Self, ParseFormatError> {
        match text {
            "trit2" => Ok(Packing::Trit2),
            "trit5" => Ok(Packing::Trit5),
            _ => {
                Err(ParseFormatError { what: "packing", found: text.to_owned(), expected: "trit2 or trit5" })
            }
        }
    }
}

impl FromStr for Format {
    type Err = ParseFormatError;

    fn from_str(text: &str) -> Result<Self, ParseFormatError> {
        let scale_by = |by: &str| match by {
            "tensor" => Some(ScaleBy::Tensor),
            "row" => Some(ScaleBy::Row),
            // Exactly as printed: no sign, no leading zeros.
            _ => by.parse().ok().filter(|group: &usize| group.to_string() == by).map(ScaleBy::Group),
        };
        let (name, by) = text.split_once('/').map_or((text, None), |(name, by)| (name, Some(by)));
        let format = match (name, by) {
            ("f32", None) => Some(Format::F32),
            ("f16", None) => Some(Format::F16),
            ("bf16", None) => Some(Format::Bf16),
            ("int8", Some(by)) => scale_by(by).map(Format::Int8),
            ("int4", Some("32")) => Some(Format::Int4 { mins: false }),
            ("int4m", Some("32")) => Some(Format::Int4 { mins: true }),
            ("trit2", Some(by)) => scale_by(by).map(Format::Trit2),
            ("trit5", Some(by)) => scale_by(by).map(Format::Trit5),
            _ => None,
        };
        format.filter(|format| format.missing().is_none()).ok_or_else(|| ParseFormatError {
            what: "weight format",
            found: text.to_owned(),
            expected: "f32, f16, bf16, int8/row, int8/32, int4/32, int4m/32, or trit2 or trit5 with /tensor, /row, /64, /128 or /256",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        for format in crate::testing::formats() {
            assert_eq!(format.to_string().parse::<Format>(), Ok(format));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "f64",
            "f32/row",
            "int8",
            "int8/tensor",
            "int8/64",
            "int4/row",
            "trit2",
            "trit2/",
            "trit2/32",
            "trit2/+64",
            "trit2/064",
            "trit3/row",
            "trit2/row/row",
            "TRIT2/row",
            " f32",
        ] {
            let error = text.parse::<Format>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("`{text}` is no weight format; expected f32")));
        }
    }
}

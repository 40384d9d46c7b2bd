//! A tensor's bytes with a type and dimensions that fit them.

use std::ops::Range;

use super::sink::{Codes, Floats};
use super::{Decoded, Kind, float, int4, is_supported, kquant, ternary};
use crate::error::{ErrorKind, FormatError, quote};
use crate::tensor_type::{I2S_TAIL, TensorType};

/// Weights of an integer group: of a scale in [`Decoded::Int8`] and [`Decoded::Int4`].
const GROUP: usize = 32;

/// The bytes of one tensor, checked against its type and dimensions. Cheap to copy.
#[derive(Copy, Clone, Debug)]
pub struct TensorView<'a> {
    file: &'a str,
    name: &'a str,
    ty: TensorType,
    rows: usize,
    cols: usize,
    bytes: &'a [u8],
    kind: Kind,
}

impl<'a> TensorView<'a> {
    /// A view of `bytes`, the data of a tensor and nothing else, with the innermost dimension first in `dims`
    /// (no dimensions: a scalar). `file` and `name` are for messages.
    ///
    /// Reads the bytes of 2-bit types once: their fourth code decides what [`TensorView::kind`] is, and must
    /// not occur in I2_S. (What that finds is damage and other types under I2_S's id. A file whose blocks hold
    /// the same codes in another order, as some ARM builds wrote them, differs in no byte that could be checked:
    /// it decodes to weights in the wrong places.)
    ///
    /// # Errors
    /// The type is not supported, rows are no whole blocks, `bytes` has another length than type and
    /// dimensions ask; in I2_S a scale that is not finite or a code that no right reading has.
    pub fn new(
        file: &'a str,
        name: &'a str,
        ty: TensorType,
        dims: &[usize],
        bytes: &'a [u8],
    ) -> Result<TensorView<'a>, FormatError> {
        let error = |kind, found: String, expected: String| {
            FormatError::new(kind, file, format_args!("tensor {}", quote(name)), found, expected)
        };
        let (Some(block), true) = (ty.block(), is_supported(ty)) else {
            return Err(error(
                ErrorKind::Unsupported,
                // Unknown types already display as "type 999".
                ty.name().map_or_else(|| ty.to_string(), |name| format!("type {name}")),
                "a type that can be decoded (F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K, \
                 TQ1_0, TQ2_0, Q2_0, PQ2_0, PTQ1_0, I2_S)"
                    .into(),
            )
            .mend("get the model in one of these types"));
        };
        let cols = dims.first().copied().unwrap_or(1);
        let rows = dims.iter().skip(1).try_fold(1usize, |product, &dim| product.checked_mul(dim));
        let elements = rows.and_then(|rows| rows.checked_mul(cols));
        let (Some(rows), Some(elements)) = (rows, elements) else {
            return Err(error(
                ErrorKind::TooLarge,
                format!("dimensions {dims:?}"),
                "a product that can be addressed".into(),
            ));
        };
        // Blocks of I2_S run over the flattened tensor; all others stay within a row.
        let unit = if ty == TensorType::I2S { elements } else { cols };
        if !unit.is_multiple_of(block.weights) {
            return Err(error(
                ErrorKind::Malformed,
                format!("dimensions {dims:?} of type {ty}"),
                format!("whole blocks of {} weights", block.weights),
            ));
        }
        match ty.byte_len(elements) {
            Some(len) if len == bytes.len() => {}
            len => {
                let expected =
                    len.map_or("a size that can be addressed".into(), |len| format!("{len} bytes"));
                let found = format!("{} bytes for dimensions {dims:?} of type {ty}", bytes.len());
                return Err(error(ErrorKind::Malformed, found, expected));
            }
        }
        let mut view = TensorView { file, name, ty, rows, cols, bytes, kind: Kind::Float };
        view.kind = view.find_kind()?;
        Ok(view)
    }

    /// The type of the file's data.
    pub fn ty(&self) -> TensorType {
        self.ty
    }

    /// Rows: the product of all dimensions but the innermost.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Weights of a row: the innermost dimension.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Number of weights.
    pub fn elements(&self) -> usize {
        self.rows * self.cols
    }

    /// The data as it is in the file.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What [`TensorView::decode_rows`] gives, whichever rows it is asked for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Decodes some rows. Several threads may decode different rows of one view.
    ///
    /// # Errors
    /// `rows` is not inside `0..self.rows()`.
    pub fn decode_rows(&self, rows: Range<usize>) -> Result<Decoded, FormatError> {
        let (elements, bytes) = self.slab(rows)?;
        let len = elements.len();
        Ok(match self.kind {
            Kind::Float => {
                let mut out = vec![0.0; len];
                self.floats(elements, bytes, &mut out);
                Decoded::Float(out)
            }
            Kind::Ternary { block } => {
                let mut codes = vec![0; len];
                let scales = if self.ty == TensorType::I2S {
                    ternary::i2_s(self.bytes, elements.start, &mut codes);
                    vec![self.i2_s_scale()]
                } else {
                    let mut scales = vec![0.0; len / block];
                    ternary::decode(self.ty, bytes, &mut Codes { codes: &mut codes, scales: &mut scales });
                    scales
                };
                Decoded::Ternary { codes, block, scales }
            }
            Kind::Int8 => {
                let (mut codes, mut scales) = (vec![0; len], vec![0.0; len / GROUP]);
                ternary::decode(self.ty, bytes, &mut Codes { codes: &mut codes, scales: &mut scales });
                Decoded::Int8 { codes, scales }
            }
            Kind::Int4 { mins } => {
                let (mut codes, mut scales) = (vec![0; len], vec![0.0; len / GROUP]);
                let mut mins = mins.then(|| vec![0.0; len / GROUP]);
                int4::decode(self.ty, bytes, &mut codes, &mut scales, mins.as_deref_mut());
                Decoded::Int4 { codes, scales, mins }
            }
        })
    }

    /// Decodes some rows to floats, whatever the type; `out` has one place for each weight.
    ///
    /// # Errors
    /// `rows` is not inside `0..self.rows()`, or `out` has another length than they have weights.
    pub fn decode_rows_f32(&self, rows: Range<usize>, out: &mut [f32]) -> Result<(), FormatError> {
        let (elements, bytes) = self.slab(rows)?;
        if out.len() != elements.len() {
            return Err(self
                .misuse(format!("room for {} weights", out.len()), format!("room for {}", elements.len())));
        }
        self.floats(elements, bytes, out);
        Ok(())
    }

    /// Decodes the whole tensor to floats, whatever the type.
    ///
    /// # Errors
    /// None at present: the view is checked already.
    pub fn to_f32(&self) -> Result<Vec<f32>, FormatError> {
        let mut out = vec![0.0; self.elements()];
        self.decode_rows_f32(0..self.rows, &mut out)?;
        Ok(out)
    }

    /// The bits of F16 or BF16 weights, for kernels that keep them as they are.
    ///
    /// # Errors
    /// The type is another, or `rows` is not inside `0..self.rows()`.
    pub fn rows_u16(&self, rows: Range<usize>) -> Result<Vec<u16>, FormatError> {
        if !matches!(self.ty, TensorType::F16 | TensorType::BF16) {
            return Err(self.misuse(format!("type {}", self.ty), "F16 or BF16".into()));
        }
        let (_, bytes) = self.slab(rows)?;
        Ok(bytes.as_chunks::<2>().0.iter().map(|&b| u16::from_le_bytes(b)).collect())
    }

    /// The weights and the bytes of some rows (I2_S: the bytes of the whole tensor).
    fn slab(&self, rows: Range<usize>) -> Result<(Range<usize>, &'a [u8]), FormatError> {
        if rows.start > rows.end || rows.end > self.rows {
            return Err(self.misuse(format!("rows {rows:?}"), format!("rows inside 0..{}", self.rows)));
        }
        let elements = rows.start * self.cols..rows.end * self.cols;
        let bytes = match self.ty {
            TensorType::I2S => self.bytes,
            _ => {
                let stride = self.bytes.len() / self.rows.max(1);
                &self.bytes[rows.start * stride..rows.end * stride]
            }
        };
        Ok((elements, bytes))
    }

    fn floats(&self, elements: Range<usize>, bytes: &[u8], out: &mut [f32]) {
        use TensorType::*;
        match self.ty {
            F32 => float::f32(bytes, out),
            F64 => float::f64(bytes, out),
            F16 => float::f16(bytes, out),
            BF16 => float::bf16(bytes, out),
            Q4_0 | Q4_1 | Q4K => int4::decode_f32(self.ty, bytes, out),
            Q5_1 => kquant::q5_1(bytes, out),
            Q5K => kquant::q5_k(bytes, out),
            Q6K => kquant::q6_k(bytes, out),
            I2S => ternary::i2_s_f32(self.bytes, elements.start, self.i2_s_scale(), out),
            _ => ternary::decode(self.ty, bytes, &mut Floats { out }),
        }
    }

    fn find_kind(&self) -> Result<Kind, FormatError> {
        use TensorType::*;
        Ok(match self.ty {
            TQ2_0 | Q2_0 | PQ2_0 if ternary::has_code_three(self.ty, self.bytes) => Kind::Float,
            TQ1_0 | TQ2_0 => Kind::Ternary { block: 256 },
            Q2_0 => Kind::Ternary { block: 64 },
            PQ2_0 | PTQ1_0 => Kind::Ternary { block: 128 },
            I2S => {
                self.check_i2_s()?;
                Kind::Ternary { block: self.elements() }
            }
            Q8_0 | Q5_0 => Kind::Int8,
            Q4_0 => Kind::Int4 { mins: false },
            Q4_1 | Q4K => Kind::Int4 { mins: true },
            _ => Kind::Float,
        })
    }

    fn check_i2_s(&self) -> Result<(), FormatError> {
        let (found, expected) = if ternary::has_code_three(self.ty, self.bytes) {
            (
                "the code 3 in data of type I2_S".to_owned(),
                "only the codes 0, 1 and 2, which mean -1, 0 and 1",
            )
        } else if !self.i2_s_scale().is_finite() {
            (format!("the scale {} at the end of data of type I2_S", self.i2_s_scale()), "a finite number")
        } else {
            return Ok(());
        };
        let place = format_args!("tensor {}", quote(self.name));
        Err(FormatError::new(ErrorKind::Unsupported, self.file, place, found, expected).mend(
            "the file is damaged or packs its weights in another way than bitnet.cpp's x86 builds: convert the \
             original model to TQ2_0 or TQ1_0 instead",
        ))
    }

    fn i2_s_scale(&self) -> f32 {
        let tail = self.bytes.len() - I2S_TAIL;
        // `new` checked that the tail is there.
        self.bytes[tail..].first_chunk().map_or(0.0, |&b| f32::from_le_bytes(b))
    }

    fn misuse(&self, found: String, expected: String) -> FormatError {
        let place = format_args!("decoding tensor {}", quote(self.name));
        FormatError::new(ErrorKind::Malformed, self.file, place, found, expected)
            .mend("this is a mistake in the program that loads the file: please report it")
    }
}

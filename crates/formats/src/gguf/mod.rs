//! GGUF, version 2 and 3, little-endian: the container of most models that run on ordinary computers, and of
//! this project's native files.
//!
//! Layout (ggml's `docs/gguf.md`): magic, version, counts; metadata key/value pairs; tensor descriptions
//! (name, dimensions innermost first, type, offset); padding to `general.alignment`; tensor data, each tensor
//! aligned.
//!
//! Reading checks all of it before any of it is used: see [`Gguf::parse`]. Writing streams: see [`Header`].

mod layout;
mod metadata;
mod parse;
mod value;
mod write;

use std::ops::Range;

pub use metadata::Metadata;
pub use value::{Array, Value};
pub use write::{FileWriter, Header, Writer};

use crate::codec::TensorView;
use crate::error::{ErrorKind, FormatError, quote};
use crate::tensor_type::TensorType;

/// The first four bytes of a file.
pub const MAGIC: [u8; 4] = *b"GGUF";
/// Alignment of tensor data where a file does not say `general.alignment`.
pub const DEFAULT_ALIGNMENT: usize = 32;
/// The key that says otherwise.
pub const ALIGNMENT_KEY: &str = "general.alignment";
/// ggml's limit on the dimensions of a tensor.
pub const MAX_DIMS: usize = 4;
/// Arrays inside arrays that a file may hold. Real files nest none; the bound keeps recursion shallow.
const MAX_NESTING: usize = 8;

/// The parsed and checked description of a GGUF file. Holds no tensor data: [`TensorInfo::range`] says where
/// in the file's bytes it lies.
#[derive(Clone, Debug)]
pub struct Gguf {
    /// 2 or 3.
    pub version: u32,
    /// Alignment of tensor data in bytes, a power of two.
    pub alignment: usize,
    /// The key/value pairs.
    pub metadata: Metadata,
    /// The tensors, in the order of the file.
    pub tensors: Vec<TensorInfo>,
    /// The file as the caller named it, for messages.
    file: String,
    /// Length of the file that was parsed.
    file_len: usize,
    /// Indices into `tensors`, sorted by name.
    by_name: Vec<u32>,
}

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Unique in the file.
    pub name: String,
    /// Innermost (contiguous) dimension first; none is 0; at most [`MAX_DIMS`]; empty for a scalar. The
    /// product fits `usize`.
    pub dims: Vec<usize>,
    /// How the weights are stored.
    pub ty: TensorType,
    /// Where the data lies in the file: inside it, aligned, overlapping no other tensor, and of the length
    /// that `ty` and `dims` demand. For an unknown type, everything up to the next tensor.
    pub range: Range<usize>,
}

impl TensorInfo {
    /// Number of weights.
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// Weights of a row: the innermost dimension.
    pub fn cols(&self) -> usize {
        self.dims.first().copied().unwrap_or(1)
    }

    /// Rows: the product of all dimensions but the innermost.
    pub fn rows(&self) -> usize {
        self.dims.iter().skip(1).product()
    }
}

impl Gguf {
    /// Parses `bytes`, the whole of a file that messages call `file`.
    ///
    /// What is checked: magic, version and byte order; every count and length against the bytes left; strings
    /// (UTF-8), booleans (0 or 1), array types and nesting (at most 8 deep); no key and no tensor name twice;
    /// the alignment a power of two; at most four dimensions, none 0, product and byte size without overflow,
    /// whole blocks in a row; offsets aligned; tensor data inside the file, no two tensors overlapping.
    /// Memory stays below the file's size plus 64 MiB.
    ///
    /// # Errors
    /// [`FormatError`] for whatever of this does not hold.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Gguf, FormatError> {
        parse::parse(file, bytes)
    }

    /// The file, as it was named to [`Gguf::parse`].
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The tensor with this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let at = self.by_name.binary_search_by(|&i| self.tensors[i as usize].name.as_str().cmp(name)).ok()?;
        Some(&self.tensors[self.by_name[at] as usize])
    }

    /// The tensor with this name, or an error that says it is missing.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`].
    pub fn required_tensor(&self, name: &str) -> Result<&TensorInfo, FormatError> {
        self.tensor(name).ok_or_else(|| {
            FormatError::new(
                ErrorKind::Missing,
                &self.file,
                format_args!("tensor {}", quote(name)),
                format_args!("{} tensors, none of that name", self.tensors.len()),
                "a tensor of that name",
            )
            .mend("the file is incomplete or of another architecture than it says: download or convert it again")
        })
    }

    /// The data of the tensor with this name, ready to decode. `bytes` is the whole file.
    ///
    /// # Errors
    /// The tensor is missing, `bytes` is shorter than the file that was parsed, or what
    /// [`TensorView::new`] reports.
    pub fn view<'a>(&'a self, name: &str, bytes: &'a [u8]) -> Result<TensorView<'a>, FormatError> {
        let info = self.required_tensor(name)?;
        let data = bytes.get(info.range.clone()).ok_or_else(|| {
            FormatError::new(
                ErrorKind::Truncated,
                &self.file,
                format_args!("tensor {}", quote(name)),
                format_args!("{} bytes", bytes.len()),
                format_args!("the {} bytes that the file had when it was opened", self.file_len),
            )
            .mend("the file changed while it was in use: open it again")
        })?;
        TensorView::new(&self.file, &info.name, info.ty, &info.dims, data)
    }
}

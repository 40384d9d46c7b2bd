//! Safetensors: the weight files of Hugging Face folders.
//!
//! Layout: a 64-bit header length, a JSON header (name to dtype, shape and byte range), the data. The types
//! are the `safetensors` crate's; the header is read here, because a loader must also survive headers which
//! that crate takes at their word (a name that occurs twice, offsets near the top of the address space), and
//! should say which tensor is at fault.
//!
//! A model may lie in several files: [`shard_paths`] finds them, [`Shards`] looks tensors up across them.

mod header;
mod index;

use std::ops::Range;

pub use ::safetensors::Dtype;
pub use index::{ShardIndex, Shards, shard_paths};

use crate::codec::TensorView;
use crate::error::{ErrorKind, FormatError, quote};
use crate::tensor_type::TensorType;

/// The parsed and checked header of a file.
#[derive(Clone, Debug)]
pub struct SafeTensors {
    /// The tensors, in the order of their data.
    pub tensors: Vec<TensorInfo>,
    /// The free-form strings of `__metadata__`.
    pub metadata: Vec<(String, String)>,
    file: String,
    file_len: usize,
    /// Indices into `tensors`, sorted by name.
    by_name: Vec<u32>,
}

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Unique in the file.
    pub name: String,
    /// How the elements are stored.
    pub dtype: Dtype,
    /// Outermost dimension first; empty for a scalar; dimensions may be 0. The product fits `usize`.
    pub shape: Vec<usize>,
    /// Where the data lies in the file: inside it, and of the length that `dtype` and `shape` demand.
    pub range: Range<usize>,
}

impl TensorInfo {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The type that decodes the same bytes, for the dtypes that hold weights; `None` for the others.
pub fn tensor_type(dtype: Dtype) -> Option<TensorType> {
    match dtype {
        Dtype::F32 => Some(TensorType::F32),
        Dtype::F16 => Some(TensorType::F16),
        Dtype::BF16 => Some(TensorType::BF16),
        Dtype::F64 => Some(TensorType::F64),
        _ => None,
    }
}

impl SafeTensors {
    /// Parses `bytes`, the whole of a file that messages call `file`. Data must lie in the file without gaps
    /// and overlaps, as the format demands. Memory stays below the file's size plus 64 MiB.
    ///
    /// # Errors
    /// [`FormatError`] for a header that is too long, no JSON, or at odds with itself or the file's length.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<SafeTensors, FormatError> {
        let header = header::parse(file, bytes)?;
        let name = |index: u32| header.tensors[index as usize].name.as_str();
        let mut by_name: Vec<u32> = (0..header.tensors.len() as u32).collect();
        by_name.sort_unstable_by(|&a, &b| name(a).cmp(name(b)));
        if let Some(twice) = by_name.windows(2).find(|w| name(w[0]) == name(w[1])) {
            return Err(FormatError::new(
                ErrorKind::Duplicate,
                file,
                format_args!("tensor {}", quote(name(twice[0]))),
                "the name more than once",
                "unique names",
            ));
        }
        Ok(SafeTensors {
            tensors: header.tensors,
            metadata: header.metadata,
            file: file.to_owned(),
            file_len: bytes.len(),
            by_name,
        })
    }

    /// The file, as it was named to [`SafeTensors::parse`].
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The tensor with this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let at = self.by_name.binary_search_by(|&i| self.tensors[i as usize].name.as_str().cmp(name)).ok()?;
        Some(&self.tensors[self.by_name[at] as usize])
    }

    /// The bytes of a tensor of this file; `bytes` is the whole file.
    ///
    /// # Errors
    /// `bytes` is shorter than the file that was parsed.
    pub fn data<'a>(&self, info: &TensorInfo, bytes: &'a [u8]) -> Result<&'a [u8], FormatError> {
        bytes.get(info.range.clone()).ok_or_else(|| {
            FormatError::new(
                ErrorKind::Truncated,
                &self.file,
                format_args!("tensor {}", quote(&info.name)),
                format_args!("{} bytes", bytes.len()),
                format_args!("the {} bytes that the file had when it was opened", self.file_len),
            )
            .mend("the file changed while it was in use: open it again")
        })
    }

    /// The data of a float tensor of this file, ready to decode; `bytes` is the whole file.
    ///
    /// # Errors
    /// The dtype is none of F32, F16, BF16, F64, or as [`SafeTensors::data`].
    pub fn view<'a>(&'a self, info: &'a TensorInfo, bytes: &'a [u8]) -> Result<TensorView<'a>, FormatError> {
        let Some(ty) = tensor_type(info.dtype) else {
            return Err(FormatError::new(
                ErrorKind::Unsupported,
                &self.file,
                format_args!("tensor {}", quote(&info.name)),
                format_args!("dtype {}", info.dtype),
                "F32, F16, BF16 or F64",
            )
            .mend("get the model in one of these types"));
        };
        let dims: Vec<usize> = info.shape.iter().rev().copied().collect();
        TensorView::new(&self.file, &info.name, ty, &dims, self.data(info, bytes)?)
    }
}

//! Hugging Face model folders: `config.json`, its `quantization_config`, and packed BitNet weights. The
//! weight files are [`crate::safetensors`]'s matter.

mod bitnet;
mod config;
mod quantization;

use std::io::Read;
use std::path::Path;

pub use bitnet::{BitNetWeight, unpack_bitnet};
pub use config::Config;
pub use quantization::{BitNetScale, LinearClass, Quantization, QuantizationMode};

use crate::error::{ErrorKind, FormatError};

/// Reads a file that has no business being larger than `limit` bytes.
pub(crate) fn read_small_file(path: &Path, limit: usize) -> Result<Vec<u8>, FormatError> {
    let name = path.display().to_string();
    let file = std::fs::File::open(path).map_err(|e| FormatError::io(&name, "opening", &e))?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file of just that size from a larger one.
    let read = file.take(limit as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|e| FormatError::io(&name, "reading", &e))?;
    if bytes.len() > limit {
        return Err(FormatError::new(
            ErrorKind::TooLarge,
            &name,
            "size",
            format_args!("more than {limit} bytes"),
            format_args!("at most {limit}"),
        ));
    }
    Ok(bytes)
}

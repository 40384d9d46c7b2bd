//! Lists of named f32 tensors as safetensors files.

use std::io::{self, Write};

use chalot_formats::safetensors::{Dtype, SafeTensors};

use super::{Checkpoint, CheckpointError};

/// A named tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<'a> {
    /// Unique in its file.
    pub name: String,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Row after row.
    pub data: std::borrow::Cow<'a, [f32]>,
}

/// Writes tensors, in their order.
///
/// # Errors
/// Those of `out`.
pub fn write_tensors(out: &mut dyn Write, tensors: &[Tensor]) -> io::Result<()> {
    let mut header = serde_json::Map::new();
    let mut at = 0;
    for tensor in tensors {
        let end = at + 4 * tensor.data.len();
        let entry = serde_json::json!({"dtype": "F32", "shape": tensor.shape, "data_offsets": [at, end]});
        header.insert(tensor.name.clone(), entry);
        at = end;
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    let mut buffer = Vec::new();
    for block in tensors.iter().flat_map(|tensor| tensor.data.chunks(1 << 16)) {
        buffer.clear();
        buffer.extend(block.iter().flat_map(|value| value.to_le_bytes()));
        out.write_all(&buffer)?;
    }
    Ok(())
}

/// Reads the tensors of a checkpoint's file.
///
/// # Errors
/// [`CheckpointError::Damaged`].
pub fn read_tensors(checkpoint: &Checkpoint, file: &str) -> Result<Vec<Tensor<'static>>, CheckpointError> {
    let (bytes, path) = (checkpoint.file(file)?, checkpoint.path(file));
    let damaged = |error: &dyn std::fmt::Display| {
        CheckpointError::damaged(&path, error.to_string(), "tensors that were written by a checkpoint")
    };
    let parsed = SafeTensors::parse(&path.display().to_string(), bytes).map_err(|error| damaged(&error))?;
    let tensors = parsed.tensors.iter().map(|info| {
        if info.dtype != Dtype::F32 {
            return Err(damaged(&format!("{}: {}", info.name, info.dtype)));
        }
        let data = parsed.data(info, bytes).map_err(|error| damaged(&error))?;
        let data = data.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect();
        Ok(Tensor { name: info.name.clone(), shape: info.shape.clone(), data })
    });
    tensors.collect()
}

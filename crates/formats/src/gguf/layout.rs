//! Where the tensors of a file lie.

use std::ops::Range;

use super::TensorInfo;
use crate::error::{ErrorKind, FormatError, quote};
use crate::tensor_type::TensorType;

/// A tensor as the header declares it: dimensions checked, offset and type not yet.
pub(super) struct Declared {
    pub(super) name: String,
    pub(super) dims: Vec<usize>,
    pub(super) elements: usize,
    pub(super) ty: TensorType,
    pub(super) offset: u64,
}

/// Finds the range of each tensor in a file of `file_len` bytes whose header takes `header_len`.
pub(super) fn place(
    file: &str,
    file_len: usize,
    header_len: usize,
    alignment: usize,
    mut declared: Vec<Declared>,
) -> Result<Vec<TensorInfo>, FormatError> {
    // A header that ends within `alignment` of the largest address has no data after it.
    let data_start = header_len.checked_next_multiple_of(alignment).unwrap_or(usize::MAX);
    let mut starts = Vec::with_capacity(declared.len());
    for tensor in &declared {
        starts.push(start(file, file_len, data_start, alignment, tensor)?);
    }
    // Room of a tensor: the distance to the next one, or to the end of the file.
    let mut order: Vec<u32> = (0..declared.len() as u32).collect();
    order.sort_unstable_by_key(|&index| starts[index as usize]);
    let mut rooms = vec![0; declared.len()];
    let mut next = file_len;
    for &index in order.iter().rev() {
        let index = index as usize;
        rooms[index] = next - starts[index];
        next = starts[index];
    }
    settle_q2_0(&mut declared, &rooms, alignment);

    let mut tensors = Vec::with_capacity(declared.len());
    for (index, tensor) in declared.into_iter().enumerate() {
        let last = starts[index] + rooms[index] == file_len;
        let range = range(file, &tensor, starts[index], rooms[index], last)?;
        tensors.push(TensorInfo { name: tensor.name, dims: tensor.dims, ty: tensor.ty, range });
    }
    Ok(tensors)
}

/// The absolute offset of a tensor: aligned, and not behind the end of the file.
fn start(
    file: &str,
    file_len: usize,
    data_start: usize,
    alignment: usize,
    tensor: &Declared,
) -> Result<usize, FormatError> {
    let offset = usize::try_from(tensor.offset).ok();
    if offset.is_some_and(|offset| !offset.is_multiple_of(alignment)) {
        return Err(FormatError::new(
            ErrorKind::Misaligned,
            file,
            format_args!("tensor {}", quote(&tensor.name)),
            format_args!("offset {}", tensor.offset),
            format_args!("a multiple of the alignment {alignment}"),
        ));
    }
    match offset.and_then(|offset| data_start.checked_add(offset)) {
        Some(start) if start <= file_len => Ok(start),
        _ => Err(FormatError::new(
            ErrorKind::Truncated,
            file,
            format_args!("tensor {}", quote(&tensor.name)),
            format_args!(
                "offset {} in a file with {} bytes of data",
                tensor.offset,
                file_len.saturating_sub(data_start)
            ),
            "an offset inside the file",
        )),
    }
}

/// Id 42 means blocks of 64 weights in mainline files and blocks of 128 in older files of one vendor. The
/// latter are smaller: if the tensors of that id lie closer together than blocks of 64 allow, and exactly as
/// blocks of 128 ask, all of them are of the older form, which is PQ2_0's.
fn settle_q2_0(declared: &mut [Declared], rooms: &[usize], alignment: usize) {
    let mut too_small_for_64 = false;
    for (tensor, &room) in declared.iter().zip(rooms).filter(|(tensor, _)| tensor.ty == TensorType::Q2_0) {
        let fits_as_128 = tensor
            .dims
            .first()
            .is_some_and(|cols| cols.is_multiple_of(128))
            .then(|| TensorType::PQ2_0.byte_len(tensor.elements))
            .flatten()
            .and_then(|len| room.checked_sub(len))
            .is_some_and(|gap| gap < alignment);
        if !fits_as_128 {
            return;
        }
        too_small_for_64 |= TensorType::Q2_0.byte_len(tensor.elements).is_none_or(|len| len > room);
    }
    if too_small_for_64 {
        for tensor in declared.iter_mut().filter(|tensor| tensor.ty == TensorType::Q2_0) {
            tensor.ty = TensorType::PQ2_0;
        }
    }
}

/// The bytes of a tensor: as many as type and dimensions ask, which must fit its room.
fn range(
    file: &str,
    tensor: &Declared,
    start: usize,
    room: usize,
    last: bool,
) -> Result<Range<usize>, FormatError> {
    let Some(block) = tensor.ty.block() else {
        return Ok(start..start + room);
    };
    let place = || format!("tensor {}", quote(&tensor.name));
    // Blocks of I2_S run over the flattened tensor; all others stay within a row.
    let unit = if tensor.ty == TensorType::I2S {
        tensor.elements
    } else {
        tensor.dims.first().copied().unwrap_or(1)
    };
    if !unit.is_multiple_of(block.weights) {
        return Err(FormatError::new(
            ErrorKind::Malformed,
            file,
            place(),
            format_args!("dimensions {:?} of type {}", tensor.dims, tensor.ty),
            format_args!("whole blocks of {} weights", block.weights),
        ));
    }
    match tensor.ty.byte_len(tensor.elements) {
        Some(len) if len <= room => Ok(start..start + len),
        len => {
            let needs =
                len.map_or_else(|| "more than this machine can address".to_owned(), |len| len.to_string());
            let found =
                format!("dimensions {:?} of type {}, which take {needs} bytes", tensor.dims, tensor.ty);
            Err(if last {
                FormatError::new(
                    ErrorKind::Truncated,
                    file,
                    place(),
                    found,
                    format_args!("at most {room}, up to the end of the file"),
                )
            } else {
                FormatError::new(
                    ErrorKind::Overlap,
                    file,
                    place(),
                    found,
                    format_args!("at most {room}, up to the next tensor"),
                )
            })
        }
    }
}

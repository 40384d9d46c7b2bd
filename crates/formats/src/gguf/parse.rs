//! From bytes to a checked [`Gguf`].

use std::fmt::Display;

use super::layout::{self, Declared};
use super::value::{Array, Value};
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, Gguf, MAGIC, MAX_DIMS, MAX_NESTING, Metadata, TensorInfo};
use crate::cursor::Cursor;
use crate::error::{ErrorKind, FormatError, quote};
use crate::tensor_type::TensorType;

/// Key length, type and the smallest value.
const MIN_PAIR: usize = 8 + 4 + 1;
/// Name length, dimension count, type and offset.
const MIN_TENSOR: usize = 8 + 4 + 4 + 8;
/// What a parsed tensor takes: description, up to four dimensions, and its place in the indices.
const TENSOR_MEMORY: usize = size_of::<Declared>() + size_of::<TensorInfo>() + MAX_DIMS * 8 + 40;

pub(super) fn parse(file: &str, bytes: &[u8]) -> Result<Gguf, FormatError> {
    let cursor = &mut Cursor::new(file, bytes);
    let version = preamble(cursor)?;
    let tensor_count = cursor.u64(&"tensor count")?;
    let pair_count = cursor.u64(&"metadata count")?;
    // Both counts are believed only as far as the file has room for what they count; metadata comes first.
    let pair_count =
        cursor.count(pair_count, MIN_PAIR, size_of::<(String, Value)>() + 4, &"metadata count")?;
    let mut pairs = Vec::with_capacity(pair_count);
    for index in 0..pair_count {
        pairs.push(pair(cursor, index)?);
    }
    let metadata = Metadata::new(file, pairs)?;
    let alignment = alignment(file, &metadata)?;

    let tensor_count = cursor.count(tensor_count, MIN_TENSOR, TENSOR_MEMORY, &"tensor count")?;
    let mut declared = Vec::with_capacity(tensor_count);
    for index in 0..tensor_count {
        declared.push(tensor(cursor, index)?);
    }
    let tensors = layout::place(file, bytes.len(), cursor.position(), alignment, declared)?;
    let by_name = index_by_name(file, &tensors)?;
    Ok(Gguf { version, alignment, metadata, tensors, file: file.to_owned(), file_len: bytes.len(), by_name })
}

/// Magic and version.
fn preamble(cursor: &mut Cursor) -> Result<u32, FormatError> {
    let magic: [u8; 4] = cursor.array(&"magic")?;
    if magic != MAGIC {
        return Err(FormatError::new(
            ErrorKind::NotThisFormat,
            cursor.file,
            "magic",
            format_args!("bytes {magic:02x?}"),
            "\"GGUF\"",
        )
        .mend("this is no GGUF file: check the path"));
    }
    let version = cursor.u32(&"version")?;
    match version {
        2 | 3 => Ok(version),
        // A version never reaches 65536: this one was written on a big-endian machine.
        big if big != 0 && big & 0xffff == 0 => Err(FormatError::new(
            ErrorKind::Unsupported,
            cursor.file,
            "version",
            format_args!("{} in big-endian byte order", big.swap_bytes()),
            "a little-endian file",
        )
        .mend("convert the model again on a little-endian machine")),
        other => Err(FormatError::new(ErrorKind::Unsupported, cursor.file, "version", other, "2 or 3")
            .mend("convert the model again with a current tool")),
    }
}

fn pair(cursor: &mut Cursor, index: usize) -> Result<(String, Value), FormatError> {
    let key = cursor.string(&format_args!("metadata key number {index}"))?;
    let quoted = quote(key);
    let place = format_args!("metadata key {quoted}");
    let type_id = cursor.u32(&place)?;
    Ok((key.to_owned(), value(cursor, type_id, &place)?))
}

fn value(cursor: &mut Cursor, type_id: u32, place: &dyn Display) -> Result<Value, FormatError> {
    Ok(match type_id {
        0 => Value::U8(u8::from_le_bytes(cursor.array(place)?)),
        1 => Value::I8(i8::from_le_bytes(cursor.array(place)?)),
        2 => Value::U16(u16::from_le_bytes(cursor.array(place)?)),
        3 => Value::I16(i16::from_le_bytes(cursor.array(place)?)),
        4 => Value::U32(u32::from_le_bytes(cursor.array(place)?)),
        5 => Value::I32(i32::from_le_bytes(cursor.array(place)?)),
        6 => Value::F32(f32::from_le_bytes(cursor.array(place)?)),
        7 => Value::Bool(boolean(cursor.file, cursor.array::<1>(place)?[0], place)?),
        8 => Value::String(cursor.string(place)?.to_owned()),
        9 => Value::Array(array(cursor, place, 1)?),
        10 => Value::U64(u64::from_le_bytes(cursor.array(place)?)),
        11 => Value::I64(i64::from_le_bytes(cursor.array(place)?)),
        12 => Value::F64(f64::from_le_bytes(cursor.array(place)?)),
        other => return Err(unknown_type(cursor.file, place, other)),
    })
}

fn array(cursor: &mut Cursor, place: &dyn Display, depth: usize) -> Result<Array, FormatError> {
    if depth > MAX_NESTING {
        return Err(FormatError::new(
            ErrorKind::TooLarge,
            cursor.file,
            place,
            format_args!("arrays nested more than {MAX_NESTING} deep"),
            format_args!("at most {MAX_NESTING}"),
        ));
    }
    let type_id = cursor.u32(place)?;
    let declared = cursor.u64(place)?;
    Ok(match type_id {
        0 => Array::U8(numbers(cursor, declared, place, u8::from_le_bytes)?),
        1 => Array::I8(numbers(cursor, declared, place, i8::from_le_bytes)?),
        2 => Array::U16(numbers(cursor, declared, place, u16::from_le_bytes)?),
        3 => Array::I16(numbers(cursor, declared, place, i16::from_le_bytes)?),
        4 => Array::U32(numbers(cursor, declared, place, u32::from_le_bytes)?),
        5 => Array::I32(numbers(cursor, declared, place, i32::from_le_bytes)?),
        6 => Array::F32(numbers(cursor, declared, place, f32::from_le_bytes)?),
        7 => {
            let count = cursor.count(declared, 1, 1, place)?;
            let bytes = cursor.take(count, place)?;
            Array::Bool(bytes.iter().map(|&b| boolean(cursor.file, b, place)).collect::<Result<_, _>>()?)
        }
        8 => {
            let count = cursor.count(declared, 8, size_of::<String>(), place)?;
            let mut strings = Vec::with_capacity(count);
            for _ in 0..count {
                strings.push(cursor.string(place)?.to_owned());
            }
            Array::String(strings)
        }
        9 => {
            let count = cursor.count(declared, 4 + 8, size_of::<Array>(), place)?;
            let mut arrays = Vec::with_capacity(count);
            for _ in 0..count {
                arrays.push(array(cursor, place, depth + 1)?);
            }
            Array::Array(arrays)
        }
        10 => Array::U64(numbers(cursor, declared, place, u64::from_le_bytes)?),
        11 => Array::I64(numbers(cursor, declared, place, i64::from_le_bytes)?),
        12 => Array::F64(numbers(cursor, declared, place, f64::from_le_bytes)?),
        other => return Err(unknown_type(cursor.file, place, other)),
    })
}

/// `declared` numbers of `N` bytes each.
fn numbers<T, const N: usize>(
    cursor: &mut Cursor,
    declared: u64,
    place: &dyn Display,
    from_le_bytes: fn([u8; N]) -> T,
) -> Result<Vec<T>, FormatError> {
    let count = cursor.count(declared, N, N, place)?;
    // `count` items of N bytes fit the rest of the file, so the product cannot overflow.
    let (chunks, _) = cursor.take(count * N, place)?.as_chunks::<N>();
    Ok(chunks.iter().map(|&chunk| from_le_bytes(chunk)).collect())
}

fn boolean(file: &str, byte: u8, place: &dyn Display) -> Result<bool, FormatError> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(FormatError::new(ErrorKind::Malformed, file, place, other, "a boolean, 0 or 1")),
    }
}

fn unknown_type(file: &str, place: &dyn Display, id: u32) -> FormatError {
    FormatError::new(
        ErrorKind::Malformed,
        file,
        place,
        format_args!("value type {id}"),
        "a type from 0 to 12",
    )
}

fn alignment(file: &str, metadata: &Metadata) -> Result<usize, FormatError> {
    let Some(alignment) = metadata.u64(ALIGNMENT_KEY)? else { return Ok(DEFAULT_ALIGNMENT) };
    match usize::try_from(alignment) {
        Ok(alignment) if alignment.is_power_of_two() => Ok(alignment),
        _ => Err(FormatError::new(
            ErrorKind::Malformed,
            file,
            format_args!("metadata key \"{ALIGNMENT_KEY}\""),
            alignment,
            "a power of two",
        )),
    }
}

/// One tensor description. Dimensions are checked here; where the data lies is [`layout::place`]'s work.
fn tensor(cursor: &mut Cursor, index: usize) -> Result<Declared, FormatError> {
    let name = cursor.string(&format_args!("name of tensor number {index}"))?;
    let quoted = quote(name);
    let place = format_args!("tensor {quoted}");
    let count = cursor.u32(&place)?;
    if count as usize > MAX_DIMS {
        return Err(FormatError::new(
            ErrorKind::TooLarge,
            cursor.file,
            place,
            format_args!("{count} dimensions"),
            format_args!("at most {MAX_DIMS}"),
        ));
    }
    let mut dims = Vec::with_capacity(count as usize);
    let mut elements = 1usize;
    for number in 0..count {
        let dim = cursor.u64(&place)?;
        let product = usize::try_from(dim).ok().and_then(|dim| elements.checked_mul(dim));
        match product {
            Some(product) if product > 0 => elements = product,
            _ => {
                return Err(FormatError::new(
                    if dim == 0 { ErrorKind::Malformed } else { ErrorKind::TooLarge },
                    cursor.file,
                    place,
                    format_args!("dimension {number} of {dim}"),
                    "dimensions above 0 whose product fits the memory of this machine",
                ));
            }
        }
        dims.push(dim as usize);
    }
    let ty = TensorType::from_id(cursor.u32(&place)?);
    let offset = cursor.u64(&place)?;
    Ok(Declared { name: name.to_owned(), dims, elements, ty, offset })
}

fn index_by_name(file: &str, tensors: &[TensorInfo]) -> Result<Vec<u32>, FormatError> {
    let name = |index: u32| tensors[index as usize].name.as_str();
    let mut by_name: Vec<u32> = (0..tensors.len() as u32).collect();
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
    Ok(by_name)
}

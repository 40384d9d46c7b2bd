//! Writing GGUF version 3.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::value::{Array, Value};
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, MAX_DIMS, MAX_NESTING};
use crate::error::{ErrorKind, FormatError, quote};
use crate::tensor_type::TensorType;

const VERSION: u32 = 3;
const CALLER: &str = "this is a mistake in the program that writes the file: please report it";

/// What goes before the tensor data: metadata, and the tensors in the order in which their data will follow.
/// Then [`Header::create`] (a file) or [`Header::write_to`] (any [`Write`]) starts the file, and the returned
/// writer takes the data, tensor by tensor, in slabs of any size.
#[derive(Clone, Debug)]
pub struct Header {
    alignment: usize,
    pairs: Vec<(String, Value)>,
    tensors: Vec<Declared>,
}

#[derive(Clone, Debug)]
struct Declared {
    name: String,
    dims: Vec<usize>,
    ty: TensorType,
}

impl Default for Header {
    fn default() -> Self {
        Self::new()
    }
}

impl Header {
    /// No metadata, no tensors, alignment 32.
    pub fn new() -> Header {
        Header { alignment: DEFAULT_ALIGNMENT, pairs: Vec::new(), tensors: Vec::new() }
    }

    /// Sets the alignment of tensor data in bytes (a power of two, checked when the file is started); where
    /// it is not 32, `general.alignment` is written.
    pub fn alignment(&mut self, alignment: usize) -> &mut Self {
        self.alignment = alignment;
        self
    }

    /// Adds a metadata pair, or replaces the value if the key is there already.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) -> &mut Self {
        let (key, value) = (key.into(), value.into());
        match self.pairs.iter_mut().find(|(k, _)| *k == key) {
            Some((_, old)) => *old = value,
            None => self.pairs.push((key, value)),
        }
        self
    }

    /// Declares the next tensor, dimensions innermost first.
    pub fn tensor(&mut self, name: impl Into<String>, dims: &[usize], ty: TensorType) -> &mut Self {
        self.tensors.push(Declared { name: name.into(), dims: dims.to_vec(), ty });
        self
    }

    /// Starts the file at `path`: in a temporary file beside it, which [`FileWriter::finish`] renames.
    ///
    /// # Errors
    /// As [`Header::write_to`].
    pub fn create(&self, path: &Path) -> Result<FileWriter, FormatError> {
        let name = path.display().to_string();
        // The parent of a bare file name is the empty path, which is no folder.
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temporary = temporary_file(folder)
            .map_err(|e| FormatError::io(&name, "creating a temporary file beside it", &e))?;
        let writer = self.write_to(&name, BufWriter::with_capacity(1 << 20, temporary))?;
        Ok(FileWriter { writer, path: path.to_owned() })
    }

    /// Writes everything before the tensor data to `out`; `file` is what messages call it.
    ///
    /// # Errors
    /// A rule of the format is broken (a name twice, an alignment that is no power of two, dimensions that do
    /// not fit the type, ...), or `out` failed.
    pub fn write_to<W: Write>(&self, file: &str, mut out: W) -> Result<Writer<W>, FormatError> {
        let (bytes, lengths) = self.encode(file)?;
        out.write_all(&bytes).map_err(|e| FormatError::io(file, "writing the header", &e))?;
        let names = self.tensors.iter().map(|tensor| tensor.name.clone()).collect();
        Ok(Writer {
            out,
            file: file.to_owned(),
            alignment: self.alignment,
            names,
            lengths,
            current: 0,
            written: 0,
        })
    }

    /// The header's bytes, padded to the alignment, and the data length of each tensor.
    fn encode(&self, file: &str) -> Result<(Vec<u8>, Vec<usize>), FormatError> {
        let refuse = |place: String, found: String, expected: &str| {
            Err(FormatError::new(ErrorKind::Malformed, file, place, found, expected).mend(CALLER))
        };
        if !self.alignment.is_power_of_two() || u32::try_from(self.alignment).is_err() {
            return refuse("alignment".into(), self.alignment.to_string(), "a power of two below 2^32");
        }
        let mut pairs: Vec<(&str, &Value)> =
            self.pairs.iter().map(|(key, value)| (key.as_str(), value)).collect();
        if pairs.iter().any(|(key, _)| *key == ALIGNMENT_KEY) {
            return refuse(
                format!("key \"{ALIGNMENT_KEY}\""),
                "a value".into(),
                "`Header::alignment` to set it",
            );
        }
        let alignment = Value::U32(self.alignment as u32);
        if self.alignment != DEFAULT_ALIGNMENT {
            pairs.push((ALIGNMENT_KEY, &alignment));
        }

        let mut bytes = Vec::new();
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((pairs.len() as u64).to_le_bytes());
        for (key, value) in pairs {
            if value.as_array().is_some_and(|array| nesting(array) > MAX_NESTING) {
                return refuse(
                    format!("key {}", quote(key)),
                    "arrays nested too deep".into(),
                    "at most 8 levels",
                );
            }
            put_string(&mut bytes, key);
            bytes.extend(value.type_id().to_le_bytes());
            put_value(&mut bytes, value);
        }

        let mut names: Vec<&str> = self.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
            return refuse(
                format!("tensor {}", quote(twice[0])),
                "the name more than once".into(),
                "unique names",
            );
        }
        let mut lengths = Vec::with_capacity(self.tensors.len());
        let mut offset = 0usize;
        for tensor in &self.tensors {
            let Some(len) = tensor.byte_len() else {
                return refuse(
                    format!("tensor {}", quote(&tensor.name)),
                    format!("dimensions {:?} of type {}", tensor.dims, tensor.ty),
                    "at most 4 dimensions, none 0, whole blocks of a type of known size",
                );
            };
            put_string(&mut bytes, &tensor.name);
            bytes.extend((tensor.dims.len() as u32).to_le_bytes());
            for &dim in &tensor.dims {
                bytes.extend((dim as u64).to_le_bytes());
            }
            bytes.extend(tensor.ty.id().to_le_bytes());
            bytes.extend((offset as u64).to_le_bytes());
            lengths.push(len);
            match offset.checked_add(len).and_then(|end| end.checked_next_multiple_of(self.alignment)) {
                Some(next) => offset = next,
                None => return refuse("tensors".into(), "more bytes than can be addressed".into(), "less"),
            }
        }
        bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        Ok((bytes, lengths))
    }
}

impl Declared {
    fn byte_len(&self) -> Option<usize> {
        if self.dims.len() > MAX_DIMS || self.dims.contains(&0) {
            return None;
        }
        let elements = self.dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim))?;
        let cols = self.dims.first().copied().unwrap_or(1);
        let unit = if self.ty == TensorType::I2S { elements } else { cols };
        if !unit.is_multiple_of(self.ty.block()?.weights) {
            return None;
        }
        self.ty.byte_len(elements)
    }
}

/// Takes the data of the declared tensors, in their order. Dropped before [`Writer::finish`], it leaves an
/// incomplete file; [`FileWriter`] leaves none.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    file: String,
    alignment: usize,
    names: Vec<String>,
    lengths: Vec<usize>,
    /// The tensor whose data comes next, and how much of it was written.
    current: usize,
    written: usize,
}

impl<W: Write> Writer<W> {
    /// Writes the next tensor whole.
    ///
    /// # Errors
    /// The length is not the declared one, all tensors are written, or the output failed.
    pub fn write_tensor(&mut self, data: &[u8]) -> Result<(), FormatError> {
        let expected = self.lengths.get(self.current).map(|len| len - self.written);
        if expected != Some(data.len()) {
            return Err(self.wrong_length(data.len()));
        }
        self.append(data)
    }

    /// Writes some more of the current tensor; when it is complete, the next one becomes current.
    ///
    /// # Errors
    /// More bytes than the current tensor lacks, all tensors are written, or the output failed.
    pub fn append(&mut self, data: &[u8]) -> Result<(), FormatError> {
        if data.is_empty() {
            return Ok(());
        }
        let left = self.lengths.get(self.current).map_or(0, |len| len - self.written);
        if data.len() > left {
            return Err(self.wrong_length(data.len()));
        }
        self.put(data)?;
        self.written += data.len();
        if data.len() == left {
            // The last tensor is padded too: some readers map whole multiples of the alignment.
            let mut padding = self.written.next_multiple_of(self.alignment) - self.written;
            while padding > 0 {
                let step = padding.min(4096);
                self.put(&[0; 4096][..step])?;
                padding -= step;
            }
            self.current += 1;
            self.written = 0;
        }
        Ok(())
    }

    /// Checks that every tensor is written and gives the output back, flushed.
    ///
    /// # Errors
    /// Data is missing, or the output failed.
    pub fn finish(mut self) -> Result<W, FormatError> {
        self.complete()?;
        Ok(self.out)
    }

    fn complete(&mut self) -> Result<(), FormatError> {
        if self.current < self.lengths.len() {
            return Err(self.wrong_length(0));
        }
        self.out.flush().map_err(|e| FormatError::io(&self.file, "flushing", &e))
    }

    fn put(&mut self, data: &[u8]) -> Result<(), FormatError> {
        self.out.write_all(data).map_err(|e| {
            let name = self.names.get(self.current).map_or("", String::as_str);
            FormatError::io(&self.file, format_args!("writing tensor {}", quote(name)), &e)
        })
    }

    fn wrong_length(&self, found: usize) -> FormatError {
        let (place, left) = match self.names.get(self.current) {
            Some(name) => {
                (format!("data of tensor {}", quote(name)), self.lengths[self.current] - self.written)
            }
            None => ("data after the last tensor".to_owned(), 0),
        };
        FormatError::new(
            ErrorKind::Malformed,
            &self.file,
            place,
            format_args!("{found} bytes"),
            format_args!("{left} bytes"),
        )
        .mend(CALLER)
    }
}

/// A [`Writer`] into a temporary file that takes its true name only when it is complete; dropped before, it
/// leaves nothing behind.
#[derive(Debug)]
pub struct FileWriter {
    writer: Writer<BufWriter<NamedTempFile>>,
    path: PathBuf,
}

impl FileWriter {
    /// As [`Writer::write_tensor`].
    ///
    /// # Errors
    /// As there.
    pub fn write_tensor(&mut self, data: &[u8]) -> Result<(), FormatError> {
        self.writer.write_tensor(data)
    }

    /// As [`Writer::append`].
    ///
    /// # Errors
    /// As there.
    pub fn append(&mut self, data: &[u8]) -> Result<(), FormatError> {
        self.writer.append(data)
    }

    /// Checks that every tensor is written, brings the data to the disk, and gives the file its name,
    /// replacing what bore it.
    ///
    /// # Errors
    /// Data is missing, or the operating system refused.
    pub fn finish(mut self) -> Result<(), FormatError> {
        self.writer.complete()?;
        let Writer { out, file, .. } = self.writer;
        let temporary = out.into_inner().map_err(|e| FormatError::io(&file, "flushing", e.error()))?;
        // Without this a crash soon after the rename could leave the new name on an empty file.
        temporary.as_file().sync_all().map_err(|e| FormatError::io(&file, "syncing", &e))?;
        let renamed: Result<File, _> = temporary.persist(&self.path);
        renamed.map_err(|e| FormatError::io(&file, "renaming the temporary file", &e.error))?;
        Ok(())
    }
}

/// A temporary file in `folder` with the permissions of any new file (the default of `tempfile` is private).
fn temporary_file(folder: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".chalot-").suffix(".part");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

/// Levels of arrays, this one included.
fn nesting(array: &Array) -> usize {
    match array {
        Array::Array(arrays) => 1 + arrays.iter().map(nesting).max().unwrap_or(0),
        _ => 1,
    }
}

fn put_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn put_value(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(x) => bytes.extend(x.to_le_bytes()),
        Value::I8(x) => bytes.extend(x.to_le_bytes()),
        Value::U16(x) => bytes.extend(x.to_le_bytes()),
        Value::I16(x) => bytes.extend(x.to_le_bytes()),
        Value::U32(x) => bytes.extend(x.to_le_bytes()),
        Value::I32(x) => bytes.extend(x.to_le_bytes()),
        Value::F32(x) => bytes.extend(x.to_le_bytes()),
        Value::Bool(x) => bytes.push((*x).into()),
        Value::String(x) => put_string(bytes, x),
        Value::Array(x) => put_array(bytes, x),
        Value::U64(x) => bytes.extend(x.to_le_bytes()),
        Value::I64(x) => bytes.extend(x.to_le_bytes()),
        Value::F64(x) => bytes.extend(x.to_le_bytes()),
    }
}

fn put_array(bytes: &mut Vec<u8>, array: &Array) {
    bytes.extend(array.type_id().to_le_bytes());
    bytes.extend((array.len() as u64).to_le_bytes());
    match array {
        Array::U8(v) => bytes.extend(v),
        Array::I8(v) => v.iter().for_each(|x| bytes.extend(x.to_le_bytes())),
        Array::U16(v) => v.iter().for_each(|x| bytes.extend(x.to_le_bytes())),
        Array::I16(v) => v.iter().for_each(|x| bytes.extend(x.to_le_bytes())),
        Array::U32(v) => v.iter().for_each(|x| bytes.extend(x.to_le_bytes())),
        Array::I32(v) => v.iter().for_each(|x| bytes.extend(x.to_le_bytes())),
        Array::F32(v) => v.iter().for_each(|x| bytes.extend(x.to_le_bytes())),
        Array::Bool(v) => bytes.extend(v.iter().map(|&x| u8::from(x))),
        Array::String(v) => v.iter().for_each(|x| put_string(bytes, x)),
        Array::Array(v) => v.iter().for_each(|x| put_array(bytes, x)),
        Array::U64(v) => v.iter().for_each(|x| bytes.extend(x.to_le_bytes())),
        Array::I64(v) => v.iter().for_each(|x| bytes.extend(x.to_le_bytes())),
        Array::F64(v) => v.iter().for_each(|x| bytes.extend(x.to_le_bytes())),
    }
}

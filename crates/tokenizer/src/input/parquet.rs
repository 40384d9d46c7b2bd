//! A column of strings of a parquet file.

use std::fs::File;
use std::path::Path;

use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::InputError;

/// Rows that are decoded at a time.
const ROWS: usize = 256;

/// The texts of a parquet file; rows without one are passed over.
pub(super) struct Parquet {
    file: String,
    reader: SerializedFileReader<File>,
    column: usize,
    group: usize,
    open: Option<ColumnReaderImpl<ByteArrayType>>,
    /// Decoded and not given yet, last first.
    texts: Vec<ByteArray>,
    row: u64,
}

impl Parquet {
    pub(super) fn open(path: &Path, column: &str) -> Result<Parquet, InputError> {
        let file = path.display().to_string();
        let reader = File::open(path).map_err(|source| InputError::io(path, source))?;
        let reader = SerializedFileReader::new(reader).map_err(|error| damaged(&file, &error))?;
        let schema = reader.metadata().file_metadata().schema_descr();
        let columns = schema.columns();
        let wrong = |found: String| {
            let texts = columns.iter().filter(|column| column.physical_type() == Type::BYTE_ARRAY);
            let names: Vec<String> = texts.map(|column| column.path().string()).collect();
            InputError::Entry {
                file: file.clone(),
                entry: format!("column {column}"),
                found,
                mend: format!("name one of its columns of text: {}", names.join(", ")),
            }
        };
        let Some(at) = columns.iter().position(|found| found.path().string() == column) else {
            return Err(wrong("not there".into()));
        };
        if columns[at].physical_type() != Type::BYTE_ARRAY || columns[at].max_rep_level() > 0 {
            return Err(wrong("not one text a row".into()));
        }
        Ok(Parquet { file, reader, column: at, group: 0, open: None, texts: Vec::new(), row: 0 })
    }

    /// Decodes some more texts; whether there are rows left.
    fn fill(&mut self) -> Result<bool, InputError> {
        loop {
            if self.open.is_none() {
                if self.group == self.reader.num_row_groups() {
                    return Ok(false);
                }
                let column = self
                    .reader
                    .get_row_group(self.group)
                    .and_then(|group| group.get_column_reader(self.column));
                self.group += 1;
                match column.map_err(|error| damaged(&self.file, &error))? {
                    ColumnReader::ByteArrayColumnReader(reader) => self.open = Some(reader),
                    _ => continue,
                }
            }
            let Some(reader) = &mut self.open else { continue };
            let mut levels = Vec::new();
            let read = reader.read_records(ROWS, Some(&mut levels), None, &mut self.texts);
            let (rows, _, _) = read.map_err(|error| damaged(&self.file, &error))?;
            if rows == 0 {
                self.open = None;
                continue;
            }
            self.texts.reverse();
            return Ok(true);
        }
    }
}

impl Iterator for Parquet {
    type Item = Result<String, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(text) = self.texts.pop() {
                self.row += 1;
                let row = self.row;
                let text = String::from_utf8(text.data().to_vec());
                return Some(text.map_err(|_| InputError::Entry {
                    file: self.file.clone(),
                    entry: format!("text {row}"),
                    found: "bytes that are not UTF-8".into(),
                    mend: "name a column that holds text".into(),
                }));
            }
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

fn damaged(file: &str, error: &ParquetError) -> InputError {
    match error {
        // What is compressed in a way that only C libraries undo.
        ParquetError::NYI(found) => unsupported(file, found),
        ParquetError::General(found) if found.contains("feature") => unsupported(file, found),
        error => InputError::Archive { file: file.into(), what: "parquet", found: error.to_string() },
    }
}

fn unsupported(file: &str, found: &str) -> InputError {
    InputError::Entry {
        file: file.into(),
        entry: "compression".into(),
        found: found.into(),
        mend: "write the file with snappy, gzip, brotli, lz4 or no compression".into(),
    }
}

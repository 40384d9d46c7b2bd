//! A reader over a byte slice that checks before it takes, and counts the memory that its results will need.

use std::fmt::Display;

use crate::error::{ErrorKind, FormatError};

/// Memory that parsing may take beyond the size of the file. The documented bound is 64 MiB; the difference
/// covers what the allocator and the indices of the parsed file add.
const EXTRA_MEMORY: usize = 40 << 20;

pub(crate) struct Cursor<'a> {
    pub(crate) file: &'a str,
    bytes: &'a [u8],
    position: usize,
    memory_left: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(file: &'a str, bytes: &'a [u8]) -> Self {
        Self { file, bytes, position: 0, memory_left: bytes.len().saturating_add(EXTRA_MEMORY) }
    }

    /// Bytes taken so far.
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// Bytes not yet taken.
    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// The next `len` bytes, which belong to `place`.
    pub(crate) fn take(&mut self, len: usize, place: &dyn Display) -> Result<&'a [u8], FormatError> {
        let Some(taken) = self.bytes[self.position..].get(..len) else {
            return Err(FormatError::new(
                ErrorKind::Truncated,
                self.file,
                place,
                format_args!("{} bytes left at offset {}", self.remaining(), self.position),
                format_args!("{len} more"),
            ));
        };
        self.position += len;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, place: &dyn Display) -> Result<[u8; N], FormatError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, place)?);
        Ok(array)
    }

    pub(crate) fn u32(&mut self, place: &dyn Display) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.array(place)?))
    }

    pub(crate) fn u64(&mut self, place: &dyn Display) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.array(place)?))
    }

    /// A count of items that take at least `min_bytes` each in the file and `memory` each once parsed:
    /// refused if the rest of the file cannot hold so many, or if they would take more memory than allowed.
    pub(crate) fn count(
        &mut self,
        declared: u64,
        min_bytes: usize,
        memory: usize,
        place: &dyn Display,
    ) -> Result<usize, FormatError> {
        // Indices into what was parsed are u32.
        let room = (self.remaining() / min_bytes.max(1)).min(u32::MAX as usize);
        let count = match usize::try_from(declared) {
            Ok(count) if count <= room => count,
            _ => {
                return Err(FormatError::new(
                    ErrorKind::TooLarge,
                    self.file,
                    place,
                    format_args!("a count of {declared}"),
                    format_args!("at most {room}, which is what the rest of the file has room for"),
                ));
            }
        };
        self.reserve(count, memory, place)?;
        Ok(count)
    }

    /// Accounts for `count` items of `memory` bytes.
    fn reserve(&mut self, count: usize, memory: usize, place: &dyn Display) -> Result<(), FormatError> {
        match count.checked_mul(memory).and_then(|needed| self.memory_left.checked_sub(needed)) {
            Some(left) => {
                self.memory_left = left;
                Ok(())
            }
            None => Err(FormatError::new(
                ErrorKind::TooLarge,
                self.file,
                place,
                format_args!("{count} items"),
                "metadata that fits into the file's size plus 64 MiB of memory",
            )),
        }
    }

    /// A string with a 64-bit length before it. Refused where it does not fit or is not UTF-8.
    pub(crate) fn string(&mut self, place: &dyn Display) -> Result<&'a str, FormatError> {
        let declared = self.u64(place)?;
        let len = match usize::try_from(declared) {
            Ok(len) if len <= self.remaining() => len,
            _ => {
                return Err(FormatError::new(
                    ErrorKind::TooLarge,
                    self.file,
                    place,
                    format_args!("a string of {declared} bytes at offset {}", self.position),
                    format_args!("at most {}, which is what is left of the file", self.remaining()),
                ));
            }
        };
        let bytes = self.take(len, place)?;
        self.reserve(1, len, place)?;
        std::str::from_utf8(bytes).map_err(|error| {
            FormatError::new(
                ErrorKind::Malformed,
                self.file,
                place,
                format_args!("a byte that is not UTF-8, {} bytes into the string", error.valid_up_to()),
                "UTF-8 text",
            )
        })
    }
}

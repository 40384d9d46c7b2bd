//! A model file in memory: mapped, so that the system reads what is used, or read whole.
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use chalot_simd::AlignedVec;

use crate::error::ModelError;
use crate::prefetch::platform;
use crate::truncation;

/// A file that is mapped read-only.
///
/// Nothing reads a file's contents while it is mapped but what uses them; [`Mapping::will_need`] and [`Mapping::populate`]
/// make the system read ahead of use, [`Mapping::release`] lets pages go. Contents never change by any of these: pages
/// that are needed again are read again.
pub struct Mapping {
    map: memmap2::Mmap,
    /// Kept open to let its pages leave the system's file cache, and to see whether it was truncated.
    file: File,
    path: PathBuf,
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl std::fmt::Debug for Mapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mapping").field("path", &self.path).field("bytes", &self.map.len()).finish()
    }
}

impl Mapping {
    /// Maps a file.
    ///
    /// # Errors
    /// [`ModelError::Io`].
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let failed = |error| ModelError::io(path, error);
        let file = File::open(path).map_err(failed)?;
        // SAFETY: the bytes must not change while they are borrowed. No program can rule that out for a file; we
        // map read-only, never write to a model file in place (`write_native` renames), and check indices against
        // the length of the map, never against a length read again. Weights changed by others compute wrong
        // numbers and nothing worse (`Matrix::from_image` takes any bytes); a truncated file ends the process
        // with SIGBUS, as documented at `Source` and made plain by `truncation`.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(failed)?;
        truncation::remember(map.as_ptr_range());
        Ok(Self { map, file, path: path.into() })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where `bytes` lie in the file; `None` when they are a copy or another file's.
    pub fn position(&self, bytes: &[u8]) -> Option<Range<usize>> {
        let start = bytes.as_ptr().addr().checked_sub(self.map.as_ptr().addr())?;
        let end = start.checked_add(bytes.len())?;
        (end <= self.map.len()).then_some(start..end)
    }

    /// Whether the file is still as long as when it was mapped.
    ///
    /// # Errors
    /// [`ModelError::Truncated`], [`ModelError::Io`].
    pub fn check_length(&self) -> Result<(), ModelError> {
        let found = self.file.metadata().map_err(|error| ModelError::io(&self.path, error))?.len();
        let expected = self.map.len() as u64;
        if found >= expected {
            return Ok(());
        }
        Err(ModelError::Truncated { file: self.path.display().to_string(), found, expected })
    }

    /// Asks the system to read these bytes; returns before they are there. Bytes beyond the file are left out.
    pub fn will_need(&self, range: Range<usize>) {
        platform::will_need(&self.map[self.outward(range)]);
    }

    /// Reads these bytes, if they are not there, and maps their pages; returns when that is done.
    pub fn populate(&self, range: Range<usize>) {
        platform::populate(&self.map[self.outward(range)]);
    }

    /// Lets the pages go that lie wholly in this range: out of this process and, where the system can do it, out of its file
    /// cache.
    pub fn release(&self, range: Range<usize>) {
        let page = platform::page_size();
        let start = range.start.min(self.map.len()).next_multiple_of(page);
        // The last page of the file is filled up with zeros: it is whole.
        let end = if range.end >= self.map.len() { self.map.len() } else { range.end / page * page };
        if start < end {
            platform::release(&self.map[start..end], &self.file, start);
        }
    }

    /// Drops what the system's file cache has of this file and no process has mapped, where the system can do it: for
    /// measurements of a machine whose memory is full.
    pub fn forget_cached(&self) {
        platform::drop_from_cache(&self.file, 0, 0);
    }

    /// The whole pages that hold the bytes, as far as the mapping goes.
    fn outward(&self, range: Range<usize>) -> Range<usize> {
        let page = platform::page_size();
        let end = range.end.min(self.map.len());
        let start = (range.start.min(end)) / page * page;
        start..end.next_multiple_of(page).min(self.map.len())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        truncation::forget(self.map.as_ptr_range());
    }
}

/// The file's bytes in memory of our own.
///
/// # Errors
/// [`ModelError::Io`].
pub(crate) fn read_whole(path: &Path) -> Result<Bytes, ModelError> {
    use std::io::Read;
    let failed = |error| ModelError::io(path, error);
    let mut file = File::open(path).map_err(failed)?;
    let too_long = |_| failed(std::io::Error::from(std::io::ErrorKind::FileTooLarge));
    let len = usize::try_from(file.metadata().map_err(failed)?.len()).map_err(too_long)?;
    let mut bytes = AlignedVec::<u8>::zeroed(len);
    file.read_exact(&mut bytes).map_err(failed)?;
    Ok(Bytes::from_owner(bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(len: usize) -> (tempfile::NamedTempFile, Vec<u8>) {
        let bytes: Vec<u8> = (0..len).map(|i| (i / 7) as u8).collect();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        (file, bytes)
    }

    #[test]
    fn ranges_become_pages_inside_the_mapping() {
        let page = platform::page_size();
        let (file, _) = file(3 * page + 10);
        let mapping = Mapping::open(file.path()).unwrap();
        assert_eq!(mapping.outward(page + 1..page + 2), page..2 * page);
        assert_eq!(mapping.outward(0..0), 0..0);
        assert_eq!(mapping.outward(3 * page + 1..usize::MAX), 3 * page..3 * page + 10);
        assert_eq!(mapping.outward(9 * page..10 * page), 3 * page..3 * page + 10);
    }

    #[test]
    fn what_is_released_is_there_again() {
        let page = platform::page_size();
        let (file, bytes) = file(5 * page + 10);
        let mapping = Mapping::open(file.path()).unwrap();
        for range in [0..bytes.len(), 1..3 * page, page..page + 5, 4 * page + 3..bytes.len(), 0..usize::MAX] {
            mapping.will_need(range.clone());
            mapping.populate(range.clone());
            assert!(mapping.as_ref() == bytes);
            mapping.release(range);
            assert!(mapping.as_ref() == bytes);
        }
    }

    #[test]
    fn positions_are_those_of_the_mapping_alone() {
        let (file, bytes) = file(100);
        let mapping = Mapping::open(file.path()).unwrap();
        assert_eq!(mapping.position(&mapping.as_ref()[3..70]), Some(3..70));
        assert_eq!(mapping.position(&bytes), None);
    }

    #[test]
    fn a_truncated_file_is_told() {
        let (file, _) = file(100);
        let mapping = Mapping::open(file.path()).unwrap();
        mapping.check_length().unwrap();
        file.as_file().set_len(40).unwrap();
        let error = mapping.check_length().unwrap_err();
        assert!(matches!(error, ModelError::Truncated { found: 40, expected: 100, .. }), "{error}");
    }

    #[test]
    fn a_file_read_whole_is_the_same() {
        let (file, bytes) = file(5000);
        assert_eq!(read_whole(file.path()).unwrap(), bytes);
    }
}

//! How fast the disk is, past the system's cache.
use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    time::Instant,
};

use chalot::simd::AlignedVec;

/// Readers at a time; the fastest number counts.
const READERS: [usize; 3] = [1, 2, 4];
/// Bytes that are read with each number of readers, at most.
const BYTES: usize = 512 << 20;
/// What reading past the cache wants addresses, offsets and lengths to be multiples of.
const SECTOR: usize = 4096;

/// Bytes per second, of requests of `request` bytes at places apart.
///
/// # Errors
/// The file cannot be read.
pub fn speed(path: &Path, request: usize) -> io::Result<f64> {
    let len = std::fs::metadata(path)?.len() as usize / SECTOR * SECTOR;
    let request = (request.next_multiple_of(SECTOR)).clamp(SECTOR, len.max(SECTOR));
    let slots = (len / request).max(1);
    let count = (BYTES / request).clamp(1, slots);
    let mut best = 0.0_f64;
    for (round, readers) in READERS.into_iter().enumerate() {
        let start = Instant::now();
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..readers)
                .map(|reader| {
                    // Neighbours in time are far apart in the file; rounds read other places.
                    let places = (reader..count).step_by(readers);
                    let places = places.map(move |i| ((i * 7919 + round * 131) % slots) * request);
                    scope.spawn(move || read(path, request, places))
                })
                .collect();
            readers.into_iter().try_for_each(|reader| {
                reader.join().unwrap_or_else(|_| Err(io::Error::other("a reading thread failed")))
            })
        })?;
        best = best.max((count * request) as f64 / start.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn read(path: &Path, request: usize, places: impl Iterator<Item = usize>) -> io::Result<()> {
    let mut file = open(path)?;
    let mut memory = AlignedVec::<u8>::zeroed(request + SECTOR);
    let start = memory.as_ptr().align_offset(SECTOR);
    for place in places {
        file.seek(SeekFrom::Start(place as u64))?;
        file.read_exact(&mut memory[start..][..request])?;
    }
    Ok(())
}

/// The file, past the cache where the system can do that.
fn open(path: &Path) -> io::Result<File> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Some file systems refuse.
        if let Ok(file) = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path) {
            return Ok(file);
        }
    }
    OpenOptions::new().read(true).open(path)
}

//! A file as plain bytes, whatever it is compressed with.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::InputError;

const BUFFER: usize = 1 << 18;

/// A file that is being read.
pub(super) struct Source {
    pub(super) file: String,
    reader: Box<dyn Read + Send>,
    /// What it is compressed with.
    packed: Option<&'static str>,
}

impl Source {
    /// Reads into `buffer`; 0 bytes at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, InputError> {
        loop {
            match self.reader.read(buffer) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let file = self.file.clone();
                    // What the system has against reading has a number.
                    return Err(match self.packed.filter(|_| source.raw_os_error().is_none()) {
                        Some(what) => InputError::Archive { file, what, found: source.to_string() },
                        None => InputError::Io { file, source },
                    });
                }
            }
        }
    }
}

/// Opens a file, or the standard input as `-`, and looks at its first bytes.
pub(super) fn open(path: &Path) -> Result<Source, InputError> {
    let io = |source| InputError::io(path, source);
    let input: Box<dyn Read + Send> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(path).map_err(io)?),
    };
    let mut input = BufReader::with_capacity(BUFFER, input);
    let first = input.fill_buf().map_err(io)?;
    let (reader, packed): (Box<dyn Read + Send>, _) = match first {
        [0x1F, 0x8B, ..] => (Box::new(MultiGzDecoder::new(input)), Some("gzip")),
        [0x28, 0xB5, 0x2F, 0xFD, ..] | [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => {
            (Box::new(Zstd { input, frame: None }), Some("zstd"))
        }
        // Several streams one after the other are one file, as `xz` reads them.
        [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => (Box::new(XzReader::new(input, true)), Some("xz")),
        _ => (Box::new(input), None),
    };
    Ok(Source { file: path.display().to_string(), reader, packed })
}

/// All frames of a zstd file.
struct Zstd<R: BufRead> {
    input: R,
    /// The frame that is being decoded.
    frame: Option<FrameDecoder>,
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(frame) = &mut self.frame {
                while frame.can_collect() == 0 && !frame.is_finished() {
                    frame
                        .decode_blocks(&mut self.input, BlockDecodingStrategy::UptoBlocks(1))
                        .map_err(io::Error::other)?;
                }
                let count = frame.read(buffer)?;
                if count > 0 {
                    return Ok(count);
                }
                if let (Some(stored), Some(found)) =
                    (frame.get_checksum_from_data(), frame.get_calculated_checksum())
                    && stored != found
                {
                    return Err(io::Error::other("the checksum of a frame does not fit"));
                }
                self.frame = None;
            }
            if self.input.fill_buf()?.is_empty() {
                return Ok(0);
            }
            let mut decoder = FrameDecoder::new();
            match decoder.init(&mut self.input) {
                Ok(()) => self.frame = Some(decoder),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    if io::copy(&mut self.input.by_ref().take(length), &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}

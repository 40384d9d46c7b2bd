//! Plain text.

use memchr::memmem::Finder;

use super::open::Source;
use super::{InputError, InputOptions};
use crate::train::chunks;

/// Bytes that are read at a time, and of the parts of a long text.
const BLOCK: usize = 1 << 20;

/// The texts of a plain file.
pub(super) struct Plain {
    source: Source,
    separator: Option<Finder<'static>>,
    cut: bool,
    /// What has been read and not given: `buffer[start..]`; up to `searched` there is no separator.
    buffer: Vec<u8>,
    start: usize,
    searched: usize,
    /// Line breaks in what has been given.
    lines: u64,
    ended: bool,
}

impl Plain {
    pub(super) fn new(source: Source, options: &InputOptions) -> Plain {
        let separator = options.separator.as_deref().filter(|separator| !separator.is_empty());
        Plain {
            source,
            separator: separator.map(|separator| Finder::new(separator).into_owned()),
            cut: options.cut,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            lines: 0,
            ended: false,
        }
    }

    /// Reads more; whether there was any.
    fn fill(&mut self) -> Result<bool, InputError> {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        let len = self.buffer.len();
        self.buffer.resize(len + BLOCK, 0);
        let mut filled = len;
        while filled < self.buffer.len() {
            match self.source.read(&mut self.buffer[filled..])? {
                0 => {
                    self.ended = true;
                    break;
                }
                count => filled += count,
            }
        }
        self.buffer.truncate(filled);
        Ok(filled > len)
    }

    /// Gives the text up to `end` and leaves out `skip` bytes behind it.
    fn give(&mut self, end: usize, skip: usize) -> Result<String, InputError> {
        let bytes = self.buffer[self.start..end].to_vec();
        let before = self.lines;
        self.lines += memchr::memchr_iter(b'\n', &self.buffer[self.start..end + skip]).count() as u64;
        self.start = end + skip;
        self.searched = self.start;
        String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = before + 1 + memchr::memchr_iter(b'\n', valid).count() as u64;
            InputError::not_utf8(&self.source.file, line)
        })
    }

    /// The next text, if it is in the buffer.
    fn in_buffer(&mut self) -> Option<(usize, usize)> {
        let separator_len = self.separator.as_ref().map_or(0, |separator| separator.needle().len());
        if let Some(separator) = &self.separator {
            if let Some(at) = separator.find(&self.buffer[self.searched..]) {
                return Some((self.searched + at, separator_len));
            }
            // Its beginning may be there.
            self.searched = self.searched.max((self.buffer.len() + 1).saturating_sub(separator_len));
        }
        if self.ended {
            return (self.start < self.buffer.len()).then_some((self.buffer.len(), 0));
        }
        if !self.cut || self.buffer.len() - self.start < BLOCK {
            return None;
        }
        let wanted = self.searched.max(self.start) - self.start;
        let wanted = if self.separator.is_some() { wanted } else { self.buffer.len() - self.start - 1 };
        chunks::cut_before(&self.buffer[self.start..], wanted).map(|at| (self.start + at, 0))
    }
}

impl Iterator for Plain {
    type Item = Result<String, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.in_buffer() {
                // Nothing between two separators is no text.
                Some((end, skip)) if end == self.start => {
                    if let Err(error) = self.give(end, skip) {
                        return Some(Err(error));
                    }
                }
                Some((end, skip)) => return Some(self.give(end, skip)),
                None if self.ended => return None,
                None => match self.fill() {
                    Ok(_) => {}
                    Err(error) => return Some(Err(error)),
                },
            }
        }
    }
}

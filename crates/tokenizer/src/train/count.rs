//! Counting pre-tokens on several threads, from texts that come one after the other.

use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::chunks;
use super::words::{Waiting, Words};
use super::{Progress, Watch};
use crate::pretokenize::PreTokenize;

/// About so many bytes of text are handed to a thread at a time.
const SHARE: usize = 1 << 18;
/// The watcher is asked each time that so many more bytes have been handed out.
const WATCH: u64 = 1 << 22;

/// How far a stream of texts has been counted: `texts` whole ones and `offset` bytes of the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) texts: u64,
    pub(crate) offset: u64,
    /// Bytes counted, in all.
    pub(crate) bytes: u64,
}

/// The texts that are still to be counted, and the way to stop.
struct Source<'a, I, T, E> {
    texts: I,
    /// Where a thread may cut a long text; patterns of the user's own are not known well enough.
    cuts: bool,
    current: Option<(Arc<T>, usize)>,
    position: Position,
    /// Texts (and bytes of the next) that an earlier run has counted.
    skip: Position,
    watch: &'a mut Watch<'a>,
    next_watch: u64,
    end: Option<Result<ControlFlow<()>, E>>,
}

impl<I, T, E> Source<'_, I, T, E>
where
    I: Iterator<Item = Result<T, E>>,
    T: AsRef<[u8]>,
{
    /// The next parts to count; empty at the end.
    fn take(&mut self) -> Vec<(Arc<T>, Range<usize>)> {
        let mut share = Vec::new();
        let mut bytes = 0;
        while bytes < SHARE && self.end.is_none() {
            let Some((text, start)) = self.current.take().or_else(|| self.next()) else { break };
            let len = (*text).as_ref().len();
            let end = match self.cuts && len - start > SHARE * 2 {
                true => chunks::cut_near((*text).as_ref(), start, start + SHARE),
                false => len,
            };
            bytes += end - start;
            self.position.bytes += (end - start) as u64;
            if end < len {
                self.position.offset = end as u64;
                self.current = Some((Arc::clone(&text), end));
            } else {
                self.position.offset = 0;
                self.position.texts += 1;
            }
            share.push((text, start..end));
        }
        if self.position.bytes >= self.next_watch && self.end.is_none() {
            self.next_watch = self.position.bytes + WATCH;
            let progress = Progress::Counting { bytes: self.position.bytes, texts: self.position.texts };
            if (self.watch)(progress).is_break() {
                self.end = Some(Ok(ControlFlow::Break(())));
            }
        }
        share
    }

    /// The next text, and where to begin in it.
    fn next(&mut self) -> Option<(Arc<T>, usize)> {
        loop {
            let text = match self.texts.next() {
                Some(Ok(text)) => text,
                Some(Err(error)) => {
                    self.end = Some(Err(error));
                    return None;
                }
                None => {
                    self.end = Some(Ok(ControlFlow::Continue(())));
                    return None;
                }
            };
            if self.skip.texts > 0 {
                self.skip.texts -= 1;
                continue;
            }
            let start = std::mem::take(&mut self.skip.offset).min(text.as_ref().len() as u64) as usize;
            return Some((Arc::new(text), start));
        }
    }
}

/// Counts the pre-tokens of all `texts` into `words`, from `position` on, which goes along.
///
/// What has been handed to a thread is counted before this returns, whether the watcher stops it or an error does.
pub(crate) fn count<I, T, E>(
    texts: I,
    pre_tokenize: &PreTokenize,
    threads: usize,
    words: &mut Words,
    position: &mut Position,
    watch: &mut Watch,
) -> Result<ControlFlow<()>, E>
where
    I: Iterator<Item = Result<T, E>> + Send,
    T: AsRef<[u8]> + Send + Sync,
    E: Send,
{
    let source = Mutex::new(Source {
        texts,
        cuts: pre_tokenize.scanner().is_some(),
        current: None,
        position: *position,
        skip: *position,
        watch: &mut *watch,
        next_watch: position.bytes,
        end: None,
    });
    let work = |words: &mut Words| {
        loop {
            let share = source.lock().unwrap_or_else(PoisonError::into_inner).take();
            if share.is_empty() {
                return;
            }
            for (text, range) in share {
                count_text(&(*text).as_ref()[range], pre_tokenize, words);
            }
        }
    };
    let mut others = thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads.max(1))
            .map(|_| {
                scope.spawn(|| {
                    let mut words = Words::default();
                    work(&mut words);
                    words
                })
            })
            .collect();
        work(words);
        let join = |helper: thread::ScopedJoinHandle<'_, Words>| match helper.join() {
            Ok(words) => words,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        helpers.into_iter().map(join).collect::<Vec<_>>()
    });
    join_tables(words, &mut others);
    let source = source.into_inner().unwrap_or_else(PoisonError::into_inner);
    *position = source.position;
    source.end.unwrap_or(Ok(ControlFlow::Continue(())))
}

/// Adds all tables to `words`, in pairs side by side.
fn join_tables(words: &mut Words, others: &mut Vec<Words>) {
    while others.len() > 1 {
        let half = others.len() / 2;
        let taken = others.split_off(others.len() - half);
        thread::scope(|scope| {
            for (left, right) in others.iter_mut().zip(taken) {
                scope.spawn(move || left.absorb(&right));
            }
        });
    }
    if let Some(mut other) = others.pop() {
        if other.len() > words.len() {
            std::mem::swap(words, &mut other);
        }
        words.absorb(&other);
    }
}

fn count_text(text: &[u8], pre_tokenize: &PreTokenize, words: &mut Words) {
    match pre_tokenize.scanner() {
        Some(scanner) => {
            let mut waiting = Waiting::default();
            let mut at = 0;
            while at < text.len() {
                let end = scanner.end_of_match(text, at);
                words.count(text, at, end, &mut waiting);
                at = end;
            }
            words.flush(&mut waiting);
        }
        None => pre_tokenize.run(text, true, &mut |piece| words.add(piece, 1)),
    }
}

//! Ids to rows: which piece of the texts each row of each step is.

use std::ops::Range;

use chalot_tokenizer::Tokenizer;

use super::{DataError, Prepared, Split};
use crate::random::Random;
use crate::recipe::Cut;

/// Rows of ids of equal length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Ids of a row: the context and one more, the last target.
    pub width: usize,
    /// Row after row.
    pub ids: Vec<u32>,
}

impl Rows {
    /// How many.
    pub fn len(&self) -> usize {
        self.ids.len() / self.width.max(1)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Some of them, one after the other.
    pub fn range(&self, rows: Range<usize>) -> &[u32] {
        &self.ids[rows.start * self.width..rows.end * self.width]
    }
}

/// The training texts as an endless row of windows.
///
/// A window is the end-of-text id and the `context` ids behind some place, so that each of them is a target and a model can
/// begin from the end-of-text id alone. An epoch cuts all texts into windows and reads them in a random order; the next one
/// cuts them elsewhere. Window `i` is a function of the seed and of `i`: nothing has to be remembered to go on.
#[derive(Debug)]
pub struct Windows {
    split: Split,
    end_of_text: u32,
    context: usize,
    seed: u64,
    cut: Cut,
    /// Where a window may begin ([`Cut::Paragraphs`]): documents and paragraphs of narration, ascending.
    openings: Vec<usize>,
    epoch: Epoch,
}

/// The windows of an epoch.
#[derive(Debug, Default)]
struct Epoch {
    number: u64,
    /// The number of its first window among all.
    first: u64,
    /// Where its windows begin, in the order in which they are read.
    starts: Vec<usize>,
}

impl Windows {
    /// The windows of the texts to train on.
    ///
    /// # Errors
    /// [`DataError::Recipe`] if there are fewer ids than one window.
    pub fn new(prepared: &Prepared, context: usize, cut: Cut, seed: u64) -> Result<Windows, DataError> {
        let split = prepared.train.clone();
        enough("data.texts", split.ids.len(), context)?;
        let openings = match cut {
            Cut::Anywhere => Vec::new(),
            Cut::Paragraphs => openings(&split, &prepared.tokenizer),
        };
        let end_of_text = prepared.end_of_text;
        let mut windows =
            Windows { split, end_of_text, context, seed, cut, openings, epoch: Epoch::default() };
        windows.begin(0, 0);
        Ok(windows)
    }

    /// Windows `first`, `first + 1`, ... (`count` of them) as rows.
    pub fn rows(&mut self, first: u64, count: usize) -> Rows {
        let mut rows = Rows { width: self.context + 1, ids: Vec::with_capacity(count * (self.context + 1)) };
        for number in first..first + count as u64 {
            let start = self.start(number);
            rows.ids.push(self.end_of_text);
            rows.ids.extend_from_slice(&self.split.ids[start..start + self.context]);
        }
        rows
    }

    /// How often the texts have been read when window `number` comes: 2.5 in the middle of the third epoch.
    pub fn epochs(&mut self, number: u64) -> f64 {
        self.start(number);
        let within = (number - self.epoch.first) as f64 / self.epoch.starts.len() as f64;
        self.epoch.number as f64 + within
    }

    /// Where window `number` begins.
    fn start(&mut self, number: u64) -> usize {
        if number < self.epoch.first {
            self.begin(0, 0);
        }
        while number - self.epoch.first >= self.epoch.starts.len() as u64 {
            self.begin(self.epoch.number + 1, self.epoch.first + self.epoch.starts.len() as u64);
        }
        self.epoch.starts[(number - self.epoch.first) as usize]
    }

    /// Makes the windows of an epoch; there is at least one.
    fn begin(&mut self, number: u64, first: u64) {
        let mut random = Random::new(&[self.seed, u64::from_le_bytes(*b"windows\0"), number]);
        let last = self.split.ids.len() - self.context;
        let mut starts = match self.cut {
            Cut::Anywhere => {
                let shift = random.below(self.context.min(last + 1));
                (shift..=last).step_by(self.context).collect()
            }
            Cut::Paragraphs => self.at_openings(&mut random, last),
        };
        random.shuffle(&mut starts);
        self.epoch = Epoch { number, first, starts };
    }

    /// Windows that begin with a document or a paragraph, each as far from the one before as the context reaches.
    fn at_openings(&self, random: &mut Random, last: usize) -> Vec<usize> {
        let mut starts = Vec::with_capacity(self.split.ids.len() / self.context * 5 / 4 + 1);
        let ends = self.split.documents.iter().skip(1).copied().chain([self.split.ids.len()]);
        for (&document, end) in self.split.documents.iter().zip(ends) {
            let from = self.openings.partition_point(|&at| at < document);
            let to = self.openings.partition_point(|&at| at < end);
            let own = &self.openings[from..to];
            // The first window is cut short, elsewhere in each epoch.
            let half = self.context.div_ceil(2);
            let mut reach = half + random.below(self.context - half + 1);
            let mut at = document;
            while at < end {
                starts.push(at.min(last));
                let inside = own.partition_point(|&opening| opening <= at + reach);
                at = match own[..inside].last() {
                    Some(&opening) if opening > at => opening,
                    // A paragraph longer than the context is cut anywhere.
                    _ => at + reach,
                };
                reach = self.context;
            }
        }
        starts
    }
}

/// Rows of what is held out, one after the other and without overlap, at most `tokens` targets of them, evenly spread.
///
/// # Errors
/// [`DataError::Recipe`] if there are fewer ids than one row.
pub fn held_out(prepared: &Prepared, context: usize, tokens: usize) -> Result<Rows, DataError> {
    let ids = &prepared.held_out.ids;
    enough("data.held_out", ids.len(), context)?;
    let all = ids.len() / context;
    let count = (tokens / context).clamp(1, all);
    let mut rows = Rows { width: context + 1, ids: Vec::with_capacity(count * (context + 1)) };
    for row in 0..count {
        let start = row * all / count * context;
        rows.ids.push(prepared.end_of_text);
        rows.ids.extend_from_slice(&ids[start..start + context]);
    }
    Ok(rows)
}

fn enough(key: &str, tokens: usize, context: usize) -> Result<(), DataError> {
    if tokens >= context && context > 0 {
        return Ok(());
    }
    Err(DataError::Recipe {
        key: key.into(),
        found: format!("{tokens} tokens, less than one row of {context}"),
        mend: "give more texts, or lower train.context".into(),
    })
}

/// Where documents and paragraphs of narration begin: behind an empty line, with a letter that is no small one. (A window that
/// begins in the middle of a talk would teach a model to begin there.)
fn openings(split: &Split, tokenizer: &Tokenizer) -> Vec<usize> {
    let of_id: Vec<(usize, bool, bool)> = (0..tokenizer.vocab_size() as u32)
        .map(|id| {
            let bytes = match tokenizer.is_special(id) {
                true => &[],
                false => tokenizer.token_bytes(id).unwrap_or_default(),
            };
            let breaks = bytes.iter().rev().take_while(|byte| **byte == b'\n').count();
            let letter = std::str::from_utf8(bytes).ok().and_then(|text| text.chars().next());
            let opens = letter.is_some_and(|c| c.is_alphabetic() && !c.is_lowercase());
            (breaks, breaks == bytes.len(), opens)
        })
        .collect();
    let mut documents = split.documents.iter().copied().peekable();
    let mut found = Vec::new();
    let mut breaks = 0;
    for (at, &id) in split.ids.iter().enumerate() {
        let (own, only, opens) = of_id[id as usize];
        if documents.next_if_eq(&at).is_some() || (breaks >= 2 && opens) {
            found.push(at);
        }
        breaks = if only { breaks + own } else { own };
    }
    found
}

//! Byte-pair merging of one pre-token.

mod merging;
mod sink;
mod small;
mod symbols;

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use self::merging::SHORT;
pub(crate) use self::sink::{Count, Sink};
use self::small::Pairs;
use crate::automaton::Grammar;
use crate::cache::{Key, MAX_IDS, Of};
use crate::cache_long::MAX_BYTES;
use crate::cuts::Cuts;
use crate::merges::{Merge, Merges};
use crate::scratch::Scratch;
use crate::unicode;
use crate::vocab::{Kind, Vocab, Writing};
use crate::windows::{self, ENDLESS};

/// No symbol.
const NONE: u32 = u32::MAX;

/// From this many bytes on the automaton is faster than merging.
const RATHER_LONG: usize = 16;

/// From this many bytes on a pre-token is first cut where nothing merges across.
const LONG: usize = 32;

/// A segment is never longer than this, so that positions fit 32 bits.
pub(crate) const MAX_SEGMENT: usize = 1 << 30;

/// How the file says unknown characters and whole pre-tokens are to be treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BpeOptions {
    /// What stands for characters the vocabulary lacks; without it (and without byte tokens) they vanish.
    pub(crate) unk: Option<u32>,
    /// Neighbouring unknown characters become one `unk`.
    pub(crate) fuse_unk: bool,
    /// Characters the vocabulary lacks become the tokens of their bytes, `<0xNN>`.
    pub(crate) byte_fallback: bool,
    /// A pre-token that is an entry becomes that entry, whatever the merges would make of it (Llama 3, tiktoken).
    pub(crate) ignore_merges: bool,
}

/// A vocabulary with its merges: turns one pre-token into ids.
#[derive(Debug)]
pub(crate) struct Bpe {
    pub(crate) vocab: Vocab,
    pub(crate) merges: Merges,
    pub(crate) options: BpeOptions,
    /// The symbol of each byte: of a byte-level vocabulary the entry of that byte, else the `<0xNN>` entry.
    bytes: Box<[u32; 256]>,
    /// Characters that are no entries, but parts of entries: their symbols are past the vocabulary.
    parts: HashMap<char, u32>,
    /// `parts`, by symbol - `vocab.len()`.
    part_chars: Vec<char>,
    cuts: Option<Cuts>,
    /// Of a byte-level vocabulary that has all bytes.
    byte_pairs: Option<Box<Pairs>>,
    /// A character without a symbol always becomes tokens of its own, so that a cut beside it changes nothing.
    missing_stands_alone: bool,
    /// The longest entry that begins with two bytes, by first * 256 + second; a byte-level vocabulary's.
    longest: Vec<u8>,
    /// Made when the cost of long pre-tokens has come to what it costs to make.
    grammar: OnceLock<Option<Grammar>>,
    /// Bytes of long pre-tokens that were merged.
    cost: AtomicUsize,
}

impl Bpe {
    /// `parts` lists the characters that merges know by the symbols `vocab.len()`, `vocab.len() + 1`, ...
    pub(crate) fn new(vocab: Vocab, merges: Merges, parts: Vec<char>, options: BpeOptions) -> Bpe {
        let mut bytes = Box::new([NONE; 256]);
        for (byte, symbol) in (0..=255u8).zip(bytes.iter_mut()) {
            if vocab.writing() == Writing::Bytes {
                *symbol = vocab.find(&[byte]).unwrap_or(NONE);
            }
        }
        if vocab.writing() == Writing::Text && options.byte_fallback {
            for id in 0..vocab.len() as u32 {
                if let Kind::Byte(byte) = vocab.kind(id) {
                    bytes[byte as usize] = id;
                }
            }
        }
        let complete = bytes.iter().all(|&symbol| symbol != NONE);
        let part_symbols = (vocab.len() as u32..).zip(&parts).map(|(symbol, &c)| (c, symbol)).collect();
        let mut bpe = Bpe {
            vocab,
            merges,
            options,
            bytes,
            parts: part_symbols,
            part_chars: parts,
            cuts: None,
            byte_pairs: None,
            missing_stands_alone: complete,
            longest: Vec::new(),
            grammar: OnceLock::new(),
            cost: AtomicUsize::new(0),
        };
        bpe.cuts = bpe.find_cuts();
        if complete && bpe.vocab.writing() == Writing::Bytes {
            bpe.byte_pairs = bpe.byte_pairs();
            bpe.longest = vec![0; 1 << 16];
            for key in (0..bpe.vocab.len() as u32).filter_map(|id| bpe.vocab.key(id)) {
                if let &[first, second, ..] = key {
                    let longest = &mut bpe.longest[usize::from(first) << 8 | usize::from(second)];
                    *longest = key.len().min(255).max(usize::from(*longest)) as u8;
                }
            }
        }
        bpe
    }

    /// The entry of each byte, if all have one.
    pub(crate) fn byte_entries(&self) -> Option<&[u32; 256]> {
        let entries = self.missing_stands_alone && self.part_chars.is_empty();
        entries.then_some(&*self.bytes)
    }

    /// So many bytes of long pre-tokens were merged.
    pub(crate) fn add_cost(&self, bytes: usize) {
        self.cost.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What the automaton needs, if it pays, can be had and `scratch` has not given it up.
    #[inline]
    pub(crate) fn grammar(&self, scratch: &Scratch) -> Option<&Grammar> {
        // Making it takes about as long as merging eight bytes for each merge of the vocabulary.
        if scratch.automaton.is_off() || self.cost.load(Ordering::Relaxed) < 8 * self.merges.len() {
            return None;
        }
        self.grammar.get_or_init(|| Grammar::new(self)).as_ref()
    }

    /// Bytes of the tables.
    pub(crate) fn memory_bytes(&self) -> usize {
        let grammar = self.grammar.get().and_then(Option::as_ref).map_or(0, Grammar::memory_bytes);
        self.vocab.memory_bytes() + self.merges.memory_bytes() + grammar
    }

    /// All pairs of entries that merge, first ranks first.
    pub(crate) fn merges_in_order(&self) -> impl Iterator<Item = (u32, u32)> {
        let entries = |&(left, right, _): &(u32, u32, Merge)| left.max(right) < self.vocab.len() as u32;
        let mut merges: Vec<_> = self.merges.iter().filter(entries).collect();
        merges.sort_unstable_by_key(|&(left, right, merge)| (merge.rank, left, right));
        merges.into_iter().map(|(left, right, _)| (left, right))
    }

    /// The pairs of bytes or characters inside tokens; `None` where entries cannot be read that way.
    fn find_cuts(&self) -> Option<Cuts> {
        let symbols = 0..(self.vocab.len() + self.part_chars.len()) as u32;
        // A merge of an entry that is not its text (`<0x41>`, `<unk>`) says nothing about neighbours in text.
        let readable =
            |id: u32| !matches!(self.vocab.kind(id), Kind::Byte(_) | Kind::Unknown | Kind::Literal);
        let ends: Vec<_> = symbols.map(|id| self.first_and_last(id).filter(|_| readable(id))).collect();
        let mut cuts = Cuts::default();
        for (left, right, _) in self.merges.iter() {
            let ((_, left), (right, _)) = (ends[left as usize]?, ends[right as usize]?);
            cuts.join(left, right);
        }
        Some(cuts)
    }

    /// The first and last byte (byte-level) or character of a symbol.
    fn first_and_last(&self, symbol: u32) -> Option<(u32, u32)> {
        if let Some(&c) =
            (symbol as usize).checked_sub(self.vocab.len()).and_then(|part| self.part_chars.get(part))
        {
            return Some((c as u32, c as u32));
        }
        let key = self.vocab.key(symbol)?;
        match self.vocab.writing() {
            Writing::Bytes => Some((u32::from(*key.first()?), u32::from(*key.last()?))),
            Writing::Text => {
                let text = std::str::from_utf8(key).ok()?;
                Some((text.chars().next()? as u32, text.chars().next_back()? as u32))
            }
        }
    }

    /// The ids of the pre-token `text[start..end]` (or, without a pre-tokenizer, of the whole text).
    #[inline(always)]
    pub(crate) fn encode(
        &self,
        text: &[u8],
        start: usize,
        end: usize,
        scratch: &mut Scratch,
        sink: &mut impl Sink,
    ) {
        let key = Key::new(text, start, end, Of::PreToken);
        match key.and_then(|key| scratch.cache.get(key)) {
            Some(ids) => sink.push_few(ids),
            None => self.encode_new(&text[start..end], key, scratch, sink),
        }
    }

    /// The ids of the pre-token `text[start..end]`, which is not in the first set of its key.
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "the key and its hash are known")]
    pub(crate) fn encode_rare(
        &self,
        text: &[u8],
        start: usize,
        end: usize,
        key: Key,
        hash: u32,
        scratch: &mut Scratch,
        sink: &mut impl Sink,
    ) {
        let key = key.is_some().then_some(key);
        match key.and_then(|key| scratch.cache.get_far(key, hash)) {
            Some(ids) => sink.push_few(ids),
            None => self.encode_new(&text[start..end], key, scratch, sink),
        }
    }

    /// The ids of a pre-token that the cache does not know.
    #[inline(never)]
    fn encode_new(&self, mut piece: &[u8], key: Option<Key>, scratch: &mut Scratch, sink: &mut impl Sink) {
        if key.is_none() && !self.may_be_entry(piece) {
            let done = self.encode_small(piece, sink);
            piece = &piece[done..];
            // What is left is no pre-token: that it may be an entry as a whole means nothing.
            if piece.is_empty() {
                return;
            }
            if done > 0 && self.options.ignore_merges {
                return self.encode_parts(piece, None, scratch, sink);
            }
        }
        if piece.len() > MAX_BYTES {
            return self.encode_pieces(piece, key, scratch, sink);
        }
        let (ids, hash) = scratch.cache_long.get(piece);
        if let Some(ids) = ids {
            return sink.push_all(ids);
        }
        // The automaton is about as fast as looking it up again.
        if piece.len() >= RATHER_LONG && self.grammar(scratch).is_some() {
            return self.encode_pieces(piece, None, scratch, sink);
        }
        let mut ids = std::mem::take(&mut scratch.pieces);
        ids.clear();
        self.encode_pieces(piece, key, scratch, &mut ids);
        if key.is_none() || ids.len() > MAX_IDS {
            scratch.cache_long.put(piece, hash, &ids);
        }
        sink.push_all(&ids);
        scratch.pieces = ids;
    }

    /// Whether an entry may be all of this.
    fn may_be_entry(&self, piece: &[u8]) -> bool {
        match (piece, self.longest.is_empty()) {
            (&[first, second, ..], false) => {
                let longest = self.longest[usize::from(first) << 8 | usize::from(second)];
                longest == 255 || piece.len() <= usize::from(longest)
            }
            _ => true,
        }
    }

    fn encode_pieces(&self, piece: &[u8], key: Option<Key>, scratch: &mut Scratch, sink: &mut impl Sink) {
        if self.options.ignore_merges
            && self.may_be_entry(piece)
            && let Some(id) = self.vocab.find(piece)
        {
            if let Some(key) = key {
                scratch.cache.put(key, &[id]);
            }
            return sink.push(id);
        }
        self.encode_parts(piece, key, scratch, sink);
    }

    /// The ids of a pre-token that is not to be an entry as a whole.
    fn encode_parts(&self, piece: &[u8], key: Option<Key>, scratch: &mut Scratch, sink: &mut impl Sink) {
        match (&self.cuts, self.vocab.writing()) {
            _ if piece.is_empty() => {}
            (Some(_), Writing::Bytes) if self.is_endless(piece, scratch) => {
                self.encode_endless(piece, scratch, sink);
            }
            (Some(_), Writing::Bytes) if piece.len() >= RATHER_LONG && self.grammar(scratch).is_some() => {
                let done = self.by_automaton(piece, scratch, sink);
                self.encode_parts(&piece[done..], None, scratch, sink);
            }
            _ if piece.len() < LONG => {
                self.add_cost(if piece.len() < RATHER_LONG { 0 } else { piece.len() });
                self.merge_into(piece, key, scratch, sink);
            }
            (None, _) => self.segment(piece, scratch, sink),
            (Some(cuts), Writing::Bytes) => self.cut_bytes(cuts, piece, scratch, sink),
            (Some(cuts), Writing::Text) => self.cut_chars(cuts, piece, scratch, sink),
        }
    }

    /// Whether it is faster not to cut this.
    fn is_endless(&self, piece: &[u8], scratch: &Scratch) -> bool {
        let may = piece.len() >= ENDLESS && self.missing_stands_alone;
        may && (self.grammar(scratch).is_some() || windows::repeats(piece))
    }

    fn cut_bytes(&self, cuts: &Cuts, piece: &[u8], scratch: &mut Scratch, sink: &mut impl Sink) {
        self.add_cost(piece.len() / 16);
        let mut start = 0;
        for (at, pair) in piece.windows(2).enumerate() {
            let known = self.missing_stands_alone
                || (self.bytes[pair[0] as usize] != NONE && self.bytes[pair[1] as usize] != NONE);
            if known && cuts.between(u32::from(pair[0]), u32::from(pair[1])) {
                self.segment(&piece[start..=at], scratch, sink);
                start = at + 1;
            }
        }
        self.segment(&piece[start..], scratch, sink);
    }

    fn cut_chars(&self, cuts: &Cuts, piece: &[u8], scratch: &mut Scratch, sink: &mut impl Sink) {
        let (mut start, mut at) = (0, 0);
        // Of the character before `at`: its code (none if the bytes are no UTF-8) and whether it has a symbol.
        let mut before: Option<(Option<u32>, bool)> = None;
        while at < piece.len() {
            let (code, len) = unicode::decode(&piece[at..]);
            let known = self.missing_stands_alone || self.symbol_of(&piece[at..at + len]).is_some();
            let cut = match before {
                Some((before, before_known)) => {
                    known
                        && before_known
                        && before.zip(code).is_none_or(|(left, right)| cuts.between(left, right))
                }
                None => false,
            };
            if cut {
                self.segment(&piece[start..at], scratch, sink);
                start = at;
            }
            before = Some((code, known));
            at += len;
        }
        self.segment(&piece[start..], scratch, sink);
    }

    /// Encodes bytes across whose ends nothing merges.
    fn segment(&self, bytes: &[u8], scratch: &mut Scratch, sink: &mut impl Sink) {
        if let &[byte] = bytes
            && self.vocab.writing() == Writing::Bytes
            && self.missing_stands_alone
        {
            return sink.push(self.bytes[usize::from(byte)]);
        }
        // What is true of a whole pre-token is true of a segment, unless whole pre-tokens are special.
        let of = if self.options.ignore_merges { Of::Segment } else { Of::PreToken };
        let key = Key::new(bytes, 0, bytes.len(), of);
        match key.and_then(|key| scratch.cache.get(key)) {
            Some(ids) => sink.push_few(ids),
            None => {
                self.add_cost(bytes.len());
                self.merge_into(bytes, key, scratch, sink);
            }
        }
    }

    fn merge_into(&self, bytes: &[u8], key: Option<Key>, scratch: &mut Scratch, sink: &mut impl Sink) {
        // Windows need a symbol for each byte: then the tokens' bytes are the text's.
        let every_byte = self.missing_stands_alone && self.vocab.writing() == Writing::Bytes;
        if bytes.len() >= ENDLESS && every_byte {
            return self.encode_endless(bytes, scratch, sink);
        }
        for part in bytes.chunks(MAX_SEGMENT) {
            self.merge(part, scratch);
            sink.push_all(&scratch.symbols);
        }
        if let Some(key) = key {
            scratch.cache.put(key, &scratch.symbols);
        }
    }

    /// Leaves the ids of `bytes` in `scratch.symbols`.
    pub(crate) fn merge(&self, bytes: &[u8], scratch: &mut Scratch) {
        scratch.symbols.clear();
        match self.vocab.writing() {
            Writing::Bytes => self.byte_symbols(bytes, &mut scratch.symbols),
            Writing::Text => self.char_symbols(bytes, &mut scratch.symbols),
        }
        if scratch.symbols.len() <= SHORT {
            self.merge_short(&mut scratch.symbols, bytes);
        } else {
            self.merge_long(&mut scratch.symbols, &mut scratch.long);
        }
        if let Some(part) = scratch.symbols.iter().position(|&symbol| symbol as usize >= self.vocab.len()) {
            self.spell_parts(&mut scratch.symbols, part);
        }
    }

    #[inline(always)]
    fn pair(&self, left: u32, right: u32) -> Merge {
        self.merges.get(left, right).unwrap_or(Merge { rank: NONE, id: NONE })
    }
}

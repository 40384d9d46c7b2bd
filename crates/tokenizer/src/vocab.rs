//! The entries of a vocabulary: id to bytes and bytes to id.

use crate::TokenizerError;
use crate::alphabet;
use crate::error::quote;
use crate::hash;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No entry has this id.
    Hole,
    /// Ordinary text that merges may form.
    Normal,
    /// An entry whose text lies outside a byte-level vocabulary's alphabet: it decodes to itself and is never formed.
    Literal,
    /// One byte, written `<0xNN>`.
    Byte(u8),
    /// An added token that stands for itself in any text (`<think>`).
    User,
    /// An added token with a meaning to the model (`<|im_end|>`).
    Control,
    /// Stands for what the vocabulary cannot express.
    Unknown,
    /// Reserved.
    Unused,
}

/// In which form entries are written in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// Byte-level: ordinary entries in [`alphabet`]'s characters; kept here as the bytes they stand for.
    Bytes,
    /// SentencePiece: plain text with `▁` for a space; kept here as it is written.
    Text,
}

/// The separator that stands for a space in SentencePiece vocabularies, U+2581.
pub(crate) const SPACE: &str = "\u{2581}";

/// All entries, in one arena.
#[derive(Debug)]
pub(crate) struct Vocab {
    writing: Writing,
    /// What is looked up: real bytes or written text, after `Writing`.
    keys: Arena,
    /// What the entries decode to; empty where that is the key itself.
    outputs: Arena,
    kinds: Vec<Kind>,
    /// Added tokens that are ordinary entries too; ascending.
    formed: Vec<u32>,
    /// Entries that text may become by merging or as a whole pre-token.
    index: Index,
}

/// Byte strings by id.
#[derive(Debug, Default)]
struct Arena {
    bytes: Vec<u8>,
    spans: Vec<(u32, u32)>,
}

impl Arena {
    fn get(&self, id: u32) -> Option<&[u8]> {
        let &(start, end) = self.spans.get(id as usize)?;
        Some(&self.bytes[start as usize..end as usize])
    }

    /// Stores `bytes` for `id`; false if the arena is full (4 GiB).
    fn set(&mut self, id: u32, bytes: &[u8]) -> bool {
        let (start, end) = (self.bytes.len(), self.bytes.len() + bytes.len());
        let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(end)) else { return false };
        let id = id as usize;
        if self.spans.len() <= id {
            self.spans.resize(id + 1, (0, 0));
        }
        self.bytes.extend_from_slice(bytes);
        self.spans[id] = (start, end);
        true
    }
}

/// Open addressing with linear probing over the arena's strings.
#[derive(Debug, Default)]
struct Index {
    slots: Vec<u32>,
}

const EMPTY: u32 = u32::MAX;

impl Index {
    fn of(keys: &Arena, ids: impl Iterator<Item = u32>, count: usize) -> Index {
        let mut index = Index { slots: vec![EMPTY; (count * 2).next_power_of_two().max(16)] };
        let mask = index.slots.len() - 1;
        for id in ids {
            let Some(key) = keys.get(id) else { continue };
            let mut at = hash::bytes(hash::seed(), key) as usize & mask;
            // A later entry of the same text replaces the earlier one.
            while index.slots[at] != EMPTY && keys.get(index.slots[at]) != Some(key) {
                at = (at + 1) & mask;
            }
            index.slots[at] = id;
        }
        index
    }

    fn get(&self, keys: &Arena, key: &[u8]) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let mut at = hash::bytes(hash::seed(), key) as usize & mask;
        loop {
            match self.slots[at] {
                EMPTY => return None,
                id if keys.get(id) == Some(key) => return Some(id),
                _ => at = (at + 1) & mask,
            }
        }
    }
}

impl Vocab {
    /// One past the highest id.
    pub(crate) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Bytes of the entries and of what finds them.
    pub(crate) fn memory_bytes(&self) -> usize {
        let arena = |arena: &Arena| arena.bytes.capacity() + arena.spans.capacity() * size_of::<(u32, u32)>();
        let kinds = self.kinds.capacity() * size_of::<Kind>();
        let index = self.index.slots.capacity() * size_of::<u32>();
        arena(&self.keys) + arena(&self.outputs) + kinds + index
    }

    pub(crate) fn writing(&self) -> Writing {
        self.writing
    }

    pub(crate) fn kind(&self, id: u32) -> Kind {
        self.kinds.get(id as usize).copied().unwrap_or(Kind::Hole)
    }

    /// The ordinary entry with this key, and nothing else.
    pub(crate) fn find(&self, key: &[u8]) -> Option<u32> {
        self.index.get(&self.keys, key)
    }

    /// The entry that a file writes like this.
    pub(crate) fn find_text(&self, text: &str) -> Option<u32> {
        let ordinary = match self.writing {
            Writing::Bytes => alphabet::to_bytes(text).and_then(|bytes| self.find(&bytes)),
            Writing::Text => self.find(text.as_bytes()),
        };
        // The others are few, or asked for rarely.
        ordinary.or_else(|| {
            let others =
                (0..self.len() as u32).filter(|&id| !matches!(self.kind(id), Kind::Hole | Kind::Normal));
            others.into_iter().find(|&id| self.keys.get(id) == Some(text.as_bytes()))
        })
    }

    /// What is looked up for this entry.
    pub(crate) fn key(&self, id: u32) -> Option<&[u8]> {
        (self.kind(id) != Kind::Hole).then(|| self.keys.get(id)).flatten()
    }

    /// What the entry decodes to.
    pub(crate) fn bytes(&self, id: u32) -> Option<&[u8]> {
        if self.kind(id) == Kind::Hole {
            return None;
        }
        match self.writing {
            Writing::Bytes => self.keys.get(id),
            Writing::Text => self.outputs.get(id),
        }
    }

    /// The entry as a file writes it.
    pub(crate) fn text(&self, id: u32) -> Option<String> {
        let key = self.key(id)?;
        match (self.writing, self.kind(id)) {
            (Writing::Bytes, Kind::Normal) => Some(alphabet::to_text(key)),
            _ => Some(String::from_utf8_lossy(key).into_owned()),
        }
    }

    /// Whether this added token is an ordinary entry too.
    pub(crate) fn is_formed_added(&self, id: u32) -> bool {
        self.formed.binary_search(&id).is_ok()
    }

    /// All such added tokens, ascending.
    pub(crate) fn formed_added(&self) -> &[u32] {
        &self.formed
    }

    /// Whether merges and whole pre-tokens may become an entry of this kind.
    fn is_formed(writing: Writing, kind: Kind) -> bool {
        match kind {
            Kind::Normal => true,
            Kind::Unused | Kind::User => writing == Writing::Text,
            _ => false,
        }
    }
}

/// Collects entries in any order and checks them.
pub(crate) struct VocabBuilder<'a> {
    file: &'a str,
    writing: Writing,
    keys: Arena,
    kinds: Vec<Kind>,
    entries: usize,
    /// Entries the file announces; bounds how far ids may run ahead of them.
    expected: usize,
    /// Text entries that added tokens stand on: still formed by merges.
    formed: Vec<u32>,
}

impl<'a> VocabBuilder<'a> {
    /// `expected` is the number of entries that the file really has (not what it says).
    pub(crate) fn new(file: &'a str, writing: Writing, expected: usize) -> Self {
        Self {
            file,
            writing,
            keys: Arena::default(),
            kinds: Vec::new(),
            entries: 0,
            expected,
            formed: Vec::new(),
        }
    }

    /// Adds an entry as a file writes it; byte-level text is translated to bytes.
    pub(crate) fn add_text(
        &mut self,
        id: u32,
        text: &str,
        kind: Kind,
        entry: impl Fn() -> String,
    ) -> Result<(), TokenizerError> {
        match (self.writing, kind) {
            (Writing::Bytes, Kind::Normal) => match alphabet::to_bytes(text) {
                Some(bytes) => self.add(id, &bytes, kind, entry),
                None => self.add(id, text.as_bytes(), Kind::Literal, entry),
            },
            _ => self.add(id, text.as_bytes(), kind, entry),
        }
    }

    /// Adds an entry by its key.
    pub(crate) fn add(
        &mut self,
        id: u32,
        key: &[u8],
        kind: Kind,
        entry: impl Fn() -> String,
    ) -> Result<(), TokenizerError> {
        self.reserve(id, &entry)?;
        let old = self.kinds[id as usize];
        if old != Kind::Hole {
            return Err(TokenizerError::entry(
                self.file,
                entry(),
                format!(
                    "id {id}, which {} has already",
                    quote(&String::from_utf8_lossy(self.keys.get(id).unwrap_or_default()))
                ),
                "an id of its own for each entry",
            ));
        }
        self.store(id, key, kind, &entry)
    }

    /// Adds an added token: its text may be an entry already, which then changes its kind.
    pub(crate) fn add_added(
        &mut self,
        id: u32,
        content: &str,
        kind: Kind,
        entry: impl Fn() -> String,
    ) -> Result<(), TokenizerError> {
        self.reserve(id, &entry)?;
        let old = self.kinds[id as usize];
        if old == Kind::Hole {
            return self.store(id, content.as_bytes(), kind, &entry);
        }
        let written = match (self.writing, old) {
            (Writing::Bytes, Kind::Normal) => alphabet::to_text(self.keys.get(id).unwrap_or_default()),
            _ => String::from_utf8_lossy(self.keys.get(id).unwrap_or_default()).into_owned(),
        };
        if written != content {
            return Err(TokenizerError::entry(
                self.file,
                entry(),
                format!("id {id} for {}", quote(content)),
                format!("the id's own text {}", quote(&written)),
            ));
        }
        // Where added tokens are left alone, merges may still form the entry (Gemma's runs of newlines are both).
        // An added token decodes to its own text, also in a byte-level vocabulary.
        let same_key = self.keys.get(id) == Some(content.as_bytes());
        if same_key && Vocab::is_formed(self.writing, old) {
            self.formed.push(id);
        }
        if !same_key {
            return self.store(id, content.as_bytes(), kind, &entry);
        }
        self.kinds[id as usize] = kind;
        Ok(())
    }

    fn reserve(&mut self, id: u32, entry: &impl Fn() -> String) -> Result<(), TokenizerError> {
        // Ids may have gaps (o200k's last special token stands 17 further on), but a table as large as the file's word
        // for an id is not made.
        let limit = self.expected.saturating_mul(4).saturating_add(1 << 16);
        if id as usize >= limit {
            return Err(TokenizerError::entry(
                self.file,
                entry(),
                format!("id {id}"),
                format!("an id below {limit} (the file has {} entries)", self.expected),
            ));
        }
        if self.kinds.len() <= id as usize {
            self.kinds.resize(id as usize + 1, Kind::Hole);
        }
        Ok(())
    }

    fn store(
        &mut self,
        id: u32,
        key: &[u8],
        kind: Kind,
        entry: &impl Fn() -> String,
    ) -> Result<(), TokenizerError> {
        if !self.keys.set(id, key) {
            return Err(TokenizerError::entry(self.file, entry(), "more than 4 GiB of token text", "less"));
        }
        self.kinds[id as usize] = kind;
        self.entries += 1;
        Ok(())
    }

    /// The finished vocabulary.
    pub(crate) fn finish(mut self) -> Result<Vocab, TokenizerError> {
        if self.entries == 0 {
            return Err(TokenizerError::entry(self.file, "vocabulary", "no entries", "at least one"));
        }
        self.keys.spans.resize(self.kinds.len(), (0, 0));
        let mut outputs = Arena::default();
        if self.writing == Writing::Text {
            for (id, kind) in (0u32..).zip(&self.kinds) {
                let key = self.keys.get(id).unwrap_or_default();
                let stored = match *kind {
                    Kind::Byte(byte) => outputs.set(id, &[byte]),
                    _ => outputs.set(id, &replace(key, SPACE.as_bytes(), b" ")),
                };
                debug_assert!(stored, "an output is no longer than its key");
            }
        }
        let writing = self.writing;
        self.formed.sort_unstable();
        self.formed.dedup();
        let ordinary =
            (0u32..).zip(&self.kinds).filter(|(_, kind)| Vocab::is_formed(writing, **kind)).map(|(id, _)| id);
        let index = Index::of(&self.keys, ordinary.chain(self.formed.iter().copied()), self.kinds.len());
        Ok(Vocab { writing, keys: self.keys, outputs, kinds: self.kinds, formed: self.formed, index })
    }
}

/// `text` with every `from` replaced by `to`.
pub(crate) fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        if !from.is_empty() && rest.starts_with(from) {
            out.extend_from_slice(to);
            rest = &rest[from.len()..];
        } else {
            out.push(rest[0]);
            rest = &rest[1..];
        }
    }
    out
}

//! The tokenizer: text to ids and back.

use std::sync::{Arc, Mutex, PoisonError};

use chalot_simd::Isa;

use crate::added::{Finder, Fragment};
use crate::bpe::{Bpe, BpeOptions, Count, Sink};
use crate::merges::Merges;
use crate::normalize::Normalize;
use crate::pretokenize::{PreTokenize, Scanner};
use crate::scratch::Scratch;
use crate::seams::Seams;
use crate::spec::{Roles, Spec};
use crate::vocab::{Kind, Vocab};
use crate::{StreamDecoder, TokenizerError};

/// Whether the texts of special tokens (`<|im_end|>`) in a text mean these tokens.
///
/// Text from a user is encoded [`AsText`](Specials::AsText), so that nobody can type a control token; what a chat template
/// writes is encoded [`Parse`](Specials::Parse). Added tokens that are not special (`<think>`) are found in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specials {
    /// They are ordinary text.
    AsText,
    /// They become their ids.
    Parse,
}

/// A vocabulary, ready to encode and decode. Cloning is cheap: clones share everything.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Arc<Inner>,
    roles: Arc<Roles>,
    /// What the scanners may use.
    isa: Isa,
}

#[derive(Debug)]
struct Inner {
    bpe: Bpe,
    spec: Spec,
    normalize: Normalize,
    pre_tokenize: PreTokenize,
    /// Added tokens looked for in the text as it is ...
    exact: Finder,
    /// ... and in the normalized text.
    normalized: Finder,
    /// One score for each id where merges are ordered by scores, not by a list.
    scores: Option<Vec<f32>>,
    /// Buffers between calls, so that encoding a short prompt allocates nothing but its ids.
    idle: Mutex<Vec<Scratch>>,
}

/// What a reader hands over.
pub(crate) struct Parts {
    pub(crate) vocab: Vocab,
    pub(crate) merges: Merges,
    /// Characters that are only parts of entries; see [`Bpe::new`].
    pub(crate) chars: Vec<char>,
    pub(crate) options: BpeOptions,
    pub(crate) spec: Spec,
    pub(crate) roles: Roles,
    pub(crate) scores: Option<Vec<f32>>,
}

/// At most so many idle buffers are kept.
const MAX_IDLE: usize = 64;

/// From so many bytes on a text's ids may take several huge pages.
const LARGE: usize = 1 << 20;

impl Tokenizer {
    pub(crate) fn assemble(file: &str, mut parts: Parts) -> Result<Tokenizer, TokenizerError> {
        check_roles(file, &parts.vocab, &parts.roles)?;
        check_role(file, &parts.vocab, "unknown token", parts.options.unk)?;
        parts.spec.added.sort_by_key(|token| token.id);
        parts.roles.find_ends(&parts.spec.added);
        let normalize = Normalize::new(file, parts.spec.normalizer.as_ref())?;
        let pre_tokenize = PreTokenize::new(file, parts.spec.pre_tokenizer.as_ref())?;
        let exact = Finder::new(file, &parts.spec.added, false, &normalize)?;
        let normalized = Finder::new(file, &parts.spec.added, true, &normalize)?;
        let bpe = Bpe::new(parts.vocab, parts.merges, parts.chars, parts.options);
        let inner = Inner {
            bpe,
            spec: parts.spec,
            normalize,
            pre_tokenize,
            exact,
            normalized,
            scores: parts.scores,
            idle: Mutex::default(),
        };
        Ok(Tokenizer { inner: Arc::new(inner), roles: Arc::new(parts.roles), isa: Isa::best() })
    }

    /// The same tokenizer with other roles; the ends of generation are found anew and added to those given.
    pub(crate) fn with_roles(&self, file: &str, mut roles: Roles) -> Result<Tokenizer, TokenizerError> {
        check_roles(file, &self.inner.bpe.vocab, &roles)?;
        roles.find_ends(&self.inner.spec.added);
        Ok(Tokenizer { inner: Arc::clone(&self.inner), roles: Arc::new(roles), isa: self.isa })
    }

    /// The same tokenizer, computing with the instructions of `isa` instead of the best of this CPU; the ids are the same.
    pub fn with_isa(&self, isa: Isa) -> Tokenizer {
        Tokenizer { isa, ..self.clone() }
    }

    /// The scanner of the pre-tokens, if that is all there is to cutting text.
    pub(crate) fn scanner(&self) -> Option<Scanner> {
        self.inner.pre_tokenize.scanner()
    }

    pub(crate) fn roles(&self) -> &Roles {
        &self.roles
    }

    pub(crate) fn spec(&self) -> &Spec {
        &self.inner.spec
    }

    pub(crate) fn bpe(&self) -> &Bpe {
        &self.inner.bpe
    }

    pub(crate) fn scores(&self) -> Option<&[f32]> {
        self.inner.scores.as_deref()
    }

    /// One past the highest id. Ids may have gaps, and a model may have more rows than this.
    pub fn vocab_size(&self) -> usize {
        self.inner.bpe.vocab.len()
    }

    /// Bytes of the entries and merges, with the tables that find them. The buffers of threads that encode come on top.
    pub fn memory_bytes(&self) -> usize {
        self.inner.bpe.memory_bytes()
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.roles.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.roles.eos
    }

    /// The token that fills unused places of a batch.
    pub fn pad(&self) -> Option<u32> {
        self.roles.pad
    }

    /// The token that stands for what the vocabulary cannot express.
    pub fn unk(&self) -> Option<u32> {
        self.inner.bpe.options.unk
    }

    /// Whether the file says that a prompt begins with [`bos`](Self::bos).
    pub fn add_bos(&self) -> bool {
        self.roles.add_bos
    }

    /// Whether the file says that a training text ends with [`eos`](Self::eos).
    pub fn add_eos(&self) -> bool {
        self.roles.add_eos
    }

    /// Every token after which generation ends: EOS and the ends of turns (`<|im_end|>`, `<|eot_id|>`, ...); ascending.
    pub fn eog_tokens(&self) -> &[u32] {
        &self.roles.eog
    }

    /// Whether generation ends after `id`.
    pub fn is_eog(&self, id: u32) -> bool {
        self.eog_tokens().binary_search(&id).is_ok()
    }

    /// Whether `id` has a meaning to the model and is no text (`<|im_end|>`, `<s>`).
    pub fn is_special(&self, id: u32) -> bool {
        matches!(self.inner.bpe.vocab.kind(id), Kind::Control | Kind::Unknown)
    }

    /// The ids of all special tokens, ascending.
    pub fn special_tokens(&self) -> impl Iterator<Item = u32> {
        let special = self.inner.spec.added.iter().filter(|token| token.special);
        special.map(|token| token.id)
    }

    /// The bytes that `id` stands for: text, or part of a character. A special token's bytes are its name.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.inner.bpe.vocab.bytes(id)
    }

    /// The token as its file writes it (`Ġthe`, `▁the`, `<0x0A>`).
    pub fn token_text(&self, id: u32) -> Option<String> {
        self.inner.bpe.vocab.text(id)
    }

    /// The id of a token as its file writes it. Looks at added tokens first.
    pub fn id_of(&self, text: &str) -> Option<u32> {
        let added = self.inner.spec.added.iter().find(|token| token.content == text).map(|token| token.id);
        added.or_else(|| self.inner.bpe.vocab.find_text(text))
    }

    /// The ids of `text`; nothing is added before or after.
    ///
    /// Bytes that are no UTF-8 become the tokens of these bytes, where the vocabulary has them.
    pub fn encode(&self, text: impl AsRef<[u8]>, specials: Specials) -> Vec<u32> {
        let text = text.as_ref();
        let mut ids = room_for_ids(text.len());
        self.run(text, specials, &mut ids);
        if text.len() >= LARGE {
            ids.shrink_to_fit();
        }
        ids
    }

    /// [`encode`](Self::encode), the ids appended to `ids`: many texts need one allocation.
    pub fn encode_into(&self, text: impl AsRef<[u8]>, specials: Specials, ids: &mut Vec<u32>) {
        self.run(text.as_ref(), specials, ids);
    }

    /// How many ids `text` has: `encode(text, specials).len()` without making them.
    pub fn count(&self, text: impl AsRef<[u8]>, specials: Specials) -> usize {
        let mut count = Count::default();
        self.run(text.as_ref(), specials, &mut count);
        count.0
    }

    /// Where texts may be cut, if anywhere.
    pub(crate) fn seams(&self, specials: Specials) -> Option<Seams<'_>> {
        let Inner { pre_tokenize, normalize, exact, normalized, .. } = &*self.inner;
        Seams::new(pre_tokenize, normalize, exact, normalized, specials)
    }

    fn run(&self, text: &[u8], specials: Specials, sink: &mut impl Sink) {
        let inner = &*self.inner;
        let mut scratch = inner.idle.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        inner.exact.cut(text, true, specials, &mut |fragment| match fragment {
            Fragment::Token(id) => sink.push(id),
            Fragment::Text { text, first } => {
                let text = inner.normalize.apply(text);
                inner.normalized.cut(&text, first, specials, &mut |fragment| match fragment {
                    Fragment::Token(id) => sink.push(id),
                    Fragment::Text { text, first } => match inner.pre_tokenize.scanner() {
                        Some(scanner) => {
                            inner.bpe.encode_matches(self.isa, scanner, text, &mut scratch, sink)
                        }
                        None => inner.pre_tokenize.run(text, first, &mut |piece| {
                            inner.bpe.encode(piece, 0, piece.len(), &mut scratch, sink);
                        }),
                    },
                });
            }
        });
        scratch.shrink();
        let mut idle = inner.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(scratch);
        }
    }

    /// The bytes of a whole text, special tokens by their names. Ids that do not exist give nothing.
    ///
    /// A vocabulary that puts an invisible space before a text ([`encode`](Self::encode) does) loses it here, so that
    /// decoding gives back what was encoded. Text that goes on after other text is decoded by a [`stream`](Self::stream).
    pub fn decode(&self, ids: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for &id in ids {
            bytes.extend_from_slice(self.token_bytes(id).unwrap_or_default());
        }
        if self.inner.spec.strip_prefix && bytes.first() == Some(&b' ') {
            bytes.remove(0);
        }
        bytes
    }

    /// [`decode`](Self::decode) as a string; what is no UTF-8 becomes U+FFFD.
    pub fn decode_lossy(&self, ids: &[u32]) -> String {
        String::from_utf8_lossy(&self.decode(ids)).into_owned()
    }

    /// Decodes ids one by one as they are generated, in whole characters.
    pub fn stream(&self) -> StreamDecoder {
        StreamDecoder::new(self.clone())
    }
}

/// An empty vector for the ids of so many bytes of text.
///
/// Fresh memory costs as much as encoding does, huge pages less, and what a large vector grows into would be neither huge
/// nor at its place. So large texts reserve an id for each byte, if the system gives that: what stays untouched takes no memory.
fn room_for_ids(bytes: usize) -> Vec<u32> {
    let mut ids = Vec::new();
    if bytes < LARGE || ids.try_reserve_exact(bytes).is_err() {
        ids.reserve_exact(bytes / 4 + 1);
    }
    chalot_simd::ask_for_huge_pages(ids.spare_capacity_mut());
    ids
}

fn check_roles(file: &str, vocab: &Vocab, roles: &Roles) -> Result<(), TokenizerError> {
    check_role(file, vocab, "BOS token", roles.bos)?;
    check_role(file, vocab, "EOS token", roles.eos)?;
    check_role(file, vocab, "padding token", roles.pad)?;
    roles.eog.iter().try_for_each(|&id| check_role(file, vocab, "end-of-generation token", Some(id)))
}

fn check_role(file: &str, vocab: &Vocab, role: &str, id: Option<u32>) -> Result<(), TokenizerError> {
    match id.filter(|&id| vocab.kind(id) == Kind::Hole) {
        None => Ok(()),
        Some(id) => Err(TokenizerError::entry(
            file,
            role,
            format!("id {id}"),
            format!("the id of an entry (ids end at {})", vocab.len()),
        )),
    }
}

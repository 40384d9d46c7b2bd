//! The vocabulary of a GGUF file, from and to its plain form.

use super::ranked;
use crate::bpe::BpeOptions;
use crate::error::quote;
use crate::hash::TextMap;
use crate::merges::{Merge, Merges};
use crate::pretokenize::pre;
use crate::spec::{AddedToken, Normalizer, Roles, Spec, TextPattern};
use crate::tokenizer::Parts;
use crate::vocab::{Kind, SPACE, Vocab, VocabBuilder, Writing};
use crate::{GgufVocab, Tokenizer, TokenizerError};

/// `tokenizer.ggml.token_type`.
pub(crate) mod types {
    pub(crate) const NORMAL: i32 = 1;
    pub(crate) const UNKNOWN: i32 = 2;
    pub(crate) const CONTROL: i32 = 3;
    pub(crate) const USER: i32 = 4;
    pub(crate) const UNUSED: i32 = 5;
    pub(crate) const BYTE: i32 = 6;
}

/// The byte that `<0xNN>` stands for.
pub(crate) fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let hex = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    hex.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

impl Tokenizer {
    /// Makes a tokenizer of the `tokenizer.ggml.*` keys of a GGUF file.
    ///
    /// Models `"gpt2"` (byte-level; `pre` names the pattern), `"llama"` and `"gemma"` (SentencePiece with scores). Where the
    /// model's own tokenizer normalizes (NFC, Qwen and OLMo), so does this one: the keys do not say it, but the model was
    /// trained so. Byte-level vocabularies with scores and without merges merge by score, as tiktoken does; that is how
    /// [`to_gguf`](Tokenizer::to_gguf) writes these.
    pub fn from_gguf(file: &str, vocab: GgufVocab) -> Result<Tokenizer, TokenizerError> {
        if let Some(json) = &vocab.huggingface_json {
            let tokenizer =
                super::json::parse(&format!("{file}, key tokenizer.huggingface.json"), json.as_bytes())?;
            let found = tokenizer.roles();
            let roles = Roles {
                bos: role(vocab.bos).or(found.bos),
                eos: role(vocab.eos).or(found.eos),
                pad: role(vocab.pad).or(found.pad),
                add_bos: vocab.add_bos.unwrap_or(found.add_bos),
                add_eos: vocab.add_eos.unwrap_or(found.add_eos),
                eog: vocab.eog.iter().copied().chain(role(vocab.eot)).chain(role(vocab.eom)).collect(),
            };
            return tokenizer.with_roles(file, roles);
        }
        check_lengths(file, &vocab)?;
        match vocab.model.as_str() {
            "gpt2" => byte_level(file, vocab),
            "llama" | "gemma" | "gemma4" => sentence_piece(file, vocab),
            other => Err(TokenizerError::unsupported(
                file,
                "tokenizer.ggml.model",
                quote(other),
                "supported are \"gpt2\", \"llama\" and \"gemma\"",
            )),
        }
    }
}

/// Writers without a token for a role give it the id -1.
fn role(id: Option<u32>) -> Option<u32> {
    id.filter(|&id| id != u32::MAX)
}

fn check_lengths(file: &str, vocab: &GgufVocab) -> Result<(), TokenizerError> {
    let count = vocab.tokens.len();
    let lists = [
        ("tokenizer.ggml.scores", vocab.scores.len()),
        ("tokenizer.ggml.token_type", vocab.token_types.len()),
    ];
    for (key, len) in lists {
        if len != 0 && len != count {
            return Err(TokenizerError::entry(
                file,
                key,
                format!("{len} values"),
                format!("{count}, one for each token"),
            ));
        }
    }
    if let Some(id) = vocab.scores.iter().position(|score| score.is_nan()) {
        return Err(TokenizerError::entry(file, format!("tokenizer.ggml.scores[{id}]"), "NaN", "a number"));
    }
    Ok(())
}

/// All entries with their types; added tokens are the user-defined, control and unknown ones.
fn read_entries(
    file: &str,
    vocab: &GgufVocab,
    writing: Writing,
) -> Result<(Vocab, Vec<AddedToken>), TokenizerError> {
    let mut builder = VocabBuilder::new(file, writing, vocab.tokens.len());
    let mut added = Vec::new();
    for (id, text) in (0u32..).zip(&vocab.tokens) {
        let ty = vocab.token_types.get(id as usize).copied().unwrap_or(types::NORMAL);
        let kind = match ty {
            types::UNKNOWN => Kind::Unknown,
            types::CONTROL => Kind::Control,
            types::USER => Kind::User,
            types::UNUSED => Kind::Unused,
            types::BYTE => byte_of(text).map_or(Kind::Normal, Kind::Byte),
            _ => Kind::Normal,
        };
        if matches!(kind, Kind::Unknown | Kind::Control | Kind::User) {
            added.push(AddedToken::plain(id, text, kind != Kind::User));
        }
        builder.add_text(id, text, kind, || format!("tokenizer.ggml.tokens[{id}]"))?;
    }
    Ok((builder.finish()?, added))
}

fn roles(vocab: &GgufVocab, add_bos: bool) -> Roles {
    Roles {
        bos: role(vocab.bos),
        eos: role(vocab.eos),
        pad: role(vocab.pad),
        add_bos: vocab.add_bos.unwrap_or(add_bos),
        add_eos: vocab.add_eos.unwrap_or(false),
        eog: vocab.eog.iter().copied().chain(role(vocab.eot)).chain(role(vocab.eom)).collect(),
    }
}

fn byte_level(file: &str, vocab: GgufVocab) -> Result<Tokenizer, TokenizerError> {
    let name = vocab.pre.as_deref().unwrap_or("default");
    let pre = pre::by_name(name).ok_or_else(|| {
        let supported = format!("supported are {}", pre::names().collect::<Vec<_>>().join(", "));
        TokenizerError::unsupported(file, "tokenizer.ggml.pre", quote(name), supported)
    })?;
    let (entries, added) = read_entries(file, &vocab, Writing::Bytes)?;
    let by_score = vocab.merges.is_empty() && !vocab.scores.is_empty();
    let (merges, scores) = if by_score {
        let ranks = ranked::ranks_of_scores(&vocab.scores);
        let name = |id| format!("tokenizer.ggml.tokens[{id}]");
        let rank = |id| (entries.kind(id) == Kind::Normal).then(|| ranks[id as usize]);
        (ranked::merges(file, &entries, rank, name)?.0, Some(vocab.scores.clone()))
    } else {
        (read_merges(file, &vocab, &entries)?, None)
    };
    let spec = Spec {
        normalizer: pre.nfc.then_some(Normalizer::Nfc),
        pre_tokenizer: Some(pre.pre_tokenizer()),
        added,
        strip_prefix: false,
    };
    // Only for bytes that the vocabulary lacks; most lack none.
    let unk = role(vocab.unk);
    let options = BpeOptions { ignore_merges: pre.ignore_merges || by_score, unk, ..BpeOptions::default() };
    let roles = roles(&vocab, pre.add_bos);
    Tokenizer::assemble(
        file,
        Parts { vocab: entries, merges, chars: Vec::new(), options, spec, roles, scores },
    )
}

/// `"left right"`, both written in the byte alphabet.
fn read_merges(file: &str, vocab: &GgufVocab, entries: &Vocab) -> Result<Merges, TokenizerError> {
    let ids: TextMap<u32> = vocab.tokens.iter().map(String::as_str).zip(0u32..).collect();
    let mut merges = Merges::with_capacity(vocab.merges.len());
    let mut joined = String::new();
    for (rank, line) in (0u32..).zip(&vocab.merges) {
        let wrong = |expected: String| {
            TokenizerError::entry(file, format!("tokenizer.ggml.merges[{rank}]"), quote(line), expected)
        };
        // The left part has at least one character, which may be a space (Gemma's tokens written raw).
        let space = line.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| at);
        let (left, right) = space
            .map(|at| (&line[..at], &line[at + 1..]))
            .ok_or_else(|| wrong("two tokens with a space between".into()))?;
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        let id = |text: &str| {
            let id = ids.get(text).copied().filter(|&id| entries.key(id).is_some());
            id.ok_or_else(|| wrong(format!("entries of the vocabulary, but {} is none", quote(text))))
        };
        let (left, right, id) = (id(left)?, id(right)?, id(&joined)?);
        merges.insert(left, right, Merge { rank, id });
    }
    Ok(merges)
}

fn sentence_piece(file: &str, mut vocab: GgufVocab) -> Result<Tokenizer, TokenizerError> {
    if vocab.scores.is_empty() && !vocab.tokens.is_empty() {
        return Err(TokenizerError::entry(
            file,
            "tokenizer.ggml.scores",
            "nothing",
            "one score for each token",
        ));
    }
    let (entries, added) = read_entries(file, &vocab, Writing::Text)?;
    let ranks = ranked::ranks_of_scores(&vocab.scores);
    let formed = |id| matches!(entries.kind(id), Kind::Normal | Kind::User | Kind::Unused);
    let rank = |id| formed(id).then(|| ranks[id as usize]);
    let (merges, chars) = ranked::merges(file, &entries, rank, |id| format!("tokenizer.ggml.tokens[{id}]"))?;

    // SentencePiece's own defaults, where the file leaves them out.
    let or_default = |id: Option<u32>, default: u32, kinds: &[Kind]| {
        role(id).or_else(|| kinds.contains(&entries.kind(default)).then_some(default))
    };
    vocab.bos = or_default(vocab.bos, 1, &[Kind::Control]);
    vocab.eos = or_default(vocab.eos, 2, &[Kind::Control]);
    let unk = or_default(vocab.unk, 0, &[Kind::Unknown]);

    let add_space_prefix = vocab.add_space_prefix.unwrap_or(true);
    let mut normalizers =
        vec![Normalizer::Replace { pattern: TextPattern::String(" ".into()), content: SPACE.into() }];
    if add_space_prefix {
        normalizers.insert(0, Normalizer::Prepend { prepend: SPACE.into() });
    }
    let spec = Spec {
        normalizer: Some(Normalizer::Sequence { normalizers }),
        pre_tokenizer: None,
        added,
        strip_prefix: add_space_prefix,
    };
    let options = BpeOptions { unk, fuse_unk: true, byte_fallback: true, ignore_merges: false };
    let roles = roles(&vocab, true);
    let scores = Some(vocab.scores);
    Tokenizer::assemble(file, Parts { vocab: entries, merges, chars, options, spec, roles, scores })
}

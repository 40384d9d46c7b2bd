//! `tokenizer.json` of Hugging Face `tokenizers`.

use serde::Deserialize;
use serde_json::Value;

use super::gguf::byte_of;
use super::json_file::{File, MergeText, Model};
use crate::bpe::BpeOptions;
use crate::error::quote;
use crate::hash::{TextHash, TextMap};
use crate::merges::{Merge, Merges};
use crate::spec::{AddedToken, PreTokenizer, PrependScheme, Roles, Spec};
use crate::tokenizer::Parts;
use crate::vocab::{Kind, SPACE, VocabBuilder, Writing};
use crate::{Tokenizer, TokenizerError};

impl Tokenizer {
    /// Reads a `tokenizer.json`: byte-level BPE, or BPE over characters with byte tokens (Llama 2, Gemma).
    ///
    /// Ids are those of Hugging Face `tokenizers` without the post-processor: nothing is added to a text, but what the
    /// post-processor would add sets [`bos`](Self::bos), [`eos`](Self::eos) and [`add_bos`](Self::add_bos).
    /// `tokenizer_config.json` knows these better: see [`with_hf_config`](Self::with_hf_config).
    pub fn from_json(file: &str, bytes: &[u8]) -> Result<Tokenizer, TokenizerError> {
        parse(file, bytes)
    }

    /// The same tokenizer with the special tokens that a `tokenizer_config.json` names.
    pub fn with_hf_config(&self, file: &str, bytes: &[u8]) -> Result<Tokenizer, TokenizerError> {
        let config: HfConfig = serde_json::from_slice(bytes)
            .map_err(|source| TokenizerError::Json { file: file.into(), source })?;
        let id = |field: &str, name: &Option<Name>| match name {
            None => Ok(None),
            Some(Name::Text(text) | Name::Token { content: text }) => match self.id_of(text) {
                Some(id) => Ok(Some(id)),
                None => Err(TokenizerError::entry(file, field, quote(text), "a token of this tokenizer")),
            },
        };
        let found = self.roles();
        let roles = Roles {
            bos: id("bos_token", &config.bos_token)?.or(found.bos),
            eos: id("eos_token", &config.eos_token)?.or(found.eos),
            pad: id("pad_token", &config.pad_token).unwrap_or(None).or(found.pad),
            add_bos: config.add_bos_token.unwrap_or(found.add_bos),
            add_eos: config.add_eos_token.unwrap_or(found.add_eos),
            eog: Vec::new(),
        };
        self.with_roles(file, roles)
    }

    /// The same tokenizer with more ends of generation (`eos_token_id` of a `generation_config.json`).
    pub fn with_eog_tokens(&self, file: &str, ids: &[u32]) -> Result<Tokenizer, TokenizerError> {
        let mut roles = self.roles().clone();
        roles.eog.extend_from_slice(ids);
        roles.eos = roles.eos.or(ids.first().copied());
        self.with_roles(file, roles)
    }
}

/// What `tokenizer_config.json` says about special tokens.
#[derive(Deserialize)]
struct HfConfig {
    bos_token: Option<Name>,
    eos_token: Option<Name>,
    pad_token: Option<Name>,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
}

/// A token's text, alone or with its flags.
#[derive(Deserialize)]
#[serde(untagged)]
enum Name {
    Text(String),
    Token { content: String },
}

pub(super) fn parse(file: &str, bytes: &[u8]) -> Result<Tokenizer, TokenizerError> {
    let contents: File =
        serde_json::from_slice(bytes).map_err(|source| TokenizerError::Json { file: file.into(), source })?;
    let model = &contents.model;
    check_model(file, model)?;
    let byte_level = contents.pre_tokenizer.as_ref().is_some_and(PreTokenizer::is_byte_level);
    let decoding = Decoding::of(file, contents.decoder.as_ref())?;
    if decoding.byte_level && !byte_level {
        return Err(TokenizerError::unsupported(
            file,
            "pre_tokenizer",
            "none with a byte level, while the decoder has one,",
            "both or neither must have it",
        ));
    }
    let writing = if byte_level { Writing::Bytes } else { Writing::Text };

    let byte_fallback = model.byte_fallback.unwrap_or(false);
    let mut builder = VocabBuilder::new(file, writing, model.vocab.0.len() + contents.added_tokens.len());
    let mut ids = TextMap::with_capacity_and_hasher(model.vocab.0.len(), TextHash);
    for (text, id) in &model.vocab.0 {
        let entry = || format!("model.vocab[{}]", quote(text));
        let byte = byte_of(text).filter(|_| writing == Writing::Text && byte_fallback);
        builder.add_text(*id, text, byte.map_or(Kind::Normal, Kind::Byte), entry)?;
        if let Some(other) = ids.insert(text, *id) {
            return Err(TokenizerError::entry(file, entry(), format!("ids {other} and {id}"), "one id"));
        }
    }
    for (at, token) in contents.added_tokens.iter().enumerate() {
        let kind = if token.special { Kind::Control } else { Kind::User };
        builder.add_added(token.id, &token.content, kind, || format!("added_tokens[{at}]"))?;
    }
    let unk = match model.unk_token.as_deref() {
        None => None,
        Some(text) => {
            let added =
                || contents.added_tokens.iter().find(|token| token.content == text).map(|token| token.id);
            let id = ids.get(text).copied().or_else(added);
            Some(id.ok_or_else(|| {
                TokenizerError::entry(file, "model.unk_token", quote(text), "an entry of model.vocab")
            })?)
        }
    };
    let vocab = builder.finish()?;
    let merges = read_merges(file, &model.merges, &ids)?;
    let roles = read_roles(contents.post_processor.as_ref(), &contents.added_tokens, &ids);
    let options = BpeOptions {
        unk,
        fuse_unk: model.fuse_unk.unwrap_or(false),
        byte_fallback: byte_fallback && writing == Writing::Text,
        ignore_merges: model.ignore_merges.unwrap_or(false),
    };
    let spec = Spec {
        normalizer: contents.normalizer,
        pre_tokenizer: contents.pre_tokenizer,
        added: contents.added_tokens,
        strip_prefix: decoding.strip_prefix,
    };
    Tokenizer::assemble(file, Parts { vocab, merges, chars: Vec::new(), options, spec, roles, scores: None })
}

fn check_model(file: &str, model: &Model) -> Result<(), TokenizerError> {
    let unsupported = |entry: &str, found: String| {
        TokenizerError::unsupported(file, entry, found, "supported are BPE vocabularies without affixes")
    };
    if let Some(kind) = model.kind.as_deref().filter(|kind| *kind != "BPE") {
        return Err(unsupported("model.type", quote(kind)));
    }
    for (entry, affix) in [
        ("model.continuing_subword_prefix", &model.continuing_subword_prefix),
        ("model.end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if let Some(affix) = affix.as_deref().filter(|affix| !affix.is_empty()) {
            return Err(unsupported(entry, quote(affix)));
        }
    }
    Ok(())
}

fn read_merges(file: &str, list: &[MergeText], ids: &TextMap<u32>) -> Result<Merges, TokenizerError> {
    let mut merges = Merges::with_capacity(list.len());
    let mut joined = String::new();
    for (rank, merge) in (0u32..).zip(list) {
        let wrong = |found: String, expected: &str| {
            TokenizerError::entry(file, format!("model.merges[{rank}]"), found, expected)
        };
        let (left, right): (&str, &str) = match merge {
            MergeText::Pair(left, right) => (left, right),
            MergeText::Line(line) => match line.split_once(' ') {
                Some((left, right)) if !right.contains(' ') => (left, right),
                _ => return Err(wrong(quote(line), "two tokens with one space between")),
            },
        };
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        let id = |text: &str, role: &str| {
            ids.get(text)
                .copied()
                .ok_or_else(|| wrong(format!("{role} {}", quote(text)), "an entry of model.vocab"))
        };
        let (left, right, id) =
            (id(left, "the left part")?, id(right, "the right part")?, id(&joined, "the result")?);
        merges.insert(left, right, Merge { rank, id });
    }
    Ok(merges)
}

/// What the decoder does beyond joining tokens.
#[derive(Default)]
struct Decoding {
    byte_level: bool,
    strip_prefix: bool,
}

impl Decoding {
    fn of(file: &str, decoder: Option<&Value>) -> Result<Decoding, TokenizerError> {
        let mut decoding = Decoding::default();
        if let Some(decoder) = decoder {
            decoding.add(file, decoder)?;
        }
        Ok(decoding)
    }

    fn add(&mut self, file: &str, decoder: &Value) -> Result<(), TokenizerError> {
        let text = |key: &str| decoder.get(key).and_then(Value::as_str);
        match text("type").unwrap_or_default() {
            "ByteLevel" => self.byte_level = true,
            "Sequence" => {
                let parts = decoder.get("decoders").and_then(Value::as_array).map(Vec::as_slice);
                return parts.unwrap_or_default().iter().try_for_each(|part| self.add(file, part));
            }
            "ByteFallback" | "Fuse" => {}
            "Strip" => {
                let count = |key: &str| decoder.get(key).and_then(Value::as_u64).unwrap_or(0);
                match (text("content"), count("start"), count("stop")) {
                    (_, 0, 0) => {}
                    (Some(" "), 1, 0) => self.strip_prefix = true,
                    _ => return Err(unsupported_decoder(file, decoder)),
                }
            }
            "Replace" => {
                let from = decoder.pointer("/pattern/String").and_then(Value::as_str);
                if (from, text("content")) != (Some(SPACE), Some(" ")) {
                    return Err(unsupported_decoder(file, decoder));
                }
            }
            "Metaspace" => {
                if text("replacement") != Some(SPACE) {
                    return Err(unsupported_decoder(file, decoder));
                }
                let scheme =
                    decoder.get("prepend_scheme").and_then(|scheme| PrependScheme::deserialize(scheme).ok());
                let legacy = decoder.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(true);
                self.strip_prefix = scheme.map_or(legacy, |scheme| scheme != PrependScheme::Never);
            }
            _ => return Err(unsupported_decoder(file, decoder)),
        }
        Ok(())
    }
}

fn unsupported_decoder(file: &str, decoder: &Value) -> TokenizerError {
    let found = quote(&decoder.to_string());
    TokenizerError::unsupported(
        file,
        "decoder",
        found,
        "supported are ByteLevel, Metaspace and Llama's sequence",
    )
}

/// BOS and EOS as the post-processor would add them.
fn read_roles(post_processor: Option<&Value>, added: &[AddedToken], ids: &TextMap<u32>) -> Roles {
    let mut roles = Roles::default();
    let id_of = |text: &str| {
        added
            .iter()
            .find(|token| token.content == text)
            .map(|token| token.id)
            .or_else(|| ids.get(text).copied())
    };
    let mut open: Vec<&Value> = post_processor.into_iter().collect();
    while let Some(processor) = open.pop() {
        open.extend(processor.get("processors").and_then(Value::as_array).into_iter().flatten());
        let Some(template) = processor.get("single").and_then(Value::as_array) else { continue };
        let special = |part: Option<&Value>| {
            let text = part?.pointer("/SpecialToken/id")?.as_str()?;
            id_of(text)
        };
        (roles.bos, roles.eos) = (special(template.first()), special(template.last()));
        (roles.add_bos, roles.add_eos) = (roles.bos.is_some(), roles.eos.is_some());
    }
    roles
}

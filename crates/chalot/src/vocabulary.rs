//! The tokenizer that belongs to a model: where it lies, and the GGUF keys it is stored under.
use std::path::{Path, PathBuf};

use chalot_formats::{
    FormatError,
    gguf::{Gguf, Metadata, Value},
};
use chalot_tokenizer::{GgufVocab, Tokenizer};

use crate::error::Error;

/// Reads a vocabulary file: `tokenizer.json` (or the folder that holds it), `.tiktoken`, `.gguf`, or llama2.c's
/// tokenizer file, for which `vocab_size` (the model's) must be given since the file does not say it.
///
/// # Errors
/// The file cannot be read, or is damaged or of another kind.
pub fn read_tokenizer(path: &Path, vocab_size: Option<usize>) -> Result<Tokenizer, Error> {
    if path.is_dir() {
        return crate::hub::Folder::open(path)?.tokenizer();
    }
    let file = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|source| Error::io(path, source))?;
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if bytes.starts_with(b"GGUF") {
        let gguf = Gguf::parse(&file, &bytes)?;
        return match vocab_of(&gguf.metadata)? {
            Some(vocab) => Ok(Tokenizer::from_gguf(&file, vocab)?),
            None => Err(Error::NoTokenizer { file, looked_for: "the keys tokenizer.*".into() }),
        };
    }
    match (extension, vocab_size) {
        ("tiktoken", _) => Ok(Tokenizer::from_tiktoken(&file, &bytes, None, &[])?),
        ("bin", Some(size)) => Ok(Tokenizer::from_llama2c(&file, &bytes, size)?),
        _ if bytes.trim_ascii_start().starts_with(b"{") => Ok(Tokenizer::from_json(&file, &bytes)?),
        _ => Err(Error::File {
            file,
            found: "neither JSON nor GGUF".into(),
            expected: "tokenizer.json, a .tiktoken file or a .gguf file".into(),
            mend: "name another file".into(),
        }),
    }
}

/// Reads the tokenizer in the llama2.c manner, from beside the model: `tok512.bin` for 512 tokens, or `tokenizer.bin`.
pub(crate) fn beside(model: &Path, vocab_size: usize) -> Result<Tokenizer, Error> {
    let names = [format!("tok{vocab_size}.bin"), "tokenizer.bin".into(), "tokenizer.json".into()];
    let found: Option<PathBuf> =
        names.iter().map(|name| model.with_file_name(name)).find(|path| path.is_file());
    match found {
        Some(path) => read_tokenizer(&path, Some(vocab_size)),
        None => Err(Error::NoTokenizer { file: model.display().to_string(), looked_for: names.join(", ") }),
    }
}

/// The vocabulary among the metadata of a GGUF file; `None` when there is none.
///
/// # Errors
/// A key holds a value of the wrong type.
pub fn vocab_of(metadata: &Metadata) -> Result<Option<GgufVocab>, FormatError> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let json = metadata.str("tokenizer.huggingface.json")?.map(str::to_owned);
    let Some(model) = metadata.str(&key("model"))?.or(json.is_some().then_some("gpt2")) else {
        return Ok(None);
    };
    let strings = |name| Ok(metadata.strings(&key(name))?.unwrap_or_default().to_vec());
    let integers = |name: &str| Ok::<_, FormatError>(metadata.i64s(name)?.unwrap_or_default());
    Ok(Some(GgufVocab {
        model: model.to_owned(),
        pre: metadata.str(&key("pre"))?.map(str::to_owned),
        tokens: strings("tokens")?,
        scores: metadata
            .f64s(&key("scores"))?
            .unwrap_or_default()
            .iter()
            .map(|&score| score as f32)
            .collect(),
        // An out-of-range type becomes 0, which the tokenizer refuses by name.
        token_types: integers(&key("token_type"))?.iter().map(|&ty| i32::try_from(ty).unwrap_or(0)).collect(),
        merges: strings("merges")?,
        bos: metadata.u32(&key("bos_token_id"))?,
        eos: metadata.u32(&key("eos_token_id"))?,
        eot: metadata.u32(&key("eot_token_id"))?,
        eom: metadata.u32(&key("eom_token_id"))?,
        unk: metadata.u32(&key("unknown_token_id"))?,
        pad: metadata.u32(&key("padding_token_id"))?,
        add_bos: metadata.bool(&key("add_bos_token"))?,
        add_eos: metadata.bool(&key("add_eos_token"))?,
        add_space_prefix: metadata.bool(&key("add_space_prefix"))?,
        eog: integers("tokenizer.chalot.eog_token_ids")?
            .iter()
            .filter_map(|&id| u32::try_from(id).ok())
            .collect(),
        huggingface_json: json,
    }))
}

/// The keys under which a GGUF file keeps `vocab`; the inverse of [`vocab_of`].
pub fn vocab_to_metadata(vocab: GgufVocab) -> Vec<(String, Value)> {
    let mut pairs = vec![("tokenizer.ggml.model".to_owned(), Value::from(vocab.model))];
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            pairs.push((format!("tokenizer.{name}"), value));
        }
    };
    put("ggml.pre", vocab.pre.map(Value::from));
    put("ggml.tokens", Some(Value::from(vocab.tokens)));
    put("ggml.scores", (!vocab.scores.is_empty()).then(|| Value::from(vocab.scores)));
    put("ggml.token_type", (!vocab.token_types.is_empty()).then(|| Value::from(vocab.token_types)));
    put("ggml.merges", (!vocab.merges.is_empty()).then(|| Value::from(vocab.merges)));
    put("ggml.bos_token_id", vocab.bos.map(Value::from));
    put("ggml.eos_token_id", vocab.eos.map(Value::from));
    put("ggml.eot_token_id", vocab.eot.map(Value::from));
    put("ggml.eom_token_id", vocab.eom.map(Value::from));
    put("ggml.unknown_token_id", vocab.unk.map(Value::from));
    put("ggml.padding_token_id", vocab.pad.map(Value::from));
    put("ggml.add_bos_token", vocab.add_bos.map(Value::from));
    put("ggml.add_eos_token", vocab.add_eos.map(Value::from));
    put("ggml.add_space_prefix", vocab.add_space_prefix.map(Value::from));
    put("chalot.eog_token_ids", (!vocab.eog.is_empty()).then(|| Value::from(vocab.eog)));
    put("huggingface.json", vocab.huggingface_json.map(Value::from));
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use chalot_formats::gguf::Header;

    #[test]
    fn a_vocabulary_goes_into_a_file_and_comes_back() {
        let vocab = GgufVocab {
            model: "gpt2".into(),
            pre: Some("llama-bpe".into()),
            tokens: vec!["a".into(), "<s>".into()],
            scores: vec![0.5, -1.25],
            token_types: vec![1, 3],
            merges: vec!["a a".into()],
            bos: Some(1),
            eos: Some(0),
            eot: Some(0),
            eom: Some(1),
            unk: Some(0),
            pad: Some(1),
            add_bos: Some(true),
            add_eos: Some(false),
            add_space_prefix: Some(false),
            eog: vec![0, 1],
            huggingface_json: Some("{}".into()),
        };
        let mut header = Header::new();
        for (key, value) in vocab_to_metadata(vocab.clone()) {
            header.set(key, value);
        }
        let mut file = Vec::new();
        header.write_to("vocab.gguf", &mut file).unwrap().finish().unwrap();
        let gguf = Gguf::parse("vocab.gguf", &file).unwrap();
        assert_eq!(vocab_of(&gguf.metadata).unwrap(), Some(vocab));
    }

    #[test]
    fn a_file_without_one() {
        let mut file = Vec::new();
        Header::new().write_to("empty.gguf", &mut file).unwrap().finish().unwrap();
        assert_eq!(vocab_of(&Gguf::parse("empty.gguf", &file).unwrap().metadata).unwrap(), None);
    }
}

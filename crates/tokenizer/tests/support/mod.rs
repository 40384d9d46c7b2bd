//! What several integration tests need: finding their inputs, reading GGUF vocabularies, a checksum.
#![allow(dead_code, reason = "each test uses a part")]

use std::path::{Path, PathBuf};

use chalot_formats::gguf::{Array, Gguf, Value};
use chalot_tokenizer::{GgufVocab, Tokenizer};

/// A file of the assets, if the assets are there.
pub fn asset(name: &str) -> Option<PathBuf> {
    let assets = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/assets"));
    existing(assets.join(name))
}

/// A file of the test data, if it was fetched.
pub fn test_data(name: &str) -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-data");
    let folder = std::env::var_os("CHALOT_TEST_DATA").map_or_else(default, PathBuf::from);
    existing(folder.join(name))
}

fn existing(path: PathBuf) -> Option<PathBuf> {
    let there = path.exists();
    if !there {
        println!("skipped: {} is not there", path.display());
    }
    there.then_some(path)
}

/// The tokenizer keys of a GGUF file. Only the header is read: a vocabulary may come with a model behind it.
pub fn gguf_vocab(path: &Path) -> GgufVocab {
    let bytes = std::fs::read(path).unwrap();
    let name = path.display().to_string();
    let metadata = Gguf::parse(&name, &bytes).unwrap().metadata;
    let get = |key: &str| metadata.get(&format!("tokenizer.ggml.{key}"));
    let id = |key: &str| match get(key) {
        Some(Value::U32(id)) => Some(*id),
        _ => None,
    };
    let flag = |key: &str| match get(key) {
        Some(Value::Bool(flag)) => Some(*flag),
        _ => None,
    };
    let text = |key: &str| match get(key) {
        Some(Value::String(text)) => Some(text.clone()),
        _ => None,
    };
    let texts = |key: &str| match get(key) {
        Some(Value::Array(Array::String(texts))) => texts.clone(),
        _ => Vec::new(),
    };
    GgufVocab {
        model: text("model").unwrap(),
        pre: text("pre"),
        tokens: texts("tokens"),
        scores: match get("scores") {
            Some(Value::Array(Array::F32(scores))) => scores.clone(),
            _ => Vec::new(),
        },
        token_types: match get("token_type") {
            Some(Value::Array(Array::I32(types))) => types.clone(),
            _ => Vec::new(),
        },
        merges: texts("merges"),
        bos: id("bos_token_id"),
        eos: id("eos_token_id"),
        eot: id("eot_token_id"),
        eom: id("eom_token_id"),
        unk: id("unknown_token_id"),
        pad: id("padding_token_id"),
        add_bos: flag("add_bos_token"),
        add_eos: flag("add_eos_token"),
        add_space_prefix: flag("add_space_prefix"),
        eog: Vec::new(),
        huggingface_json: None,
    }
}

/// A tokenizer of a GGUF file.
pub fn gguf_tokenizer(path: &Path) -> Tokenizer {
    Tokenizer::from_gguf(&path.display().to_string(), gguf_vocab(path)).unwrap()
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// CRC-32 (the polynomial of zlib).
pub fn crc32(bytes: impl IntoIterator<Item = u8>) -> u32 {
    !bytes.into_iter().fold(u32::MAX, |crc, byte| CRC_TABLE[(crc as u8 ^ byte) as usize] ^ (crc >> 8))
}

/// CRC-32 of ids as little-endian words.
pub fn crc32_of_ids(ids: &[u32]) -> u32 {
    crc32(ids.iter().flat_map(|id| id.to_le_bytes()))
}

//! Equality with Hugging Face `tokenizers` on 11 MB of mixed text, for every vocabulary that `tools/testdata/fetch.sh` fetches.

mod support;

use std::path::Path;

use chalot_tokenizer::{Pattern, Specials, Tokenizer};
use support::{crc32, crc32_of_ids, test_data};

/// The records of the mixed text.
fn records(bytes: &[u8]) -> Vec<&str> {
    let mut rest = bytes;
    let mut records = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let (record, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        records.push(std::str::from_utf8(record).unwrap());
        rest = after;
    }
    records
}

/// What `tokenizer_ids.py` noted of a record.
#[derive(Debug, PartialEq)]
struct Expected {
    count: u32,
    parsed: u32,
    as_text: u32,
    decoded: u32,
}

fn expectations(bytes: &[u8]) -> Vec<Expected> {
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    let expected = |record: &[u8; 16]| Expected {
        count: word(&record[0..4]),
        parsed: word(&record[4..8]),
        as_text: word(&record[8..12]),
        decoded: word(&record[12..16]),
    };
    bytes.as_chunks::<16>().0.iter().map(expected).collect()
}

fn check(name: &str) {
    let (Some(json), Some(text), Some(ids)) = (
        test_data(&format!("tokenizers/{name}.json")),
        test_data("tokenizers/mixed.records"),
        test_data(&format!("tokenizers/{name}.ids")),
    ) else {
        return;
    };
    let tokenizer = Tokenizer::from_json(name, &std::fs::read(json).unwrap()).unwrap();
    compare(name, &tokenizer, &text, &ids, |ids| tokenizer.decode_lossy(ids).into_bytes());
}

/// Encodes the records at `text` and compares with what the reference made of them.
fn compare(name: &str, tokenizer: &Tokenizer, text: &Path, ids: &Path, decode: impl Fn(&[u32]) -> Vec<u8>) {
    let (text, ids) = (std::fs::read(text).unwrap(), std::fs::read(ids).unwrap());
    let (records, expected) = (records(&text), expectations(&ids));
    assert_eq!(records.len(), expected.len(), "{name}: the ids belong to another text: fetch again");
    let mut wrong = Vec::new();
    for (at, (record, expected)) in records.iter().zip(&expected).enumerate() {
        let ids = tokenizer.encode(record, Specials::Parse);
        let parsed = crc32_of_ids(&ids);
        let found = Expected {
            count: ids.len() as u32,
            parsed,
            // Special tokens of these vocabularies all contain a `<`.
            as_text: match record.contains('<') {
                true => crc32_of_ids(&tokenizer.encode(record, Specials::AsText)),
                false => parsed,
            },
            decoded: crc32(decode(&ids)),
        };
        if found != *expected {
            let shown: String = record.chars().take(200).collect();
            wrong.push(format!("record {at}: {found:?}, expected {expected:?}: {shown:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{name}: {} of {} records:\n{}",
        wrong.len(),
        records.len(),
        wrong[..wrong.len().min(10)].join("\n")
    );
    println!("{name}: {} records, {} bytes: equal", records.len(), text.len() - 4 * records.len());
}

/// 100 MB of mixed text and ten million random strings: `tools/testdata/exactness.sh` makes what is expected and runs this.
#[test]
#[ignore = "an hour of other programs' work comes first"]
fn at_length() {
    for name in ["gpt2", "llama3", "gpt35turbo", "gpt4o", "qwen3"] {
        let json = test_data(&format!("tokenizers/{name}.json")).unwrap();
        let tokenizer = Tokenizer::from_json(name, &std::fs::read(json).unwrap()).unwrap();
        for (records, kind) in [("text".to_owned(), "text"), (format!("{name}.random"), "random")] {
            let (text, ids) =
                (format!("exactness/{records}.records"), format!("exactness/{name}.{kind}.ids"));
            let (text, ids) = (test_data(&text).unwrap(), test_data(&ids).unwrap());
            compare(&format!("{name} {kind}"), &tokenizer, &text, &ids, |ids| {
                tokenizer.decode_lossy(ids).into_bytes()
            });
        }
    }
    for (name, ranks, pattern) in [
        ("gpt2", "r50k_base", Pattern::Gpt2),
        ("gpt35turbo", "cl100k_base", Pattern::Cl100k),
        ("gpt4o", "o200k_base", Pattern::O200k),
    ] {
        let file = std::fs::read(test_data(&format!("exactness/{ranks}.tiktoken")).unwrap()).unwrap();
        let tokenizer = Tokenizer::from_tiktoken(ranks, &file, Some(pattern), &[]).unwrap();
        for (records, kind) in [("text".to_owned(), "text"), (format!("{name}.random"), "random")] {
            let (text, ids) =
                (format!("exactness/{records}.records"), format!("exactness/{ranks}.{kind}.ids"));
            let (text, ids) = (test_data(&text).unwrap(), test_data(&ids).unwrap());
            compare(&format!("tiktoken {ranks} {kind}"), &tokenizer, &text, &ids, |ids| {
                tokenizer.decode(ids)
            });
        }
    }
}

#[test]
fn gpt2() {
    check("gpt2");
}

#[test]
fn llama3() {
    check("llama3");
}

#[test]
fn qwen3() {
    check("qwen3");
}

#[test]
fn llama2() {
    check("llama2");
}

#[test]
fn o200k() {
    check("gpt4o");
}

#[test]
fn cl100k() {
    check("gpt35turbo");
}

#[test]
fn gemma3() {
    check("gemma3");
}

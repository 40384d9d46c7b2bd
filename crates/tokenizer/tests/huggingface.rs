//! Equality with Hugging Face `tokenizers` on 11 MB of mixed text, for every vocabulary that `tools/testdata/fetch.sh` fetches.

mod support;

use chalot_tokenizer::{Specials, Tokenizer};
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
            decoded: crc32(tokenizer.decode_lossy(&ids).into_bytes()),
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

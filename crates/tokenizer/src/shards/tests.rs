use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::{GgufVocab, Tokenizer};

fn tokenizer(size: usize) -> Tokenizer {
    let vocab = GgufVocab {
        model: "gpt2".into(),
        pre: Some("gpt-2".into()),
        tokens: (0..size).map(|id| format!("t{id}")).collect(),
        ..GgufVocab::default()
    };
    Tokenizer::from_gguf("made up", vocab).unwrap()
}

fn write(index: &Path, tokenizer: &Tokenizer, options: ShardOptions, documents: &[Vec<u32>]) -> Index {
    let mut writer = ShardWriter::create(index, tokenizer, options).unwrap();
    for document in documents {
        writer.document(document).unwrap();
    }
    writer.finish().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn come_back(
        documents in prop::collection::vec(prop::collection::vec(0..70_000u32, 0..12), 0..10),
        large in any::<bool>(),
        shard_tokens in 1..20u64,
        end in prop::option::of(0..300u32),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.json");
        let size = if large { 70_000 } else { 300 };
        let tokenizer = tokenizer(size);
        let documents: Vec<Vec<u32>> =
            documents.into_iter().map(|ids| ids.into_iter().map(|id| id % size as u32).collect()).collect();
        let options = ShardOptions { shard_tokens, end_of_text: end, offsets: true };
        let written = write(&path, &tokenizer, options, &documents);
        let reader = ShardReader::open(&path).unwrap();
        prop_assert_eq!(reader.index(), &written);
        reader.check_vocabulary(&tokenizer).unwrap();
        let mut all = Vec::new();
        let mut starts = Vec::new();
        for (at, shard) in written.shards.iter().enumerate() {
            prop_assert!(shard.tokens <= shard_tokens);
            starts.extend(shard.documents.iter().map(|start| start + all.len() as u64));
            all.extend(reader.read(at).unwrap());
        }
        let expected: Vec<u32> = documents.iter().flat_map(|ids| ids.iter().copied().chain(end)).collect();
        prop_assert_eq!(&all, &expected);
        prop_assert_eq!(written.tokens, expected.len() as u64);
        let mut at = 0;
        let expected: Vec<u64> = documents.iter().map(|ids| {
            let start = at;
            at += (ids.len() + usize::from(end.is_some())) as u64;
            start
        }).collect();
        prop_assert_eq!(starts, expected);
        // Nothing else is left.
        prop_assert_eq!(fs::read_dir(folder.path()).unwrap().count(), written.shards.len() + 1);
    }
}

#[test]
fn damage_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.json");
    let options = ShardOptions { shard_tokens: 4, end_of_text: Some(9), offsets: true };
    let index = write(&path, &tokenizer(10), options, &[vec![1, 2, 3], vec![4, 5]]);
    let refused = |index: &Index, part: &str| {
        fs::write(&path, serde_json::to_vec(index).unwrap()).unwrap();
        let opened = ShardReader::open(&path).and_then(|reader| reader.read(0));
        let error = opened.unwrap_err().to_string();
        assert!(error.contains(part), "no {part:?} in {error}");
    };
    let changed = |change: fn(&mut Index)| {
        let mut index = index.clone();
        change(&mut index);
        index
    };
    refused(&changed(|index| index.format = "others".into()), "format");
    refused(&changed(|index| index.version = 2), "version");
    refused(&changed(|index| index.vocab_size = 5), "end_of_text");
    refused(&changed(|index| (index.vocab_size, index.end_of_text) = (3, None)), "an id below 3");
    refused(&changed(|index| index.vocab_size = 70_000), "dtype");
    refused(&changed(|index| index.tokens = 8), "the sum of all shards");
    refused(&changed(|index| index.shards[0].tokens = u64::MAX), "that a file can have");
    refused(&changed(|index| index.shards[0].tokens = 3), "8 bytes");
    refused(&changed(|index| index.shards[0].sha256 = "0".into()), "SHA-256");
    refused(&changed(|index| index.shards[0].documents = vec![9]), "shards[0].documents");
    refused(&changed(|index| index.shards[0].file = "../some-00000.bin".into()), "shards[0].file");
    refused(&changed(|index| index.shards[0].file = "gone.bin".into()), "gone.bin");
    let other = ShardReader { path: path.clone(), index: index.clone() };
    assert!(other.check_vocabulary(&tokenizer(11)).is_err());
    assert!(other.read(7).is_err());
    fs::write(&path, "{").unwrap();
    assert!(matches!(ShardReader::open(&path), Err(ShardError::Json { .. })));
}

#[test]
fn what_an_interrupted_run_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.json");
    write(&path, &tokenizer(10), ShardOptions::default(), &[vec![1]]);
    let mut writer = ShardWriter::create(&path, &tokenizer(10), ShardOptions::default()).unwrap();
    writer.document(&[1, 2]).unwrap();
    assert!(matches!(writer.document(&[10]), Err(ShardError::Id { id: 10, end: 10 })));
    assert_eq!(writer.tokens(), 2);
    drop(writer);
    // No index, no half of a shard; whole shards of the run before may be there.
    assert!(!path.exists());
    assert!(
        fs::read_dir(folder.path()).unwrap().all(|entry| !entry
            .unwrap()
            .path()
            .to_string_lossy()
            .ends_with(".part"))
    );
}

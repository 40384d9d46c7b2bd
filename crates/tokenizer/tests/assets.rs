//! Equality with llama.cpp's expectations for its vocabulary files, and with llama2.c's vocabulary.

mod support;

use chalot_tokenizer::{Specials, Tokenizer};
use support::{asset, gguf_tokenizer};

fn check(name: &str) {
    let (Some(vocab), Some(inputs), Some(outputs)) = (
        asset(&format!("tokenizers/{name}")),
        asset(&format!("tokenizers/{name}.inp")),
        asset(&format!("tokenizers/{name}.out")),
    ) else {
        return;
    };
    let tokenizer = gguf_tokenizer(&vocab);
    let inputs = std::fs::read_to_string(inputs).unwrap();
    let outputs = std::fs::read_to_string(outputs).unwrap();
    let inputs: Vec<&str> = inputs.split("\n__ggml_vocab_test__\n").collect();
    let outputs: Vec<&str> = outputs.lines().collect();
    let mut checked = 0;
    for (input, output) in inputs.iter().zip(&outputs) {
        let expected: Vec<u32> = output.split_whitespace().map(|id| id.parse().unwrap()).collect();
        let found = tokenizer.encode(input, Specials::AsText);
        assert_eq!(found, expected, "{name}: {input:?}");
        assert_eq!(tokenizer.count(input, Specials::AsText), expected.len());
        assert_eq!(tokenizer.decode(&found), input.as_bytes(), "{name}: {input:?}");
        checked += 1;
    }
    assert!(checked >= 40 && checked == outputs.len(), "{name}: {checked} of {} pairs", outputs.len());
}

#[test]
fn gpt_2() {
    check("ggml-vocab-gpt-2.gguf");
}

#[test]
fn llama_spm() {
    check("ggml-vocab-llama-spm.gguf");
}

#[test]
fn llama2c() {
    let (Some(path), Some(story)) =
        (asset("models/stories260K/tok512.bin"), asset("expected/stories260K-greedy.txt"))
    else {
        return;
    };
    let tokenizer = Tokenizer::from_llama2c("tok512.bin", &std::fs::read(path).unwrap(), 512).unwrap();
    assert_eq!(tokenizer.vocab_size(), 512);
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(2)));
    assert_eq!(tokenizer.eog_tokens(), [1, 2]);
    let story = std::fs::read_to_string(story).unwrap();
    let ids = tokenizer.encode(story.trim_start(), Specials::AsText);
    assert!(ids.len() < story.len() / 2, "{} ids for {} bytes: nothing merged", ids.len(), story.len());
    assert_eq!(tokenizer.decode_lossy(&ids), story.trim_start());
    // A stream keeps the space that belongs to the story.
    let mut stream = tokenizer.stream();
    let mut streamed = String::new();
    for id in ids {
        streamed.push_str(stream.push(id));
    }
    assert_eq!(streamed.trim_end(), story.trim_end());
}

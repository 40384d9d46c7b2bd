//! Any bytes, with a small vocabulary and the known patterns that come without a normalizer: the fast encoder against the
//! definition.
#![no_main]

use std::sync::LazyLock;

use chalot_tokenizer::{GgufVocab, Reference, Specials, Tokenizer};
use libfuzzer_sys::fuzz_target;

/// The byte alphabet of GPT-2: bytes that print stand for themselves, all others for what follows U+00FF.
fn alphabet() -> Vec<char> {
    let prints = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut rest = (0x100u32..).filter_map(char::from_u32);
    (0..=255).map(|byte| if prints(byte) { char::from(byte) } else { rest.next().unwrap() }).collect()
}

static ALL: LazyLock<Vec<(Reference, Tokenizer)>> = LazyLock::new(|| {
    let alphabet = alphabet();
    let mut tokens: Vec<String> = alphabet.iter().map(char::to_string).collect();
    let mut merges = Vec::new();
    let words = [
        "e r",
        "t h",
        "th e",
        "Ġ t",
        "Ġt he",
        "i n",
        "in g",
        "a a",
        "aa aa",
        "aaaa aaaa",
        "Ġ Ġ",
        "ĠĠ ĠĠ",
        "Ċ Ċ",
        "Č Ċ",
        "' s",
        "1 2",
        "12 3",
        "o n",
        "a b",
        "b a",
        "ab ab",
        "æ Ĺ",
        "æĹ ¥",
        "Ã ©",
        "ð Ł",
        "ðŁ ĺ",
        ". .",
        ".. .",
        "l l",
        "l o",
        "he l",
        "h e",
        "hel lo",
    ];
    for merge in words {
        tokens.push(merge.replace(' ', ""));
        merges.push(merge.to_owned());
    }
    let vocab = GgufVocab { model: "gpt2".into(), tokens, merges, ..GgufVocab::default() };
    // Two with "h e" before it is a part of another merge, as training makes them: these have an automaton for long words.
    let named = |(pre, proper): (&str, bool)| {
        let mut vocab = GgufVocab { pre: Some(pre.into()), ..vocab.clone() };
        let last = vocab.merges.iter().position(|merge| merge == "h e").unwrap();
        vocab.merges[..=last].rotate_right(usize::from(proper));
        let tokenizer = Tokenizer::from_gguf(pre, vocab).unwrap();
        (tokenizer.reference().unwrap(), tokenizer)
    };
    [("gpt-2", true), ("llama-bpe", false), ("gpt-4o", true), ("tekken", false)].map(named).into()
});

fuzz_target!(|data: &[u8]| {
    let Some((&[which, cut], text)) = data.split_first_chunk() else { return };
    // The same text twice and more: 64 bytes at a time need some.
    let text = text.repeat(1 + usize::from(which >> 6));
    let (reference, tokenizer) = &ALL[usize::from(which) % ALL.len()];
    let expected = reference.encode(&text);
    let ids = tokenizer.encode(&text, Specials::AsText);
    assert_eq!(ids, expected);
    assert_eq!(tokenizer.decode(&ids), text);
    // One more way in each run.
    match which >> 2 & 3 {
        0 => assert_eq!(tokenizer.count(&text, Specials::AsText), ids.len()),
        1 => {
            let (mut encoder, mut pieces) = (tokenizer.encoder(Specials::AsText), Vec::new());
            text.chunks(usize::from(cut) + 1).for_each(|piece| encoder.push(piece, &mut pieces));
            encoder.finish(&mut pieces);
            assert_eq!(pieces, ids);
        }
        2 => {
            let offsets = tokenizer.encode_with_offsets(&text, Specials::AsText).unwrap();
            assert!(offsets.iter().map(|(id, _)| id).eq(&ids));
        }
        _ => {
            let isas = chalot_simd::Isa::available();
            let other = tokenizer.with_isa(isas[usize::from(cut) % isas.len()]);
            assert_eq!(other.encode(&text, Specials::AsText), ids);
        }
    }
});

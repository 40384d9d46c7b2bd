//! Encoding in pieces, on several threads and with offsets: the ids are those of the whole text.

mod support;

use chalot_tokenizer::{Pattern, Specials, Tokenizer};
use proptest::prelude::*;
use support::test_data;

/// A vocabulary of ranks over all bytes and some words, with a special token, for each pattern.
fn tokenizers() -> Vec<Tokenizer> {
    use base64::Engine;
    let words = [
        "he", "in", " t", "th", " th", " the", "er", "on", "\n\n", "  ", "'s", "日", "本", "é", "12", "\r\n",
    ];
    let bytes = (0..=255u8).map(|byte| vec![byte]);
    let entries = bytes.chain(words.iter().map(|word| word.as_bytes().to_vec()));
    let line = |(rank, token): (usize, Vec<u8>)| {
        format!("{} {rank}\n", base64::engine::general_purpose::STANDARD.encode(token))
    };
    let file: String = entries.enumerate().map(line).collect();
    let specials = [("<|end of text|>".to_owned(), 1000), ("<a b>".to_owned(), 1001)];
    let patterns = [Pattern::Gpt2, Pattern::Cl100k, Pattern::O200k, Pattern::Llama3, Pattern::Qwen2];
    let tokenizer =
        |pattern| Tokenizer::from_tiktoken("test", file.as_bytes(), Some(pattern), &specials).unwrap();
    patterns.into_iter().map(tokenizer).collect()
}

const FRAGMENTS: [&str; 44] = [
    "the",
    " the",
    " ",
    "  ",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    "a",
    "B",
    "word",
    " word",
    "don't",
    "'s",
    "'S",
    "'ſ",
    "'",
    "1",
    "12345",
    "٣",
    "日本",
    "é",
    "e\u{301}",
    "\u{301}",
    "\u{3000}",
    "\u{A0}",
    "!",
    "...",
    "/",
    "\n/",
    "“",
    "—",
    "😀",
    "<|end of text|>",
    "<a b>",
    "<a",
    " b>",
    "<|",
    "|>",
    "x y",
    "\nx",
    "\n1",
    " \n x",
    "a b c d e f g h",
];

fn text() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        12 => prop::sample::select(&FRAGMENTS[..]).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..4),
        1 => (prop::sample::select(&FRAGMENTS[..]), 2..80usize).prop_map(|(text, times)| text.repeat(times).into_bytes()),
    ];
    prop::collection::vec(fragment, 0..80).prop_map(|fragments| fragments.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn pieces_change_nothing(text in text(), lengths in prop::collection::vec(0..60usize, 1..40), parse in any::<bool>()) {
        let specials = if parse { Specials::Parse } else { Specials::AsText };
        for tokenizer in tokenizers() {
            let expected = tokenizer.encode(&text, specials);
            let mut encoder = tokenizer.encoder(specials);
            for _ in 0..2 {
                let (mut ids, mut rest) = (Vec::new(), &text[..]);
                for &length in lengths.iter().cycle() {
                    let (piece, after) = rest.split_at(length.min(rest.len()));
                    encoder.push(piece, &mut ids);
                    rest = after;
                    if rest.is_empty() || lengths.iter().all(|&length| length == 0) {
                        encoder.push(rest, &mut ids);
                        break;
                    }
                }
                encoder.finish(&mut ids);
                prop_assert_eq!(&ids, &expected);
                prop_assert!(encoder.pending().is_empty());
            }
            prop_assert_eq!(tokenizer.count(&text, specials), expected.len());
        }
    }

    #[test]
    fn offsets_tile_the_text(text in text(), parse in any::<bool>()) {
        let specials = if parse { Specials::Parse } else { Specials::AsText };
        for tokenizer in tokenizers() {
            let offsets = tokenizer.encode_with_offsets(&text, specials).unwrap();
            let ids: Vec<u32> = offsets.iter().map(|(id, _)| *id).collect();
            prop_assert_eq!(ids, tokenizer.encode(&text, specials));
            let mut at = 0;
            for (id, range) in offsets {
                prop_assert_eq!(range.start, at);
                prop_assert_eq!(&text[range.clone()], tokenizer.token_bytes(id).unwrap());
                at = range.end;
            }
            prop_assert_eq!(at, text.len());
        }
    }
}

/// Of ordinary text a stream keeps a few words only.
#[test]
fn little_is_pending() {
    let text =
        "The old king said nothing, and then it's \"over\" —\nwas it 12 or 13?\n\nNobody knew. ".repeat(2000);
    for tokenizer in tokenizers() {
        let mut encoder = tokenizer.encoder(Specials::AsText);
        let mut ids = Vec::new();
        for piece in text.as_bytes().chunks(1000) {
            encoder.push(piece, &mut ids);
            assert!(encoder.pending().len() < 100);
        }
        encoder.finish(&mut ids);
        assert_eq!(ids, tokenizer.encode(&text, Specials::AsText));
        let mut read = Vec::new();
        tokenizer
            .encode_reader(text.as_bytes(), Specials::AsText, |ids| read.extend_from_slice(ids))
            .unwrap();
        assert_eq!(read, ids);
    }
}

#[test]
fn threads_change_nothing() {
    let words =
        "The old king said nothing, and then it's over\n\n\n  x <|end of text|> 日本語 “é” \r\n12345 "
            .repeat(20_000);
    for tokenizer in tokenizers() {
        for specials in [Specials::AsText, Specials::Parse] {
            let expected = tokenizer.encode(&words, specials);
            for threads in [0, 1, 2, 3] {
                assert_eq!(tokenizer.encode_parallel(&words, specials, threads), expected);
            }
        }
        // Without a seam.
        let spaces = " ".repeat(1 << 20);
        assert_eq!(
            tokenizer.encode_parallel(&spaces, Specials::AsText, 2),
            tokenizer.encode(&spaces, Specials::AsText)
        );
    }
}

/// Real vocabularies with an invisible space before the text, a normalizer, tokens that swallow white space.
#[test]
fn offsets_of_real_vocabularies() {
    for name in ["llama2", "gemma3", "qwen3", "gpt2"] {
        let Some(path) = test_data(&format!("tokenizers/{name}.json")) else { return };
        let tokenizer = Tokenizer::from_json(name, &std::fs::read(path).unwrap()).unwrap();
        let text = "The  old king’s 日本語 words:\n\t12 é <s> x";
        let offsets = tokenizer.encode_with_offsets(text, Specials::AsText).unwrap();
        let joined: Vec<u8> =
            offsets.iter().flat_map(|(_, range)| text.as_bytes()[range.clone()].to_vec()).collect();
        assert_eq!(joined, text.as_bytes(), "{name}");
        assert_eq!(offsets.len(), tokenizer.encode(text, Specials::AsText).len());
    }
}

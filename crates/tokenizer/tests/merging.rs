//! Merging against its definition: merge the best pair, leftmost first, until none is left.

use std::collections::HashMap;

use chalot_tokenizer::{GgufVocab, Specials, Tokenizer};
use proptest::prelude::*;

/// (left, right) -> (rank, joined).
type Table = HashMap<(String, String), (usize, String)>;

/// A byte-level vocabulary over some letters with random merges, and the merges.
fn random_merges(letters: &str, choices: &[(usize, usize)]) -> (GgufVocab, Table) {
    let mut tokens: Vec<String> = letters.chars().map(String::from).collect();
    let mut merges = Vec::new();
    let mut table = HashMap::new();
    for &(left, right) in choices {
        let (left, right) = (tokens[left % tokens.len()].clone(), tokens[right % tokens.len()].clone());
        let joined = format!("{left}{right}");
        if joined.len() > 40 || table.contains_key(&(left.clone(), right.clone())) {
            continue;
        }
        if !tokens.contains(&joined) {
            tokens.push(joined.clone());
        }
        merges.push(format!("{left} {right}"));
        table.insert((left, right), (table.len(), joined));
    }
    let vocab =
        GgufVocab { model: "gpt2".into(), pre: Some("gpt-2".into()), tokens, merges, ..GgufVocab::default() };
    (vocab, table)
}

/// The definition; `best` gives the rank of a pair and what it becomes.
fn merge_slowly<R: PartialOrd>(text: &str, best: impl Fn(&str, &str) -> Option<(R, String)>) -> Vec<String> {
    let mut symbols: Vec<String> = text.chars().map(String::from).collect();
    loop {
        let mut found: Option<(R, usize, String)> = None;
        for at in 1..symbols.len() {
            if let Some((rank, joined)) = best(&symbols[at - 1], &symbols[at])
                && found.as_ref().is_none_or(|(lowest, ..)| rank < *lowest)
            {
                found = Some((rank, at, joined));
            }
        }
        let Some((_, at, joined)) = found else { return symbols };
        symbols[at - 1] = joined;
        symbols.remove(at);
    }
}

fn texts_of(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    ids.iter().map(|&id| tokenizer.token_text(id).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn byte_level(choices in prop::collection::vec((0..64usize, 0..64usize), 0..60), texts in prop::collection::vec("[abcde]{0,120}", 1..8)) {
        let (vocab, table) = random_merges("abcde", &choices);
        let tokenizer = Tokenizer::from_gguf("random", vocab).unwrap();
        for text in texts {
            let expected = merge_slowly(&text, |left, right| table.get(&(left.into(), right.into())).cloned());
            prop_assert_eq!(texts_of(&tokenizer, &tokenizer.encode(&text, Specials::AsText)), expected);
        }
    }

    /// Scores, with many ties; `z` is no entry but part of entries, and is spelled in bytes where it stays alone.
    #[test]
    fn sentence_piece(
        tokens in prop::collection::hash_set("[abcz]{2,6}", 1..40),
        scores in prop::collection::vec(0..6i8, 40),
        texts in prop::collection::vec("[abcz]{0,120}", 1..8),
    ) {
        let mut scored: HashMap<String, f32> = HashMap::new();
        let mut vocab = GgufVocab { model: "llama".into(), add_space_prefix: Some(false), ..GgufVocab::default() };
        let mut add = |text: String, score: f32, ty: i32| {
            vocab.tokens.push(text);
            vocab.scores.push(score);
            vocab.token_types.push(ty);
        };
        add("<unk>".into(), 0.0, 2);
        add("<s>".into(), 0.0, 3);
        add("</s>".into(), 0.0, 3);
        (0..=255u8).for_each(|byte| add(format!("<0x{byte:02X}>"), 0.0, 6));
        for (text, score) in ["a", "b", "c"].map(String::from).into_iter().chain(tokens).zip(scores) {
            add(text.clone(), f32::from(score), 1);
            scored.insert(text, f32::from(score));
        }
        let tokenizer = Tokenizer::from_gguf("random", vocab).unwrap();
        for text in texts {
            let pieces = merge_slowly(&text, |left, right| {
                let joined = format!("{left}{right}");
                scored.get(&joined).map(|score| (-score, joined))
            });
            let expected: Vec<String> = pieces.into_iter().map(|piece| if piece == "z" { "<0x7A>".into() } else { piece }).collect();
            let ids = tokenizer.encode(&text, Specials::AsText);
            prop_assert_eq!(texts_of(&tokenizer, &ids), expected);
            prop_assert_eq!(tokenizer.decode(&ids), text.as_bytes());
        }
        let again = Tokenizer::from_gguf("again", tokenizer.to_gguf()).unwrap();
        prop_assert_eq!(again.encode("abczcbazzz", Specials::AsText), tokenizer.encode("abczcbazzz", Specials::AsText));
    }

    /// A vocabulary of ranks, as tiktoken has it: any two entries whose joined bytes are an entry merge, at its rank.
    #[test]
    fn ranks(tokens in prop::collection::hash_set("[abc]{2,7}", 1..40), texts in prop::collection::vec("[abc]{0,120}", 1..8)) {
        use base64::Engine;
        let all: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).chain(tokens.into_iter().map(String::into_bytes)).collect();
        let line = |(rank, token): (usize, &Vec<u8>)| format!("{} {rank}\n", base64::engine::general_purpose::STANDARD.encode(token));
        let file: String = all.iter().enumerate().map(line).collect();
        let tokenizer = Tokenizer::from_tiktoken("random", file.as_bytes(), Some(chalot_tokenizer::Pattern::Gpt2), &[]).unwrap();
        let again = Tokenizer::from_gguf("again", tokenizer.to_gguf()).unwrap();
        for text in texts {
            let rank_of = |text: &str| all.iter().position(|token| token == text.as_bytes());
            let expected = match rank_of(&text) {
                Some(_) => vec![text.clone()],
                None => merge_slowly(&text, |left, right| {
                    let joined = format!("{left}{right}");
                    rank_of(&joined).map(|rank| (rank, joined))
                }),
            };
            let ids = tokenizer.encode(&text, Specials::AsText);
            prop_assert_eq!(texts_of(&tokenizer, &ids), expected);
            prop_assert_eq!(again.encode(&text, Specials::AsText), ids);
        }
    }
}

/// A pre-token of a million symbols is merged in a moment: not in quadratic time, which would take hours.
#[test]
fn endless_pre_tokens() {
    let (mut vocab, _) = random_merges("ab", &[(0, 0), (2, 2), (3, 3), (4, 4), (1, 1)]);
    let tokenizer = Tokenizer::from_gguf("random", vocab.clone()).unwrap();
    let ids = tokenizer.encode("a".repeat(1_000_000), Specials::AsText);
    assert_eq!(ids.len(), 1_000_000 / 16);
    assert_eq!(texts_of(&tokenizer, &ids[..1]), ["a".repeat(16)]);
    let mixed = "ab".repeat(500_000);
    assert_eq!(tokenizer.encode(&mixed, Specials::AsText).len(), 1_000_000);
    vocab.pre = Some("default".into());
    let tokenizer = Tokenizer::from_gguf("random", vocab).unwrap();
    assert_eq!(tokenizer.count("a".repeat(1_000_000), Specials::AsText), 1_000_000 / 16);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// An endless pre-token is encoded window by window, but as a whole where a byte has no token: the ids are the same.
    #[test]
    fn windows_change_nothing(
        tokens in prop::collection::hash_set("[abc]{2,9}", 1..60),
        parts in prop::collection::vec(("[abc]{1,40}", 1..200usize), 1..60),
    ) {
        use base64::Engine;
        let bytes = (0..=255u8).map(|byte| vec![byte]);
        let all: Vec<Vec<u8>> = bytes.clone().take(255).chain(tokens.into_iter().map(String::into_bytes)).chain(bytes.skip(255)).collect();
        let lines: Vec<String> = all.iter().enumerate().map(|(rank, token)| format!("{} {rank}\n", base64::engine::general_purpose::STANDARD.encode(token))).collect();
        let windows = Tokenizer::from_tiktoken("random", lines.concat().as_bytes(), Some(chalot_tokenizer::Pattern::Gpt2), &[]).unwrap();
        let mut keys = windows.to_gguf();
        *keys.tokens.last_mut().unwrap() = "<none>".into();
        *keys.token_types.last_mut().unwrap() = 3;
        keys.huggingface_json = None;
        let whole = Tokenizer::from_gguf("whole", keys).unwrap();
        prop_assert_eq!(whole.token_text(all.len() as u32 - 1), Some("<none>".into()));
        let text: String = parts.into_iter().map(|(part, times)| part.repeat(times)).collect();
        prop_assert_eq!(windows.encode(&text, Specials::AsText), whole.encode(&text, Specials::AsText));
    }

    #[test]
    fn a_batch_is_its_texts(texts in prop::collection::vec("[abc ]{0,3000}", 0..80), threads in 0..5usize) {
        let (vocab, _) = random_merges("abc ", &[(0, 0), (2, 2), (3, 3), (4, 4), (1, 1)]);
        let tokenizer = Tokenizer::from_gguf("random", vocab).unwrap();
        let expected: Vec<Vec<u32>> = texts.iter().map(|text| tokenizer.encode(text, Specials::Parse)).collect();
        prop_assert_eq!(tokenizer.encode_batch(&texts, Specials::Parse, threads), expected);
    }
}

use super::*;
use crate::scratch::Scratch;
use crate::{GgufVocab, Pattern, Tokenizer};

/// A byte-level vocabulary of random merges, as training makes them: parts first.
fn vocabulary(random: &mut impl FnMut() -> usize, alphabet: &[u8], merges: usize) -> Tokenizer {
    let mut vocab = GgufVocab { model: "gpt2".into(), pre: Some("gpt-2".into()), ..GgufVocab::default() };
    vocab.tokens = (0..=255u8).map(|byte| crate::alphabet::to_text(&[byte])).collect();
    let mut entries: Vec<String> = alphabet.iter().map(|&byte| crate::alphabet::to_text(&[byte])).collect();
    for _ in 0..merges {
        // Rather short ones, and parts that were made lately.
        let mut pick = || {
            let at = random() % entries.len();
            entries[if random().is_multiple_of(3) {
                entries.len() - 1 - at / 4
            } else {
                at / (1 + random() % 3)
            }]
            .clone()
        };
        let (left, right) = (pick(), pick());
        let whole = format!("{left}{right}");
        if whole.len() <= 40 && !entries.contains(&whole) {
            vocab.merges.push(format!("{left} {right}"));
            vocab.tokens.push(whole.clone());
            entries.push(whole);
        }
    }
    Tokenizer::from_gguf("random", vocab).unwrap()
}

fn generator(mut state: u64) -> impl FnMut() -> usize {
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    }
}

/// The same entries with all ways to cut each in two, before those of later entries, as readers make of a list of ranks; or in
/// any order.
fn all_cuts(tokenizer: &Tokenizer, mut shuffle: Option<&mut dyn FnMut() -> usize>) -> Tokenizer {
    let bpe = tokenizer.bpe();
    let text = |bytes: &[u8]| crate::alphabet::to_text(bytes);
    let keys = || (0..bpe.vocab.len() as u32).filter_map(|id| bpe.vocab.key(id));
    let mut vocab = GgufVocab { model: "gpt2".into(), pre: Some("gpt-2".into()), ..GgufVocab::default() };
    vocab.tokens = keys().map(text).collect();
    for key in keys() {
        let cuts = (1..key.len()).map(|at| key.split_at(at));
        let cuts =
            cuts.filter(|(left, right)| [left, right].iter().all(|part| bpe.vocab.find(part).is_some()));
        vocab.merges.extend(cuts.map(|(left, right)| format!("{} {}", text(left), text(right))));
    }
    if let Some(random) = &mut shuffle {
        for at in 1..vocab.merges.len() {
            vocab.merges.swap(at, random() % (at + 1));
        }
    }
    Tokenizer::from_gguf("all cuts", vocab).unwrap()
}

#[test]
fn equals_merging() {
    let mut random = generator(5);
    for case in 0..480 {
        let alphabet = &b"abcdefghij"[..1 + case % 10];
        let merges = random() % 200;
        let tokenizer = vocabulary(&mut random, alphabet, merges);
        let tokenizer = match case / 120 {
            0 => tokenizer,
            1 => all_cuts(&tokenizer, None),
            // All ways to make an entry have one rank.
            2 => Tokenizer::from_tiktoken(
                "ranks",
                tokenizer.to_tiktoken().unwrap().as_bytes(),
                Some(Pattern::Gpt2),
                &[],
            )
            .unwrap(),
            _ => all_cuts(&tokenizer, Some(&mut random)),
        };
        let bpe = tokenizer.bpe();
        let grammar = Grammar::new(bpe).unwrap();
        let mut automaton = Automaton::default();
        for _ in 0..12 {
            let len = random() % if case.is_multiple_of(4) { 9000 } else { 400 };
            let some = 1 + random() % alphabet.len();
            let mut text: Vec<u8> = (0..len).map(|_| alphabet[random() % some]).collect();
            if random().is_multiple_of(3) && len > 0 {
                let unit = text[..1 + random() % len.min(9)].to_vec();
                text = unit.into_iter().cycle().take(len).collect();
            }
            let mut scratch = Scratch::default();
            bpe.merge(&text, &mut scratch);
            let mut ids = Vec::new();
            // Small blocks, so that there are boundaries to be certain of; parts, if the text is long enough.
            let block = [30, 300, 2500, 30_000][random() % 4];
            assert_eq!(automaton.encode_blocks(&grammar, &text, (block, UNIT), &mut ids), len);
            assert_eq!(ids, scratch.symbols, "{case}: {}", String::from_utf8_lossy(&text));
        }
    }
}

#[test]
fn gives_up_where_states_do_not_end() {
    let mut random = generator(7);
    let tokenizer = vocabulary(&mut random, b"abcdefghij", 1000);
    let grammar = Grammar::new(tokenizer.bpe()).unwrap();
    let mut automaton = Automaton { states: States::with_room(1 << 10), ..Automaton::default() };
    let text: Vec<u8> = (0..100_000).map(|_| b'a' + (random() % 10) as u8).collect();
    let (mut at, mut ids) = (0, Vec::new());
    while at < text.len() && !automaton.is_off() {
        at += automaton.encode(&grammar, &text[at..], &mut ids);
    }
    assert!(automaton.is_off());
    // What was encoded is right, and so is what follows it.
    let mut scratch = Scratch::default();
    tokenizer.bpe().merge(&text[at..], &mut scratch);
    ids.extend_from_slice(&scratch.symbols);
    tokenizer.bpe().merge(&text, &mut scratch);
    assert_eq!(ids, scratch.symbols);
}

use std::collections::HashSet;
use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::Specials;

fn go(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn counted(options: TrainOptions, texts: &[impl AsRef<[u8]> + Sync]) -> Trainer {
    let mut trainer = Trainer::new(options).unwrap();
    let texts = texts.iter().map(|text| Ok::<_, Infallible>(text.as_ref()));
    assert_eq!(trainer.count(texts, &mut go), Ok(ControlFlow::Continue(())));
    trainer
}

fn trained(options: TrainOptions, texts: &[impl AsRef<[u8]> + Sync]) -> Trainer {
    let mut trainer = counted(options, texts);
    assert!(trainer.merge(&mut go).unwrap().is_continue());
    trainer
}

/// Whether two merges made the same token: there, counts are Hugging Face's.
fn repeats(trainer: &Trainer) -> bool {
    let ids = trainer.ids.as_ref().unwrap();
    let mut seen = HashSet::new();
    trainer
        .merges
        .iter()
        .any(|&(left, right)| !seen.insert([ids.bytes(left).unwrap(), ids.bytes(right).unwrap()].concat()))
}

fn options() -> impl Strategy<Value = TrainOptions> {
    let patterns = vec![
        Pattern::Gpt2,
        Pattern::Cl100k,
        Pattern::O200k,
        Pattern::Llama3,
        Pattern::Qwen2,
        Pattern::Regex(r"\p{L}+|.".into()),
    ];
    let alphabets = vec![Alphabet::Bytes, Alphabet::Seen];
    (
        260..400usize,
        0..4u64,
        prop::option::of(2..9usize),
        prop::sample::select(patterns),
        prop::sample::select(alphabets),
    )
        .prop_map(|(vocab_size, min_frequency, max_token_bytes, pattern, alphabet)| TrainOptions {
            vocab_size,
            min_frequency,
            max_token_bytes,
            pattern,
            alphabet,
            threads: 1,
            ..TrainOptions::default()
        })
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    let parts = vec![
        "a", "b", "ab", "ba", "aa", "abc", "the", "then", "his", "this", "é", "日本", " ", "  ", "\n", "1",
        "12", "'s", ".", "--",
    ];
    let text = prop::collection::vec(prop::sample::select(parts), 0..40).prop_map(|parts| parts.concat());
    prop::collection::vec(text, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn equals_the_textbook(options in options(), texts in texts()) {
        let fast = trained(options.clone(), &texts);
        let mut slow = counted(options.clone(), &texts);
        slow.merge_linear();
        if !repeats(&slow) {
            prop_assert_eq!(&fast.merges, &slow.merges);
            prop_assert_eq!(fast.tokenizer().unwrap().to_json(), slow.tokenizer().unwrap().to_json());
        }
        let most = options.max_token_bytes.unwrap_or(usize::MAX);
        let ids = fast.ids.as_ref().unwrap();
        let short = |&(left, right)| ids.bytes(left).unwrap().len() + ids.bytes(right).unwrap().len() <= most;
        prop_assert!(fast.merges.iter().all(short));
    }

    #[test]
    fn the_tokenizer_is_sound(options in options(), texts in texts()) {
        let tokenizer = trained(options.clone(), &texts).tokenizer().unwrap();
        let again = Tokenizer::from_json("again", tokenizer.to_json().as_bytes()).unwrap();
        let keys = Tokenizer::from_gguf("keys", tokenizer.to_gguf()).unwrap();
        prop_assert!(tokenizer.vocab_size() <= options.vocab_size);
        for text in &texts {
            let ids = tokenizer.encode(text, Specials::AsText);
            prop_assert_eq!(tokenizer.decode(&ids), text.as_bytes());
            prop_assert_eq!(&again.encode(text, Specials::AsText), &ids);
            prop_assert_eq!(&keys.encode(text, Specials::AsText), &ids);
        }
    }

    /// However the texts are handed out, and wherever a run is interrupted.
    #[test]
    fn threads_and_stops_change_nothing(options in options(), texts in texts(), threads in 2..4usize, stop in 0..3u32) {
        let expected = trained(options.clone(), &texts).tokenizer().unwrap().to_json();
        let many = TrainOptions { threads, ..options.clone() };
        prop_assert_eq!(&trained(many.clone(), &texts).tokenizer().unwrap().to_json(), &expected);

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state");
        let mut trainer = Trainer::new(options).unwrap();
        let mut left = stop;
        let mut stopping = move |_: Progress| {
            left = left.saturating_sub(1);
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let all = || texts.iter().map(Ok::<_, Infallible>);
        let counted = trainer.count(all(), &mut stopping).unwrap();
        if counted.is_continue() {
            let _ = trainer.merge(&mut stopping).unwrap();
        }
        trainer.save(&file, "texts").unwrap();
        let mut trainer = Trainer::resume(&file, many, "texts").unwrap();
        prop_assert_eq!(trainer.count(all(), &mut go), Ok(ControlFlow::Continue(())));
        prop_assert!(trainer.merge(&mut go).unwrap().is_continue());
        prop_assert_eq!(&trainer.tokenizer().unwrap().to_json(), &expected);
    }
}

/// A text long enough to be cut and handed out in parts: cuts and interruptions in the middle of a text.
#[test]
fn one_long_text() {
    let mut state = 1u32;
    let mut word = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ["the ", "cat's ", "sat on\n\n", "日本 ", "42 ", "mat.\n", "  - x\n"][(state >> 24) as usize % 7]
    };
    let text: String = (0..1_100_000).map(|_| word()).collect();
    for pattern in [Pattern::Gpt2, Pattern::O200k] {
        let options = TrainOptions { vocab_size: 300, threads: 1, pattern, ..TrainOptions::default() };
        let whole: Vec<Vec<u8>> = {
            let mut pieces = HashSet::new();
            counted(options.clone(), &[&text]).pre_tokenize.run(text.as_bytes(), true, &mut |piece| {
                pieces.insert(piece.to_vec());
            });
            let mut pieces: Vec<_> = pieces.into_iter().collect();
            pieces.sort();
            pieces
        };
        let expected = trained(options.clone(), &[&text]);
        let mut words = Vec::new();
        expected.words.sorted().each(|word, _| words.push(word.to_vec()));
        assert_eq!(words, whole);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state");
        let mut trainer = Trainer::new(TrainOptions { threads: 3, ..options.clone() }).unwrap();
        let mut stop = |progress: Progress| match progress {
            Progress::Counting { bytes, .. } if bytes > 4_000_000 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let texts = || [Ok::<_, Infallible>(text.as_bytes())].into_iter();
        assert_eq!(trainer.count(texts(), &mut stop), Ok(ControlFlow::Break(())));
        assert!(trainer.bytes() < text.len() as u64);
        trainer.save(&file, "").unwrap();
        let mut trainer = Trainer::resume(&file, options, "").unwrap();
        assert_eq!(trainer.count(texts(), &mut go), Ok(ControlFlow::Continue(())));
        assert!(trainer.merge(&mut go).unwrap().is_continue());
        assert_eq!(trainer.merges, expected.merges);
        assert_eq!(trainer.bytes(), text.len() as u64);
    }
}

#[test]
fn a_stop_among_the_merges() {
    let letter = |n: u32| char::from(b'a' + n as u8);
    let text: String =
        (0..4000).flat_map(|n| [' ', letter(n % 23), letter(n % 7), letter(n % 26), letter(n % 5)]).collect();
    let options = TrainOptions { vocab_size: 600, ..TrainOptions::default() };
    let expected = trained(options.clone(), &[&text]);
    assert!(expected.merges() > 200);
    let mut trainer = counted(options.clone(), &[&text]);
    let mut calls = 0;
    let mut stop = |_: Progress| {
        calls += 1;
        if calls == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    assert!(trainer.merge(&mut stop).unwrap().is_break());
    assert_eq!(trainer.merges(), 2 * WATCH_MERGES);
    // What there is so far can be used.
    assert_eq!(trainer.tokenizer().unwrap().vocab_size(), 257 + 2 * WATCH_MERGES);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state");
    trainer.save(&file, "").unwrap();
    let mut again = Trainer::resume(&file, options.clone(), "").unwrap();
    assert_eq!(again.merges, trainer.merges);
    assert!(again.merge(&mut go).unwrap().is_continue());
    assert_eq!(again.merges, expected.merges);
    // Merges that its counts do not make are noticed.
    let mut wrong = Trainer::resume(&file, options, "").unwrap();
    wrong.merges[70].0 ^= 1;
    assert!(matches!(wrong.merge(&mut go), Err(TrainError::State { .. })));
}

#[test]
fn damaged_states() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state");
    let options = TrainOptions { vocab_size: 270, ..TrainOptions::default() };
    trained(options.clone(), &["the cat the hat"]).save(&file, "a text").unwrap();
    let whole = std::fs::read(&file).unwrap();
    let refused = |bytes: &[u8], part: &str| {
        std::fs::write(&file, bytes).unwrap();
        let error = Trainer::resume(&file, options.clone(), "a text").unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("delete it"), "{error}");
    };
    for len in 0..whole.len() {
        refused(&whole[..len], "found");
    }
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        refused(&bytes, "found");
    }
    std::fs::write(&file, &whole).unwrap();
    let other = TrainOptions { vocab_size: 271, ..options.clone() };
    assert!(Trainer::resume(&file, other, "a text").unwrap_err().to_string().contains("vocab_size"));
    assert!(Trainer::resume(&file, options, "others").unwrap_err().to_string().contains("others"));
}

#[test]
fn special_tokens_that_are_text() {
    let options = TrainOptions {
        vocab_size: 300,
        min_frequency: 0,
        special_tokens: vec!["a".into(), "the".into(), "<|日本|>".into()],
        ..TrainOptions::default()
    };
    let trainer = trained(options, &["the thea then"]);
    let tokenizer = trainer.tokenizer().unwrap();
    assert_eq!(
        (tokenizer.id_of("a"), tokenizer.id_of("the"), tokenizer.id_of("b")),
        (Some(0), Some(1), Some(67))
    );
    assert_eq!(tokenizer.encode("the<|日本|>", Specials::Parse), [1, 2]);
    assert_eq!(tokenizer.decode(&tokenizer.encode("a theatre", Specials::AsText)), b"a theatre");
}

/// Counts that fit into no slot, and words over many blocks of slots.
#[test]
fn counts_and_words_of_every_size() {
    let options = TrainOptions { vocab_size: 340, ..TrainOptions::default() };
    let (mut fast, mut slow) = (Trainer::new(options.clone()).unwrap(), Trainer::new(options).unwrap());
    for n in 0..200usize {
        let word: String =
            (0..n * 3 % 150).map(|at| char::from(b'a' + ((at * at + n / 3) % 11) as u8)).collect();
        for trainer in [&mut fast, &mut slow] {
            trainer.words.add(word.as_bytes(), 1 << (n * 7 % 50));
        }
    }
    assert!(fast.merge(&mut go).unwrap().is_continue());
    slow.merge_linear();
    assert!(!repeats(&slow) && slow.merges() == 83);
    assert_eq!(fast.merges, slow.merges);
}

#[test]
fn options_that_fit_nothing() {
    for (options, part) in [
        (TrainOptions { vocab_size: 256, ..TrainOptions::default() }, "257"),
        (TrainOptions { vocab_size: usize::MAX, ..TrainOptions::default() }, "vocabulary size"),
        (TrainOptions { max_token_bytes: Some(1), ..TrainOptions::default() }, "at least 2"),
        (TrainOptions { special_tokens: vec![String::new()], ..TrainOptions::default() }, "empty"),
        (TrainOptions { special_tokens: vec!["a".into(), "a".into()], ..TrainOptions::default() }, "twice"),
        (TrainOptions { pattern: Pattern::Regex("(".into()), ..TrainOptions::default() }, "\"(\""),
    ] {
        let error = Trainer::new(options).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

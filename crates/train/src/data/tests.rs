use std::collections::HashSet;
use std::fs;
use std::path::Path;

use super::*;
use crate::recipe::{Cut, Recipe};

/// Made-up stories: each paragraph says who did what.
pub(crate) fn stories(count: usize) -> String {
    let mut random = crate::random::Random::new(&[42]);
    let mut pick = |words: &[&'static str]| words[random.below(words.len())];
    let mut texts = Vec::new();
    for number in 0..count {
        let mut text = format!("Story {number}");
        for _ in 0..12 {
            let who = pick(&["The king", "The queen", "A fox", "The old man", "\"Oh,\" said the hen. She"]);
            let did = pick(&["went home", "saw a boat", "sang a song", "lost a ring", "found a golden ring"]);
            let then = pick(&["and was glad", "and slept", "in the wood", "by the sea"]);
            text.push_str(&format!("\n\n{who} {did} {then}."));
        }
        texts.push(text);
    }
    texts.join("<|endoftext|>")
}

fn recipe(more: &str) -> Recipe {
    let text = format!(
        "name = 'Test'\n[data]\nheld_out = {{ every = 5 }}\n{more}\n[[data.texts]]\npath = 'stories.txt'\n\
         [tokenizer]\nsize = 320\n[model]\ndepth = 1\n[train]\nsteps = 10\nrows = 4\ncontext = 24\n"
    );
    Recipe::parse("test.toml", &text).unwrap()
}

fn prepare(recipe: &Recipe, folder: &Path) -> Result<Prepared, DataError> {
    Prepared::prepare(recipe, folder, folder, &folder.join("data"), 2, &|_| Err("none".into()), &mut |_| {
        std::ops::ControlFlow::Continue(())
    })
}

#[test]
fn texts_become_shards_once() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("stories.txt"), stories(20)).unwrap();
    let made = prepare(&recipe(""), folder.path()).unwrap();
    assert_eq!((made.summary.texts, made.summary.documents, made.summary.held_out_documents), (20, 16, 4));
    assert_eq!(made.tokenizer.vocab_size(), 320);
    assert_eq!((made.end_of_text, made.tokenizer.bos(), made.tokenizer.eos()), (0, Some(0), Some(0)));
    assert!(made.tokenizer.add_bos());
    let text = made.tokenizer.decode_lossy(&made.train.ids);
    assert!(
        text.starts_with("Story 0\n\n") && text.ends_with(".<|endoftext|>") && !text.contains("Story 4\n")
    );
    assert!(made.tokenizer.decode_lossy(&made.held_out.ids).starts_with("Story 4\n\n"));
    let ends = made.train.ids.iter().filter(|id| **id == 0).count();
    assert_eq!((made.train.documents.len(), ends), (16, 16));

    // The same again is taken from the folder, also when the texts are gone; another table or another text is not.
    let summary = folder.path().join("data/data.json");
    let written = fs::metadata(&summary).unwrap().modified().unwrap();
    prepare(&recipe(""), folder.path()).unwrap();
    assert_eq!(fs::metadata(&summary).unwrap().modified().unwrap(), written);
    let other = recipe("prepare = 'prose'");
    let error = Prepared::open(&other, &folder.path().join("data")).unwrap_err();
    assert!(matches!(error, DataError::Changed { .. }), "{error}");
    fs::write(folder.path().join("stories.txt"), stories(30)).unwrap();
    assert_eq!(prepare(&recipe(""), folder.path()).unwrap().summary.texts, 30);
    fs::remove_file(folder.path().join("stories.txt")).unwrap();
    assert_eq!(Prepared::open(&recipe(""), &folder.path().join("data")).unwrap().summary.texts, 30);
    let error = prepare(&recipe(""), folder.path()).unwrap_err().to_string();
    assert!(error.contains("data.texts[0].path") && error.contains("--texts"), "{error}");
}

#[test]
fn windows_are_a_function_of_the_seed_and_their_number() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("stories.txt"), stories(20)).unwrap();
    let made = prepare(&recipe(""), folder.path()).unwrap();
    for cut in [Cut::Anywhere, Cut::Paragraphs] {
        let mut one = Windows::new(&made, 24, cut, 7).unwrap();
        let all = one.rows(0, 1000);
        assert_eq!((all.len(), all.width), (1000, 25));
        // In any order, in any number, and from a new beginning: the same.
        let mut two = Windows::new(&made, 24, cut, 7).unwrap();
        for first in [900, 3, 517, 516] {
            assert_eq!(two.rows(first as u64, 20).ids, all.range(first..first + 20));
        }
        assert_ne!(Windows::new(&made, 24, cut, 8).unwrap().rows(0, 4), one.rows(0, 4));
        // One epoch reads nearly every id of the texts, and reads none much more often than another.
        let per_epoch = (0..).find(|&number| one.epochs(number) >= 1.0).unwrap() as usize;
        let (least, most) = (made.train.ids.len() / 24 - 1, made.train.ids.len() / 24 * 2);
        assert!((least..=most).contains(&per_epoch), "{per_epoch} of {least}..={most}");
        let distinct: HashSet<&[u32]> = all.ids[..per_epoch * 25].chunks_exact(25).collect();
        assert!(distinct.len() * 100 > per_epoch * 97, "{} of {per_epoch}", distinct.len());
    }
}

#[test]
fn windows_begin_with_narration() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("stories.txt"), stories(20)).unwrap();
    let made = prepare(&recipe(""), folder.path()).unwrap();
    let mut windows = Windows::new(&made, 24, Cut::Paragraphs, 7).unwrap();
    let rows = windows.rows(0, 200);
    let mut good = 0;
    for row in rows.ids.chunks_exact(25) {
        assert_eq!(row[0], made.end_of_text);
        let text = made.tokenizer.decode_lossy(&row[1..]);
        good += usize::from(
            ["Story", "The king ", "The queen ", "A fox ", "The old man "]
                .iter()
                .any(|s| text.starts_with(s)),
        );
        assert!(!text.starts_with('"'), "{text}");
    }
    assert!(good > 140, "{good} of 200");
}

#[test]
fn held_out_rows_do_not_overlap() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("stories.txt"), stories(20)).unwrap();
    let made = prepare(&recipe(""), folder.path()).unwrap();
    let all = held_out(&made, 24, usize::MAX).unwrap();
    let ids: Vec<u32> = all.ids.chunks_exact(25).flat_map(|row| row[1..].to_vec()).collect();
    assert_eq!(ids, made.held_out.ids[..ids.len()]);
    assert!(made.held_out.ids.len() - ids.len() < 24);
    let some = held_out(&made, 24, 24 * 5).unwrap();
    assert_eq!(some.len(), 5);
    assert!(some.ids.chunks_exact(25).all(|row| all.ids.chunks_exact(25).any(|of_all| of_all == row)));
    assert!(held_out(&made, 100_000, 100).unwrap_err().to_string().contains("train.context"));
}

#[test]
fn lists_choose_and_repeat_books() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    fs::create_dir_all(folder.path().join("stories.txt/deep")).unwrap();
    put("stories.txt/one.md", "# **One** day\n\nA fox ran.");
    put("stories.txt/deep/two.md", "Two “kings”\n\nwent home.");
    put("stories.txt/three.md", "Three hens\n\nsang.");
    put("stories.txt/notes.pdf", "no text");
    put("books.tsv", "# a list\n2\tTwo \"kings\"\tKings\n1\tOne day\tDay\n0\tThree hens\tHens\n");
    let text = |held_out: &str| {
        format!(
            "name = 'Test'\n[data]\nheld_out = {{ names = ['{held_out}'] }}\n[[data.texts]]\npath = 'stories.txt'\n\
             books = 'books.tsv'\n[tokenizer]\nsize = 257\n[model]\ndepth = 1\n[train]\nsteps = 10\nrows = 4\ncontext = 24\n"
        )
    };
    let made = prepare(&Recipe::parse("r", &text("Day")).unwrap(), folder.path()).unwrap();
    assert_eq!(made.summary.held_out_texts, ["Day"]);
    let read = made.tokenizer.decode_lossy(&made.train.ids);
    assert_eq!(read, "Two “kings”\n\nwent home.<|endoftext|>".repeat(2));
    let error = prepare(&Recipe::parse("r", &text("Night")).unwrap(), folder.path()).unwrap_err().to_string();
    assert!(error.contains("data.held_out.names") && error.contains("Kings; Day"), "{error}");
    put("books.tsv", "1\tFour\tFour\n");
    let error = prepare(&Recipe::parse("r", &text("Day")).unwrap(), folder.path()).unwrap_err().to_string();
    assert!(error.contains("no text begins with \"Four\""), "{error}");
    put("books.tsv", "1 Four Four\n");
    let error = prepare(&Recipe::parse("r", &text("Day")).unwrap(), folder.path()).unwrap_err().to_string();
    assert!(error.contains("line 1") && error.contains("tabs"), "{error}");
}

//! Equality with Hugging Face's trainer: the same entries, the same merges, and files that give it the same ids.
//!
//! Needs a Python that has `tokenizers`, named by CHALOT_PYTHON.

use std::convert::Infallible;
use std::io::Write;
use std::ops::ControlFlow;
use std::process::{Command, Stdio};

use chalot_tokenizer::train::{Alphabet, TrainOptions, Trainer};
use chalot_tokenizer::{Pattern, Specials, Tokenizer};
use serde_json::{Value, json};

/// Reads tasks, one a line; answers with the trained entries and merges, or with the ids that a file gives.
const SCRIPT: &str = r#"
import json, sys
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
for line in sys.stdin:
    task = json.loads(line)
    if "file" in task:
        tokenizer = Tokenizer.from_str(task["file"])
        ids = [tokenizer.encode(text).ids for text in task["texts"]]
        print(json.dumps({"ids": ids, "texts": [tokenizer.decode(i, skip_special_tokens=False) for i in ids]}), flush=True)
        continue
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=task["regex"] is None)
    split = task["regex"] and pre_tokenizers.Split(Regex(task["regex"]), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level]) if split else byte_level
    tokenizer.train_from_iterator(task["texts"], trainers.BpeTrainer(
        vocab_size=task["vocab_size"], min_frequency=task["min_frequency"], special_tokens=task["special_tokens"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if task["all_bytes"] else [],
        max_token_length=task["max_token_length"], show_progress=False))
    model = json.loads(tokenizer.to_str())["model"]
    print(json.dumps({"vocab": model["vocab"], "merges": model["merges"]}), flush=True)
"#;

/// The answers to the tasks.
fn ask(tasks: &[Value]) -> Option<Vec<Value>> {
    let Ok(python) = std::env::var("CHALOT_PYTHON") else {
        println!("skipped: CHALOT_PYTHON, a Python with the tokenizers package, is not there");
        return None;
    };
    let mut child = Command::new(python)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: String = tasks.iter().map(|task| format!("{task}\n")).collect();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), tasks.len());
    Some(answers)
}

fn train(options: &TrainOptions, texts: &[String]) -> Tokenizer {
    let mut trainer = Trainer::new(options.clone()).unwrap();
    let mut go = |_| ControlFlow::Continue(());
    let _ = trainer.count(texts.iter().map(Ok::<_, Infallible>), &mut go).unwrap();
    let _ = trainer.merge(&mut go).unwrap();
    trainer.tokenizer().unwrap()
}

/// Texts of random parts: many small alphabets, so that there are ties, runs of one character, and tokens made twice.
fn texts(seed: u64) -> Vec<String> {
    let mut state = seed.wrapping_mul(2) + 1;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let parts: &[&str] = match seed % 4 {
        0 => &["a", "b", "ab", "aa", " ", "aaa"],
        1 => &[
            "the ", "then", "his ", "this", "hat", "’s", " cat", "\n\n", "12", "2026", "'ll", "日本", "é",
            "--", "=",
        ],
        2 => &["-", "--", "= ", "a", "-a", "\t", "        ", "   "],
        _ => &[
            "for", " (", "i", "++", ");\n", "    ", "return ", "x", "_", "Camel", "Case", "HTTP", "0x", "ff",
            "{", "}\n",
        ],
    };
    (0..1 + random(8)).map(|_| (0..random(120)).map(|_| parts[random(parts.len())]).collect()).collect()
}

#[test]
fn merges() {
    let patterns = [
        Pattern::Gpt2,
        Pattern::Llama3,
        Pattern::Qwen2,
        Pattern::O200k,
        Pattern::Cl100k,
        Pattern::Regex(r"\d|\D+".into()),
    ];
    let runs: Vec<(TrainOptions, Vec<String>)> = (0..240u64)
        .map(|seed| {
            let at = seed as usize;
            let options = TrainOptions {
                vocab_size: 262 + at * 7 % 200,
                min_frequency: seed / 3 % 4,
                special_tokens: [vec!["<|endoftext|>".into()], vec!["the".into(), "a".into()], Vec::new()]
                    [at % 3]
                    .clone(),
                alphabet: if at % 5 == 4 { Alphabet::Seen } else { Alphabet::Bytes },
                max_token_bytes: (at % 7 == 6).then_some(2 + at % 9),
                pattern: patterns[at / 4 % patterns.len()].clone(),
                threads: 1 + at % 3,
            };
            (options, texts(seed))
        })
        .collect();
    let tasks: Vec<Value> = runs
        .iter()
        .map(|(options, texts)| {
            json!({
                "texts": texts,
                "regex": (options.pattern != Pattern::Gpt2).then(|| options.pattern.regex()),
                "vocab_size": options.vocab_size,
                "min_frequency": options.min_frequency,
                "special_tokens": options.special_tokens,
                "all_bytes": options.alphabet == Alphabet::Bytes,
                "max_token_length": options.max_token_bytes.map(|most| most + 1),
            })
        })
        .collect();
    let Some(answers) = ask(&tasks) else { return };
    let mut longest = 0;
    for (((options, texts), answer), seed) in runs.iter().zip(&answers).zip(0..) {
        let ours: Value = serde_json::from_str(&train(options, texts).to_json()).unwrap();
        let merges = |model: &Value| -> Vec<Value> { model["merges"].as_array().unwrap().clone() };
        assert_eq!(merges(&ours["model"]), merges(answer), "seed {seed}: {options:?} on {texts:?}");
        assert_eq!(ours["model"]["vocab"], answer["vocab"], "seed {seed}: {options:?}");
        longest = longest.max(merges(answer).len());
    }
    assert!(longest > 100, "the texts have so few merges that nothing is shown: {longest}");
}

#[test]
fn files() {
    let texts: Vec<String> = (0..8).flat_map(texts).collect();
    let patterns = [
        Pattern::Gpt2,
        Pattern::Llama3,
        Pattern::Qwen2,
        Pattern::O200k,
        Pattern::Cl100k,
        Pattern::Regex(r"\d|\D+".into()),
    ];
    let tokenizers: Vec<Tokenizer> = patterns
        .into_iter()
        .map(|pattern| train(&TrainOptions { vocab_size: 500, pattern, ..TrainOptions::default() }, &texts))
        .collect();
    let mut all = texts.clone();
    all.push("<|endoftext|>the end<|endoftext|> 'LL it's  \r\n x\u{301}".into());
    let tasks: Vec<Value> =
        tokenizers.iter().map(|tokenizer| json!({"file": tokenizer.to_json(), "texts": all})).collect();
    let Some(answers) = ask(&tasks) else { return };
    for (tokenizer, answer) in tokenizers.iter().zip(answers) {
        let ids: Vec<Vec<u32>> = all.iter().map(|text| tokenizer.encode(text, Specials::Parse)).collect();
        assert_eq!(answer["ids"], json!(ids));
        assert_eq!(answer["texts"], json!(all));
        let again = Tokenizer::from_gguf("keys", tokenizer.to_gguf()).unwrap();
        for (text, ids) in all.iter().zip(&ids) {
            assert_eq!(again.encode(text, Specials::Parse), *ids);
        }
    }
}

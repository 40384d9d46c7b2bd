//! `chalot tokenizer`: training, shards, and what goes wrong.
mod support;

use std::{fs, path::Path};

use chalot::tokenizer::shards::ShardReader;
use support::{arg, chalot, chalot_with, command};

/// Documents with enough words in common to train on.
fn text() -> String {
    let verse =
        "the cat sat on the mat and the hat\nthe dog ate the cat's dinner, then it rained 2026 times\n";
    [verse.repeat(30), verse.to_uppercase().repeat(20), "日本の猫 ".repeat(50)].join("<|endoftext|>")
}

fn train(input: &Path, out: &Path, more: &[&str]) -> support::Ran {
    chalot(&[&["tokenizer", "train", arg(input), "--out", arg(out), "--vocab-size", "400"], more].concat())
}

#[test]
fn trained_vocabularies_encode_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let input = path("text.txt");
    fs::write(&input, text()).unwrap();
    let json = path("tokenizer.json");
    let ran = train(&input, &json, &["--pattern", "llama3", "-t", "2"]);
    assert!(ran.stderr.contains("tokenizer.json") && ran.stderr.contains("merges"), "{}", ran.stderr);
    assert_eq!(ran.ok(), "");
    // The result does not depend on threads.
    let again = path("again.json");
    train(&input, &again, &["--pattern", "llama3", "-t", "1", "--quiet"]).ok();
    assert_eq!(fs::read(&json).unwrap(), fs::read(&again).unwrap());
    let gguf = path("vocab.gguf");
    train(&input, &gguf, &["--pattern", "llama3"]).ok();
    let encode =
        |vocab: &Path| chalot(&["tokenizer", "encode", "--vocab", arg(vocab), "the cat's 日本 20266"]).ok();
    let ids = encode(&json);
    assert_eq!(encode(&gguf), ids);
    // From one file to another, and out of a model.
    let exported = path("exported.json");
    let export = |from: &Path, more: &[&str]| {
        chalot(&[&["tokenizer", "export", "--vocab", arg(from), arg(&exported)], more].concat())
    };
    assert_eq!(export(&gguf, &[]).ok(), "");
    assert_eq!(encode(&exported), ids);
    let ran = export(&json, &[]);
    assert!(ran.code == Some(1) && ran.stderr.contains("--force"), "{}", ran.stderr);
    export(&json, &["--force"]).ok();
    assert_eq!(encode(&exported), ids);
    chalot(&["tokenizer", "export", "--force", arg(&exported)]).ok();
    let builtin = chalot(&["tokenizer", "encode", "once upon a time"]).ok();
    let ran = chalot(&["tokenizer", "encode", "--vocab", arg(&exported), "once upon a time"]);
    assert_eq!(ran.ok(), builtin);
    let back = chalot_with(&ids, &["tokenizer", "decode", "--vocab", arg(&json), "-"]).ok();
    assert_eq!(back, "the cat's 日本 20266");
    let list =
        chalot(&["tokenizer", "encode", "--json", "--vocab", arg(&json), "the cat's 日本 20266"]).json();
    let words: Vec<String> = list.as_array().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(words.join(" "), ids.trim());
    let lists =
        chalot_with("a\nb", &["tokenizer", "encode", "--json", "--lines", "--vocab", arg(&json), "-"]).json();
    assert_eq!(lists.as_array().unwrap().len(), 2);
    let ran = train(&input, &path("ranks.tiktoken"), &["--min-frequency", "1"]);
    assert!(ran.stderr.contains("name them"), "{}", ran.stderr);
    assert!(fs::read_to_string(path("ranks.tiktoken")).unwrap().starts_with("IQ== 1\n"));
    // Nothing is overwritten unasked.
    let ran = train(&input, &json, &[]);
    assert!(ran.code == Some(1) && ran.stderr.contains("--force"), "{}", ran.stderr);
    train(&input, &json, &["--force", "--special", "<|im_end|>", "--special", "<|pad|>"]).ok();
    assert_eq!(
        chalot(&["tokenizer", "encode", "--special", "--vocab", arg(&json), "<|pad|><|im_end|>"]).ok(),
        "1 0\n"
    );
    let ran = train(&input, &path("large.json"), &["--vocab-size=50000"]);
    assert!(ran.code != Some(0) || ran.stderr.contains("give more text"), "{}", ran.stderr);
}

#[test]
fn shards() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let input = path("text.txt");
    fs::write(&input, text()).unwrap();
    let lines = path("more.jsonl");
    fs::write(&lines, "{\"text\": \"the dog\"}\n{\"text\": \"a cat\"}\n").unwrap();
    let json = path("tokenizer.json");
    train(&input, &json, &[]).ok();
    let index = path("train.json");
    let ran = chalot(&[
        "tokenizer",
        "encode",
        "--vocab",
        arg(&json),
        "--shards",
        arg(&index),
        "--shard-tokens",
        "300",
        "--files",
        arg(&input),
        arg(&lines),
    ]);
    assert!(ran.stderr.contains("5 documents"), "{}", ran.stderr);
    ran.ok();
    let reader = ShardReader::open(&index).unwrap();
    let tokenizer = chalot::read_tokenizer(&json, None).unwrap();
    reader.check_vocabulary(&tokenizer).unwrap();
    let shards = &reader.index().shards;
    assert!(shards.len() > 1 && shards.iter().all(|shard| shard.tokens <= 300));
    let ids: Vec<u32> = (0..shards.len()).flat_map(|at| reader.read(at).unwrap()).collect();
    let documents = text() + "<|endoftext|>the dog<|endoftext|>a cat<|endoftext|>";
    assert_eq!(tokenizer.decode_lossy(&ids), documents);
    assert_eq!(shards.iter().map(|shard| shard.documents.len()).sum::<usize>(), 5);
    // From stdin, and without end or offsets.
    let index = path("piped.json");
    let args =
        ["tokenizer", "encode", "--vocab", arg(&json), "--end=", "--no-offsets", "--shards", arg(&index)];
    chalot_with("the cat<|endoftext|>the hat", &args).ok();
    let reader = ShardReader::open(&index).unwrap();
    assert_eq!((reader.index().documents, reader.index().end_of_text), (2, None));
    assert!(reader.index().shards[0].documents.is_empty());
    assert_eq!(tokenizer.decode_lossy(&reader.read(0).unwrap()), "the catthe hat");
}

#[test]
fn mistakes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let bad = path("bad.jsonl");
    fs::write(&bad, "{\"text\": \"a\"}\n{\"text\": 1}\n").unwrap();
    let (out, index) = (path("out.json"), path("index.json"));
    for (ran, code, parts) in [
        (train(&bad, &out, &[]), 1, &["bad.jsonl", "line 2"][..]),
        (train(&path("none.txt"), &out, &[]), 1, &["none.txt"]),
        (train(&bad, &path("out.bin"), &[]), 2, &[".json, .tiktoken or .gguf"]),
        (train(&bad, &out, &["--resume"]), 1, &["out.json.state", "--resume"]),
        (train(&bad, &out, &["--pattern", "("]), 1, &["regular expression"]),
        (train(&bad, &out, &["--max-token-bytes", "1"]), 1, &["at least 2"]),
        (train(&bad, &path("no/out.json"), &[]), 1, &["no folder"]),
        (chalot(&["tokenizer", "encode", "--shards", arg(&index)]), 2, &["--files"]),
        (
            chalot(&[
                "tokenizer",
                "encode",
                "--shards",
                arg(&index),
                "--files",
                arg(&bad),
                "--end",
                "<none>",
            ]),
            2,
            &["<none>"],
        ),
        (
            chalot(&["tokenizer", "encode", "--shards", arg(&index), "--files", arg(&bad)]),
            1,
            &["bad.jsonl", "line 2"],
        ),
    ] {
        assert_eq!(ran.code, Some(code), "{}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        for part in parts {
            assert!(ran.stderr.contains(part), "no {part:?} in {}", ran.stderr);
        }
    }
    assert!(!out.exists() && !index.exists());
}

/// Ctrl-C saves, --resume goes on, and the vocabulary is the same as without.
#[test]
#[cfg(unix)]
fn an_interrupt_is_no_loss() {
    use std::process::Stdio;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let input = path("text.txt");
    // Different words without end, so that there is time to interrupt.
    let word =
        |n: u32| format!("{:x}", n.wrapping_mul(2_654_435_761)).replace(|c: char| c.is_ascii_digit(), "q");
    let text: String = (0..400_000).map(|n| word(n) + " ").collect();
    fs::write(&input, text).unwrap();
    let arguments = |out: &str| {
        let out = path(out);
        ["tokenizer", "train", arg(&input), "--vocab-size", "6000", "--out", arg(&out)].map(str::to_owned)
    };
    assert!(command().args(arguments("whole.json")).output().unwrap().status.success());
    let child =
        command().args(arguments("cut.json")).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(150));
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        println!("skipped: it was done before the interrupt came");
        return;
    }
    if output.status.code().is_none() {
        println!("skipped: the interrupt came before it was caught");
        return;
    }
    assert!(stderr.contains("--resume") && stderr.contains("cut.json.state"), "{stderr}");
    let resumed = command().args(arguments("cut.json")).arg("--resume").output().unwrap();
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    assert_eq!(fs::read(path("whole.json")).unwrap(), fs::read(path("cut.json")).unwrap());
    assert!(!path("cut.json.state").exists());
}

//! `chalot synth`, and mixtures within a budget of memory.
mod support;

use support::chalot;

fn number(report: &serde_json::Value, key: &str) -> f64 {
    report[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {report}"))
}

/// A small mixture with the built-in tokenizer inside; its path.
fn mixture(folder: &tempfile::TempDir) -> String {
    let path = folder.path().join("mixture.gguf").to_str().unwrap().to_owned();
    chalot(&["synth", "--shape", "tiny-moe", "--seed", "4", &path]).ok();
    path
}

#[test]
fn a_synthetic_model_is_one_like_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = mixture(&folder);
    let report = chalot(&["inspect", &path, "--json"]).json();
    assert_eq!(report["kind"], "native (GGUF)", "{report}");
    let other = folder.path().join("other.gguf");
    let other = other.to_str().unwrap();
    chalot(&["synth", "--shape", "tiny-moe", "--seed", "4", other]).ok();
    assert!(std::fs::read(&path).unwrap() == std::fs::read(other).unwrap(), "the seed decides");
    let ran = chalot(&["synth", "--shape", "tiny-moe", other]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("--force"), "{}", ran.stderr);
    chalot(&["synth", "--shape", "tiny-moe", other, "--force", "--seed", "5"]).ok();
    assert!(std::fs::read(&path).unwrap() != std::fs::read(other).unwrap());
    let ran = chalot(&["synth", "--shape", "gpt-5", other]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("moe-64x24"), "{}", ran.stderr);
}

#[test]
fn memory_changes_no_token_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = mixture(&folder);
    let run = |more: &[&str]| {
        // Without drafts, which would make one pass of several tokens.
        let drafts = ["--speculate", "off"];
        let args = ["run", &path, "-p", "Once upon", "-n", "12", "--temp", "0", "--ignore-eos", "--json"];
        let args = [&args[..], &drafts].concat();
        chalot(&[&args[..], more].concat())
    };
    let plain = run(&[]).json();
    assert!(plain["prefetch"].is_null(), "{plain}");
    for more in [
        &["--memory", "1G"][..],
        &["--memory", "1G", "--lookahead", "0"],
        &["--memory", "1G", "--lookahead", "9"],
        &["--memory", "1G", "--no-prefetch"],
        &["--no-mmap"],
    ] {
        let report = run(more).json();
        assert_eq!(report["tokens"], plain["tokens"], "{more:?}");
        let counted = &report["prefetch"];
        assert_eq!(counted.is_null(), more == ["--no-mmap"], "{report}");
        if !counted.is_null() {
            let needs: f64 =
                ["hits", "in_time", "late", "misses"].iter().map(|key| number(counted, key)).sum();
            // At least three layers of two experts, once for the prompt and for each token after it.
            assert!(needs >= 12.0 * 6.0, "{report}");
            assert_eq!(number(counted, "budget_bytes"), f64::from(1 << 30));
            assert!(number(counted, "stall_seconds") >= 0.0);
        }
    }
    let ran = chalot(&["run", &path, "-n", "2", "--memory", "1G", "--stats"]);
    assert!(ran.stderr.contains("; experts: ") && ran.stderr.contains("major faults"), "{}", ran.stderr);
    let ran = run(&["--memory", "1K"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("1024 bytes") && ran.stderr.contains("at least"), "{}", ran.stderr);
    let ran = run(&["--memory", "1G", "--no-mmap"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
}

/// The built-in model lies in the program, not in a file.
#[test]
fn a_budget_needs_a_native_file() {
    let ran = chalot(&["run", "-n", "2", "--memory", "1G"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("chalot convert"), "{}", ran.stderr);
}

/// The weights are truncated under a chat that waits for its next line.
#[cfg(any(target_os = "linux", target_os = "macos"))]
#[test]
fn a_truncated_file_ends_with_a_message() {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::process::Stdio;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/stories.gguf"), &path).unwrap();
    let mut command = support::command();
    command.args(["chat", path.to_str().unwrap(), "-n", "5"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("seed") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended early");
    }
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
    child.stdin.take().unwrap().write_all(b"Once\n").unwrap();
    let mut message = String::new();
    stderr.read_to_string(&mut message).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{message}");
    assert!(message.contains("truncated") && message.contains("--no-mmap"), "{message}");
}

#[test]
fn bench_experts() {
    let report = chalot(&["bench", "experts", "--shape", "tiny-moe", "-n", "8", "-t", "2", "--json"]).json();
    assert_eq!((&report["shape"], &report["threads"]), (&"tiny-moe".into(), &2.into()));
    let ratio = number(&report, "spawn_microseconds") / number(&report, "pool_microseconds");
    assert!((number(&report, "spawn_over_pool") / ratio - 1.0).abs() < 1e-6, "{report}");
    assert!(number(&report, "tokens_per_second") > 0.0 && number(&report, "dense_tokens_per_second") > 0.0);
    // The dense model has what a token visits: two of eight experts.
    assert!(number(&report, "parameters") > number(&report, "dense_parameters"));
    let text = chalot(&["bench", "experts", "--shape", "tiny-moe", "-n", "8"]).ok();
    assert!(text.contains("spawned over pool"), "{text}");
    let ran = chalot(&["bench", "experts", "--shape", "tiny"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("moe-2b"), "{}", ran.stderr);
}

#[test]
fn bench_prefetch() {
    let args = ["bench", "prefetch", "--shape", "tiny-moe", "--memory", "1G", "-n", "6", "--warm-up", "2"];
    let report = chalot(&[&args[..], &["--lookahead", "1,0", "--json"]].concat()).json();
    assert_eq!((&report["model"], &report["lookahead"]), (&"tiny-moe".into(), &1.into()));
    assert_eq!((&report["budget_bytes"], &report["identical"]), (&(1u64 << 30).into(), &true.into()));
    let ways = [&report, &report["others"][0]];
    for way in ways {
        let without = &report["without"];
        let speedup = number(way, "tokens_per_second") / number(without, "tokens_per_second");
        assert!((number(way, "speedup") / speedup - 1.0).abs() < 1e-6, "{report}");
        let ratio = number(way, "p99_seconds") / number(without, "p99_seconds");
        assert!((number(way, "p99_ratio") / ratio - 1.0).abs() < 1e-6, "{report}");
        assert!(number(way, "disk_share") >= 0.0);
        assert!(way["resident_bytes"].as_u64().is_some());
    }
    let text = chalot(&args).ok();
    assert!(text.contains("same bits           yes"), "{text}");
    let ran = chalot(&["bench", "prefetch", "--shape", "tiny-moe", "-n", "1000000"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
}

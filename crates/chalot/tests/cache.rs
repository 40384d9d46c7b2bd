//! `--cache`, `--kv` and `--kv-budget`: memory is chosen, kept and counted; the text stays the same.
mod support;

use support::{arg, chalot, chalot_with};

const PROMPT: &str = "Once upon a time there was an old king who lived in a castle by the sea, and he had three \
                      daughters. The eldest was proud, the second was vain, but the youngest was kind to all.";

fn run<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "-n", "20", "--temp", "0", "--ignore-eos"], more].concat()
}

#[test]
fn a_cache_file_saves_time_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("text.kv");
    for kv in ["f32", "f16", "int8"] {
        let plain = chalot(&run(&["-p", PROMPT, "--kv", kv, "--json"])).json();
        let _ = std::fs::remove_file(&file);
        let cached =
            |prompt: &str| chalot(&run(&["-p", prompt, "--kv", kv, "--cache", arg(&file), "--json"])).json();
        let first = cached(PROMPT);
        assert_eq!((&first["text"], &first["reused_tokens"]), (&plain["text"], &0.into()));
        let again = cached(PROMPT);
        assert_eq!(again["text"], plain["text"], "{kv}");
        assert_eq!(again["prompt_tokens"], 1, "only the last token is computed again");
        // Another ending of the same beginning.
        let longer = format!("{PROMPT} One day");
        let other = cached(&longer);
        assert_eq!(other["text"], chalot(&run(&["-p", &longer, "--kv", kv, "--json"])).json()["text"]);
        assert!(other["reused_tokens"].as_u64() > Some(30), "{other}");
    }
}

#[test]
fn a_cache_file_that_does_not_fit_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("text.kv");
    chalot(&run(&["-p", PROMPT, "--kv", "f16", "--cache", arg(&file)])).ok();
    let refused = |more: &[&str], part: &str| {
        let ran = chalot(&run(&[&["-p", PROMPT, "--cache", arg(&file)], more].concat()));
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        assert!(ran.stderr.contains("text.kv") && ran.stderr.contains(part), "{}", ran.stderr);
        assert!(ran.stdout.is_empty());
    };
    refused(&["--kv", "int8"], "as f16, asked for is int8");
    refused(&["--ctx", "5"], "more than the context of 5");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    refused(&[], "checksum");
    std::fs::write(
        &file,
        "a letter to my mother, which is no cache file, but is long enough for one, or almost so,",
    )
    .unwrap();
    refused(&[], "expected a file of keys and values");
}

#[test]
fn a_conversation_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.kv");
    let options = ["chat", "--temp", "0", "-n", "12", "--cache", arg(&file)];
    let apart = [chalot_with("The old king\n", &options).ok(), chalot_with("And then\n", &options).ok()];
    let together = chalot_with("The old king\nAnd then\n", &options[..5]).ok();
    assert_eq!(apart.concat(), together);
}

#[test]
fn a_budget_is_an_error_that_says_what_to_do() {
    let ran = chalot(&run(&["-p", PROMPT, "--kv-budget", "100K"]));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    for part in ["keys and values need", "budget of 0.1 MiB", "--kv-budget", "--kv int8"] {
        assert!(ran.stderr.contains(part), "no '{part}' in {}", ran.stderr);
    }
    let ran = chalot(&run(&["--kv-budget", "much"]));
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("512M"), "{}", ran.stderr);
    let ran = chalot(&run(&["--ctx", "1000000"]));
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("is made for 1 to"), "{}", ran.stderr);
}

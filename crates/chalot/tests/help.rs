//! Help, manual pages, completions, and reports for programs.
mod support;

use std::fs;

use support::{arg, chalot, command};

const COMMANDS: [&[&str]; 22] = [
    &["run"],
    &["chat"],
    &["inspect"],
    &["convert"],
    &["perplexity"],
    &["tokenizer"],
    &["tokenizer", "train"],
    &["tokenizer", "encode"],
    &["tokenizer", "decode"],
    &["tokenizer", "count"],
    &["train"],
    &["train", "plot"],
    &["bench"],
    &["bench", "decode"],
    &["bench", "prefill"],
    &["bench", "kernels"],
    &["bench", "speculate"],
    &["bench", "tokenizer"],
    &["tune"],
    &["doctor"],
    &["completions"],
    &["man"],
];

#[test]
fn every_help_has_examples_that_begin_with_its_command() {
    let text = chalot(&["--help"]).ok();
    assert!(text.contains("Examples:"), "{text}");
    for command in COMMANDS {
        let text = chalot(&[command, &["--help"]].concat()).ok();
        let examples = text.split("Examples:").nth(1).unwrap_or_else(|| panic!("{command:?}: {text}"));
        assert!(examples.contains(&format!("chalot {}", command.join(" "))), "{command:?}: {text}");
        assert!(text.contains("--threads"), "{command:?}: {text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{command:?}: {text}");
        assert_eq!(chalot(&[command, &["-h"]].concat()).ok(), text, "-h and --help say the same");
    }
}

#[test]
fn every_command_is_in_the_main_help() {
    let text = chalot(&["--help"]).ok();
    for command in COMMANDS {
        assert!(text.contains(command[0]), "{command:?}: {text}");
    }
    assert!(chalot(&["--version"]).ok().starts_with("chalot "));
}

#[test]
fn manual_pages() {
    let page = chalot(&["man"]).ok();
    assert!(page.contains(".TH chalot 1"), "{page}");
    let folder = tempfile::tempdir().unwrap();
    let man1 = folder.path().join("man1");
    chalot(&["man", "--dir", arg(&man1)]).ok();
    for command in COMMANDS {
        let file = man1.join(format!("chalot-{}.1", command.join("-")));
        assert!(fs::read_to_string(&file).unwrap().contains("Examples"), "{}", file.display());
    }
}

#[test]
fn completions() {
    for (shell, part) in [
        ("bash", "_chalot()"),
        ("zsh", "#compdef chalot"),
        ("fish", "complete -c chalot"),
        ("powershell", "chalot"),
        ("elvish", "chalot"),
    ] {
        let script = chalot(&["completions", shell]).ok();
        assert!(script.contains(part) && script.contains("perplexity"), "{shell}");
    }
}

#[test]
fn doctor_reports_this_machine() {
    let report = chalot(&["doctor", "--json", "--threads", "3", "--isa", "scalar"]).json();
    assert_eq!(report["threads"], 3);
    assert_eq!(report["isa"], "scalar");
    assert!(report["memory_bytes"].as_u64().unwrap() > 1 << 20);
    assert!(report["page_bytes"].as_u64().unwrap().is_power_of_two());
    assert!(report["instruction_sets"].as_array().unwrap().iter().any(|isa| isa == "scalar"));
    let text = chalot(&["doctor"]).ok();
    for part in ["CPU", "kernels", "threads", "memory", "cache folder"] {
        assert!(text.contains(part), "no '{part}' in {text}");
    }
}

#[test]
fn inspect_reports_the_built_in_model() {
    let report = chalot(&["inspect", "--json"]).json();
    assert_eq!(report["architecture"], "chalot");
    assert!(report["config"]["vocab_size"].as_u64().unwrap() > 0);
    assert!(report["tokenizer"]["tokens"].as_u64().unwrap() > 0);
    assert!(report["bits_per_weight"].as_f64().unwrap() < 10.0);
    let text = chalot(&["inspect", "--tensors"]).ok();
    assert!(text.contains("token_embd.weight"), "{text}");
}

#[test]
fn a_vocabulary_alone_can_be_inspected_and_used() {
    let Some(vocab) = support::asset("tokenizers/ggml-vocab-gpt-2.gguf") else { return };
    let text = chalot(&["inspect", arg(&vocab)]).ok();
    assert!(text.contains("a vocabulary alone") && text.contains("50257 tokens"), "{text}");
    let inputs = fs::read_to_string(vocab.with_extension("gguf.inp")).unwrap();
    let outputs = fs::read_to_string(vocab.with_extension("gguf.out")).unwrap();
    let encode =
        |input: &str| support::chalot_with(input, &["tokenizer", "encode", "--vocab", arg(&vocab), "-"]).ok();
    for (input, output) in inputs.split("\n__ggml_vocab_test__\n").zip(outputs.lines()) {
        assert_eq!(encode(input).trim(), output.trim(), "{input:?}");
    }
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    // stdout is a pipe here: no colours, whatever else is said.
    for args in [&["doctor"][..], &["--help"], &["inspect"], &["run", "--nonsense"]] {
        let output = command().args(args).output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(!text.contains('\x1b'), "{args:?}: {text}");
    }
}

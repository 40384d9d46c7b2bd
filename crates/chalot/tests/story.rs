//! The built-in model, with no file beside the command.
mod support;

use support::{chalot, chalot_with, isas};

#[test]
fn alone_it_says_what_to_type_first() {
    let text = chalot(&[]).ok();
    assert!(text.contains("chalot run"), "{text}");
    assert!(text.lines().count() <= 12, "{text}");
}

#[test]
fn run_tells_a_story() {
    let ran = chalot(&["run"]);
    assert!(ran.stderr.contains("prompt: 1 tokens") && ran.stderr.contains("tok/s"), "{}", ran.stderr);
    assert!(ran.stderr.contains("--seed"), "{}", ran.stderr);
    // Any seed tells something; how long it gets is the seed's affair.
    assert!(ran.ok().split_whitespace().count() >= 3);
    let story = chalot(&["run", "--seed", "1"]).ok();
    assert!(story.split_whitespace().count() >= 50, "{story}");
    // English, not noise.
    for word in ["the", "and"] {
        assert!(story.split_whitespace().any(|w| w.eq_ignore_ascii_case(word)), "no '{word}' in {story}");
    }
}

#[test]
fn a_seed_repeats_a_story_and_another_tells_another() {
    let tell = |seed| chalot(&["run", "-n", "60", "--seed", seed]).ok();
    assert_eq!(tell("7"), tell("7"));
    assert_ne!(tell("7"), tell("8"));
}

#[test]
fn the_text_is_the_same_on_every_isa_and_any_number_of_threads() {
    for sampling in [["--temp", "0"], ["--seed", "3"]] {
        let base = ["run", "-p", "The old king", "-n", "20", sampling[0], sampling[1]];
        let expected = chalot(&base).ok();
        assert!(!expected.is_empty());
        for isa in isas() {
            for threads in ["1", "2"] {
                let text = chalot(&[&base[..], &["--isa", isa, "--threads", threads]].concat()).ok();
                assert_eq!(text, expected, "{isa}, {threads} threads");
            }
        }
    }
}

#[test]
fn the_prompt_may_come_from_anywhere_and_is_not_echoed() {
    let options = ["run", "-n", "12", "--temp", "0"];
    let from_option = chalot(&[&options[..], &["-p", "Once upon a time"]].concat()).ok();
    assert!(!from_option.contains("Once upon a time"), "{from_option}");
    assert_eq!(chalot_with("Once upon a time", &options).ok(), from_option);
    assert_eq!(chalot_with("Once upon a time", &[&options[..], &["-f", "-"]].concat()).ok(), from_option);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "Once upon a time").unwrap();
    assert_eq!(chalot(&[&options[..], &["-f", support::arg(file.path())]].concat()).ok(), from_option);
}

#[test]
fn json_holds_the_text_and_the_figures() {
    let text = chalot(&["run", "-n", "8", "--seed", "1"]).ok();
    let report = chalot(&["run", "-n", "8", "--seed", "1", "--json"]).json();
    assert_eq!(report["text"].as_str().unwrap().to_owned() + "\n", text, "the text and a line break");
    assert_eq!(report["generated_tokens"], 8);
    assert_eq!(report["tokens"].as_array().unwrap().len(), 8);
    assert_eq!(report["stop"], "length");
    assert_eq!(report["seed"], 1);
    assert!(report["generated_tokens_per_second"].as_f64().unwrap() > 0.0);
}

#[test]
fn quiet_means_only_the_text() {
    let ran = chalot(&["run", "-n", "4", "--quiet"]);
    assert_eq!(ran.stderr, "");
    assert!(!ran.ok().is_empty());
}

#[test]
fn nothing_but_text_reaches_a_pipe() {
    let ran = chalot(&["run", "-n", "30", "--stats"]);
    assert!(!ran.stdout.contains('\x1b'), "{}", ran.stdout);
    assert!(
        !ran.stderr.contains('\x1b') && !ran.stderr.contains('\r'),
        "no colours, no bars: {}",
        ran.stderr
    );
    assert!(ran.stderr.contains("kernels:"), "{}", ran.stderr);
}

#[test]
fn chat_goes_on_from_the_words_of_each_line() {
    let ran = chalot_with(
        "The old king\n\n/help\nThen the queen\n/exit\nnever read\n",
        &["chat", "-n", "10", "--temp", "0", "--stats"],
    );
    assert!(ran.stderr.contains("no chat template"), "{}", ran.stderr);
    assert!(ran.stderr.contains("/reset"), "{}", ran.stderr);
    // The second turn finds the first one's keys and values in the cache.
    assert_eq!(ran.stderr.matches("generated: 10 tokens").count(), 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("more were there"), "{}", ran.stderr);
    let text = ran.ok();
    let alone = chalot(&["run", "-p", "The old king", "-n", "10", "--temp", "0"]).ok();
    assert!(text.starts_with(alone.trim_end()), "{text} does not begin with {alone}");
}

#[test]
fn a_chat_longer_than_the_context_goes_on() {
    let lines = "And then they went to the sea and the wood\n".repeat(8);
    let ran = chalot_with(lines, &["chat", "-n", "16", "--ctx", "64", "--temp", "0", "--stats"]);
    assert!(ran.stderr.contains("the context is full"), "{}", ran.stderr);
    for figures in ran.stderr.lines().filter(|line| line.starts_with("prompt: ")) {
        let computed: usize = figures["prompt: ".len()..].split(' ').next().unwrap().parse().unwrap();
        assert!(computed <= 64, "more than the context holds: {figures}");
    }
    assert!(ran.ok().lines().count() >= 8);
}

#[test]
fn perplexity_of_english_is_lower_than_of_noise() {
    let file = |text: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    };
    let english = file(
        &"The little girl went into the garden, and there she saw a great white rabbit under the old tree. "
            .repeat(8),
    );
    let noise = file(&"qzx wvk 8#f jjq )( plm xkcd vvb uio yth nnz rwq ;l ;; aaj kkd oow ".repeat(8));
    let score = |file: &tempfile::NamedTempFile| {
        let report = chalot(&[
            "perplexity",
            "--file",
            support::arg(file.path()),
            "--ctx",
            "64",
            "--chunks",
            "2",
            "--json",
        ])
        .json();
        assert_eq!(report["tokens"], 64);
        let (nll, ppl) = (report["nll"].as_f64().unwrap(), report["ppl"].as_f64().unwrap());
        assert!((nll.exp() - ppl).abs() < 1e-6 * ppl);
        assert!(report["bits_per_byte"].as_f64().unwrap() > 0.0);
        ppl
    };
    assert!(score(&english) < score(&noise));
}

#[test]
fn the_tokenizer_goes_there_and_back() {
    let text = "Once upon a time, there was a  little\nrabbit; \u{1F407}!";
    let ids = chalot(&["tokenizer", "encode", text]).ok();
    assert_eq!(chalot(&["tokenizer", "decode", ids.trim()]).ok(), text);
    assert_eq!(chalot_with(&ids, &["tokenizer", "decode"]).ok(), text);
    let count: usize = chalot_with(text, &["tokenizer", "count", "-"]).ok().trim().parse().unwrap();
    assert_eq!(count, ids.split_whitespace().count());
    let lines = chalot_with(text, &["tokenizer", "encode", "--lines"]).ok();
    assert_eq!(lines.lines().count(), 2);
    let back = chalot_with(lines, &["tokenizer", "decode", "--lines", "-"]).ok();
    assert_eq!(back, format!("{text}\n"));
}

#[test]
fn invalid_utf8_goes_there_and_back_too() {
    let ids = chalot_with(b"a\xff\xfeb", &["tokenizer", "encode"]).ok();
    let output =
        support::command().args(["tokenizer", "decode"]).args(ids.split_whitespace()).output().unwrap();
    assert_eq!(output.stdout, b"a\xff\xfeb");
}

#[test]
fn a_full_context_ends_the_text_and_is_reported() {
    let ran = chalot(&["run", "--ctx", "16", "-n", "100", "--temp", "0", "--ignore-eos"]);
    assert!(ran.stderr.contains("the context of 16 tokens is full"), "{}", ran.stderr);
    // The last token needs no room: nothing follows it.
    assert!(ran.stderr.contains("generated: 16 tokens"), "{}", ran.stderr);
}

#[test]
fn converting_overwrites_only_when_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (folder.path().join("model.gguf"), folder.path().join("out.gguf"));
    std::fs::write(&model, chalot::builtin()).unwrap();
    let convert = ["convert", support::arg(&model), support::arg(&out), "--to", "int8"];
    let ran = chalot(&convert);
    assert_eq!(ran.stderr.lines().count(), 2, "sizes before and after, no bar: {}", ran.stderr);
    ran.ok();
    let again = chalot(&convert);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("--force"), "{}", again.stderr);
    chalot(&[&convert[..], &["--force", "-q"]].concat()).ok();
    let bits =
        |file| chalot(&["inspect", support::arg(file), "--json"]).json()["bits_per_weight"].as_f64().unwrap();
    assert!(bits(&out) > 2.0 * bits(&model), "from ternary to 8 bits");
    // The tokenizer went along.
    assert!(
        !chalot(&["run", support::arg(&out), "-p", "The old", "-n", "8", "--temp", "0"])
            .ok()
            .trim()
            .is_empty()
    );
    // Unchanged, a conversion changes nothing.
    let same = folder.path().join("same.gguf");
    chalot(&["convert", support::arg(&model), support::arg(&same)]).ok();
    let text = |file| chalot(&["run", support::arg(file), "-n", "16", "--seed", "2"]).ok();
    assert_eq!(text(&same), text(&model));
}

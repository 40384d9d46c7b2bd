//! llama2.c's small model, converted and run with float weights: its greedy text is known, computed by other means.
mod support;

use std::fs;

use support::{arg, asset, chalot, isas};

#[test]
fn its_text_is_the_expected_one_on_every_isa_and_with_one_and_two_threads() {
    let (Some(model), Some(tokenizer), Some(expected)) = (
        asset("models/stories260K/stories260K.bin"),
        asset("models/stories260K/tok512.bin"),
        asset("expected/stories260K-greedy.txt"),
    ) else {
        return;
    };
    // Its last line break, like that of our output, ends the line and is no part of the text.
    let expected = fs::read_to_string(expected).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let native = folder.path().join("stories260K.gguf");
    let ran = chalot(&["convert", arg(&model), arg(&native), "--tokenizer", arg(&tokenizer)]);
    assert!(ran.stderr.contains("weights of 32"), "{}", ran.stderr);
    ran.ok();

    for isa in isas() {
        for threads in ["1", "2"] {
            let run = ["run", arg(&native), "-n", "256", "--temp", "0", "--isa", isa, "--threads", threads];
            assert_eq!(chalot(&run).ok(), expected, "{isa}, {threads} threads");
        }
    }
    // Without a conversion too; its tokenizer is found beside it.
    assert_eq!(chalot(&["run", arg(&model), "-n", "256", "--temp", "0"]).ok(), expected);
}

#[test]
fn every_packing_runs_and_says_what_it_is() {
    let Some(model) = asset("models/stories260K/stories260K.bin") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |to: &str| folder.path().join(format!("{to}.gguf"));
    let tokens = |to: &str| {
        let run =
            ["run", arg(&path(to)), "-n", "24", "--seed", "5", "--ignore-eos", "--json"].map(str::to_owned);
        chalot(&run.each_ref().map(String::as_str)).json()["tokens"].clone()
    };
    for to in ["int8", "int4", "trit2", "trit5"] {
        chalot(&["convert", arg(&model), arg(&path(to)), "--to", to, "--name", "Little"]).ok();
        let report = chalot(&["inspect", arg(&path(to)), "--json"]).json();
        // Most weights are in the form that was asked for.
        assert!(report["forms"][0]["form"].as_str().unwrap().starts_with(to), "{to}: {}", report["forms"]);
        assert!(chalot(&["inspect", arg(&path(to))]).ok().contains("Little"));
        assert_eq!(tokens(to).as_array().unwrap().len(), 24);
    }
    // The same weights in two packings give the same tokens.
    assert_eq!(tokens("trit2"), tokens("trit5"));
    assert_ne!(tokens("trit2"), tokens("int8"));
}

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
    for (to, form, most_bits) in [("int8", "int8/32", 9.0), ("int4", "int4", 7.0), ("trit2", "trit2", 10.0), ("trit5", "trit5", 10.0)] {
        let native = folder.path().join(format!("{to}.gguf"));
        chalot(&["convert", arg(&model), arg(&native), "--to", to, "--name", "Little"]).ok();
        let report = chalot(&["inspect", arg(&native), "--json"]).json();
        let forms = report["forms"].as_array().unwrap();
        assert!(forms.iter().any(|entry| entry["form"].as_str().unwrap().starts_with(form)), "{to}: {forms:?}");
        assert!(report["bits_per_weight"].as_f64().unwrap() < most_bits || to.starts_with("trit"), "{to}: {report}");
        assert!(chalot(&["inspect", arg(&native)]).ok().contains("Little"));
        assert!(!chalot(&["run", arg(&native), "-n", "4", "--temp", "0", "--ignore-eos"]).ok().is_empty());
    }
    // The same weights in two packings give the same text.
    let text = |to: &str| {
        let native = folder.path().join(format!("{to}.gguf"));
        chalot(&["run", arg(&native), "-n", "32", "--seed", "5", "--ignore-eos"]).ok()
    };
    assert_eq!(text("trit2"), text("trit5"));
}

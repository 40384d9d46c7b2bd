//! `chalot bench`: that it measures something and says it under the keys that programs rely on. Times decide nothing.
mod support;

use serde_json::Value;
use support::chalot;

/// The model that is built in, as a file.
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/stories.gguf");

fn number(report: &Value, key: &str) -> f64 {
    report[key].as_f64().unwrap_or_else(|| panic!("'{key}' in {report}"))
}

#[track_caller]
fn assert_near(found: f64, expected: f64) {
    assert!((found / expected - 1.0).abs() < 1e-6, "{found} is not {expected}");
}

#[test]
fn decode() {
    let report = chalot(&[
        "bench",
        "decode",
        "--shape",
        "tiny",
        "--packing",
        "trit5",
        "-n",
        "6",
        "--depth",
        "3",
        "-t",
        "1",
        "--json",
    ])
    .json();
    assert_eq!((&report["shape"], &report["packing"]), (&"tiny".into(), &"trit5".into()));
    assert_eq!((&report["threads"], &report["tokens"], &report["depth"]), (&1.into(), &6.into(), &3.into()));
    assert_eq!((&report["layers"], &report["shape_layers"]), (&2.into(), &2.into()));
    let bytes = number(&report, "bytes_per_token");
    // The head has a byte a weight; the layers have 1.6 bits (blocks of 20 columns) and norms.
    assert!((256.0 * 64.0..256.0 * 64.0 + 60_000.0).contains(&bytes), "{bytes}");
    let gbs = bytes * number(&report, "tokens_per_second") / 1e9;
    assert_near(number(&report, "bandwidth_share"), gbs / number(&report, "bandwidth_gbs"));
    assert!(number(&report, "tokens_per_second_without_past") > 0.0);
    let reading = number(&report, "kv_bytes_per_token") / 1e9 / number(&report, "bandwidth_gbs");
    let shallow = 1.0 / number(&report, "tokens_per_second_without_past");
    let token = 1.0 / number(&report, "tokens_per_second");
    assert_near(number(&report, "token_over_reading"), token / (shallow + reading));
    // Two heads of 16, two layers, f32, and 3 tokens before the six.
    assert_eq!(number(&report, "kv_bytes_per_token"), f64::from(2 * 2 * 2 * 16 * 4 * 6));
}

#[test]
fn attention() {
    let report = chalot(&[
        "bench",
        "attention",
        "-n",
        "150",
        "--heads",
        "4",
        "--kv-heads",
        "2",
        "--head-dim",
        "16",
        "--kv",
        "f16",
        "--depth",
        "100",
        "--rounds",
        "2",
        "-t",
        "2",
        "--json",
    ])
    .json();
    assert_eq!(
        (&report["tokens"], &report["threads"], &report["kv"]),
        (&150.into(), &2.into(), &"f16".into())
    );
    let seconds = number(&report, "milliseconds") / 1e3;
    let seen = f64::from(150 * 151 / 2);
    assert_near(number(&report, "gfmas"), 2.0 * seen * 4.0 * 16.0 / seconds / 1e9);
    assert_near(number(&report, "peak_share"), number(&report, "gfmas") / number(&report, "peak_gfmas"));
    let naive = number(&report, "naive_milliseconds");
    assert_near(number(&report, "speedup_over_naive"), naive / number(&report, "milliseconds"));
    assert!(number(&report, "extra_bytes") > 0.0);
    let decode = &report["decode"];
    assert_eq!(decode["depth"], 100);
    let int8 = number(decode, "f16_microseconds") / number(decode, "int8_microseconds");
    assert_near(number(decode, "int8_over_f16"), int8);
    assert!(number(decode, "f16_bandwidth_share") > 0.0 && number(decode, "bandwidth_gbs") > 0.0);
    let report = chalot(&[
        "bench",
        "attention",
        "-n",
        "3",
        "--heads",
        "1",
        "--rounds",
        "1",
        "--depth",
        "0",
        "--no-naive",
        "--json",
    ])
    .json();
    assert!(report["speedup_over_naive"].is_null() && report["decode"].is_null(), "{report}");
}

#[test]
fn prefill() {
    let report = chalot(&[
        "bench",
        "prefill",
        "--shape",
        "tiny",
        "--packing",
        "int4",
        "--head",
        "f16",
        "-n",
        "40",
        "--layers",
        "1",
        "--rounds",
        "2",
        "--chunk",
        "16",
        "-t",
        "2",
        "--json",
    ])
    .json();
    assert_eq!((&report["shape"], &report["packing"]), (&"tiny".into(), &"int4".into()));
    assert_eq!((&report["threads"], &report["tokens"]), (&2.into(), &40.into()));
    assert_eq!((&report["layers"], &report["shape_layers"]), (&1.into(), &2.into()));
    let layer = 64 * (2 * 64 + 2 * 32 + 3 * 160);
    let products = f64::from(40 * layer + 256 * 64);
    let gmacs = products * number(&report, "tokens_per_second") / 40.0 / 1e9;
    assert_near(number(&report, "gmacs"), gmacs);
    if support::isas().len() > 1 {
        assert_near(number(&report, "peak_share"), gmacs / number(&report, "peak_gmacs"));
    }
}

#[test]
fn without_vectors_there_is_no_peak() {
    let report = chalot(&[
        "bench", "prefill", "--shape", "tiny", "-n", "2", "--rounds", "1", "--isa", "scalar", "--json",
    ])
    .json();
    assert!(report["peak_gmacs"].is_null() && report["peak_share"].is_null(), "{report}");
    assert!(number(&report, "tokens_per_second") > 0.0);
}

#[test]
fn kernels() {
    let rows = chalot(&["bench", "kernels", "--shape", "tiny", "--rounds", "1", "-t", "1", "--json"]).json();
    let rows = rows.as_array().unwrap();
    for packing in ["trit2", "trit5", "int8", "int4"] {
        let tokens: Vec<_> =
            rows.iter().filter(|row| row["packing"] == packing).map(|row| number(row, "tokens")).collect();
        assert_eq!(tokens, [1.0, 5.0, 512.0], "{packing}");
    }
    for row in rows {
        assert_eq!((&row["shape"], &row["rows"], &row["cols"]), (&"tiny".into(), &160.into(), &64.into()));
        assert_near(number(row, "bandwidth_share"), number(row, "gbs") / number(row, "bandwidth_gbs"));
        let products = number(row, "tokens") * 160.0 * 64.0;
        assert_near(number(row, "gmacs"), products / number(row, "microseconds") / 1e3);
    }
}

#[test]
fn profile() {
    let measure = |of: &[&str]| {
        let args = ["bench", "profile", "-n", "1,5,40", "--rounds", "1", "--depth", "3", "-t", "2", "--json"];
        chalot(&[&args[..], of].concat()).json()
    };
    let report = measure(&["--shape", "tiny", "--packing", "int8"]);
    assert_eq!((&report["shape"], &report["depth"]), (&"tiny".into(), &3.into()));
    let passes = report["passes"].as_array().unwrap();
    assert_eq!(passes.len(), 3);
    for (pass, (tokens, logits)) in passes.iter().zip([(1, 1), (5, 5), (40, 1)]) {
        assert_eq!((&pass["tokens"], &pass["logits"]), (&tokens.into(), &logits.into()));
        let steps = pass["steps"].as_array().unwrap();
        let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
        let expected = [
            "embedding",
            "norms",
            "query, key, value",
            "rotation",
            "cache",
            "attention",
            "output",
            "gate, up",
            "down",
            "head",
        ];
        assert_eq!(names, expected);
        let sum: f64 = steps.iter().map(|step| number(step, "share")).sum();
        assert!((0.0..=1.0).contains(&sum), "{pass}");
        for (step, name) in steps.iter().zip(names) {
            let seconds = number(step, "milliseconds") / 1e3;
            // Two layers, a head of 256 rows.
            let (weights, times) = match name {
                "query, key, value" => (2 * 64 * (64 + 2 * 32), tokens),
                "output" => (2 * 64 * 64, tokens),
                "gate, up" => (2 * 2 * 64 * 160, tokens),
                "down" => (2 * 64 * 160, tokens),
                "head" => (256 * 64, logits),
                _ => {
                    assert!(step["bytes"].is_null() && step["gbs"].is_null() && step["gmacs"].is_null());
                    continue;
                }
            };
            // A byte a weight, and a scale a row.
            let bytes = number(step, "bytes");
            assert!((1.0..1.1).contains(&(bytes / f64::from(weights))), "{step}");
            assert_near(number(step, "gbs"), bytes / seconds / 1e9);
            assert_near(number(step, "gmacs"), f64::from(weights * times) / seconds / 1e9);
        }
    }
    let experts = measure(&["--shape", "tiny-moe"]);
    for (pass, tokens) in experts["passes"].as_array().unwrap().iter().zip([1, 5, 40]) {
        let steps = pass["steps"].as_array().unwrap();
        let step = |name| steps.iter().find(|step| step["step"] == name).unwrap();
        assert!(step("routing")["bytes"].is_null());
        // Which experts several tokens visit is not known.
        assert_eq!(step("gate, up")["bytes"].is_null(), tokens > 1, "{experts}");
        assert!(number(step("down"), "gmacs") > 0.0 && number(step("head"), "bytes") > 0.0);
    }
}

#[test]
fn a_file_is_measured_as_it_is() {
    let known = chalot(&["inspect", MODEL, "--json"]).json();
    let report = chalot(&["bench", "decode", "--model", MODEL, "-n", "5", "--depth", "2", "--json"]).json();
    assert_eq!((&report["model"], &report["depth"]), (&MODEL.into(), &2.into()));
    assert_eq!((&report["packing"], &report["head"]), (&"trit5/tensor".into(), &"int8/row".into()));
    assert_eq!((&report["layers"], &report["shape_layers"]), (&6.into(), &6.into()));
    // Of twelve experts a token reads two, and the head is half of the rest.
    let (bytes, all) = (number(&report, "bytes_per_token"), number(&known, "bytes"));
    assert!((0.35 * all..0.45 * all).contains(&bytes), "{bytes} of {all}");

    let report = chalot(&["bench", "prefill", "--model", MODEL, "-n", "3", "--rounds", "1", "--json"]).json();
    assert_eq!(report["packing"], "trit5/tensor");
    let gmacs = number(&known, "parameters") * number(&report, "tokens_per_second") / 1e9;
    // The head only after the last of three tokens.
    assert!((0.2..0.25).contains(&(number(&report, "gmacs") / gmacs)), "{report}");

    let text = chalot(&["bench", "prefill", "--model", MODEL, "-n", "3", "--rounds", "1"]).ok();
    assert!(text.contains(", trit5/tensor, head int8/row, "), "{text}");
}

#[test]
fn for_people() {
    let text = chalot(&["bench", "decode", "--shape", "tiny", "-n", "1", "--layers", "1"]).ok();
    assert!(!text.contains("verified"), "{text}");
    let verified = chalot(&["bench", "decode", "--shape", "tiny", "-n", "9", "--draft", "12"]).ok();
    assert!(verified.contains("\n12 drafts verified  "), "{verified}");
    let verified =
        chalot(&["bench", "decode", "--shape", "tiny", "-n", "9", "--draft", "12", "--json"]).json();
    assert!(verified["drafts"] == 12 && number(&verified, "verification_over_token") > 0.0, "{verified}");
    assert!(text.starts_with("tiny (1 of 2 layers), trit2, head int8, "), "{text}");
    assert!(text.contains("share "), "{text}");
    let text = chalot(&["bench", "profile", "--shape", "tiny", "-n", "17,2", "--rounds", "1"]).ok();
    assert!(text.contains("\n17 tokens: ") && text.contains("\n2 tokens: "), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("gate, up  ")).count(), 2, "{text}");
    let text =
        chalot(&["bench", "kernels", "--shape", "tiny", "--packing", "trit2/64", "--rounds", "1"]).ok();
    assert_eq!(text.lines().filter(|line| line.starts_with("trit2/64")).count(), 3, "{text}");
}

#[test]
fn mistakes_name_what_is_known() {
    for (args, parts) in [
        (
            &["decode", "--shape", "gpt-5"][..],
            &["gpt-5", "bitnet-2b", "llama-8b", "smollm2-135m", "tiny"][..],
        ),
        (&["kernels", "--shape", "gpt-5"], &["gpt-5", "bitnet-2b"]),
        (&["decode", "--packing", "int3"], &["int3", "trit2", "int8/32"]),
        (&["prefill", "--shape", "tiny", "--layers", "3"], &["--layers 3", "tiny has 2"]),
        (&["prefill", "--layers", "0"], &["--layers", "at least 1"]),
        (&["profile", "--tokens", "1,0"], &["--tokens", "at least 1"]),
        (&["decode", "--shape", "tiny", "--depth", "500000"], &["--depth 500000", "131072"]),
        (&["decode", "--model", MODEL, "--depth", "50000"], &["--depth 50000", "stories.gguf"]),
        (
            &["prefill", "--model", MODEL, "--packing", "int4"],
            &["--model", "--packing", "cannot be used with"],
        ),
        (&["prefill", "--model", MODEL, "--layers", "1"], &["--model", "--layers", "cannot be used with"]),
        (&["attention", "--heads", "6", "--kv-heads", "4"], &["--kv-heads 4", "6"]),
    ] {
        let ran = chalot(&[&["bench"], args].concat());
        assert_eq!(ran.code, Some(2), "{args:?}: {}", ran.stderr);
        for part in parts {
            assert!(ran.stderr.contains(part), "{args:?}: no '{part}' in {}", ran.stderr);
        }
    }
}

#[test]
fn tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    std::fs::write(&path, "The old king said nothing.\n".repeat(2000)).unwrap();
    let text = path.to_str().unwrap();
    let measure = |more: &[&str]| {
        chalot(&[&["bench", "tokenizer", "--text", text, "--rounds", "1", "--json"], more].concat()).json()
    };
    let report = measure(&["-t", "1", "--isa", "scalar"]);
    assert_eq!((&report["vocab"], &report["bytes"]), (&"built in".into(), &54_000.into()));
    assert_eq!((&report["threads"], &report["isa"]), (&1.into(), &"scalar".into()));
    assert!(report["tokens"].as_u64().unwrap() > 10_000);
    for key in ["cold_mb_per_second", "encode_mb_per_second", "count_mb_per_second", "linear_mb_per_second"] {
        assert!(number(&report, key) > 0.0, "{key}");
    }
    let speedup = number(&report, "encode_mb_per_second") / number(&report, "linear_mb_per_second");
    assert_near(number(&report, "speedup_over_linear_encode"), speedup);
    assert_eq!(report["train_bytes"], 54_000);
    let speedup = number(&report, "train_mb_per_second") / number(&report, "linear_train_mb_per_second");
    assert_near(number(&report, "speedup_over_linear_train"), speedup);
    assert!(report["beside_one_thread"].is_null());
    let report = measure(&["-t", "2", "--linear-bytes", "0", "--train-bytes", "0"]);
    for key in ["beside_one_thread", "documents_beside_one_thread"] {
        let gain = number(&report[key], "mb_per_second") / number(&report[key], "one_thread_mb_per_second");
        assert_near(number(&report[key], "gain"), gain);
        assert_eq!(report[key]["rounds"], 1);
    }
    assert_eq!(report["beside_one_thread"]["mb_per_second"], report["encode_mb_per_second"]);
    let text = chalot(&["bench", "tokenizer", "--text", text, "--rounds", "1", "--train-bytes", "0"]).ok();
    assert!(text.contains("speed-up over it") && !text.contains("training"), "{text}");
}

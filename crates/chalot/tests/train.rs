//! `chalot train`: from texts to a model, through kills, full disks and damage.
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use support::{arg, chalot, command};

/// A folder with texts and a recipe that takes a second or two.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        fs::write(folder.at("stories.txt"), stories(40)).unwrap();
        fs::write(folder.at("recipe.toml"), RECIPE).unwrap();
        folder
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn train(&self, out: &str, more: &[&str]) -> support::Ran {
        let (recipe, out) = (self.at("recipe.toml"), self.at(out));
        chalot(&[&["train", arg(&recipe), "--out", arg(&out)], more].concat())
    }
}

const RECIPE: &str = r#"
name = "Tiny"
[data]
held_out = { every = 8 }
[[data.texts]]
path = "stories.txt"
[tokenizer]
size = 320
[model]
depth = 2
width = 32
context = 32
experts = { count = 4 }
[train]
steps = 40
rows = 8
micro_rows = 2
context = 32
[schedule]
warm_up = 5
[evaluate]
every = 20
tokens = 640
sample = 12
[checkpoint]
every = 4
[sampling]
temperature = 0.5
repetition_penalty = 1.1
"#;

fn stories(count: usize) -> String {
    let who = ["The king", "The queen", "A fox", "The old man", "The hen"];
    let did = ["went home", "saw a boat", "sang a song", "lost a ring", "found a golden ring"];
    let story = |number: usize| {
        let sentence = |at: usize| {
            let mixed = (number * 31 + at * 17) ^ (at * at + number);
            format!("{} {}.", who[mixed % who.len()], did[mixed / 3 % did.len()])
        };
        (0..20).map(sentence).collect::<Vec<_>>().join("\n\n")
    };
    (0..count).map(story).collect::<Vec<_>>().join("<|endoftext|>")
}

/// It has to fail with this code and say all of these.
#[track_caller]
fn refused(ran: support::Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, Some(code), "{}", ran.stderr);
    for word in words {
        assert!(ran.stderr.contains(word), "no {word:?} in {}", ran.stderr);
    }
}

fn model(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("model.gguf")).unwrap()
}

#[test]
fn from_texts_to_a_model() {
    let folder = Folder::new();
    let report = folder.train("one", &["--json"]).json();
    assert_eq!((report["steps"].as_u64(), report["finished"].as_bool()), (Some(40), Some(true)));
    let bits = report["bits_per_byte"].as_f64().unwrap();
    assert!(bits > 0.1 && bits < 3.5 && report["tokens_per_second"].as_f64().unwrap() > 1.0, "{report}");
    let one = folder.at("one");
    // What was written is a model for every other command.
    let file = one.join("model.gguf");
    let text = chalot(&["run", arg(&file), "-n", "12", "--temp", "0", "-q"]).ok();
    assert!(!text.trim().is_empty());
    let hf = one.join("hf");
    for name in ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"] {
        assert!(hf.join(name).is_file(), "{name}");
    }
    // Both kinds of files recommend the recipe's sampling; flags come first.
    for model in [&file, &hf] {
        let temperature = |more: &[&str]| {
            let report = chalot(&[&["run", arg(model), "-n", "4", "--json"], more].concat()).json();
            report["temperature"].as_f64().unwrap()
        };
        assert_eq!((temperature(&[]), temperature(&["--temp", "0"])), (0.5, 0.0), "{}", model.display());
    }
    assert_eq!(chalot(&["inspect", arg(&file), "--json"]).json()["config"]["name"], "Tiny");
    assert!(fs::read_to_string(hf.join("README.md")).unwrap().contains("# Tiny"));
    // The curves.
    let picture = fs::read_to_string(one.join("curves.svg")).unwrap();
    assert!(picture.contains("bits a byte") && picture.contains("expert load"));
    let both = folder.at("both.svg");
    let text = chalot(&["train", "plot", arg(&one), arg(&one), "--label", "a", "--svg", arg(&both)]).ok();
    assert!(text.contains("1 a\n2 one\n") && text.contains("held-out text"), "{text}");
    assert!(fs::read_to_string(both).unwrap().contains(">one<"));

    // Any number of threads makes the same model, and so does a run that goes on though it is done.
    folder.train("three", &["--threads", "3"]).ok();
    assert!(model(&folder.at("three")) == model(&one));
    folder.train("three", &["--resume"]).ok();
    assert!(model(&folder.at("three")) == model(&one));
}

/// The training loss of each step.
fn losses(run: &Path) -> Vec<f64> {
    let log = fs::read_to_string(run.join("log.jsonl")).unwrap();
    let records = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    records.filter(|record| record["kind"] == "step").map(|record| record["loss"].as_f64().unwrap()).collect()
}

#[test]
fn training_goes_on_from_a_finished_model() {
    let folder = Folder::new();
    folder.train("first", &[]).ok();
    let first = folder.at("first");
    let start = "[start]\nmodel = 'first/model.gguf'\n[tokenizer]\nfile = 'first/model.gguf'";
    fs::write(folder.at("recipe.toml"), RECIPE.replace("[tokenizer]\nsize = 320", start)).unwrap();
    folder.train("second", &[]).ok();
    let (before, after) = (losses(&first), losses(&folder.at("second")));
    // It begins about where the first run ended, and goes on.
    let (begun, ended, end) = (before[0], before[before.len() - 1], after[after.len() - 1]);
    assert!((after[0] - ended).abs() < 0.3 * (begun - ended), "{before:?} {after:?}");
    assert!(end < ended, "{before:?} {after:?}");
    // A model of another architecture is refused by what differs.
    fs::write(
        folder.at("recipe.toml"),
        RECIPE.replace("[tokenizer]\nsize = 320", start).replace("width = 32", "width = 64"),
    )
    .unwrap();
    refused(folder.train("third", &[]), 1, &["start.model", "hidden_size", "32", "64"]);
    fs::write(folder.at("recipe.toml"), RECIPE.replace("size = 320", "file = 'stories.txt'")).unwrap();
    refused(folder.train("fourth", &[]), 1, &["tokenizer.file", "stories.txt", "neither JSON nor GGUF"]);
}

#[test]
fn a_folder_with_a_run_is_not_overwritten() {
    let folder = Folder::new();
    folder.train("run", &[]).ok();
    refused(folder.train("run", &[]), 1, &["40 steps already", "--resume", "--force"]);
    refused(folder.train("run", &["--resume", "--force"]), 2, &["--force"]);
    // Going on with another model, or with other texts, is refused; longer training is not.
    let change = |from: &str, to: &str| {
        fs::write(folder.at("recipe.toml"), RECIPE.replacen(from, to, 1)).unwrap();
    };
    change("width = 32", "width = 64");
    refused(folder.train("run", &["--resume"]), 1, &["model", "undo the change", "--out"]);
    change("size = 320", "size = 300");
    refused(folder.train("run", &["--resume"]), 1, &["data.json", "[tokenizer]", "undo the change"]);
    change("steps = 40", "steps = 44");
    assert_eq!(folder.train("run", &["--resume", "--json"]).json()["steps"], 44);
    change("depth = 2", "deepth = 2");
    refused(folder.train("run", &["--force"]), 1, &["recipe.toml", "line 10", "deepth"]);
    // Where the texts are not, an earlier run stays and no new one is begun.
    change("stories.txt", "tales.txt");
    refused(folder.train("run", &["--force"]), 1, &["tales.txt"]);
    fs::write(folder.at("recipe.toml"), RECIPE.replace("steps = 40", "steps = 48")).unwrap();
    assert_eq!(folder.train("run", &["--resume", "--json"]).json()["steps"], 48);
    change("stories.txt", "tales.txt");
    refused(folder.train("new", &[]), 1, &["tales.txt"]);
    assert!(!folder.at("new").exists());
}

/// Five times here; `CHALOT_KILLS=20 cargo test --release -p chalot --test train kill` for more.
#[test]
fn killed_at_random_moments_it_ends_with_the_same_bits() {
    let folder = Folder::new();
    let begin = Instant::now();
    folder.train("whole", &[]).ok();
    let whole = begin.elapsed();
    let kills = std::env::var("CHALOT_KILLS").map_or(5, |kills| kills.parse().unwrap());
    let mut random = u64::from(std::process::id());
    for _ in 0..kills {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let mut child = command()
            .args(["train", arg(&folder.at("recipe.toml")), "--out", arg(&folder.at("killed")), "--resume"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        sleep(whole.mul_f64((random >> 33) as f64 / (1u64 << 31) as f64 * 0.9));
        child.kill().unwrap();
        child.wait().unwrap();
        // All is done: from the beginning, so that each kill hits a run.
        if folder.at("killed/checkpoints/step-00000040").exists() {
            fs::remove_dir_all(folder.at("killed/checkpoints")).unwrap();
        }
    }
    folder.train("killed", &["--resume"]).ok();
    assert!(model(&folder.at("killed")) == model(&folder.at("whole")));
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_offered() {
    let folder = Folder::new();
    folder.train("run", &[]).ok();
    let expected = model(&folder.at("run"));
    let newest = folder.at("run/checkpoints/step-00000040/weights.safetensors");
    let mut bytes = fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&newest, bytes).unwrap();
    let whole = folder.at("run/checkpoints/step-00000036");
    let error = folder.train("run", &["--resume"]);
    refused(error, 1, &["step-00000040/weights.safetensors", "damaged", "--checkpoint", arg(&whole)]);
    folder.train("run", &["--resume", "--checkpoint", arg(&whole)]).ok();
    assert!(model(&folder.at("run")) == expected);
    folder.train("run", &["--resume"]).ok();
}

#[cfg(unix)]
#[test]
fn ctrl_c_writes_a_checkpoint() {
    let folder = Folder::new();
    fs::write(folder.at("recipe.toml"), RECIPE.replace("steps = 40", "steps = 100000")).unwrap();
    let child = command()
        .args(["train", arg(&folder.at("recipe.toml")), "--out", arg(&folder.at("run"))])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    while !folder.at("run/checkpoints/step-00000004").exists() {
        assert!(begin.elapsed() < Duration::from_secs(60), "no checkpoint");
        sleep(Duration::from_millis(10));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("--resume") && text.contains("checkpoints/step-"),
        "{text}"
    );
}

/// A process that may not write files as large as a checkpoint, which is what a full disk looks like.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_checkpoints_alone() {
    let folder = Folder::new();
    folder.train("whole", &[]).ok();
    fs::write(folder.at("recipe.toml"), RECIPE.replace("every = 4\n", "every = 100\n")).unwrap();
    // A checkpoint of the first ten steps, then no room for the last one.
    fs::create_dir_all(folder.at("run")).unwrap();
    let output = Command::new("bash")
        .args(["-c", "trap '' XFSZ; ulimit -f 40; exec \"$@\"", "-", env!("CARGO_BIN_EXE_chalot"), "train"])
        .args([arg(&folder.at("recipe.toml")), "--out", arg(&folder.at("run"))])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && text.contains("File too large"), "{text}");
    let left: Vec<_> = fs::read_dir(folder.at("run/checkpoints")).map_or(Vec::new(), |left| left.collect());
    assert!(left.is_empty(), "{left:?}");
    folder.train("run", &["--resume"]).ok();
    assert!(model(&folder.at("run")) == model(&folder.at("whole")));
}

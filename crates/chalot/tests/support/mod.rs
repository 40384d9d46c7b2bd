//! Runs the built command and looks at what it prints.
#![allow(dead_code)] // each test file uses a part of this

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// What a run printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// stdout of a run that had to succeed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "stderr: {}", self.stderr);
        self.stdout
    }

    /// stdout as JSON.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

/// The command, with nothing on its stdin and its own cache folder.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chalot"));
    command.stdin(Stdio::null()).env("CHALOT_CACHE", env!("CARGO_TARGET_TMPDIR")).env_remove("NO_COLOR");
    command
}

/// Runs `chalot` with `args`.
pub fn chalot(args: &[&str]) -> Ran {
    run(command().args(args), b"")
}

/// Runs `chalot` with `args` and `input` in a pipe on its stdin.
pub fn chalot_with(input: impl AsRef<[u8]>, args: &[&str]) -> Ran {
    run(command().args(args).stdin(Stdio::piped()), input.as_ref())
}

fn run(command: &mut Command, input: &[u8]) -> Ran {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    if let Some(mut stdin) = child.stdin.take() {
        // A command that refuses its arguments does not read.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The instruction sets of this CPU.
pub fn isas() -> &'static [String] {
    static ISAS: OnceLock<Vec<String>> = OnceLock::new();
    ISAS.get_or_init(|| {
        let report = chalot(&["doctor", "--json"]).json();
        let names = report["instruction_sets"].as_array().unwrap();
        names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    })
}

/// A file of the project's assets, which lie beside a developer's working copy.
pub fn asset(path: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/assets")).join(path);
    there(path)
}

/// A file that was fetched from a package registry.
pub fn test_data(path: &str) -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/test-data");
    let folder = std::env::var_os("CHALOT_TEST_DATA").map_or_else(|| PathBuf::from(default), PathBuf::from);
    there(folder.join(path))
}

fn there(path: PathBuf) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not there", path.file_name().unwrap().display());
    None
}

/// The path as an argument.
pub fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}

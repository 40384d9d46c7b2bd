//! What goes wrong is said in one line, with what to do; the exit code tells a mistake in the call (2) from the rest (1).
mod support;

use std::fs;

use support::{arg, chalot, chalot_with, command};

/// Arguments, exit code, parts of the message.
type Case<'a> = (&'a [&'a str], i32, &'a [&'a str]);

fn check(cases: &[Case]) {
    for (args, code, parts) in cases {
        let ran = chalot(args);
        assert_eq!(ran.code, Some(*code), "{args:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{args:?}");
        assert_eq!(ran.stderr.lines().count(), 1, "{args:?}: not one line: {}", ran.stderr);
        assert!(ran.stderr.starts_with("error: "), "{args:?}: {}", ran.stderr);
        for part in *parts {
            assert!(ran.stderr.contains(part), "{args:?}: no '{part}' in {}", ran.stderr);
        }
    }
}

#[test]
fn mistakes_in_the_call() {
    check(&[
        (&["run", "--tmp", "1"], 2, &["'--tmp'", "--temp", "chalot run --help"]),
        (&["rum"], 2, &["'rum'", "run"]),
        (&["run", "-n", "0"], 2, &["--tokens", "at least 1", "chalot run --help"]),
        (&["run", "--temp", "warm"], 2, &["--temp", "a number"]),
        (&["run", "--temp=-1"], 2, &["--temp", "0 to 100"]),
        (&["run", "--temp", "-1"], 2, &["--temp", "0 to 100"]),
        (&["run", "--top-p", "0"], 2, &["--top-p"]),
        (&["run", "--isa", "mmx"], 2, &["mmx", "scalar", "avx512"]),
        (&["run", "--threads", "0"], 2, &["--threads", "1 to 1024"]),
        (&["run", "-p", "a", "-f", "b"], 2, &["cannot be used with"]),
        (&["convert"], 2, &["<IN>", "<OUT>", "chalot convert --help"]),
        (&["convert", "a", "b", "--to", "int3"], 2, &["int3", "trit2"]),
        (&["perplexity"], 2, &["--file"]),
        (&["tokenizer", "decode", "one"], 2, &["'one'", "whole numbers"]),
        (&["tokenizer", "decode", "4000000000"], 2, &["4000000000", "not in the vocabulary"]),
        (&["tokenizer", "encode"], 2, &["nothing to work on"]),
        (&["completions", "dos"], 2, &["dos", "bash"]),
    ]);
}

#[test]
fn an_instruction_set_of_another_cpu() {
    let other = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
    check(&[(&["run", "--isa", other], 2, &[other, "this CPU lacks it", "scalar"])]);
}

#[test]
fn files_that_are_not_there_or_not_models() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = path("text.txt");
    fs::write(&text, "This is no model.").unwrap();
    let empty = path("empty.gguf");
    fs::write(&empty, "").unwrap();
    let latin1 = path("latin1.txt");
    fs::write(&latin1, b"caf\xe9").unwrap();
    let missing = path("missing.gguf");
    let (text, empty, missing, latin1) = (arg(&text), arg(&empty), arg(&missing), arg(&latin1));
    let out = path("out.gguf");
    let nowhere = path("no/such/folder/out.gguf");
    check(&[
        (&["run", missing], 1, &["missing.gguf", "No such file", "check the path"]),
        (&["chat", missing], 1, &["missing.gguf", "No such file", "check the path"]),
        (&["inspect", missing], 1, &["missing.gguf", "No such file", "check the path"]),
        (&["convert", missing, arg(&out)], 1, &["missing.gguf", "No such file", "check the path"]),
        (&["run", "-f", missing], 1, &["missing.gguf", "No such file"]),
        (&["perplexity", "--file", missing], 1, &["missing.gguf", "No such file"]),
        (&["tokenizer", "count", "--vocab", missing, "a"], 1, &["missing.gguf", "No such file"]),
        (&["run", "--tokenizer", missing], 1, &["missing.gguf", "No such file"]),
        (&["run", text], 1, &["text.txt", "expected a GGUF file"]),
        (&["inspect", empty], 1, &["empty.gguf", "empty"]),
        (&["run", arg(folder.path())], 1, &["config.json"]),
        (&["run", "-f", latin1], 1, &["latin1.txt", "byte 3", "UTF-8"]),
        (&["tokenizer", "count", "--vocab", text, "a"], 1, &["text.txt", "tokenizer.json"]),
        (&["convert", text, text], 1, &["text.txt", "exists already", "--force"]),
        (&["convert", text, arg(folder.path())], 1, &["is a folder"]),
        (&["convert", text, arg(&nowhere)], 1, &["no folder"]),
    ]);
}

#[test]
fn what_the_model_cannot_do() {
    let long = "The little girl went into the wood. ".repeat(100);
    check(&[
        (&["run", "-p", &long], 1, &["the prompt has", "more than the context of 512", "shorten it"]),
        (
            &["run", "-p", "The little girl went into the wood", "--ctx", "4"],
            1,
            &["more than the context of 4", "--ctx (up to 512"],
        ),
        (&["run", "--ctx", "100000"], 1, &["100000", "512"]),
    ]);
    let short = tempfile::NamedTempFile::new().unwrap();
    fs::write(short.path(), "Too short.").unwrap();
    check(&[(&["perplexity", "--file", arg(short.path())], 2, &["fewer than one piece of 512", "--ctx"])]);
}

#[test]
fn damaged_files_and_unknown_architectures() {
    let folder = tempfile::tempdir().unwrap();
    let whole = chalot::builtin();
    let cut = folder.path().join("cut.gguf");
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let stranger = folder.path().join("stranger.gguf");
    chalot::formats::gguf::Header::new()
        .set("general.architecture", "mamba")
        .create(&stranger)
        .and_then(|file| file.finish())
        .unwrap();
    let (cut, stranger) = (arg(&cut), arg(&stranger));
    check(&[
        (&["run", cut], 1, &["cut.gguf", "again"]),
        (&["inspect", cut], 1, &["cut.gguf", "again"]),
        (&["run", stranger], 1, &["stranger.gguf", "'mamba' is not supported", "llama"]),
    ]);
    // What is in it can still be seen.
    assert!(chalot(&["inspect", stranger]).ok().contains("mamba"));
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    use std::{io::Read, process::Stdio};
    let mut child =
        command().args(["run", "-n", "200"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 8];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap(); // and closed
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(!stderr.contains("error") && !stderr.contains("panicked"), "{stderr}");
}

#[test]
#[cfg(unix)]
fn an_interrupt_ends_a_run_cleanly_with_its_figures() {
    use std::{io::Read, process::Stdio};
    let mut child = command()
        .args(["run", "-n", "500", "--ignore-eos", "--isa", "scalar", "--threads", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut first = [0; 4];
    stdout.read_exact(&mut first).unwrap(); // it is generating
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("generated: "), "{stderr}");
}

#[test]
fn a_chat_without_a_terminal_ends_at_its_first_error() {
    let long = "word ".repeat(3000);
    let ran = chalot_with("/nonsense\n", &["chat"]);
    assert!(ran.stderr.contains("no command /nonsense"), "{}", ran.stderr);
    assert_eq!(ran.code, Some(0));
    // A line longer than the context loses its beginning and is answered all the same.
    let ran = chalot_with(long, &["chat", "-n", "3", "--temp", "0"]);
    assert!(ran.stderr.contains("the context is full"), "{}", ran.stderr);
    ran.ok();
}

//! A run that is killed at any moment, again and again, ends as if nothing had happened.
//!
//! `CHALOT_KILLS=20 cargo test -p chalot-train killed` kills more often than the usual five times.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::*;
use crate::random::Random;

/// Where the child works; without it the test that is the child does nothing.
const FOLDER: &str = "CHALOT_KILLED_RUN";

/// The process that is killed: this very test, alone.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let prepared = Prepared::open(&recipe(), &folder.join("data")).unwrap();
    println!("ready");
    let mut slow = Hears(|event: Event| {
        // So that a kill hits steps, measurements and checkpoints alike.
        if matches!(event, Event::Step { .. }) {
            sleep(Duration::from_millis(5));
        }
        ControlFlow::Continue(())
    });
    let outcome = train(folder, &prepared, 2.0, true, &mut slow).unwrap();
    assert!(matches!(outcome, Outcome::Finished { .. }));
    println!("finished");
}

fn spawn(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "run::tests::killed::child", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Reads the child's words until `wanted`; whether it came.
fn hear(child: &mut Child, wanted: &str) -> bool {
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    loop {
        line.clear();
        if out.read_line(&mut line).unwrap() == 0 {
            return false;
        }
        if line.trim_end().ends_with(wanted) {
            child.stdout = Some(out.into_inner());
            return true;
        }
    }
}

#[test]
fn killed_at_random_moments_it_ends_with_the_same_bits() {
    let whole = tempfile::tempdir().unwrap();
    let texts = prepared(whole.path());
    train(whole.path(), &texts, 2.0, false, &mut go_on()).unwrap();

    let folder = tempfile::tempdir().unwrap();
    prepared(folder.path());
    let wanted = std::env::var("CHALOT_KILLS").map_or(5, |kills| kills.parse().unwrap());
    let mut random = Random::new(&[u64::from(std::process::id())]);
    let mut kills = 0;
    while kills < wanted {
        let mut child = spawn(folder.path());
        assert!(hear(&mut child, "ready"), "the child failed after {kills} kills");
        sleep(Duration::from_micros(random.below(200_000) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        let kept = checkpoints(folder.path(), &recipe()).list().unwrap();
        if kept.first().is_some_and(|newest| newest.0 == 40) {
            // Done already: from the beginning, so that every kill hits a run.
            checkpoints(folder.path(), &recipe()).remove().unwrap();
        }
    }
    let mut child = spawn(folder.path());
    assert!(hear(&mut child, "finished"));
    assert!(child.wait().unwrap().success());
    let model = |folder: &Path| fs::read(model_file(folder)).unwrap();
    assert!(model(folder.path()) == model(whole.path()));
    let newest = |folder: &Path| checkpoints(folder, &recipe()).newest().unwrap().unwrap();
    for file in ["weights.safetensors", "optimizer.safetensors"] {
        assert!(
            newest(folder.path()).file(file).unwrap() == newest(whole.path()).file(file).unwrap(),
            "{file}"
        );
    }
}

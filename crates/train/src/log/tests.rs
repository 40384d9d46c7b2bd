use super::*;

fn step(step: u64) -> Record {
    let experts = Some(ExpertLoad { most: 1.5, least: 0.5 });
    Record::Step(Step { step, loss: 3.0 / step as f64, exit_loss: Some(4.0), experts, ..Step::default() })
}

#[test]
fn a_run_that_goes_on_forgets_what_came_later() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::open(folder.path(), 0).unwrap();
    log.write(&Record::Start(Start { name: "a".into(), ..Start::default() })).unwrap();
    for number in 1..=5 {
        log.write(&step(number)).unwrap();
    }
    let sample = Some("Once\nupon".into());
    log.write(&Record::HeldOut(HeldOut { step: 5, loss: 1.0, sample, ..HeldOut::default() })).unwrap();
    assert_eq!(read(folder.path()).unwrap().len(), 7);
    // Killed in the middle of a line.
    let path = folder.path().join(FILE);
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str("{\"kind\": \"st");
    fs::write(&path, text).unwrap();
    assert_eq!(read(folder.path()).unwrap().len(), 7);

    let mut log = Log::open(folder.path(), 3).unwrap();
    log.write(&step(4)).unwrap();
    let steps: Vec<_> = read(&path).unwrap().iter().map(Record::step).collect();
    assert_eq!(steps, [None, Some(1), Some(2), Some(3), Some(4)]);
    assert_eq!(fs::read_dir(folder.path().join(EVENTS)).unwrap().count(), 2);
    // A new run begins with nothing.
    Log::open(folder.path(), 0).unwrap();
    assert!(read(folder.path()).unwrap().is_empty());
    assert_eq!(fs::read_dir(folder.path().join(EVENTS)).unwrap().count(), 1);
}

#[test]
fn a_damaged_line_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(FILE), "{\"kind\":\"step\"}\n").unwrap();
    let error = read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("log.jsonl: line 1") && error.contains("missing field"), "{error}");
}

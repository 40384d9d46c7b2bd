use std::cell::Cell;

use super::*;

fn put(checkpoints: &Checkpoints, step: u64) -> PathBuf {
    let weights = vec![Tensor { name: "w".into(), shape: vec![2, 3], data: vec![step as f32; 6].into() }];
    checkpoints
        .write(
            step,
            &[
                ("weights.safetensors", &|out: &mut dyn Write| write_tensors(out, &weights)),
                ("state.json", &|out: &mut dyn Write| write!(out, "{{\"step\": {step}}}")),
            ],
        )
        .unwrap()
}

fn steps(checkpoints: &Checkpoints) -> Vec<u64> {
    checkpoints.list().unwrap().into_iter().map(|(step, _)| step).collect()
}

#[test]
fn the_newest_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(&folder.path().join("deep/checkpoints"), 2);
    assert!(checkpoints.newest().unwrap().is_none());
    for step in [10, 20, 30] {
        put(&checkpoints, step);
    }
    assert_eq!(steps(&checkpoints), [30, 20]);
    let newest = checkpoints.newest().unwrap().unwrap();
    assert_eq!((newest.step, newest.file("state.json").unwrap()), (30, &b"{\"step\": 30}"[..]));
    let tensors = read_tensors(&newest, "weights.safetensors").unwrap();
    assert_eq!(tensors, [Tensor { name: "w".into(), shape: vec![2, 3], data: vec![30.0; 6].into() }]);
    assert!(matches!(newest.file("other"), Err(CheckpointError::Damaged { .. })));
    // A run that goes on from an earlier one comes by the same step again.
    put(&checkpoints, 30);
    assert_eq!(steps(&checkpoints), [30, 20]);
}

#[test]
fn any_damage_is_found_and_the_one_before_offered() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path(), 2);
    let old = put(&checkpoints, 1);
    let new = put(&checkpoints, 2);
    for name in ["weights.safetensors", "state.json", "manifest.json"] {
        let path = new.join(name);
        let bytes = fs::read(&path).unwrap();
        let mut damaged: Vec<Option<Vec<u8>>> =
            vec![None, Some(Vec::new()), Some(bytes[..bytes.len() - 1].to_vec())];
        for at in (0..bytes.len()).step_by(3) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            damaged.push(Some(flipped));
        }
        for bytes in damaged {
            match &bytes {
                Some(bytes) => fs::write(&path, bytes).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            match checkpoints.newest() {
                Err(error @ CheckpointError::Damaged { .. }) => {
                    let text = error.to_string();
                    assert!(
                        text.contains("step-00000002") && text.contains(&old.display().to_string()),
                        "{text}"
                    );
                }
                // White space of the manifest says nothing.
                Ok(Some(whole)) => assert!(name == "manifest.json" && whole.step == 2),
                other => panic!("{other:?}"),
            }
        }
        fs::write(&path, &bytes).unwrap();
        assert_eq!(checkpoints.newest().unwrap().unwrap().step, 2);
    }
    fs::remove_file(old.join("state.json")).unwrap();
    fs::remove_file(new.join("state.json")).unwrap();
    let text = checkpoints.newest().unwrap_err().to_string();
    assert!(text.contains("state.json") && text.contains("without --resume"), "{text}");
}

#[test]
fn a_failed_attempt_leaves_the_others_alone() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path(), 2);
    put(&checkpoints, 1);
    put(&checkpoints, 2);
    let room = Cell::new(1000);
    let full = |out: &mut dyn Write| {
        for _ in 0..10 {
            out.write_all(&[0; 300])?;
            room.set(room.get() - 300);
            if room.get() < 0 {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
        }
        Ok(())
    };
    let error = checkpoints.write(3, &[("weights.safetensors", &full)]).unwrap_err();
    assert!(error.to_string().contains("weights.safetensors"), "{error}");
    assert_eq!(steps(&checkpoints), [2, 1]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    // What a killed process left is removed by the next one.
    let left = folder.path().join(".part-00000003");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("weights.safetensors"), "half").unwrap();
    put(&checkpoints, 3);
    assert_eq!((steps(&checkpoints), left.exists()), (vec![3, 2], false));
}

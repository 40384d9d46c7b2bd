//! Damaged files: an error of one line or a model, never a panic.
use std::path::Path;

use chalot_formats::gguf::Gguf;
use chalot_model::{LoadOptions, Source, write_native};
use chalot_tensor::exec::Exec;
use proptest::prelude::*;

use crate::support::{exec, golden, load, tiny_gguf};

/// A small native file and where its header ends.
fn small_native() -> (Vec<u8>, usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("native.gguf");
    write_native(&load(&golden("qwen3-moe")).unwrap(), &[], &path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let end = header_end(&bytes);
    (bytes, end)
}

fn header_end(bytes: &[u8]) -> usize {
    let gguf = Gguf::parse("test", bytes).unwrap();
    gguf.tensors.iter().map(|tensor| tensor.range.start).min().unwrap()
}

/// Loads a damaged model; an error must be one line that names the file.
fn try_load(path: &Path, exec: &Exec) -> Result<(), TestCaseError> {
    let result = Source::open(path).and_then(|source| {
        source.describe();
        source.load(exec, &LoadOptions::default())
    });
    if let Err(error) = result {
        let error = error.to_string();
        prop_assert!(error.contains("damaged") && !error.contains('\n'), "{error}");
    }
    Ok(())
}

fn try_bytes(bytes: &[u8], exec: &Exec) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.gguf");
    std::fs::write(&path, bytes).unwrap();
    try_load(&path, exec)
}

/// One bit, and perhaps one byte elsewhere.
fn damage(len: usize) -> impl Strategy<Value = (usize, u32, Option<(usize, u8)>)> {
    (0..len, 0u32..8, prop::option::of((0..len, any::<u8>())))
}

fn damaged(bytes: &[u8], (at, bit, more): (usize, u32, Option<(usize, u8)>)) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1 << bit;
    if let Some((at, byte)) = more {
        bytes[at] = byte;
    }
    bytes
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

#[test]
fn native_files() {
    let (bytes, header) = small_native();
    let exec = exec();
    proptest!(cases(400), |(place in damage(header))| {
        try_bytes(&damaged(&bytes, place), &exec)?;
    });
}

/// Digits of the configuration and of the specifications, one after the other: the numbers that lie most
/// credibly.
#[test]
fn numbers_in_native_files() {
    let (bytes, header) = small_native();
    let exec = exec();
    let digits: Vec<usize> = (0..header).filter(|&at| bytes[at].is_ascii_digit()).collect();
    for &at in digits.iter().step_by(digits.len() / 250 + 1) {
        for digit in [b'0', b'9'] {
            let mut damaged = bytes.clone();
            damaged[at] = digit;
            try_bytes(&damaged, &exec).unwrap();
        }
    }
}

#[test]
fn truncated_native_files() {
    let (bytes, header) = small_native();
    let exec = exec();
    for len in [0, 3, 24, header / 2, header - 1, header, bytes.len() / 2, bytes.len() - 4096] {
        try_bytes(&bytes[..len], &exec).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.gguf");
        std::fs::write(&path, &bytes[..len]).unwrap();
        assert!(load(&path).is_err(), "{len} bytes");
    }
}

#[test]
fn foreign_gguf_files() {
    let bytes = tiny_gguf("llama").bytes();
    let header = header_end(&bytes);
    let exec = exec();
    proptest!(cases(400), |(place in damage(header))| {
        try_bytes(&damaged(&bytes, place), &exec)?;
    });
}

#[test]
fn hugging_face_folders() {
    let exec = exec();
    for name in ["bitnet", "qwen3-moe", "gemma3"] {
        let json = std::fs::read(golden(name).join("config.json")).unwrap();
        let weights = std::fs::read(golden(name).join("model.safetensors")).unwrap();
        let header = 8 + usize::try_from(u64::from_le_bytes(*weights.first_chunk().unwrap())).unwrap();
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("damaged");
        std::fs::create_dir(&folder).unwrap();
        let config = folder.join("config.json");
        let tensors = folder.join("model.safetensors");
        std::fs::write(&tensors, &weights).unwrap();
        proptest!(cases(150), |(place in damage(json.len()))| {
            std::fs::write(&config, damaged(&json, place)).unwrap();
            try_load(&folder, &exec)?;
        });
        std::fs::write(&config, &json).unwrap();
        proptest!(cases(150), |(place in damage(header))| {
            std::fs::write(&tensors, damaged(&weights, place)).unwrap();
            try_load(&folder, &exec)?;
        });
    }
}

/// The scales at the ends of rows, the codes: what the data say is weights and nothing else.
#[test]
fn damaged_weights_are_just_weights() {
    let bytes = tiny_gguf("llama").bytes();
    let exec = exec();
    proptest!(cases(50), |(place in damage(bytes.len() - header_end(&bytes)))| {
        let (at, bit, more) = place;
        let header = header_end(&bytes);
        let place = (at + header, bit, more.map(|(at, byte)| (at + header, byte)));
        try_bytes(&damaged(&bytes, place), &exec)?;
    });
}

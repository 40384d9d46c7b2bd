//! GGUF files that lie, one lie each: the kind of the error, and that its message names file and place.

mod common;

use chalot_formats::gguf::Gguf;
use chalot_formats::{ErrorKind, TensorType};
use common::{RawGguf, string};
use proptest::prelude::*;

fn u64s(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn array(type_id: u32, count: u64, items: &[u8]) -> Vec<u8> {
    [&type_id.to_le_bytes()[..], &count.to_le_bytes(), items].concat()
}

#[track_caller]
fn refuse(raw: RawGguf, kind: ErrorKind, place: &str) {
    refuse_bytes(&raw.bytes(), kind, place);
}

#[track_caller]
fn refuse_bytes(bytes: &[u8], kind: ErrorKind, place: &str) {
    let error = Gguf::parse("evil.gguf", bytes).expect_err("a lie was believed");
    let text = error.to_string();
    assert_eq!(error.kind, kind, "{text}");
    assert!(text.starts_with("evil.gguf: ") && text.contains(place), "{text}");
    assert!(!text.contains('\n') && text.len() < 600, "{text}");
}

const F32: u32 = 0;

fn raw() -> RawGguf {
    RawGguf::default()
}

#[test]
fn the_preamble() {
    refuse_bytes(b"", ErrorKind::Truncated, "magic");
    refuse_bytes(b"GGML\x03\0\0\0", ErrorKind::NotThisFormat, "magic");
    refuse_bytes(b"GGUF\x03\0", ErrorKind::Truncated, "version");
    for version in [0, 1, 4, u32::MAX] {
        refuse(RawGguf { version, ..raw() }, ErrorKind::Unsupported, "version");
    }
    refuse(RawGguf { version: 3u32.swap_bytes(), ..raw() }, ErrorKind::Unsupported, "big-endian");
    assert_eq!(Gguf::parse("f", &RawGguf { version: 2, ..raw() }.bytes()).unwrap().version, 2);
}

#[test]
fn counts() {
    for count in [1, 1 << 20, 1 << 32, 1 << 62, u64::MAX] {
        let evil = RawGguf { pair_count: Some(count), alignment: 1, ..raw() };
        refuse(evil, ErrorKind::TooLarge, "metadata count");
        let evil = RawGguf { tensor_count: Some(count), alignment: 1, ..raw() };
        refuse(evil, ErrorKind::TooLarge, "tensor count");
    }
}

#[test]
fn strings_and_values() {
    let length_of = |length: u64| [&length.to_le_bytes()[..], b"abc"].concat();
    for length in [4, 1 << 33, 1 << 63, u64::MAX] {
        let evil = RawGguf { alignment: 1, ..raw() }.pair(b"k", 8, &length_of(length));
        refuse(evil, ErrorKind::TooLarge, "metadata key \"k\"");
    }
    refuse(raw().pair(b"k", 8, &string(b"\xff")), ErrorKind::Malformed, "metadata key \"k\"");
    refuse(raw().pair(b"\xff", 0, &[0]), ErrorKind::Malformed, "metadata key number 0");
    refuse(raw().pair(b"k", 7, &[2]), ErrorKind::Malformed, "boolean");
    refuse(raw().pair(b"k", 13, &[0; 8]), ErrorKind::Malformed, "value type 13");
    refuse(raw().pair(b"k", 0, &[1]).pair(b"k", 0, &[2]), ErrorKind::Duplicate, "metadata key \"k\"");
    let long = vec![b'\n'; 5000];
    refuse(raw().pair(&long, 13, &[]), ErrorKind::Malformed, "metadata key");
}

#[test]
fn arrays() {
    for (type_id, size) in [(0, 1), (2, 2), (6, 4), (7, 1), (8, 8), (9, 12), (12, 8)] {
        for count in [2 + 32 / size, 1 << 40, u64::MAX / size, u64::MAX] {
            let evil = raw().pair(b"k", 9, &array(type_id, count, &[0]));
            refuse(evil, ErrorKind::TooLarge, "metadata key \"k\"");
        }
    }
    refuse(raw().pair(b"k", 9, &array(13, 0, &[])), ErrorKind::Malformed, "value type 13");
    refuse(raw().pair(b"k", 9, &array(7, 3, &[0, 1, 2])), ErrorKind::Malformed, "boolean");
    refuse(raw().pair(b"k", 9, &array(8, 1, &string(b"\xc3"))), ErrorKind::Malformed, "UTF-8");
    let nest = |depth| (1..depth).fold(array(0, 0, &[]), |inner, _| array(9, 1, &inner));
    assert!(Gguf::parse("f", &raw().pair(b"k", 9, &nest(8)).bytes()).is_ok());
    refuse(raw().pair(b"k", 9, &nest(9)), ErrorKind::TooLarge, "nested");
    refuse(raw().pair(b"k", 9, &nest(2_000)), ErrorKind::TooLarge, "nested");
}

#[test]
fn alignments() {
    for alignment in [0u32, 3, 24, 33, u32::MAX] {
        let evil = raw().pair(b"general.alignment", 4, &alignment.to_le_bytes());
        refuse(evil, ErrorKind::Malformed, "general.alignment");
    }
    refuse(raw().pair(b"general.alignment", 8, &string(b"32")), ErrorKind::WrongType, "general.alignment");
    let huge = raw().pair(b"general.alignment", 10, &u64s(&[1 << 63]));
    refuse(huge.tensor(b"t", &[1], F32, 0).data(vec![0; 64]), ErrorKind::Truncated, "tensor \"t\"");
    refuse(raw().tensor(b"t", &[1], F32, 4).data(vec![0; 64]), ErrorKind::Misaligned, "tensor \"t\"");
}

#[test]
fn dimensions() {
    let with = |dims: &[u64]| raw().tensor(b"t", dims, F32, 0).data(vec![0; 64]);
    refuse(with(&[1, 1, 1, 1, 1]), ErrorKind::TooLarge, "5 dimensions");
    refuse(with(&[0]), ErrorKind::Malformed, "dimension 0 of 0");
    refuse(with(&[4, 0]), ErrorKind::Malformed, "dimension 1 of 0");
    refuse(with(&[1 << 32, 1 << 32]), ErrorKind::TooLarge, "tensor \"t\"");
    refuse(with(&[u64::MAX, u64::MAX, u64::MAX, u64::MAX]), ErrorKind::TooLarge, "tensor \"t\"");
    refuse(with(&[1 << 62]), ErrorKind::Truncated, "tensor \"t\"");
    refuse(with(&[u64::MAX]), ErrorKind::Truncated, "tensor \"t\"");
    refuse(with(&[17]), ErrorKind::Truncated, "68 bytes");
    assert!(Gguf::parse("f", &with(&[16]).bytes()).is_ok());
    assert_eq!(Gguf::parse("f", &with(&[]).bytes()).unwrap().tensors[0].elements(), 1);
    let mut evil = with(&[1]).header();
    let count_at = evil.len() - (8 + 4 + 8 + 4);
    evil[count_at..count_at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    refuse_bytes(&evil, ErrorKind::TooLarge, "4294967295 dimensions");
}

#[test]
fn places() {
    let data = || raw().data(vec![0; 128]);
    refuse(data().tensor(b"t", &[1], F32, 160), ErrorKind::Truncated, "tensor \"t\"");
    refuse(data().tensor(b"t", &[1], F32, 1 << 63), ErrorKind::Truncated, "tensor \"t\"");
    refuse(data().tensor(b"t", &[1], F32, u64::MAX - 31), ErrorKind::Truncated, "tensor \"t\"");
    let two =
        |first: u64, second: u64| data().tensor(b"a", &[16], F32, first).tensor(b"b", &[16], F32, second);
    assert!(Gguf::parse("f", &two(0, 64).bytes()).is_ok());
    assert!(Gguf::parse("f", &two(64, 0).bytes()).is_ok());
    refuse(two(0, 32), ErrorKind::Overlap, "tensor \"a\"");
    refuse(two(32, 0), ErrorKind::Overlap, "tensor \"b\"");
    refuse(two(0, 0), ErrorKind::Overlap, "tensor");
    let twice = data().tensor(b"a", &[1], F32, 0).tensor(b"a", &[1], F32, 32);
    refuse(twice, ErrorKind::Duplicate, "tensor \"a\"");
    refuse(data().tensor(b"\xff\xfe", &[1], F32, 0), ErrorKind::Malformed, "name of tensor number 0");
    refuse(data().tensor(b"t", &[16, 2], 8, 0), ErrorKind::Malformed, "whole blocks of 32 weights");
    refuse(data().tensor(b"t", &[100], 36, 0), ErrorKind::Malformed, "whole blocks of 128 weights");
}

#[test]
fn unknown_types_are_listed_and_not_decoded() {
    let file = raw().tensor(b"t", &[7], 999, 0).tensor(b"u", &[1], F32, 64).data(vec![0; 68]).bytes();
    let gguf = Gguf::parse("f", &file).unwrap();
    let t = gguf.tensor("t").unwrap();
    assert_eq!((t.ty, t.range.len()), (TensorType::Unknown(999), 64));
    let error = gguf.view("t", &file).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(error.to_string().contains("tensor \"t\": found type 999"), "{error}");
    assert_eq!(gguf.view("x", &file).unwrap_err().kind, ErrorKind::Missing);
    assert_eq!(gguf.view("u", &file[..64]).unwrap_err().kind, ErrorKind::Truncated);
}

/// Id 42 stands for two layouts; the distance between tensors tells which.
#[test]
fn q2_0_is_told_by_its_size() {
    // Tensors of n weights one after the other, each padded to 32, as blocks of `bytes` for `weights`.
    let parse = |weights: u64, bytes: u64, sizes: &[u64], cut: usize| {
        let (mut file, mut data) = (raw(), Vec::new());
        for (index, n) in sizes.iter().enumerate() {
            file = file.tensor(format!("t{index}").as_bytes(), &[*n], 42, data.len() as u64);
            data.extend(vec![0x55; (n / weights * bytes) as usize]);
            data.resize(data.len().next_multiple_of(32), 0);
        }
        data.truncate(data.len() - cut);
        Gguf::parse("f", &file.data(data).bytes())
    };
    let types = |gguf: Gguf| gguf.tensors.iter().map(|t| t.ty).collect::<Vec<_>>();
    // Large tensors differ by more than the padding; small ones follow them.
    assert_eq!(types(parse(64, 18, &[128, 8192], 0).unwrap()), [TensorType::Q2_0; 2]);
    assert_eq!(types(parse(128, 34, &[128, 8192], 0).unwrap()), [TensorType::PQ2_0; 2]);
    assert_eq!(types(parse(128, 34, &[8192, 128, 8192], 0).unwrap()), [TensorType::PQ2_0; 3]);
    // Where nothing tells, the mainline form.
    assert_eq!(types(parse(64, 18, &[128], 0).unwrap()), [TensorType::Q2_0]);
    // The last tensor need not be padded.
    assert_eq!(types(parse(128, 34, &[8192], 0).unwrap()), [TensorType::PQ2_0]);
    assert_eq!(types(parse(64, 18, &[64 * 7], 2).unwrap()), [TensorType::Q2_0]);
    // A file of the mainline form that was cut is not taken for one of the older form.
    assert_eq!(parse(64, 18, &[8192, 8192], 40).unwrap_err().kind, ErrorKind::Truncated);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn noise_is_never_believed_blindly(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Gguf::parse("f", &noise);
        let mut bytes = common::tiny_gguf().bytes();
        let at = noise.len() * 2 % bytes.len();
        let end = (at + noise.len()).min(bytes.len());
        bytes[at..end].copy_from_slice(&noise[..end - at]);
        if let Ok(gguf) = Gguf::parse("f", &bytes) {
            for tensor in &gguf.tensors {
                prop_assert!(tensor.range.end <= bytes.len());
                let _ = gguf.view(&tensor.name, &bytes).and_then(|view| view.to_f32());
            }
        }
    }
}

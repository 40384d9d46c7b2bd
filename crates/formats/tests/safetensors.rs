//! Safetensors: files of the reference crate are read, files that lie are refused.

use std::collections::HashMap;

use chalot_formats::ErrorKind;
use chalot_formats::safetensors::{Dtype, SafeTensors, ShardIndex, Shards, shard_paths};
use proptest::prelude::*;
use safetensors::tensor::{TensorView, serialize};

fn file(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
}

#[track_caller]
fn refuse(bytes: &[u8], kind: ErrorKind, part: &str) {
    let error = SafeTensors::parse("evil.safetensors", bytes).expect_err("a lie was believed");
    let text = error.to_string();
    assert_eq!(error.kind, kind, "{text}");
    assert!(text.starts_with("evil.safetensors: ") && text.contains(part) && !text.contains('\n'), "{text}");
}

#[test]
fn lies_are_refused() {
    refuse(b"", ErrorKind::Truncated, "header length");
    refuse(&u64::MAX.to_le_bytes(), ErrorKind::TooLarge, "header length");
    refuse(&100u64.to_le_bytes(), ErrorKind::Truncated, "header length");
    refuse(&file("{", 0), ErrorKind::Malformed, "JSON");
    refuse(&file("[]", 0), ErrorKind::Malformed, "JSON");
    refuse(&file("{\"\u{e9}", 0)[..11], ErrorKind::Truncated, "header");
    let tensor = |name: &str, dtype: &str, shape: &str, start: u64, end: u64| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{start},{end}]}}"#)
    };
    let one = |dtype: &str, shape: &str, start: u64, end: u64| {
        format!("{{{}}}", tensor("t", dtype, shape, start, end))
    };
    assert!(SafeTensors::parse("f", &file(&one("F32", "2", 0, 8), 8)).is_ok());
    refuse(&file(&one("F32", "2", 0, 8), 7), ErrorKind::Truncated, "tensor \"t\"");
    refuse(&file(&one("F32", "2", 0, 8), 9), ErrorKind::Malformed, "end of the data");
    refuse(&file(&one("F32", "3", 0, 8), 8), ErrorKind::Malformed, "tensor \"t\"");
    refuse(&file(&one("F32", "2", 8, 0), 8), ErrorKind::Malformed, "tensor \"t\"");
    refuse(&file(&one("F32", "2", 4, 12), 12), ErrorKind::Malformed, "from byte 0");
    refuse(&file(&one("F33", "2", 0, 8), 8), ErrorKind::Malformed, "F33");
    refuse(&file(&one("F32", "-2", 0, 8), 8), ErrorKind::Malformed, "JSON");
    refuse(&file(&one("F32", "2.5", 0, 8), 8), ErrorKind::Malformed, "JSON");
    refuse(&file(&one("F32", "1,1,1,1,1,1,1,1,2", 0, 8), 8), ErrorKind::Malformed, "8 dimensions");
    refuse(&file(&one("U8", "18446744073709551615", 0, u64::MAX), 8), ErrorKind::Truncated, "tensor \"t\"");
    refuse(&file(&one("F32", "4611686018427387906,1", 0, 8), 8), ErrorKind::Malformed, "tensor \"t\"");
    refuse(&file(&one("F32", "4294967296,4294967296", 0, 8), 8), ErrorKind::Malformed, "tensor \"t\"");
    let two = |a: &str, b: &str| file(&format!("{{{a},{b}}}"), 16);
    refuse(
        &two(&tensor("a", "U8", "16", 0, 16), &tensor("b", "U8", "8", 8, 16)),
        ErrorKind::Overlap,
        "tensor \"b\"",
    );
    refuse(
        &two(&tensor("a", "U8", "8", 0, 8), &tensor("a", "U8", "8", 8, 16)),
        ErrorKind::Duplicate,
        "tensor \"a\"",
    );
    refuse(&two(r#""__metadata__":{}"#, r#""__metadata__":{}"#), ErrorKind::Malformed, "__metadata__");
    refuse(
        &file(r#"{"t":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#, 0),
        ErrorKind::Malformed,
        "twice",
    );
    refuse(&file(r#"{"t":{"dtype":"U8","shape":[0]}}"#, 0), ErrorKind::Malformed, "data_offsets");
}

#[test]
fn floats_decode_and_other_dtypes_do_not() {
    let header = r#"{"f":{"dtype":"F16","shape":[1,2],"data_offsets":[0,4]},"i":{"dtype":"I64","shape":[],"data_offsets":[4,12]}}"#;
    let mut bytes = file(header, 0);
    bytes.extend([0x00, 0x3c, 0x00, 0xc0, 7, 0, 0, 0, 0, 0, 0, 0]);
    let parsed = SafeTensors::parse("f", &bytes).unwrap();
    let f = parsed.tensor("f").unwrap();
    let view = parsed.view(f, &bytes).unwrap();
    assert_eq!((view.rows(), view.cols(), view.to_f32().unwrap()), (1, 2, vec![1.0, -2.0]));
    assert_eq!(view.rows_u16(0..1).unwrap(), [0x3c00, 0xc000]);
    let i = parsed.tensor("i").unwrap();
    assert_eq!((i.dtype, i.elements(), parsed.data(i, &bytes).unwrap()[0]), (Dtype::I64, 1, 7));
    assert_eq!(parsed.view(i, &bytes).unwrap_err().kind, ErrorKind::Unsupported);
    assert_eq!(parsed.data(i, &bytes[..20]).unwrap_err().kind, ErrorKind::Truncated);
    assert!(parsed.tensor("x").is_none());
}

#[test]
fn shards_are_found_joined_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    assert_eq!(shard_paths(folder.path()).unwrap_err().kind, ErrorKind::Missing);
    std::fs::write(at("model.safetensors"), "").unwrap();
    assert_eq!(shard_paths(folder.path()).unwrap(), [at("model.safetensors")]);

    let index = r#"{"metadata":{"total_size":1},"weight_map":{"b":"m2.safetensors","a":"m1.safetensors","c":"m2.safetensors"}}"#;
    std::fs::write(at("model.safetensors.index.json"), index).unwrap();
    let error = shard_paths(folder.path()).unwrap_err();
    assert!(error.kind == ErrorKind::Missing && error.to_string().contains("m2.safetensors"), "{error}");
    std::fs::write(at("m1.safetensors"), "").unwrap();
    std::fs::write(at("m2.safetensors"), "").unwrap();
    assert_eq!(shard_paths(folder.path()).unwrap(), [at("m2.safetensors"), at("m1.safetensors")]);

    let parse = |name: &str, tensors: &[&str]| {
        let entries: Vec<String> = tensors
            .iter()
            .enumerate()
            .map(|(i, t)| format!(r#""{t}":{{"dtype":"U8","shape":[1],"data_offsets":[{i},{}]}}"#, i + 1))
            .collect();
        SafeTensors::parse(name, &file(&format!("{{{}}}", entries.join(",")), tensors.len())).unwrap()
    };
    let shards = Shards::new(vec![parse("m1", &["a"]), parse("m2", &["c", "b"])]).unwrap();
    assert_eq!(shards.tensor("b").map(|(f, t)| (f, t.name.as_str())), Some((1, "b")));
    assert_eq!(
        shards.iter().map(|(f, t)| (f, t.name.as_str())).collect::<Vec<_>>(),
        [(0, "a"), (1, "b"), (1, "c")]
    );
    let index = ShardIndex::parse("index", index.as_bytes()).unwrap();
    shards.check(&index).unwrap();
    let partial = Shards::new(vec![parse("m1", &["a"])]).unwrap();
    assert_eq!(partial.check(&index).unwrap_err().kind, ErrorKind::Missing);
    let twice = Shards::new(vec![parse("m1", &["a"]), parse("m2", &["a"])]).unwrap_err();
    assert!(twice.kind == ErrorKind::Duplicate && twice.to_string().contains("m2"), "{twice}");
}

#[test]
fn an_index_cannot_lead_out_of_its_folder() {
    for name in [
        "../w.safetensors",
        "/etc/passwd",
        "a/b.safetensors",
        "a\\\\b.safetensors",
        "..",
        "",
        "C:x.safetensors",
        "x.bin",
    ] {
        let index = format!(r#"{{"weight_map":{{"a":"{name}"}}}}"#);
        let error = ShardIndex::parse("index", index.as_bytes()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Malformed, "{name}: {error}");
    }
    for index in ["{}", "[]", r#"{"weight_map":{"a":1}}"#, r#"{"weight_map":{},"weight_map":{}}"#] {
        assert_eq!(
            ShardIndex::parse("index", index.as_bytes()).unwrap_err().kind,
            ErrorKind::Malformed,
            "{index}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// Files of the reference crate come back, and no file that it refuses is accepted.
    #[test]
    fn agrees_with_the_reference_crate(
        shapes in prop::collection::btree_map("[a-z.]{1,8}", prop::collection::vec(0usize..5, 0..4), 0..6),
        metadata in prop::collection::hash_map("[a-z]{1,4}", "\\PC{0,8}", 0..3),
        flip in any::<prop::sample::Index>(),
        bit in 0u32..8,
    ) {
        let data: HashMap<&str, Vec<u8>> = shapes.iter()
            .map(|(name, shape)| (name.as_str(), vec![name.len() as u8; 2 * shape.iter().product::<usize>()]))
            .collect();
        let views = shapes.iter().map(|(name, shape)| {
            (name.as_str(), TensorView::new(Dtype::BF16, shape.clone(), &data[name.as_str()]).unwrap())
        });
        // The reference crate writes broken JSON for neither tensors nor strings in a map that is there.
        let strings = (!metadata.is_empty()).then(|| metadata.clone());
        let mut bytes = serialize(views, strings).unwrap();
        let parsed = SafeTensors::parse("f", &bytes).unwrap();
        prop_assert_eq!(parsed.tensors.len(), shapes.len());
        prop_assert_eq!(&parsed.metadata.iter().cloned().collect::<HashMap<_, _>>(), &metadata);
        for (name, shape) in &shapes {
            let info = parsed.tensor(name).unwrap();
            prop_assert_eq!((&info.shape, info.dtype), (shape, Dtype::BF16));
            prop_assert_eq!(parsed.data(info, &bytes).unwrap(), &data[name.as_str()][..]);
        }
        let at = flip.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if SafeTensors::parse("f", &bytes).is_ok() {
            prop_assert!(safetensors::SafeTensors::deserialize(&bytes).is_ok());
        }
    }
}

//! What is written can be read: by us, and by the `gguf` package.

mod common;

use std::io::{Error, Write};

use chalot_formats::gguf::{Array, Gguf, Header, Value};
use chalot_formats::{ErrorKind, TensorType};
use proptest::prelude::*;

/// A value of every type, nested arrays too.
fn every_value() -> Vec<Value> {
    vec![
        1u8.into(),
        (-1i8).into(),
        2u16.into(),
        (-2i16).into(),
        3u32.into(),
        (-3i32).into(),
        1.5f32.into(),
        true.into(),
        "grüße".into(),
        u64::MAX.into(),
        i64::MIN.into(),
        0.1f64.into(),
        vec![1u8, 2].into(),
        vec![1i8, -2].into(),
        vec![1u16].into(),
        vec![1i16, -2].into(),
        vec![1u32].into(),
        vec![-1i32].into(),
        vec![0.5f32].into(),
        vec![true, false].into(),
        vec!["a".to_owned(), String::new()].into(),
        vec![1u64].into(),
        vec![-1i64].into(),
        vec![0.1f64].into(),
        Vec::<String>::new().into(),
        vec![Array::from(vec![1u8]), Array::from(vec!["x".to_owned()])].into(),
    ]
}

/// One tensor of every type that can be written, with two rows of one block, and its data.
fn every_tensor() -> Vec<(String, [usize; 2], TensorType, Vec<u8>)> {
    let tensor = |&ty: &TensorType| {
        let dims = [ty.block().unwrap().weights, 2];
        let len = ty.byte_len(dims[0] * dims[1]).unwrap();
        (format!("tensor.{ty}"), dims, ty, (0..len).map(|i| (i % 251) as u8).collect())
    };
    TensorType::ALL.iter().map(tensor).collect()
}

fn header(alignment: usize) -> Header {
    let mut header = Header::new();
    header.alignment(alignment);
    for (index, value) in every_value().into_iter().enumerate() {
        header.set(format!("key.{index}"), value);
    }
    for (name, dims, ty, _) in every_tensor() {
        header.tensor(name, &dims, ty);
    }
    header
}

#[test]
fn every_type_and_alignment_comes_back() {
    for alignment in [1, 8, 32, 4096] {
        let mut writer = header(alignment).write_to("f", Vec::new()).unwrap();
        for (index, (_, _, _, data)) in every_tensor().iter().enumerate() {
            if index % 2 == 0 {
                writer.write_tensor(data).unwrap();
            } else {
                data.chunks(7).for_each(|slab| writer.append(slab).unwrap());
            }
        }
        let bytes = writer.finish().unwrap();
        let gguf = Gguf::parse("f", &bytes).unwrap();
        assert_eq!((gguf.version, gguf.alignment), (3, alignment));
        for (index, value) in every_value().iter().enumerate() {
            assert_eq!(gguf.metadata.get(&format!("key.{index}")), Some(value));
        }
        assert_eq!(gguf.tensors.len(), TensorType::ALL.len());
        for (tensor, (name, dims, ty, data)) in gguf.tensors.iter().zip(every_tensor()) {
            assert_eq!((&tensor.name, tensor.dims.as_slice()), (&name, dims.as_slice()));
            assert_eq!(tensor.ty, ty);
            assert_eq!(tensor.range.start % alignment, 0);
            assert_eq!(&bytes[tensor.range.clone()], data, "{name}");
        }
    }
}

#[test]
fn set_replaces_and_keeps_the_place() {
    let mut header = Header::new();
    header.set("a", 1u32).set("b", 2u32).set("a", "x");
    let bytes = header.write_to("f", Vec::new()).unwrap().finish().unwrap();
    let gguf = Gguf::parse("f", &bytes).unwrap();
    let pairs: Vec<_> = gguf.metadata.iter().map(|(key, value)| (key, value.clone())).collect();
    assert_eq!(pairs, [("a", Value::from("x")), ("b", Value::from(2u32))]);
}

#[test]
fn what_could_not_be_read_is_not_written() {
    let refused = |build: &dyn Fn(&mut Header)| {
        let mut header = Header::new();
        build(&mut header);
        let error = header.write_to("f", Vec::new()).expect_err("a header that breaks the rules was written");
        assert_eq!(error.kind, ErrorKind::Malformed, "{error}");
    };
    let f32 = TensorType::F32;
    refused(&|h| {
        h.alignment(0);
    });
    refused(&|h| {
        h.alignment(24);
    });
    refused(&|h| {
        h.set("general.alignment", 64u32);
    });
    refused(&|h| {
        h.tensor("a", &[1], f32).tensor("a", &[1], f32);
    });
    refused(&|h| {
        h.tensor("a", &[1, 0], f32);
    });
    refused(&|h| {
        h.tensor("a", &[1, 1, 1, 1, 1], f32);
    });
    refused(&|h| {
        h.tensor("a", &[usize::MAX, 2], f32);
    });
    refused(&|h| {
        h.tensor("a", &[usize::MAX / 4], f32).tensor("b", &[usize::MAX / 4], f32);
    });
    refused(&|h| {
        h.tensor("a", &[16, 2], TensorType::Q8_0);
    });
    refused(&|h| {
        h.tensor("a", &[1], TensorType::Unknown(99));
    });
    let nested = (0..9).fold(Array::from(vec![1u8]), |inner, _| Array::from(vec![inner]));
    refused(&|h| {
        h.set("nested", nested.clone());
    });
}

#[test]
fn data_of_another_length_than_declared_is_refused() {
    let mut header = Header::new();
    header.tensor("a", &[2], TensorType::F32).tensor("b", &[1], TensorType::F32);
    let start = || header.write_to("f", Vec::new()).unwrap();
    assert!(start().write_tensor(&[0; 7]).is_err());
    assert!(start().append(&[0; 9]).is_err());
    let mut writer = start();
    writer.append(&[0; 3]).unwrap();
    assert!(writer.write_tensor(&[0; 8]).is_err());
    writer.write_tensor(&[0; 5]).unwrap();
    assert!(writer.finish().unwrap_err().to_string().contains("\"b\""));
    let mut writer = start();
    writer.write_tensor(&[0; 8]).unwrap();
    writer.write_tensor(&[0; 4]).unwrap();
    writer.append(&[]).unwrap();
    assert!(writer.append(&[0]).is_err());
}

#[test]
fn a_file_appears_only_when_it_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, "old").unwrap();
    let entries = || std::fs::read_dir(folder.path()).unwrap().count();

    let mut header = Header::new();
    header.tensor("a", &[1], TensorType::F32);
    let writer = header.create(&path).unwrap();
    assert_eq!(entries(), 2);
    drop(writer);
    assert_eq!((entries(), std::fs::read(&path).unwrap()), (1, b"old".to_vec()));
    assert!(header.create(&path).unwrap().finish().is_err());
    assert_eq!((entries(), std::fs::read(&path).unwrap()), (1, b"old".to_vec()));

    let mut writer = header.create(&path).unwrap();
    writer.append(&[1, 2]).unwrap();
    writer.append(&[3, 4]).unwrap();
    writer.finish().unwrap();
    assert_eq!(entries(), 1);
    let bytes = std::fs::read(&path).unwrap();
    let gguf = Gguf::parse("f", &bytes).unwrap();
    assert_eq!(bytes[gguf.tensors[0].range.clone()], [1, 2, 3, 4]);

    let error = header.create(&folder.path().join("no/such/folder.gguf")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Io);
    assert!(error.to_string().contains("folder.gguf"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_new_file_is_readable_as_files_usually_are() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (usual, written) = (folder.path().join("usual"), folder.path().join("written"));
    std::fs::write(&usual, "").unwrap();
    Header::new().create(&written).unwrap().finish().unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&written), mode(&usual));
}

#[test]
fn a_full_disk_is_an_error() {
    #[derive(Debug)]
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(Error::from(std::io::ErrorKind::StorageFull));
            }
            let n = self.0.min(bytes.len());
            self.0 -= n;
            Ok(n)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut header = Header::new();
    header.tensor("a", &[100], TensorType::F32);
    assert_eq!(header.write_to("f", Full(10)).unwrap_err().kind, ErrorKind::Io);
    let error = header.write_to("f", Full(200)).unwrap().write_tensor(&[0; 400]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Io);
    assert!(
        error.to_string().contains("tensor \"a\"") && error.to_string().contains("disk space"),
        "{error}"
    );
}

/// Needs a Python that has the `gguf` package, named by CHALOT_PYTHON.
#[test]
fn the_gguf_package_reads_it() {
    let Ok(python) = std::env::var("CHALOT_PYTHON") else {
        println!("skipped: CHALOT_PYTHON, a Python with the gguf package, is not there");
        return;
    };
    const SCRIPT: &str = "\
import sys, hashlib, gguf
reader = gguf.GGUFReader(sys.argv[1])
for field in reader.fields.values():
    if field.name.startswith('key.'):
        print(field.name, [t.name for t in field.types], field.contents())
for t in reader.tensors:
    print(t.name, [int(d) for d in t.shape], t.tensor_type.name, hashlib.sha256(t.data.tobytes()).hexdigest()[:8], t.data_offset % 4096)
";
    let known: Vec<_> = every_tensor()
        .into_iter()
        .filter(|(_, _, ty, _)| {
            !matches!(ty, TensorType::I2S | TensorType::Q2_0 | TensorType::PQ2_0 | TensorType::PTQ1_0)
        })
        .collect();
    let mut header = Header::new();
    header.alignment(4096).set("general.architecture", "test").set("key.u8", 1u8).set("key.f32", 1.5f32);
    header.set("key.string", "grüße").set("key.array", vec!["a".to_owned(), String::new()]);
    header.set("key.i64", i64::MIN).set("key.u64s", vec![1u64, u64::MAX]).set("key.bool", true);
    for (name, dims, ty, _) in &known {
        header.tensor(name, dims, *ty);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("written.gguf");
    let mut writer = header.create(&path).unwrap();
    known.iter().for_each(|(_, _, _, data)| writer.write_tensor(data).unwrap());
    writer.finish().unwrap();
    let output = std::process::Command::new(python).arg("-c").arg(SCRIPT).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (fields, tensors): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("key."));
    assert_eq!(
        fields,
        [
            "key.u8 ['UINT8'] 1",
            "key.f32 ['FLOAT32'] 1.5",
            "key.string ['STRING'] grüße",
            "key.array ['ARRAY', 'STRING'] ['a', '']",
            "key.i64 ['INT64'] -9223372036854775808",
            "key.u64s ['ARRAY', 'UINT64'] [1, 18446744073709551615]",
            "key.bool ['BOOL'] True",
        ]
    );
    assert_eq!(tensors.len(), known.len());
    for (line, (name, dims, ty, _)) in tensors.iter().zip(&known) {
        assert!(line.starts_with(&format!("{name} {dims:?} {ty} ")) && line.ends_with(" 0"), "{line}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_header_comes_back(
        alignment in 0u32..13,
        pairs in prop::collection::btree_map("[a-z.]{1,12}", "\\PC{0,20}", 0..8),
        dims in prop::collection::vec(prop::collection::vec(1usize..9, 0..=4), 0..8),
        seed in any::<u8>(),
    ) {
        let mut header = Header::new();
        header.alignment(1 << alignment);
        pairs.iter().for_each(|(key, value)| { header.set(key.as_str(), value.as_str()); });
        dims.iter().enumerate().for_each(|(i, dims)| { header.tensor(format!("t{i}"), dims, TensorType::F16); });
        let mut writer = header.write_to("f", Vec::new()).unwrap();
        let data = |i: usize| vec![seed.wrapping_add(i as u8); 2 * dims[i].iter().product::<usize>()];
        (0..dims.len()).for_each(|i| writer.write_tensor(&data(i)).unwrap());
        let bytes = writer.finish().unwrap();
        let gguf = Gguf::parse("f", &bytes).unwrap();
        for (key, value) in &pairs {
            prop_assert_eq!(gguf.metadata.required_str(key).unwrap(), value);
        }
        for (i, tensor) in gguf.tensors.iter().enumerate() {
            prop_assert_eq!(&tensor.dims, &dims[i]);
            prop_assert_eq!(&bytes[tensor.range.clone()], &data(i)[..]);
        }
    }
}

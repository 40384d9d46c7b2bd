//! The native file: what is written is what is opened, in place; and damage is reported, never believed.
use std::path::Path;

use chalot_formats::TensorType;
use chalot_formats::gguf::{Gguf, Value};
use chalot_model::{
    ConvertOptions, ConvertTo, Ffn, GatedFfn, LoadOptions, Model, Source, SourceKind, WeightsAs, convert,
    write_native,
};
use chalot_tensor::matrix::{Matrix, Packing};

use crate::support::{GOLDEN, exec, golden, load};

fn network(ffn: &GatedFfn) -> [&Matrix; 3] {
    [&ffn.gate, &ffn.up, &ffn.down].map(|linear| &linear.weight)
}

fn matrices(model: &Model) -> Vec<&Matrix> {
    let mut all = vec![&model.embedding];
    for layer in &model.layers {
        let a = &layer.attention;
        all.extend([&a.q, &a.k, &a.v, &a.o].map(|linear| &linear.weight));
        match &layer.ffn {
            Ffn::Dense(ffn) => all.extend(network(ffn)),
            Ffn::Experts(experts) => {
                all.push(&experts.router.weight);
                experts.experts.iter().chain(&experts.shared).for_each(|expert| all.extend(network(expert)));
            }
        }
    }
    all.extend(&model.head);
    all
}

/// Equal to the bit, in everything.
#[track_caller]
fn assert_same(a: &Model, b: &Model) {
    assert_eq!(a.config, b.config);
    assert_eq!(a.final_norm, b.final_norm);
    for (a, b) in matrices(a).into_iter().zip(matrices(b)) {
        assert_eq!(a.spec(), b.spec());
        assert!(a.image() == b.image(), "images of {}", a.spec());
    }
    for (a, b) in a.layers.iter().zip(&b.layers) {
        assert_eq!((&a.ffn_norm, &a.ffn_post_norm), (&b.ffn_norm, &b.ffn_post_norm));
        let (a, b) = (&a.attention, &b.attention);
        assert_eq!((&a.norm, &a.sub_norm, &a.post_norm), (&b.norm, &b.sub_norm, &b.post_norm));
        assert_eq!((&a.q_norm, &a.k_norm), (&b.q_norm, &b.k_norm));
        assert_eq!(
            (&a.q.bias, &a.k.bias, &a.v.bias, &a.o.bias),
            (&b.q.bias, &b.k.bias, &b.v.bias, &b.o.bias)
        );
    }
    for (a, b) in a.layers.iter().zip(&b.layers) {
        if let (Ffn::Dense(a), Ffn::Dense(b)) = (&a.ffn, &b.ffn) {
            assert_eq!(a.sub_norm, b.sub_norm);
        }
    }
}

#[test]
fn what_is_written_is_what_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("native.gguf");
    for name in GOLDEN {
        let model = load(&golden(name)).unwrap();
        let metadata = [
            ("tokenizer.ggml.model".to_owned(), Value::from("gpt2")),
            ("general.architecture".to_owned(), Value::from("other")),
            ("chalot.config".to_owned(), Value::from("{}")),
        ];
        write_native(&model, &metadata, &path).unwrap();
        let source = Source::open(&path).unwrap();
        assert_eq!(source.kind(), SourceKind::Native);
        let gguf = source.gguf().unwrap();
        assert_eq!(gguf.metadata.required_str("tokenizer.ggml.model").unwrap(), "gpt2");
        assert_eq!(gguf.alignment, 4096);
        assert!(gguf.tensors.iter().all(|tensor| tensor.range.start % 4096 == 0));
        let again = source.load(&exec(), &LoadOptions::default()).unwrap();
        assert_same(&again, &model);
        assert_eq!((again.parameters(), again.bytes()), (model.parameters(), model.bytes()));
        let description = source.describe();
        assert_eq!(description.architecture, "chalot");
        assert_eq!(description.parameters, model.parameters());
        serde_json::to_string(&description).unwrap();
    }
}

/// Opening copies no weights: the matrices lie inside the mapped file.
#[test]
fn opening_is_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("native.gguf");
    write_native(&load(&golden("olmoe")).unwrap(), &[], &path).unwrap();
    let model = load(&path).unwrap();
    let file = std::fs::read(&path).unwrap();
    let gguf = Gguf::parse("native", &file).unwrap();
    let start = |name: &str| gguf.tensor(name).unwrap().range.start;
    // Distances in memory are distances in the file.
    let address = |matrix: &Matrix| matrix.image().as_ptr().addr();
    let base = address(&model.embedding) - start("token_embd.weight");
    assert_eq!(base % 4096, 0);
    assert_eq!(address(model.head.as_ref().unwrap()) - base, start("output.weight"));
    let Ffn::Experts(experts) = &model.layers[1].ffn else { panic!("experts") };
    let info = gguf.tensor("blk.1.ffn_experts.weight").unwrap();
    let stride = info.dims[0];
    assert_eq!((info.ty, info.dims[1], stride % 4096), (TensorType::I8, 8, 0));
    for (index, expert) in experts.experts.iter().enumerate() {
        assert_eq!(address(&expert.gate.weight) - base, info.range.start + index * stride);
        assert!(address(&expert.gate.weight) < address(&expert.up.weight));
        assert!(address(&expert.up.weight) < address(&expert.down.weight));
    }
}

/// Converting layer by layer through the disk gives the bytes that writing the loaded model gives, for every
/// form.
#[test]
fn converting_is_loading_and_writing() {
    let folder = tempfile::tempdir().unwrap();
    let (converted, written) = (folder.path().join("converted.gguf"), folder.path().join("written.gguf"));
    let exec = exec();
    for name in ["bitnet", "olmoe", "gemma3", "qwen2"] {
        for (to, weights, packing) in [
            (ConvertTo::Keep, WeightsAs::Auto, None),
            (ConvertTo::Keep, WeightsAs::Auto, Some(Packing::Trit5)),
            (ConvertTo::Trit2, WeightsAs::Ternary, Some(Packing::Trit2)),
            (ConvertTo::Trit5, WeightsAs::Ternary, Some(Packing::Trit5)),
            (ConvertTo::Int8, WeightsAs::Int8, None),
            (ConvertTo::Int4, WeightsAs::Int4, None),
        ] {
            let source = Source::open(&golden(name)).unwrap();
            // It concerns what is kept only: the others say it themselves.
            let asked = packing.filter(|_| to == ConvertTo::Keep).or(Some(Packing::Trit2));
            let asked = asked.filter(|_| packing.is_some());
            let options = ConvertOptions { to, packing: asked, ..ConvertOptions::default() };
            convert(&source, &exec, &options, &[], &converted).unwrap();
            let model = source.load(&exec, &LoadOptions { weights, packing, progress: None }).unwrap();
            write_native(&model, &[], &written).unwrap();
            assert!(std::fs::read(&converted).unwrap() == std::fs::read(&written).unwrap(), "{name} {to:?}");
        }
    }
}

/// A native file converts on: to another packing and back without a trace, and to integers from its exact
/// values.
#[test]
fn native_files_convert_too() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let exec = exec();
    let to = |from: &Path, to: ConvertTo, name: &str| {
        let source = Source::open(from).unwrap();
        convert(&source, &exec, &ConvertOptions { to, ..ConvertOptions::default() }, &[], &at(name)).unwrap();
        std::fs::read(at(name)).unwrap()
    };
    let trit2 = to(&golden("bitnet"), ConvertTo::Trit2, "trit2");
    let trit5 = to(&at("trit2"), ConvertTo::Trit5, "trit5");
    assert!(trit5 == to(&golden("bitnet"), ConvertTo::Trit5, "direct"));
    assert!(trit2 == to(&at("trit5"), ConvertTo::Trit2, "back"));
    assert!(trit2 == to(&at("trit2"), ConvertTo::Keep, "kept"));
    for form in [ConvertTo::Int8, ConvertTo::Int4] {
        assert!(to(&at("trit5"), form, "a") == to(&golden("bitnet"), form, "b"), "{form:?}");
    }
    // What is stored at four or eight bits is not rounded twice.
    let int8 = to(&golden("llama"), ConvertTo::Int8, "int8");
    assert!(int8 == to(&at("int8"), ConvertTo::Int8, "again"));
}

#[test]
fn a_converted_model_can_take_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("native.gguf");
    let source = Source::open(&golden("llama")).unwrap();
    for (name, expected) in [(None, "llama"), (Some("Momo"), "Momo")] {
        let options = ConvertOptions { name, ..ConvertOptions::default() };
        convert(&source, &exec(), &options, &[], &path).unwrap();
        let converted = Source::open(&path).unwrap();
        assert_eq!(converted.config().unwrap().name, expected);
        let metadata = &converted.gguf().unwrap().metadata;
        assert_eq!(metadata.required_str("general.name").unwrap(), expected);
    }
}

#[test]
fn the_model_in_the_program_needs_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("native.gguf");
    let model = load(&golden("llama-tied")).unwrap();
    write_native(&model, &[], &path).unwrap();
    // At an address that no kernel could read in place.
    let mut bytes = vec![0];
    bytes.extend(std::fs::read(&path).unwrap());
    let bytes: &'static [u8] = &bytes.leak()[1..];
    let source = Source::from_static(bytes, "the built-in model").unwrap();
    assert_same(&source.load(&exec(), &LoadOptions::default()).unwrap(), &model);
    assert!(source.path().is_none());
    let error = Source::from_static(&bytes[..1000], "the built-in model").unwrap_err().to_string();
    assert!(error.starts_with("the built-in model: "), "{error}");
}

/// What one token reads: all layers (of experts only those it visits), the head, one row of the embedding.
#[test]
fn bytes_of_a_token() {
    let size = |matrix: &Matrix| matrix.bytes() as u64;
    let llama = load(&golden("llama")).unwrap();
    let row = size(&llama.embedding) / 151;
    assert_eq!(llama.bytes_per_token(), llama.bytes() - size(&llama.embedding) + row);
    let tied = load(&golden("llama-tied")).unwrap();
    assert_eq!(tied.bytes_per_token(), tied.bytes() + size(&tied.embedding) / 163);
    let olmoe = load(&golden("olmoe")).unwrap();
    let Ffn::Experts(experts) = &olmoe.layers[0].ffn else { panic!("experts") };
    let expert: u64 = network(&experts.experts[0]).into_iter().map(size).sum();
    let row = size(&olmoe.embedding) / 139;
    assert_eq!(olmoe.bytes_per_token(), olmoe.bytes() - size(&olmoe.embedding) + row - 2 * (8 - 3) * expert);
}

/// The configuration and the tensors must agree.
#[test]
fn contradictions_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("native.gguf");
    write_native(&load(&golden("llama")).unwrap(), &[], &path).unwrap();
    let text = |bytes: &[u8], from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let mut bytes = bytes.to_vec();
        let at = bytes
            .windows(from.len())
            .position(|w| w == from.as_bytes())
            .unwrap_or_else(|| panic!("no {from}"));
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        let path = folder.path().join("changed.gguf");
        std::fs::write(&path, bytes).unwrap();
        load(&path).unwrap_err().to_string()
    };
    let bytes = std::fs::read(&path).unwrap();
    for (from, to, expected) in [
        (
            "\"vocab_size\":151",
            "\"vocab_size\":152",
            "token_embd.weight has shape 151 x 56, expected 152 x 56",
        ),
        ("\"head_dim\":20", "\"head_dim\":22", "attn_q.weight has shape 80 x 56, expected 88 x 56"),
        (
            "\"tied_embeddings\":false",
            "\"tied_embeddings\":true ",
            "1 tensors are not part of this architecture, the first is output.weight",
        ),
        ("f32 151x56", "f16 151x56", "token_embd.weight"),
        ("f32 151x56", "f99 151x56", "f99"),
        ("\"num_kv_heads\":2", "\"num_kv_heads\":3", "num_kv_heads is 3"),
        ("\"name\":", "\"game\":", "unknown field"),
    ] {
        let error = text(&bytes, from, to);
        assert!(error.contains(expected), "{error}");
    }
}

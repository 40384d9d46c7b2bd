//! The small models of `tests/golden` load; what they compute is checked in `golden.rs` beside this folder.
use chalot_model::{Ffn, LoadOptions, ModelConfig, QkNorm, Source, SourceKind, WeightsAs};
use chalot_tensor::matrix::{Format, Packing, ScaleBy};

use crate::support::{GOLDEN, exec, golden, load};

#[test]
fn every_family_loads_in_every_form() {
    let exec = exec();
    for name in GOLDEN {
        let source = Source::open(&golden(name)).unwrap();
        assert_eq!(source.kind(), SourceKind::HfFolder);
        let expected = source.config().unwrap();
        for weights in [WeightsAs::Auto, WeightsAs::F32, WeightsAs::Ternary, WeightsAs::Int8, WeightsAs::Int4]
        {
            for packing in [None, Some(Packing::Trit5)] {
                let options = LoadOptions { weights, packing, progress: None };
                let model =
                    source.load(&exec, &options).unwrap_or_else(|e| panic!("{name} {options:?}: {e}"));
                assert_eq!(model.config, expected);
                assert_eq!(model.layers.len(), expected.num_layers());
                let q = model.layers[0].attention.q.weight.format();
                match weights {
                    WeightsAs::F32 => assert_eq!(q, Format::F32),
                    WeightsAs::Int8 => assert_eq!(q, Format::Int8(ScaleBy::Group(32))),
                    WeightsAs::Int4 => assert_eq!(q, Format::Int4 { mins: false }),
                    WeightsAs::Ternary => {
                        assert_eq!(q, packing.unwrap_or(Packing::Trit2).scaled(ScaleBy::Tensor));
                    }
                    WeightsAs::Auto if name.contains("bit") => {
                        assert_eq!(q, packing.unwrap_or(Packing::Trit2).scaled(ScaleBy::Tensor));
                    }
                    WeightsAs::Auto if *name == "llama" => assert_eq!(q, Format::F32),
                    WeightsAs::Auto => assert_eq!(q, Format::Bf16),
                }
                for layer in &model.layers {
                    if let Ffn::Experts(experts) = &layer.ffn {
                        assert_eq!(experts.router.weight.format(), Format::F32);
                    }
                }
            }
        }
    }
}

/// `config.json` in the keys of published checkpoints and in those of transformers 5 mean the same.
#[test]
fn both_generations_of_keys_give_one_configuration() {
    for name in GOLDEN {
        let newer = golden(name).join("config.transformers5.json");
        if !newer.is_file() {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(newer, folder.path().join("config.json")).unwrap();
        std::fs::copy(golden(name).join("model.safetensors"), folder.path().join("model.safetensors"))
            .unwrap();
        let named = |mut config: ModelConfig| {
            config.name = String::new();
            config
        };
        let newer = named(Source::open(folder.path()).unwrap().config().unwrap());
        let older = named(Source::open(&golden(name)).unwrap().config().unwrap());
        assert_eq!(newer, older, "{name}");
    }
}

#[test]
fn what_the_families_are() {
    let config = |name: &str| Source::open(&golden(name)).unwrap().config().unwrap();

    let bitnet = config("bitnet");
    assert!(bitnet.sub_norms && bitnet.tied_embeddings);
    assert_eq!(bitnet.activation, chalot_tensor::elementwise::Activation::Relu2);

    let gemma = config("gemma3-softcap");
    assert!(gemma.post_norms);
    // The file has a cap for attention too, which Gemma 3 does not compute.
    assert_eq!((gemma.attention_soft_cap, gemma.final_soft_cap), (None, Some(5.0)));
    assert_eq!(gemma.embedding_scale, 48f32.sqrt());
    assert_eq!(gemma.attention_scale, 1.0 / 24f32.sqrt());
    assert_eq!(gemma.layers[0].window, Some(16));
    assert_eq!((gemma.layers[1].window, gemma.layers[1].rope), (None, 0));
    assert_eq!((gemma.rope[0].theta, gemma.rope[gemma.layers[0].rope].theta), (1e6, 1e4));

    let moe = config("qwen3-moe");
    assert_eq!(moe.layers.iter().map(|layer| layer.experts).collect::<Vec<_>>(), [false, true, true]);
    let experts = moe.experts.unwrap();
    assert_eq!(
        (experts.count, experts.top_k, experts.intermediate_size, experts.renormalize),
        (6, 2, 24, true)
    );

    let olmoe = config("olmoe");
    assert_eq!(olmoe.qk_norm, QkNorm::Row);
    assert!(!olmoe.experts.unwrap().renormalize);
    assert!(config("qwen2").biases.qkv && !config("qwen2").biases.output);
}

/// A scale that divides and one that multiplies: the value of a weight is code / scale or code * scale.
#[test]
fn packed_weights_keep_the_sense_of_their_scale() {
    for (name, divides) in [("bitnet", false), ("llama-bitlinear", true)] {
        let bytes = std::fs::read(golden(name).join("model.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let module = "model.layers.1.mlp.down_proj";
        let scale = tensors.tensor(&format!("{module}.weight_scale")).unwrap();
        let scale = half::bf16::from_le_bytes([scale.data()[0], scale.data()[1]]).to_f32();
        let factor = if divides { 1.0 / scale } else { scale };
        let packed = tensors.tensor(&format!("{module}.weight")).unwrap();
        let (quarter, cols) = (packed.shape()[0], packed.shape()[1]);

        let model = load(&golden(name)).unwrap();
        let Ffn::Dense(ffn) = &model.layers[1].ffn else { panic!("dense") };
        let values = ffn.down.weight.to_f32();
        for row in 0..4 * quarter {
            for col in 0..cols {
                let byte = packed.data()[row % quarter * cols + col];
                let code = (byte >> (2 * (row / quarter)) & 3) as f32 - 1.0;
                assert_eq!(values[row * cols + col], code * factor, "{name} {row} {col}");
            }
        }
    }
}

#[test]
fn stories260k_loads() {
    let path =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/assets/models/stories260K/stories260K.bin");
    if !std::path::Path::new(path).exists() {
        println!("skipped: stories260K.bin is not there");
        return;
    }
    let source = Source::open(path.as_ref()).unwrap();
    assert_eq!(source.kind(), SourceKind::Llama2c);
    let model = source.load(&exec(), &LoadOptions::default()).unwrap();
    let config = &model.config;
    assert_eq!(
        (config.hidden_size, config.num_layers(), config.num_heads, config.num_kv_heads),
        (64, 5, 8, 4)
    );
    assert_eq!((config.vocab_size, config.context_length, config.tied_embeddings), (512, 512, true));
    assert_eq!(config.rope[0].style, chalot_tensor::rope::RopeStyle::Interleaved);
    assert_eq!(model.embedding.format(), Format::F32);
    assert_eq!(model.parameters(), 260_032);
    assert_eq!(source.describe().parameters, 260_032);
}

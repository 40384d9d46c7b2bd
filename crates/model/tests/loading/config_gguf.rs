//! Configurations from the metadata of GGUF files.
use chalot_formats::gguf::Value;
use chalot_model::{ExpertsConfig, LayerConfig, ModelConfig, QkNorm, Source};
use chalot_tensor::elementwise::Activation;
use chalot_tensor::rope::{RopeScaling, RopeStyle};

use crate::support::{GgufFile, f32_bytes, in_layers, load, tiny_gguf};

fn config(file: &GgufFile) -> ModelConfig {
    let folder = tempfile::tempdir().unwrap();
    Source::open(&file.write(folder.path())).unwrap().config().unwrap_or_else(|e| panic!("{e}"))
}

/// The whole file loads, so the configuration asks for exactly the tensors that are there.
fn loads(file: &GgufFile) {
    let folder = tempfile::tempdir().unwrap();
    load(&file.write(folder.path())).unwrap_or_else(|e| panic!("{e}"));
}

fn sub_norms(file: GgufFile) -> GgufFile {
    in_layers(in_layers(file, "attn_sub_norm.weight", &[32]), "ffn_sub_norm.weight", &[48])
}

fn head_norms(file: GgufFile, q: usize, k: usize) -> GgufFile {
    in_layers(in_layers(file, "attn_q_norm.weight", &[q]), "attn_k_norm.weight", &[k])
}

#[test]
fn llama() {
    let file = tiny_gguf("llama");
    let llama = config(&file);
    assert_eq!((llama.name.as_str(), llama.family.as_str()), ("tiny", "llama"));
    assert_eq!((llama.vocab_size, llama.hidden_size, llama.intermediate_size), (40, 32, 48));
    assert_eq!((llama.num_heads, llama.num_kv_heads, llama.head_dim, llama.context_length), (4, 2, 8, 128));
    assert_eq!((llama.norm_eps, llama.activation, llama.embedding_scale), (1e-6, Activation::Silu, 1.0));
    assert_eq!(llama.attention_scale, 1.0 / 8f32.sqrt());
    // Rows of q and k are permuted for the interleaved rotation in this architecture, and in no other.
    let rope = &llama.rope[0];
    assert_eq!((rope.style, rope.theta, rope.dims), (RopeStyle::Interleaved, 500_000.0, 8));
    assert!(llama.tied_embeddings && !llama.sub_norms && !llama.post_norms && !llama.biases.qkv);
    assert_eq!(llama.layers, [LayerConfig { window: None, rope: 0, experts: false }; 2]);
    loads(&file);

    let untied = file.floats("output.weight", &[40, 32]);
    assert!(!config(&untied).tied_embeddings);
    loads(&untied);
}

#[test]
fn rope_scaling() {
    let factors: Vec<f32> = vec![1.0, 1.5, 4.0, 8.0];
    let scaling = |file: &GgufFile| config(file).rope[0].scaling.clone();
    let llama = tiny_gguf("llama");
    let with_factors =
        llama.clone().tensor("rope_freqs.weight", &[4], chalot_formats::TensorType::F32, f32_bytes(&factors));
    assert_eq!(scaling(&with_factors), RopeScaling::Factors(factors));
    loads(&with_factors);
    let linear =
        llama.clone().set("llama.rope.scaling.type", "linear").set("llama.rope.scaling.factor", 4.0f32);
    assert_eq!(scaling(&linear), RopeScaling::Linear { factor: 4.0 });
    assert_eq!(scaling(&llama.clone().set("llama.rope.scaling.type", "none")), RopeScaling::None);
    assert_eq!(
        scaling(&llama.clone().set("llama.rope.scale_linear", 2.0f32)),
        RopeScaling::Linear { factor: 2.0 }
    );
    // Part of a head may turn.
    assert_eq!(config(&llama.set("llama.rope.dimension_count", 4u32)).rope[0].dims, 4);
}

#[test]
fn bitnet_and_its_activation() {
    for (arch, activation) in
        [("bitnet-b1.58", Activation::Relu2), ("bitnet-25", Activation::Relu2), ("bitnet", Activation::Silu)]
    {
        let file = sub_norms(tiny_gguf(arch));
        let bitnet = config(&file);
        assert_eq!(
            (bitnet.family.as_str(), bitnet.activation, bitnet.sub_norms),
            ("bitnet", activation, true)
        );
        assert_eq!(bitnet.rope[0].style, RopeStyle::Neox);
        loads(&file);
        let stated = config(&file.set(&format!("{arch}.hidden_act"), "relu2"));
        assert_eq!(stated.activation, Activation::Relu2);
    }
}

#[test]
fn the_2b_4t_model_squares_its_relu_under_any_name() {
    // Only the embedding's description is needed to say what the model is; its 128256 rows are all zeros
    // here.
    let mut file = GgufFile::new("bitnet");
    for (key, value) in [
        ("block_count", 30u32),
        ("context_length", 4096),
        ("embedding_length", 2560),
        ("feed_forward_length", 6912),
        ("attention.head_count", 20),
        ("attention.head_count_kv", 5),
        ("vocab_size", 128_256),
    ] {
        file = file.set(&format!("bitnet.{key}"), value);
    }
    file = file.set("bitnet.attention.layer_norm_rms_epsilon", 1e-5f32);
    for layer in 0..30 {
        file = file.floats(&format!("blk.{layer}.attn_norm.weight"), &[4]);
    }
    assert_eq!(config(&file).activation, Activation::Relu2);
    assert_eq!(config(&file.set("bitnet.block_count", 29u32)).activation, Activation::Silu);
}

#[test]
fn qwen() {
    let mut qwen2 = tiny_gguf("qwen2");
    for (name, rows) in [("attn_q.bias", 32), ("attn_k.bias", 16), ("attn_v.bias", 16)] {
        qwen2 = in_layers(qwen2, name, &[rows]);
    }
    assert!(config(&qwen2).biases.qkv && !config(&qwen2).biases.output);
    assert_eq!(config(&qwen2).rope[0].style, RopeStyle::Neox);
    loads(&qwen2);

    let qwen3 = head_norms(tiny_gguf("qwen3").set("qwen3.attention.key_length", 8u32), 8, 8);
    assert_eq!((config(&qwen3).qk_norm, config(&qwen3).rope[0].style), (QkNorm::Head, RopeStyle::Neox));
    loads(&qwen3);
}

/// Replaces the dense networks by stacks of experts.
fn with_experts(arch: &str, layers: std::ops::Range<usize>) -> GgufFile {
    let mut file = tiny_gguf(arch);
    for layer in layers {
        for (name, shape) in [("gate", [6, 24, 32]), ("up", [6, 24, 32]), ("down", [6, 32, 24])] {
            file = file.without(&format!("blk.{layer}.ffn_{name}.weight"));
            file = file.floats(&format!("blk.{layer}.ffn_{name}_exps.weight"), &shape);
        }
        file = file.floats(&format!("blk.{layer}.ffn_gate_inp.weight"), &[6, 32]);
    }
    file.set(&format!("{arch}.expert_count"), 6u32)
        .set(&format!("{arch}.expert_used_count"), 2u32)
        .set(&format!("{arch}.expert_feed_forward_length"), 24u32)
}

#[test]
fn mixtures_of_experts() {
    let qwen = head_norms(with_experts("qwen3moe", 1..2), 8, 8);
    let expected = ExpertsConfig {
        count: 6,
        top_k: 2,
        intermediate_size: 24,
        renormalize: true,
        shared_intermediate_size: None,
        sub_norms: false,
        scale: 1.0,
    };
    assert_eq!(config(&qwen).experts.as_ref(), Some(&expected));
    assert_eq!(config(&qwen).layers.iter().map(|layer| layer.experts).collect::<Vec<_>>(), [false, true]);
    loads(&qwen);

    let olmoe = head_norms(with_experts("olmoe", 0..2), 32, 16);
    assert_eq!(config(&olmoe).experts, Some(ExpertsConfig { renormalize: false, ..expected }));
    assert_eq!(config(&olmoe).qk_norm, QkNorm::Row);
    loads(&olmoe);
}

#[test]
fn gemma3() {
    let mut file = head_norms(tiny_gguf("gemma3"), 8, 8);
    file = in_layers(file, "post_attention_norm.weight", &[32]);
    file = in_layers(file, "post_ffw_norm.weight", &[32]);
    file = file.set("gemma3.attention.sliding_window", 64u32).set("gemma3.rope.freq_base", 1e6f32);
    let gemma = config(&file);
    assert_eq!(
        (gemma.activation, gemma.qk_norm, gemma.post_norms),
        (Activation::GeluTanh, QkNorm::Head, true)
    );
    assert_eq!(gemma.embedding_scale, 32f32.sqrt());
    assert_eq!(gemma.attention_scale, 1.0 / 8f32.sqrt());
    // Every sixth layer sees everything; there are two here.
    assert_eq!(gemma.layers, [LayerConfig { window: Some(64), rope: 1, experts: false }; 2]);
    assert_eq!((gemma.rope[0].theta, gemma.rope[1].theta), (1e6, 1e4));
    loads(&file);

    let alternating = config(&file.clone().set("gemma3.attention.sliding_window_pattern", 2u32));
    assert_eq!(alternating.layers.iter().map(|layer| layer.window).collect::<Vec<_>>(), [Some(64), None]);
    let listed = file.clone().set("gemma3.attention.sliding_window_pattern", Value::from(vec![false, true]));
    assert_eq!(config(&listed).layers.iter().map(|layer| layer.window).collect::<Vec<_>>(), [None, Some(64)]);
    // Stretching concerns the layers that see everything.
    let stretched = file.set("gemma3.rope.scaling.type", "linear").set("gemma3.rope.scaling.factor", 8f32);
    let stretched = config(&stretched);
    assert_eq!(stretched.rope[0].scaling, RopeScaling::Linear { factor: 8.0 });
    assert_eq!(stretched.rope[1].scaling, RopeScaling::None);
}

/// Norm weights of Gemma are stored as they multiply, in this kind of file.
#[test]
fn gguf_norms_are_taken_as_they_are() {
    let mut file = head_norms(tiny_gguf("gemma3"), 8, 8);
    file = in_layers(file, "post_attention_norm.weight", &[32]);
    file = in_layers(file, "post_ffw_norm.weight", &[32]);
    let norm: Vec<f32> = (0..32).map(|i| i as f32).collect();
    file = file.tensor("output_norm.weight", &[32], chalot_formats::TensorType::F32, f32_bytes(&norm));
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(load(&file.write(folder.path())).unwrap().final_norm, norm);
}

//! Configurations from `config.json`.
use chalot_model::{ModelConfig, ModelError, Source};
use chalot_tensor::elementwise::Activation;
use chalot_tensor::rope::RopeScaling;
use safetensors::tensor::Dtype;

use crate::support::{Random, f32_bytes, golden, load, write_hf};

/// What `config.json` describes; the folder's tensors are only counted.
fn config(json: &str) -> Result<ModelConfig, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    let tensors: Vec<_> = (0..64).map(|i| (format!("t{i}"), Dtype::F32, vec![1], vec![0; 4])).collect();
    write_hf(folder.path(), json, &tensors);
    Source::open(folder.path()).unwrap().config()
}

const LLAMA: &str = r#""architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 96,
    "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 100, "max_position_embeddings": 256"#;

fn llama(more: &str) -> Result<ModelConfig, ModelError> {
    config(&format!("{{{LLAMA}{}{more}}}", if more.is_empty() { "" } else { ", " }))
}

#[test]
fn defaults_are_those_of_the_family() {
    let config = llama("").unwrap();
    assert_eq!((config.num_kv_heads, config.head_dim, config.norm_eps), (4, 16, 1e-6));
    assert_eq!((config.rope[0].theta, config.tied_embeddings), (10_000.0, false));
    assert!(!config.biases.qkv && !config.biases.output && !config.biases.ffn);
}

#[test]
fn biases() {
    let biases = llama(r#""attention_bias": true, "mlp_bias": true"#).unwrap().biases;
    assert!(biases.qkv && biases.output && biases.ffn);
}

#[test]
fn rope_in_all_its_spellings() {
    let scaling = |more: &str| llama(more).unwrap().rope[0].scaling.clone();
    let linear = RopeScaling::Linear { factor: 2.0 };
    assert_eq!(scaling(r#""rope_scaling": {"type": "linear", "factor": 2.0}"#), linear);
    assert_eq!(scaling(r#""rope_scaling": {"rope_type": "linear", "factor": 2}"#), linear);
    assert_eq!(
        scaling(r#""rope_parameters": {"rope_type": "default", "rope_theta": 5e5}"#),
        RopeScaling::None
    );
    let llama3 = r#""rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}"#;
    assert_eq!(
        scaling(llama3),
        RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192
        }
    );
    let theta = |more: &str| llama(more).unwrap().rope[0].theta;
    assert_eq!(theta(r#""rope_theta": 1000042"#), 1_000_042.0);
    assert_eq!(theta(r#""rope_parameters": {"rope_type": "default", "rope_theta": 5e5}"#), 5e5);
    assert_eq!(llama(r#""partial_rotary_factor": 0.5"#).unwrap().rope[0].dims, 8);

    let error = llama(r#""rope_scaling": {"rope_type": "yarn", "factor": 4.0}"#).unwrap_err().to_string();
    assert!(error.contains("rope_scaling.rope_type") && error.contains("yarn"), "{error}");
}

#[test]
fn early_bitnet_is_quantized_at_load() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new(7);
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: Vec<usize>| {
        let values = random.floats(shape.iter().product());
        tensors.push((name, Dtype::F32, shape, f32_bytes(&values)));
    };
    add("model.embed_tokens.weight".into(), vec![100, 64]);
    add("model.norm.weight".into(), vec![64]);
    for layer in 0..2 {
        for (name, shape) in [
            ("input_layernorm", vec![64]),
            ("post_attention_layernorm", vec![64]),
            ("self_attn.inner_attn_ln", vec![64]),
            ("mlp.ffn_layernorm", vec![96]),
            ("self_attn.q_proj", vec![64, 64]),
            ("self_attn.k_proj", vec![64, 64]),
            ("self_attn.v_proj", vec![64, 64]),
            ("self_attn.o_proj", vec![64, 64]),
            ("mlp.gate_proj", vec![96, 64]),
            ("mlp.up_proj", vec![96, 64]),
            ("mlp.down_proj", vec![64, 96]),
        ] {
            add(format!("model.layers.{layer}.{name}.weight"), shape);
        }
    }
    let json = format!(
        "{{{}, \"tie_word_embeddings\": true, \"hidden_act\": \"silu\"}}",
        LLAMA.replace("LlamaFor", "BitnetFor")
    );
    write_hf(folder.path(), &json, &tensors);
    let model = load(folder.path()).unwrap();
    assert!(model.config.sub_norms);
    assert_eq!(model.config.activation, Activation::Silu);
    assert_eq!(model.layers[0].attention.q.weight.format().to_string(), "trit2/tensor");
    assert_eq!(model.embedding.format().to_string(), "f32");
}

#[test]
fn qwen_windows_are_off_unless_switched_on() {
    let qwen = |more: &str| config(&format!("{{{}, {more}}}", LLAMA.replace("Llama", "Qwen2"))).unwrap();
    let windows = |config: ModelConfig| config.layers.iter().map(|layer| layer.window).collect::<Vec<_>>();
    assert_eq!(windows(qwen(r#""sliding_window": 8, "use_sliding_window": false"#)), [None, None]);
    let on = r#""sliding_window": 8, "use_sliding_window": true, "max_window_layers": 1"#;
    assert_eq!(windows(qwen(on)), [None, Some(8)]);
    let listed = r#""sliding_window": 8, "use_sliding_window": true,
        "layer_types": ["sliding_attention", "full_attention"]"#;
    assert_eq!(windows(qwen(listed)), [Some(8), None]);
}

/// A multimodal folder: the text model lies one level down, its tensors under another prefix, the eyes are
/// left alone.
#[test]
fn gemma3_inside_a_multimodal_model() {
    let bytes = std::fs::read(golden("gemma3").join("model.safetensors")).unwrap();
    let text = std::fs::read_to_string(golden("gemma3").join("config.json")).unwrap();
    for prefix in ["model.language_model.", "language_model.model."] {
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut renamed: Vec<_> = tensors
            .tensors()
            .into_iter()
            .map(|(name, view)| {
                let name = name.replacen("model.", prefix, 1);
                (name, view.dtype(), view.shape().to_vec(), view.data().to_vec())
            })
            .collect();
        renamed.push(("vision_tower.encoder.weight".into(), Dtype::F32, vec![2], vec![0; 8]));
        let folder = tempfile::tempdir().unwrap();
        let json =
            format!(r#"{{"architectures": ["Gemma3ForConditionalGeneration"], "text_config": {text}}}"#);
        write_hf(folder.path(), &json, &renamed);
        let model = load(folder.path()).unwrap();
        let plain = load(&golden("gemma3")).unwrap();
        assert_eq!(model.embedding.image(), plain.embedding.image());
        assert_eq!(model.layers[1].attention.norm, plain.layers[1].attention.norm);
    }
}

/// Norm weights of Gemma multiply as 1 + w.
#[test]
fn gemma_norms_get_their_one() {
    let bytes = std::fs::read(golden("gemma3").join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let stored = tensors.tensor("model.norm.weight").unwrap();
    let stored =
        stored.data().as_chunks::<2>().0.iter().map(|&b| half::bf16::from_le_bytes(b).to_f32() + 1.0);
    assert_eq!(load(&golden("gemma3")).unwrap().final_norm, stored.collect::<Vec<f32>>());
}

/// Experts fused into one tensor (transformers 5 in memory) are those that lie apart.
#[test]
fn fused_experts() {
    for name in ["olmoe", "qwen3-moe"] {
        let bytes = std::fs::read(golden(name).join("model.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut fused: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
        let count = if name == "olmoe" { 8 } else { 6 };
        for (tensor, view) in tensors.tensors() {
            if !tensor.contains(".experts.") {
                fused.push((tensor, view.dtype(), view.shape().to_vec(), view.data().to_vec()));
            } else if let Some(module) = tensor.strip_suffix(".0.gate_proj.weight") {
                let data = |expert: usize, projection: &str| {
                    tensors
                        .tensor(&format!("{module}.{expert}.{projection}_proj.weight"))
                        .unwrap()
                        .data()
                        .to_vec()
                };
                let (width, hidden) = (view.shape()[0], view.shape()[1]);
                let gate_up = (0..count).flat_map(|e| [data(e, "gate"), data(e, "up")].concat()).collect();
                fused.push((
                    format!("{module}.gate_up_proj"),
                    view.dtype(),
                    vec![count, 2 * width, hidden],
                    gate_up,
                ));
                let down = (0..count).flat_map(|e| data(e, "down")).collect();
                fused.push((format!("{module}.down_proj"), view.dtype(), vec![count, hidden, width], down));
            }
        }
        let folder = tempfile::tempdir().unwrap();
        write_hf(folder.path(), &std::fs::read_to_string(golden(name).join("config.json")).unwrap(), &fused);
        let (model, apart) = (load(folder.path()).unwrap(), load(&golden(name)).unwrap());
        let (chalot_model::Ffn::Experts(a), chalot_model::Ffn::Experts(b)) =
            (&model.layers[1].ffn, &apart.layers[1].ffn)
        else {
            panic!("experts")
        };
        for (a, b) in a.experts.iter().zip(&b.experts) {
            assert_eq!(a.gate.weight.image(), b.gate.weight.image());
            assert_eq!(a.up.weight.image(), b.up.weight.image());
            assert_eq!(a.down.weight.image(), b.down.weight.image());
        }
    }
}

/// A model that `transformers` unpacked and saved again: codes as floats, their scales beside them.
#[test]
fn unpacked_codes_are_the_packed_ones() {
    let bytes = std::fs::read(golden("bitnet").join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let unpacked: Vec<_> = tensors
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            if view.dtype() != Dtype::U8 {
                return (name, view.dtype(), view.shape().to_vec(), view.data().to_vec());
            }
            let (quarter, cols) = (view.shape()[0], view.shape()[1]);
            let code = |row: usize, col: usize| {
                (view.data()[row % quarter * cols + col] >> (2 * (row / quarter)) & 3) as f32 - 1.0
            };
            let values = (0..4 * quarter).flat_map(|row| (0..cols).map(move |col| (row, col)));
            let bytes =
                values.flat_map(|(row, col)| half::bf16::from_f32(code(row, col)).to_le_bytes()).collect();
            (name, Dtype::BF16, vec![4 * quarter, cols], bytes)
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    write_hf(
        folder.path(),
        &std::fs::read_to_string(golden("bitnet").join("config.json")).unwrap(),
        &unpacked,
    );
    let (model, packed) = (load(folder.path()).unwrap(), load(&golden("bitnet")).unwrap());
    for (a, b) in model.layers.iter().zip(&packed.layers) {
        assert_eq!(a.attention.o.weight.spec(), b.attention.o.weight.spec());
        assert_eq!(a.attention.o.weight.image(), b.attention.o.weight.image());
    }
}

#[test]
fn modules_that_are_not_to_be_converted_stay_floats() {
    let json = std::fs::read_to_string(golden("bitnet-online").join("config.json")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden("bitnet-online").join("model.safetensors"), folder.path().join("model.safetensors"))
        .unwrap();
    let list =
        r#""quant_method": "bitnet", "modules_to_not_convert": ["lm_head", "model.layers.0", "v_proj"]"#;
    let json = json.replace(r#""quant_method": "bitnet""#, list);
    assert!(json.contains("v_proj"), "{json}");
    std::fs::write(folder.path().join("config.json"), json).unwrap();
    let model = load(folder.path()).unwrap();
    let form = |layer: usize| {
        let attention = &model.layers[layer].attention;
        [&attention.q, &attention.v].map(|linear| linear.weight.format().to_string())
    };
    assert_eq!(form(0), ["bf16", "bf16"]);
    assert_eq!(form(1), ["trit2/tensor", "bf16"]);
}

#[test]
fn a_model_in_several_files() {
    let bytes = std::fs::read(golden("qwen3").join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden("qwen3").join("config.json"), folder.path().join("config.json")).unwrap();
    let mut map = Vec::new();
    for shard in 0..2 {
        let file = format!("model-0000{}-of-00002.safetensors", shard + 1);
        let part: Vec<_> =
            tensors.tensors().into_iter().enumerate().filter(|(i, _)| i % 2 == shard).collect();
        map.extend(part.iter().map(|(_, (name, _))| format!("\"{name}\": \"{file}\"")));
        let views = part.into_iter().map(|(_, tensor)| tensor);
        safetensors::tensor::serialize_to_file(views, None, &folder.path().join(file)).unwrap();
    }
    let index = format!(r#"{{"metadata": {{}}, "weight_map": {{{}}}}}"#, map.join(", "));
    std::fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    let (model, single) = (load(folder.path()).unwrap(), load(&golden("qwen3")).unwrap());
    assert_eq!(model.embedding.image(), single.embedding.image());
    assert_eq!(model.head.unwrap().image(), single.head.unwrap().image());

    std::fs::remove_file(folder.path().join("model-00002-of-00002.safetensors")).unwrap();
    let error = load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("model-00002-of-00002.safetensors"), "{error}");
}

//! What users get to read when a model cannot be loaded: one line that names the file, what was found, what
//! was expected, and what to do.
use std::path::Path;

use chalot_formats::TensorType;
use chalot_model::{ModelError, Source};

use crate::support::{GgufFile, golden, in_layers, load, tiny_gguf, write_hf};

fn error_of(path: &Path) -> String {
    let error = load(path).expect_err("an error").to_string();
    assert!(!error.contains('\n'), "{error}");
    assert!(error.contains(&path.file_name().unwrap().to_string_lossy().into_owned()), "{error}");
    error
}

fn gguf_error(file: &GgufFile) -> String {
    let folder = tempfile::tempdir().unwrap();
    error_of(&file.write(folder.path()))
}

#[track_caller]
fn assert_parts(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "`{error}` lacks `{part}`");
    }
}

#[test]
fn a_path_that_is_no_model() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    assert!(matches!(Source::open(&at("none.gguf")), Err(ModelError::Io { .. })));
    assert_parts(&error_of(folder.path()), &["without config.json", "expected a Hugging Face model folder"]);
    std::fs::write(at("notes.txt"), "hello").unwrap();
    assert_parts(&error_of(&at("notes.txt")), &["68, 65, 6c, 6c", "expected a GGUF file"]);
    std::fs::write(at("empty.gguf"), "").unwrap();
    assert_parts(&error_of(&at("empty.gguf")), &["an empty file"]);
    std::fs::write(at("short.bin"), [1, 0, 0]).unwrap();
    assert_parts(&error_of(&at("short.bin")), &["found a file of 3 bytes"]);
    assert_parts(&error_of(&golden("llama").join("model.safetensors")), &["name the folder"]);
    std::fs::write(at("config.json"), "{}").unwrap();
    let error = load(folder.path()).unwrap_err().to_string();
    assert_parts(&error, &["model.safetensors"]);
}

#[test]
fn an_architecture_that_is_not_supported() {
    assert_parts(
        &gguf_error(&tiny_gguf("mamba")),
        &["'mamba' is not supported", "llama", "bitnet", "gemma3"],
    );
    let folder = tempfile::tempdir().unwrap();
    write_hf(folder.path(), r#"{"architectures": ["MambaForCausalLM"]}"#, &[]);
    assert_parts(
        &load(folder.path()).unwrap_err().to_string(),
        &["'MambaForCausalLM' is not supported", "qwen3"],
    );
    // It can still be listed.
    let description = Source::open(folder.path()).unwrap().describe();
    assert_eq!(description.architecture, "MambaForCausalLM");
    assert!(description.config.is_none() && description.problem.is_some());
}

#[test]
fn numbers_that_cannot_be() {
    let llama = || tiny_gguf("llama");
    for (key, value, parts) in [
        (
            "llama.block_count",
            u32::MAX,
            &["llama.block_count is 4294967295", "expected at most the 20 tensors"][..],
        ),
        ("llama.block_count", 0, &["layers is 0"]),
        ("llama.attention.head_count", 0, &["embedding_length is 32", "heads"]),
        ("llama.attention.head_count", 5, &["embedding_length is 32", "a multiple of the 5 heads"]),
        ("llama.attention.head_count_kv", 3, &["num_kv_heads is 3 (of 4 heads)", "a divisor"]),
        ("llama.attention.key_length", u32::MAX, &["head_dim is 4294967295"]),
        ("llama.attention.value_length", 16, &["value_length is 16", "expected 8"]),
        ("llama.context_length", 0, &["context_length is 0"]),
        ("llama.rope.dimension_count", 7, &["rope[0].dims is 7", "even"]),
        ("llama.rope.dimension_count", 10, &["rope[0].dims is 10"]),
    ] {
        assert_parts(&gguf_error(&llama().set(key, value)), parts);
    }
    let nan = llama().set("llama.attention.layer_norm_rms_epsilon", f32::NAN);
    assert_parts(&gguf_error(&nan), &["norm_eps is NaN"]);
    let theta = llama().set("llama.rope.freq_base", -1.0f32);
    assert_parts(&gguf_error(&theta), &["theta is -1"]);
    let scaling = llama().set("llama.rope.scaling.type", "yarn");
    assert_parts(&gguf_error(&scaling), &["rope.scaling.type", "'yarn'", "linear"]);
    assert_parts(
        &gguf_error(&llama().unset("llama.embedding_length")),
        &["llama.embedding_length", "no such key"],
    );
    assert_parts(
        &gguf_error(&llama().set("llama.embedding_length", "many")),
        &["llama.embedding_length", "integer"],
    );
    let act = tiny_gguf("bitnet").set("bitnet.hidden_act", "mish");
    assert_parts(&gguf_error(&act), &["bitnet.hidden_act is 'mish'", "relu2"]);
    let experts = llama().set("llama.expert_count", 4u32).set("llama.expert_used_count", 5u32);
    assert_parts(&gguf_error(&experts), &["experts.top_k is 5", "from 1 to the 4 experts"]);
}

#[test]
fn tensors_that_do_not_fit_the_configuration() {
    let llama = || tiny_gguf("llama");
    assert_parts(
        &gguf_error(&llama().without("blk.1.ffn_down.weight")),
        &["tensor blk.1.ffn_down.weight is missing", "32 x 48"],
    );
    assert_parts(
        &gguf_error(&llama().floats("blk.1.attn_k.weight", &[32, 32])),
        &["tensor blk.1.attn_k.weight has shape 32 x 32, expected 16 x 32"],
    );
    assert_parts(
        &gguf_error(&in_layers(llama(), "attn_q_norm.weight", &[8])),
        &["2 tensors are not part of this architecture", "blk.0.attn_q_norm.weight"],
    );
    // A bitnet without its inner norms would compute nonsense.
    assert_parts(&gguf_error(&tiny_gguf("bitnet")), &["attn_sub_norm.weight is missing"]);
    assert_parts(
        &gguf_error(&llama().tensor("blk.0.attn_q.weight", &[32, 32], TensorType::I8, vec![0; 1024])),
        &["blk.0.attn_q.weight", "I8", "Q8_0"],
    );
    assert_parts(
        &gguf_error(&llama().tensor("rope_freqs.weight", &[3], TensorType::F32, vec![0; 12])),
        &["rope[0].scaling is 3 factors, expected 4"],
    );
}

#[test]
fn experts_that_do_not_fit() {
    let mut file = tiny_gguf("llama").set("llama.expert_count", 4u32).set("llama.expert_used_count", 2u32);
    file = in_layers(file, "ffn_gate_inp.weight", &[4, 32]);
    for layer in 0..2 {
        for name in ["gate", "up", "down"] {
            file = file.without(&format!("blk.{layer}.ffn_{name}.weight"));
        }
    }
    assert_parts(
        &gguf_error(&file),
        &["blk.0.ffn_gate_exps.weight is missing, expected one of shape 4 x 48 x 32"],
    );
    let flat = in_layers(file.clone(), "ffn_gate_exps.weight", &[4 * 48, 32]);
    assert_parts(&gguf_error(&flat), &["blk.0.ffn_gate_exps.weight", "three dimensions"]);
    let mut few = in_layers(file, "ffn_gate_exps.weight", &[3, 48, 32]);
    few = in_layers(few, "ffn_up_exps.weight", &[4, 48, 32]);
    few = in_layers(few, "ffn_down_exps.weight", &[4, 32, 48]);
    let expected = "blk.0.ffn_gate_exps.weight has shape 3 x 48 x 32, expected 4 x 48 x 32";
    assert_parts(&gguf_error(&few), &[expected]);
}

/// Dimensions of 0, which safetensors allows, are of no use to anyone.
#[test]
fn tensors_without_elements() {
    use safetensors::tensor::Dtype;
    let json = std::fs::read_to_string(golden("qwen3-moe").join("config.json")).unwrap();
    for (name, shape) in [
        ("model.layers.1.mlp.experts.gate_up_proj", vec![0, 48, 40]),
        ("model.layers.1.mlp.experts.down_proj", vec![0, 0, 0]),
        ("model.embed_tokens.weight", vec![0, 40]),
        ("model.layers.0.self_attn.q_proj.weight_scale", vec![0]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let rest = (0..8).map(|i| (format!("t{i}"), Dtype::F32, vec![1], vec![0; 4]));
        let tensors: Vec<_> =
            [(name.to_owned(), Dtype::BF16, shape, Vec::new())].into_iter().chain(rest).collect();
        write_hf(folder.path(), &json, &tensors);
        let error = load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("model.safetensors: tensor") || error.contains("is missing"), "{error}");
    }
}

#[test]
fn a_json_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden("llama").join("model.safetensors"), folder.path().join("model.safetensors"))
        .unwrap();
    let json = std::fs::read_to_string(golden("llama").join("config.json")).unwrap();
    for (from, to, parts) in [
        (
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 4000000000",
            &["num_hidden_layers is 4000000000"][..],
        ),
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", &["model.layers.2.", "is missing"]),
        (
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 1",
            &["not part of this architecture", "model.layers.1."],
        ),
        ("\"vocab_size\": 151", "\"vocab_size\": 150", &["has shape 151 x 56, expected 150 x 56"]),
        ("\"hidden_size\": 56", "\"hidden_size\": \"56\"", &["hidden_size", "integer"]),
        ("\"silu\"", "\"snake\"", &["hidden_act is 'snake'"]),
        (
            "\"head_dim\": 20",
            "\"head_dim\": 20, \"quantization_config\": {\"quant_method\": \"gptq\"}",
            &["gptq", "bitnet"],
        ),
        (
            "\"head_dim\": 20",
            "\"head_dim\": 20, \"quantization_config\": {\"quant_method\": \"bitnet\", \"use_rms_norm\": true}",
            &["use_rms_norm is true"],
        ),
    ] {
        assert!(json.contains(from), "{from} in {json}");
        std::fs::write(folder.path().join("config.json"), json.replace(from, to)).unwrap();
        assert_parts(&load(folder.path()).unwrap_err().to_string(), parts);
    }
}

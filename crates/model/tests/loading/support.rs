//! Small model files, built in the tests that read them.
use std::path::{Path, PathBuf};

use chalot_formats::TensorType;
use chalot_formats::gguf::{Header, Value};
use chalot_model::{LoadOptions, Model, ModelError, Source};
use chalot_simd::Isa;
use chalot_tensor::exec::Exec;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

pub fn exec() -> Exec {
    Exec::new(Isa::best(), 2)
}

/// A folder of `tests/golden`.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub const GOLDEN: &[&str] = &[
    "llama",
    "llama-tied",
    "qwen2",
    "qwen3",
    "gemma3",
    "gemma3-softcap",
    "olmoe",
    "qwen3-moe",
    "bitnet",
    "bitnet-online",
    "llama-bitlinear",
];

pub fn load(path: &Path) -> Result<Model, ModelError> {
    Source::open(path)?.load(&exec(), &LoadOptions::default())
}

/// Reproducible numbers in -1..1.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn bits(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

pub fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A GGUF file in the making: metadata and tensors (dimensions outermost first).
#[derive(Clone)]
pub struct GgufFile {
    pub metadata: Vec<(String, Value)>,
    pub tensors: Vec<(String, Vec<usize>, TensorType, Vec<u8>)>,
    random: u64,
}

impl GgufFile {
    pub fn new(arch: &str) -> Self {
        let file = Self { metadata: Vec::new(), tensors: Vec::new(), random: 1 };
        file.set("general.architecture", arch)
    }

    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.metadata.retain(|(old, _)| old != key);
        self.metadata.push((key.into(), value.into()));
        self
    }

    pub fn unset(mut self, key: &str) -> Self {
        self.metadata.retain(|(old, _)| old != key);
        self
    }

    pub fn tensor(mut self, name: &str, shape: &[usize], ty: TensorType, bytes: Vec<u8>) -> Self {
        self.tensors.retain(|(old, ..)| old != name);
        self.tensors.push((name.into(), shape.into(), ty, bytes));
        self
    }

    /// A tensor of random floats.
    pub fn floats(mut self, name: &str, shape: &[usize]) -> Self {
        self.random += 1;
        let values = Random::new(self.random).floats(shape.iter().product());
        self.tensor(name, shape, TensorType::F32, f32_bytes(&values))
    }

    pub fn without(mut self, name: &str) -> Self {
        let before = self.tensors.len();
        self.tensors.retain(|(old, ..)| old != name);
        assert_eq!(self.tensors.len() + 1, before, "no tensor {name}");
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut header = Header::new();
        for (key, value) in &self.metadata {
            header.set(key.as_str(), value.clone());
        }
        for (name, shape, ty, _) in &self.tensors {
            let dims: Vec<usize> = shape.iter().rev().copied().collect();
            header.tensor(name.as_str(), &dims, *ty);
        }
        let mut writer = header.write_to("test", Vec::new()).unwrap();
        for (_, _, _, bytes) in &self.tensors {
            writer.write_tensor(bytes).unwrap();
        }
        writer.finish().unwrap()
    }

    pub fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("model.gguf");
        std::fs::write(&path, self.bytes()).unwrap();
        path
    }
}

/// A model of two layers, 4 heads of 8 on 2 KV heads, hidden 32, ffn 48, vocabulary 40.
pub fn tiny_gguf(arch: &str) -> GgufFile {
    let key = |key: &str| format!("{arch}.{key}");
    let file = GgufFile::new(arch)
        .set("general.name", "tiny")
        .set(&key("block_count"), 2u32)
        .set(&key("context_length"), 128u32)
        .set(&key("embedding_length"), 32u32)
        .set(&key("feed_forward_length"), 48u32)
        .set(&key("attention.head_count"), 4u32)
        .set(&key("attention.head_count_kv"), 2u32)
        .set(&key("attention.layer_norm_rms_epsilon"), 1e-6f32)
        .set(&key("rope.freq_base"), 500_000.0f32)
        .floats("token_embd.weight", &[40, 32])
        .floats("output_norm.weight", &[32]);
    dense_layers(file, 32)
}

/// The tensors of two dense layers of a hidden size, with half as many keys and values and 48 inner rows.
pub fn dense_layers(mut file: GgufFile, hidden: usize) -> GgufFile {
    for layer in 0..2 {
        for (name, shape) in [
            ("attn_norm", &[hidden][..]),
            ("attn_q", &[hidden, hidden]),
            ("attn_k", &[hidden / 2, hidden]),
            ("attn_v", &[hidden / 2, hidden]),
            ("attn_output", &[hidden, hidden]),
            ("ffn_norm", &[hidden]),
            ("ffn_gate", &[48, hidden]),
            ("ffn_up", &[48, hidden]),
            ("ffn_down", &[hidden, 48]),
        ] {
            file = file.floats(&format!("blk.{layer}.{name}.weight"), shape);
        }
    }
    file
}

/// Adds a tensor to both layers.
pub fn in_layers(mut file: GgufFile, name: &str, shape: &[usize]) -> GgufFile {
    for layer in 0..2 {
        file = file.floats(&format!("blk.{layer}.{name}"), shape);
    }
    file
}

/// A Hugging Face folder with this config.json and these tensors.
pub fn write_hf(folder: &Path, config: &str, tensors: &[(String, Dtype, Vec<usize>, Vec<u8>)]) {
    std::fs::write(folder.join("config.json"), config).unwrap();
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
}

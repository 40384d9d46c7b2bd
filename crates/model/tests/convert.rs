//! Converted models compute what the originals compute: to the bit where the weights are the same, nearly
//! where they were rounded.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chalot_model::{
    ConvertOptions, ConvertTo, Engine, EngineOptions, LoadOptions, Sequence, SequenceOptions, Source, convert,
};
use chalot_simd::Isa;
use chalot_tensor::exec::Exec;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn exec() -> Exec {
    Exec::new(Isa::best(), 2)
}

/// The logits after each of some tokens.
fn logits(path: &Path) -> Vec<f32> {
    let model = Arc::new(Source::open(path).unwrap().load(&exec(), &LoadOptions::default()).unwrap());
    let tokens: Vec<u32> = (0..24).map(|i| i * 5 % model.config.vocab_size as u32).collect();
    let mut sequence = Sequence::new(&model, SequenceOptions::default()).unwrap();
    let mut engine = Engine::new(model, exec(), EngineOptions::default()).unwrap();
    let mut all = Vec::new();
    engine.forward_all(&mut sequence, &tokens, &mut |_, logits| all.extend_from_slice(logits)).unwrap();
    all
}

fn converted(from: &Path, to: ConvertTo, path: &Path) -> Vec<f32> {
    convert(
        &Source::open(from).unwrap(),
        &exec(),
        &ConvertOptions { to, ..ConvertOptions::default() },
        &[],
        path,
    )
    .unwrap();
    logits(path)
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

#[test]
fn both_packings_of_ternary_models_compute_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["bitnet", "bitnet-online", "llama-bitlinear"] {
        let original = bits(&logits(&golden(name)));
        for to in [ConvertTo::Keep, ConvertTo::Trit2, ConvertTo::Trit5] {
            let path = folder.path().join("converted.gguf");
            assert_eq!(bits(&converted(&golden(name), to, &path)), original, "{name} {to:?}");
        }
    }
}

#[test]
fn kept_weights_compute_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["llama", "llama-tied", "qwen2", "qwen3", "gemma3", "gemma3-softcap", "olmoe", "qwen3-moe"] {
        let path = folder.path().join("converted.gguf");
        assert_eq!(
            bits(&converted(&golden(name), ConvertTo::Keep, &path)),
            bits(&logits(&golden(name))),
            "{name}"
        );
    }
}

/// Relative errors (rms of the difference over rms of the logits) of rounding weights and activations to 8
/// and 4 bits.
#[test]
fn integer_forms_stay_close() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("converted.gguf");
    for name in ["llama", "qwen2", "gemma3", "bitnet"] {
        let original = logits(&golden(name));
        let rms =
            |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x * x)).sum::<f64>().sqrt();
        let scale = rms(&mut original.iter().copied());
        for (to, bound) in [(ConvertTo::Int8, 0.06), (ConvertTo::Int4, 0.6)] {
            let found = converted(&golden(name), to, &path);
            let error = rms(&mut found.iter().zip(&original).map(|(a, b)| a - b)) / scale;
            println!("{name} {to:?}: {error:.4}");
            assert!(error <= bound, "{name} {to:?}: relative error {error:.4} is above {bound}");
        }
    }
}

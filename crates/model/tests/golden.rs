//! Logits of a small random model of each family against `transformers` and, for BitNet, a forward pass in numpy.
//! tools/golden/README.md says how the files were made and how exact they are.
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use chalot_model::{Engine, EngineOptions, KvType, LoadOptions, Sequence, SequenceOptions, Source};
use chalot_simd::Isa;
use chalot_tensor::exec::Exec;
use safetensors::SafeTensors;

/// Tolerance of float weights. Errors are relative: the largest difference of any logit, over the root mean square of
/// all expected logits.
const FLOAT: f64 = 1e-4;
/// Tolerance of ternary layers: their integers are found exactly, what is left is the rounding of norms, attention and
/// head.
const TERNARY: f64 = 1e-5;

fn check(name: &str, tolerance: f64) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let (tokens, expected) = read_expected(&folder.join("expected.safetensors"));
    for isa in [Isa::scalar(), Isa::best()] {
        let exec = Exec::new(isa, 1);
        let model = Arc::new(Source::open(&folder).unwrap().load(&exec, &LoadOptions::default()).unwrap());
        let vocab = model.config.vocab_size;
        assert_eq!(expected.len(), tokens.len() * vocab);
        let mut seq =
            Sequence::new(&model, SequenceOptions { kv: Some(KvType::F32), context: None }).unwrap();
        let mut engine = Engine::new(model, exec, EngineOptions::default()).unwrap();
        let mut found = Vec::new();
        engine.forward_all(&mut seq, &tokens, &mut |_, logits| found.extend_from_slice(logits)).unwrap();

        let rms =
            (expected.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / expected.len() as f64).sqrt();
        let differences = found.iter().zip(&expected).map(|(a, b)| f64::from((a - b).abs()));
        let (index, largest) = differences.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        let error = largest / rms;
        println!("{name} on {}: relative error {error:.1e}", isa.name());
        // Written so that NaN fails.
        assert!(
            error <= tolerance,
            "{name} on {}: logit {} of token {} is {}, expected {}: relative error {error:.1e} is above {tolerance:.0e}",
            isa.name(),
            index % vocab,
            index / vocab,
            found[index],
            expected[index],
        );
    }
}

fn read_expected(file: &std::path::Path) -> (Vec<u32>, Vec<f32>) {
    let bytes = fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let words = |name: &str| -> Vec<[u8; 4]> {
        tensors.tensor(name).unwrap().data().chunks_exact(4).map(|word| word.try_into().unwrap()).collect()
    };
    let tokens = words("tokens").into_iter().map(u32::from_le_bytes).collect();
    (tokens, words("logits").into_iter().map(f32::from_le_bytes).collect())
}

/// One test for each folder of tests/golden.
macro_rules! golden {
    ($($test:ident: $name:literal within $tolerance:ident;)*) => {
        $(#[test] fn $test() { check($name, $tolerance); })*

        #[test]
        fn every_folder_has_its_test() {
            let mut tested = vec![$($name),*];
            tested.sort_unstable();
            let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
            let entries = fs::read_dir(root).unwrap().map(|entry| entry.unwrap());
            let mut there: Vec<String> = entries
                .filter(|entry| entry.path().is_dir())
                .map(|entry| entry.file_name().into_string().unwrap())
                .collect();
            there.sort_unstable();
            assert_eq!(there, tested);
        }
    };
}

golden! {
    llama: "llama" within FLOAT;
    llama_tied: "llama-tied" within FLOAT;
    qwen2: "qwen2" within FLOAT;
    qwen3: "qwen3" within FLOAT;
    gemma3: "gemma3" within FLOAT;
    gemma3_softcap: "gemma3-softcap" within FLOAT;
    olmoe: "olmoe" within FLOAT;
    qwen3_moe: "qwen3-moe" within FLOAT;
    bitnet: "bitnet" within TERNARY;
    bitnet_online: "bitnet-online" within TERNARY;
    llama_bitlinear: "llama-bitlinear" within TERNARY;
}

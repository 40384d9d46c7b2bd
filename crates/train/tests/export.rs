//! The exported model computes the logits that training saw, bit for bit.
use std::sync::Arc;

use chalot_model::{Engine, EngineOptions, KvType, LoadOptions, Model, Sequence, SequenceOptions, Source};
use chalot_simd::Isa;
use chalot_tensor::Exec;
use chalot_tensor::matrix::Packing;
use chalot_train::export;
use chalot_train::network::{
    Architecture, Batch, EmbeddingFormat, ExpertsArchitecture, Gradients, Network, StepOptions,
};
use chalot_train::optim::{Optimizer, OptimizerOptions};
use chalot_train::random::Random;

const VOCAB: usize = 100;
const LENGTH: usize = 70;

fn architecture(experts: bool, embedding: EmbeddingFormat) -> Architecture {
    let mut architecture = Architecture::new(2);
    architecture.width = Some(64);
    architecture.head_dim = Some(16);
    architecture.intermediate = Some(96);
    architecture.embedding = embedding;
    if experts {
        architecture.experts = Some(ExpertsArchitecture {
            count: 4,
            top_k: 2,
            intermediate: Some(48),
            shared: true,
            dense_layers: 1,
        });
    }
    architecture
}

fn tokens(seed: u64, count: usize) -> Vec<u32> {
    let mut random = Random::new(&[seed]);
    (0..count).map(|_| random.below(VOCAB) as u32).collect()
}

/// A network after two steps, so that norms, biases and momenta are no longer what they began as.
fn trained(architecture: &Architecture, threads: usize) -> (Network, Gradients) {
    let exec = Exec::new(Isa::best(), threads);
    let mut network = Network::new(architecture, VOCAB, exec.clone(), 3).unwrap();
    let mut optimizer = Optimizer::new(OptimizerOptions::default(), network.parameters());
    let mut gradients = Gradients::new(network.parameters());
    for step in 0..2 {
        let (inputs, targets) = (tokens(step, 3 * LENGTH), tokens(step + 10, 3 * LENGTH));
        let batch = Batch { length: LENGTH, inputs: &inputs, targets: &targets };
        let options = StepOptions {
            weight: 1.0 / inputs.len() as f32,
            exit_weight: 0.3,
            exit_share: 0.5,
            z_loss: 1e-3,
            router_z_loss: 1e-3,
            balance_loss: 1e-2,
            ..StepOptions::default()
        };
        gradients.clear(&exec);
        let losses = network.forward_backward(&batch, &options, &mut gradients).unwrap();
        optimizer.step(&exec, network.parameters_mut(), &gradients, 1.0, 1.0).unwrap();
        network.balance(&losses.load, 0.01);
    }
    (network, gradients)
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

fn engine_logits(model: Arc<Model>, tokens: &[u32], chunk: usize) -> Vec<f32> {
    let exec = Exec::new(Isa::best(), 2);
    let mut engine = Engine::new(model.clone(), exec, EngineOptions { chunk }).unwrap();
    let options = SequenceOptions { kv: Some(KvType::F32), ..SequenceOptions::default() };
    let mut sequence = Sequence::new(&model, options).unwrap();
    let mut logits = Vec::new();
    engine.forward_all(&mut sequence, tokens, &mut |_, row| logits.extend_from_slice(row)).unwrap();
    logits
}

#[test]
fn logits_of_the_exported_files_are_those_of_training() {
    for (ternary, experts, embedding, packing) in [
        (true, false, EmbeddingFormat::Int8, Packing::Trit5),
        (true, true, EmbeddingFormat::Int8, Packing::Trit2),
        (true, true, EmbeddingFormat::F16, Packing::Trit5),
        (false, true, EmbeddingFormat::F32, Packing::Trit5),
    ] {
        let mut architecture = architecture(experts, embedding);
        architecture.shallow_layers = Some(1);
        architecture.ternary = ternary;
        let (mut network, gradients) = trained(&architecture, 1);
        let (mut twin, twin_gradients) = trained(&architecture, 2);
        assert_eq!(bits(&gradients.data), bits(&twin_gradients.data), "gradients of 1 and 2 threads");

        let inputs = tokens(42, 2 * LENGTH);
        let batch = Batch { length: LENGTH, inputs: &inputs, targets: &inputs };
        let expected = network.logits(&batch, 1.0).unwrap();
        assert_eq!(bits(&expected), bits(&twin.logits(&batch, 1.0).unwrap()));

        let folder = tempfile::tempdir().unwrap();
        let (native, hf) = (folder.path().join("model.gguf"), folder.path().join("hf"));
        export::native(&network, packing, "tiny", &[], &native).unwrap();
        export::hugging_face(&network, "tiny", "{}", "", &hf).unwrap();
        for path in [native, hf] {
            let source = Source::open(&path).unwrap();
            let exec = Exec::new(Isa::best(), 1);
            let model = Arc::new(source.load(&exec, &LoadOptions::default()).unwrap());
            assert_eq!(model.config.shallow_layers, 1);
            for (row, expected) in inputs.chunks(LENGTH).zip(expected.chunks(LENGTH * VOCAB)) {
                for chunk in [1, 256] {
                    let found = engine_logits(model.clone(), row, chunk);
                    let case = format!("{}, experts {experts}, {embedding:?}, chunk {chunk}", path.display());
                    assert!(bits(&found) == bits(expected), "{case}");
                }
            }
        }
    }
}

#[test]
fn recomputation_changes_no_bit() {
    let architecture = architecture(true, EmbeddingFormat::Int8);
    let exec = Exec::new(Isa::best(), 2);
    let mut network = Network::new(&architecture, VOCAB, exec, 3).unwrap();
    let (inputs, targets) = (tokens(1, 2 * LENGTH), tokens(2, 2 * LENGTH));
    let batch = Batch { length: LENGTH, inputs: &inputs, targets: &targets };
    let mut run = |recompute| {
        let mut gradients = Gradients::new(network.parameters());
        let options = StepOptions { recompute, balance_loss: 0.1, ..StepOptions::default() };
        let losses = network.forward_backward(&batch, &options, &mut gradients).unwrap();
        (losses, gradients)
    };
    assert!(run(false) == run(true));
}

/// With a lambda that is a hair below 1 the same products are made of floats.
#[test]
fn integer_products_on_the_way_back_are_near_float_ones() {
    for experts in [false, true] {
        let architecture = architecture(experts, EmbeddingFormat::Int8);
        let exec = Exec::new(Isa::best(), 2);
        let mut network = Network::new(&architecture, VOCAB, exec, 3).unwrap();
        let (inputs, targets) = (tokens(1, 2 * LENGTH), tokens(2, 2 * LENGTH));
        let batch = Batch { length: LENGTH, inputs: &inputs, targets: &targets };
        let mut run = |lambda| {
            let mut gradients = Gradients::new(network.parameters());
            // As small as the gradients of a large batch's mean are.
            let options = StepOptions { lambda, weight: 1e-5, ..StepOptions::default() };
            network.forward_backward(&batch, &options, &mut gradients).unwrap();
            gradients
        };
        let (floats, integers) = (run(1.0 - f32::EPSILON), run(1.0));
        assert!(run(1.0 - f32::EPSILON) == floats, "after integers");
        for parameter in network.parameters() {
            let (a, b) = (floats.of(parameter), integers.of(parameter));
            let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x * x)).sum::<f64>().sqrt();
            let error = norm(&mut a.iter().zip(b).map(|(a, b)| 1e5 * (a - b)));
            let size = norm(&mut a.iter().map(|a| 1e5 * a));
            assert!(error < 3e-4 * size, "{}: {error} of {size}", parameter.name);
        }
        assert!(floats != integers);
    }
}

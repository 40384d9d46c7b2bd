//! What a network begins from, and how a pass may be varied.
use chalot_simd::Isa;
use chalot_tensor::{Exec, matrix::Packing};
use chalot_train::export;
use chalot_train::network::{
    Architecture, Batch, EmbeddingFormat, ExpertsArchitecture, Gradients, Network, StepOptions,
};
use chalot_train::random::Random;

const VOCAB: usize = 60;
const LENGTH: usize = 20;

fn architecture() -> Architecture {
    let mut architecture = Architecture::new(2);
    architecture.width = Some(32);
    architecture.head_dim = Some(8);
    architecture.intermediate = Some(64);
    architecture.shallow_layers = Some(1);
    architecture
}

fn experts(count: usize, top_k: usize) -> Architecture {
    let experts =
        ExpertsArchitecture { count, top_k, intermediate: Some(32), shared: false, dense_layers: 0 };
    Architecture { experts: Some(experts), ..architecture() }
}

fn network(architecture: &Architecture, seed: u64) -> Network {
    Network::new(architecture, VOCAB, Exec::new(Isa::best(), 2), seed).unwrap()
}

fn tokens(seed: u64) -> Vec<u32> {
    let mut random = Random::new(&[seed]);
    (0..2 * LENGTH).map(|_| random.below(VOCAB) as u32).collect()
}

fn logits(network: &mut Network, lambda: f32) -> Vec<f32> {
    let tokens = tokens(1);
    network.logits(&Batch { length: LENGTH, inputs: &tokens, targets: &tokens }, lambda).unwrap()
}

fn parameter<'a>(network: &'a Network, name: &str) -> &'a [f32] {
    &network.parameters().iter().find(|parameter| parameter.name == name).unwrap().value
}

#[test]
fn quantization_is_phased_in_from_the_float_network_to_the_ternary_one() {
    let mut ternary = network(&architecture(), 5);
    let mut float = network(&Architecture { ternary: false, ..architecture() }, 9);
    float.take_from(&ternary);
    assert!(logits(&mut ternary, 0.0) == logits(&mut float, 1.0), "lambda 0 is the float network");
    let full = logits(&mut ternary, 1.0);
    let mut far = |lambda| -> f64 {
        let squares =
            logits(&mut ternary, lambda).iter().zip(&full).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        f64::sqrt(squares)
    };
    let distances = [0.0, 0.5, 0.9, 1.0].map(&mut far);
    assert!(distances.is_sorted_by(|a, b| a > b) && distances[3] == 0.0, "{distances:?}");
}

#[test]
fn the_last_layer_can_be_left_out() {
    let mut network = network(&architecture(), 5);
    let (inputs, targets) = (tokens(1), tokens(2));
    let batch = Batch { length: LENGTH, inputs: &inputs, targets: &targets };
    let mut run = |layer_drop| {
        let mut gradients = Gradients::new(network.parameters());
        let options = StepOptions { layer_drop, exit_weight: 1.0, ..StepOptions::default() };
        let losses = network.forward_backward(&batch, &options, &mut gradients).unwrap();
        let moved = |layer: usize| {
            let of_layer = |name: &str| name.starts_with(&format!("model.layers.{layer}."));
            let own = network.parameters().iter().filter(|parameter| of_layer(&parameter.name));
            own.flat_map(|parameter| gradients.of(parameter)).any(|x| *x != 0.0)
        };
        (losses.main, losses.exit, [moved(0), moved(1)])
    };
    let (main, exit, moved) = run(0.0);
    assert!(main != exit && moved == [true, true]);
    // What is left is the shallow region, which is never left out: the model is its own early exit.
    let (main, exit, moved) = run(1.0);
    assert!(main == exit && moved == [true, false], "{main} {exit} {moved:?}");
}

#[test]
fn experts_begin_as_slices_of_a_dense_layer() {
    let dense = network(&architecture(), 5);
    let mut made = network(&experts(3, 2), 6);
    made.take_from(&dense);
    let (hidden, width) = (32, 32);
    let of_dense = |part: &str| parameter(&dense, &format!("model.layers.1.mlp.{part}_proj.weight"));
    let of_expert = |expert: usize, part: &str| {
        parameter(&made, &format!("model.layers.1.mlp.experts.{expert}.{part}_proj.weight"))
    };
    // Two slices of 32 units: the third expert is the first again.
    for (expert, slice) in [(0, 0), (1, 1), (2, 0)] {
        for part in ["gate", "up"] {
            assert_eq!(of_expert(expert, part), &of_dense(part)[slice * width * hidden..][..width * hidden]);
        }
        let rows = of_dense("down").chunks(2 * width);
        let down: Vec<f32> = rows.flat_map(|row| row[slice * width..][..width].to_vec()).collect();
        assert_eq!(of_expert(expert, "down"), down);
    }
    for name in ["model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"] {
        assert_eq!(parameter(&made, name), parameter(&dense, name));
    }
}

#[test]
fn a_network_of_the_same_shape_is_copied_whole() {
    let mut from = network(&experts(4, 2), 5);
    from.balance(&[vec![9, 1, 1, 1], vec![1, 1, 9, 1]], 0.5);
    let mut made = network(&experts(4, 2), 6);
    assert!(logits(&mut made, 1.0) != logits(&mut from, 1.0));
    made.take_from(&from);
    assert!(logits(&mut made, 1.0) == logits(&mut from, 1.0), "selection biases are copied too");
}

/// What was rounded away is lost, the function is not: codes are the same, scales but for the rounding of a mean.
#[test]
fn a_packed_model_is_taken_as_the_same_function() {
    for packing in [Packing::Trit2, Packing::Trit5] {
        let mut from = network(&experts(4, 2), 5);
        from.balance(&[vec![9, 1, 1, 1], vec![1, 1, 9, 1]], 0.5);
        let model = export::model(&from, packing).unwrap();
        let mut made = network(&experts(4, 2), 6);
        made.take_model(&model).unwrap();
        for (a, b) in logits(&mut made, 1.0).iter().zip(logits(&mut from, 1.0)) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
        let mut other = network(&experts(3, 2), 6);
        let error = other.take_model(&model).unwrap_err().to_string();
        assert!(error.contains("experts.count") && error.contains("found 4; expected 3"), "{error}");
    }
}

/// The change of the loss along each parameter's own gradient is the gradient's norm. The pass is in f32, so this holds to
/// a few parts in a thousand; it covers what has no test of its own in f64, the router and the rotation among them.
#[test]
fn the_loss_changes_along_a_gradient_by_its_norm() {
    // All experts are chosen: which ones is a choice that a derivative knows nothing of.
    let architecture = Architecture { ternary: false, embedding: EmbeddingFormat::F32, ..experts(3, 3) };
    let mut network = network(&architecture, 5);
    let (inputs, targets) = (tokens(1), tokens(2));
    let batch = Batch { length: LENGTH, inputs: &inputs, targets: &targets };
    let (exit_weight, router_z_loss) = (0.5, 0.25);
    let options = StepOptions { exit_weight, router_z_loss, ..StepOptions::default() };
    let mut gradients = Gradients::new(network.parameters());
    network.forward_backward(&batch, &options, &mut gradients).unwrap();
    let mut unused = Gradients::new(network.parameters());
    for index in 0..network.parameters().len() {
        let parameter = &network.parameters()[index];
        let (name, before) = (parameter.name.clone(), parameter.value.clone());
        let gradient = gradients.of(parameter).to_vec();
        let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        let mut loss = |step: f64| {
            let value = &mut network.parameters_mut()[index].value;
            for ((value, before), g) in value.iter_mut().zip(&before).zip(&gradient) {
                *value = (f64::from(*before) + step * f64::from(*g) / norm) as f32;
            }
            let losses = network.forward_backward(&batch, &options, &mut unused).unwrap();
            losses.main + f64::from(exit_weight) * losses.exit + f64::from(router_z_loss) * losses.router_z
        };
        let step = 2e-3;
        let found = (loss(step) - loss(-step)) / (2.0 * step);
        loss(0.0);
        assert!((found - norm).abs() < 5e-3 * norm, "{name}: {found} instead of {norm}");
    }
}

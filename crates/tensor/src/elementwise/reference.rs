//! One number at a time.
use super::Activation;
use crate::math;

pub(super) fn activation(act: Activation, x: f32) -> f32 {
    match act {
        Activation::Silu => math::silu(x),
        Activation::GeluTanh => math::gelu_tanh(x),
        Activation::GeluErf => math::gelu_erf(x),
        Activation::Relu2 => {
            // A NaN stays one.
            let positive = if x < 0.0 { 0.0 } else { x };
            positive * positive
        }
    }
}

pub(super) fn soft_cap(x: f32, cap: f32) -> f32 {
    cap * math::tanh(x * (1.0 / cap))
}

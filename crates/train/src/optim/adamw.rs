//! AdamW (Loshchilov and Hutter 2019).
//!
//! ```text
//! m = beta1 m + (1 - beta1) g        v = beta2 v + (1 - beta2) g^2
//! w = w - rate decay w - rate (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + 1e-8)
//! ```
/// The constants of one step.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    beta1: f32,
    beta2: f32,
    first: f32,
    second: f32,
}

/// Keeps the division defined.
const EPSILON: f32 = 1e-8;

impl AdamW {
    /// At step `step`, counted from 1.
    pub fn at(beta1: f32, beta2: f32, step: u64) -> Self {
        let corrected = |beta: f32| 1.0 - libm::pow(f64::from(beta), step as f64);
        Self { beta1, beta2, first: (1.0 / corrected(beta1)) as f32, second: (1.0 / corrected(beta2)) as f32 }
    }

    /// Moves `value`; all slices are of one length. The gradient is multiplied by `clip` first.
    #[expect(clippy::too_many_arguments)]
    pub fn step(
        &self,
        value: &mut [f32],
        gradient: &[f32],
        clip: f32,
        first: &mut [f32],
        second: &mut [f32],
        rate: f32,
        decay: f32,
    ) {
        let kept = 1.0 - rate * decay;
        for (((w, g), m), v) in value.iter_mut().zip(gradient).zip(first).zip(second) {
            let g = g * clip;
            *m += (1.0 - self.beta1) * (g - *m);
            *v += (1.0 - self.beta2) * (g * g - *v);
            *w = *w * kept - rate * (*m * self.first) / ((*v * self.second).sqrt() + EPSILON);
        }
    }
}

//! Rows one number at a time: the definition of the order of the sums.

/// The sum of `values`: sixteen running sums, then the pairwise tree. `step` adds a value to a running sum.
pub(crate) fn lane_sum(values: &[f32], step: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; 16];
    for (i, &x) in values.iter().enumerate() {
        lanes[i % 16] = step(lanes[i % 16], x);
    }
    let mut width = 8;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

fn square(sum: f32, x: f32) -> f32 {
    x.mul_add(x, sum)
}

pub(super) fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let inverse = 1.0 / (lane_sum(x, square) / x.len() as f32 + eps).sqrt();
    x.iter().zip(weight).map(|(x, w)| (x * inverse) * w).collect()
}

pub(super) fn layer_norm(x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32) -> Vec<f32> {
    let n = x.len() as f32;
    let mean = lane_sum(x, |sum, x| sum + x) / n;
    let centred: Vec<f32> = x.iter().map(|x| x - mean).collect();
    let inverse = 1.0 / (lane_sum(&centred, square) / n + eps).sqrt();
    let normal = centred.iter().map(|c| c * inverse);
    match bias {
        Some(bias) => normal.zip(weight).zip(bias).map(|((x, w), b)| x.mul_add(*w, *b)).collect(),
        None => normal.zip(weight).map(|(x, w)| x * w).collect(),
    }
}

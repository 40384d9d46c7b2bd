//! A row one number at a time.
use crate::{math, norm::reference::lane_sum};

pub(super) fn softmax(x: &[f32]) -> Vec<f32> {
    let maximum = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let e: Vec<f32> = x.iter().map(|x| math::exp(x - maximum)).collect();
    let inverse = 1.0 / lane_sum(&e, |sum, e| sum + e);
    e.iter().map(|e| e * inverse).collect()
}

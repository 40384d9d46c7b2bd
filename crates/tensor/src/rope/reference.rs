//! The rotation, pair by pair, from the formula.
use super::{RopeStyle, RopeTable};

/// `x` is one row, `[heads][head_dim]`, at `position`.
pub(super) fn rope(
    table: &RopeTable,
    style: RopeStyle,
    x: &[f32],
    head_dim: usize,
    position: usize,
) -> Vec<f32> {
    let mut y = x.to_vec();
    let pairs = table.dims() / 2;
    for head in 0..x.len() / head_dim {
        for i in 0..pairs {
            let (first, second) = match style {
                RopeStyle::Neox => (i, i + pairs),
                RopeStyle::Interleaved => (2 * i, 2 * i + 1),
            };
            let (first, second) = (head * head_dim + first, head * head_dim + second);
            let (cos, sin) = (table.row(position).0[i], table.row(position).1[i]);
            y[first] = x[first] * cos - x[second] * sin;
            y[second] = x[second] * cos + x[first] * sin;
        }
    }
    y
}

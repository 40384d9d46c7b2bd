//! Attention one number at a time: the definition of every bit, and the textbook formula in `f64`.
use super::AttentionParams;
use crate::{math, norm::reference::lane_sum};

const TILE: usize = 64;
const CHUNK: usize = 1024;

/// Keys or values of one head, `[positions][head_dim]`, as stored.
pub(super) enum Stored {
    /// Rounded, if the store rounds.
    Floats(Vec<f32>),
    /// Codes, and the scale of each position.
    Codes(Vec<i8>, Vec<f32>),
}

/// Numbers as codes of at most `largest`, and what one step of the codes stands for.
pub(super) fn quantize(x: &[f32], largest: f32) -> (Vec<i32>, f32) {
    let max = x.iter().fold(0.0, |max, x| if x.abs() > max { x.abs() } else { max });
    let finite = x.iter().all(|x| x.is_finite());
    let codes = x.iter().map(|x| {
        let code = if max < 1e-30 { 0.0 } else { (x * (largest / max)).round_ties_even() };
        // Whatever NaN becomes, its step is NaN.
        if code < largest { f32::max(code, -largest) as i32 } else { largest as i32 }
    });
    (codes.collect(), if finite { max / largest } else { f32::NAN })
}

impl Stored {
    pub(super) fn codes(x: &[f32], head_dim: usize) -> Self {
        let (codes, scales): (Vec<_>, _) = x.chunks(head_dim).map(|x| quantize(x, 127.0)).unzip();
        Self::Codes(codes.concat().iter().map(|code| *code as i8).collect(), scales)
    }

    /// The number at `index`.
    fn number(&self, index: usize, head_dim: usize) -> f32 {
        match self {
            Self::Floats(x) => x[index],
            Self::Codes(codes, scales) => f32::from(codes[index]) * scales[index / head_dim],
        }
    }
}

/// What a query sees and how it scores.
pub(super) struct Query<'a> {
    pub params: &'a AttentionParams,
    /// `[head_dim]`.
    pub q: &'a [f32],
    /// The first and one past the last position it sees.
    pub visible: (usize, usize),
    pub keys: &'a Stored,
    pub values: &'a Stored,
}

/// Largest score, sum of weights, and weighted sum of values.
struct Chunk {
    max: f32,
    sum: f32,
    out: Vec<f32>,
}

/// The exact sum of products, as `f32`.
fn dot(a: impl Iterator<Item = i32>, b: impl Iterator<Item = i8>) -> f32 {
    let sum: i64 = a.zip(b).map(|(a, b)| i64::from(a) * i64::from(b)).sum();
    i32::try_from(sum).expect("no sum overflows") as f32
}

impl Query<'_> {
    fn score(&self, position: usize) -> f32 {
        let head_dim = self.params.head_dim;
        let key = position * head_dim..(position + 1) * head_dim;
        let product = match self.keys {
            Stored::Floats(keys) => {
                self.q.iter().zip(&keys[key]).fold(0.0, |sum: f32, (q, k)| q.mul_add(*k, sum))
            }
            Stored::Codes(keys, scales) => {
                let largest = (i32::MAX as usize / (128 * head_dim)).min(32_767);
                let (q, step) = quantize(self.q, largest as f32);
                dot(q.into_iter(), keys[key].iter().copied()) * scales[position] * step
            }
        };
        let score = product * self.params.scale;
        match self.params.soft_cap {
            Some(cap) => cap * math::tanh(score * (1.0 / cap)),
            None => score,
        }
    }

    /// Adds to `out` the values at `first..end` of one tile, times the weights in their lanes.
    fn add_values(&self, out: &mut [f32], first: usize, end: usize, weights: &[f32; TILE]) {
        let head_dim = self.params.head_dim;
        match self.values {
            Stored::Floats(values) => {
                for j in first..end {
                    for (o, v) in out.iter_mut().zip(&values[j * head_dim..]) {
                        *o = weights[j % TILE].mul_add(*v, *o);
                    }
                }
            }
            Stored::Codes(values, scales) => {
                let scaled: Vec<f32> = (first..end).map(|j| weights[j % TILE] * scales[j]).collect();
                let (codes, step) = quantize(&scaled, 32_767.0);
                for (d, o) in out.iter_mut().enumerate() {
                    let values = (first..end).map(|j| values[j * head_dim + d]);
                    *o = dot(codes.iter().copied(), values).mul_add(step, *o);
                }
            }
        }
    }

    /// The online softmax over the visible keys of `from..to`, a tile at a time.
    fn chunk(&self, from: usize, to: usize) -> Chunk {
        let mut max = f32::MIN;
        let mut sum = 0.0f32;
        let mut out = vec![0.0f32; self.params.head_dim];
        for tile in from / TILE..to.div_ceil(TILE) {
            let (first, end) = (from.max(tile * TILE), to.min((tile + 1) * TILE));
            let scores: Vec<f32> = (first..end).map(|j| self.score(j)).collect();
            let old_max = max;
            max = scores.iter().copied().fold(max, f32::max);
            let factor = math::exp(old_max - max);
            // A weight has the lane of its position; masked keys count as zeros.
            let mut weights = [0.0f32; TILE];
            for (j, score) in (first..end).zip(&scores) {
                weights[j % TILE] = math::exp(score - max);
            }
            sum = sum.mul_add(factor, lane_sum(&weights, |sum, p| sum + p));
            out.iter_mut().for_each(|o| *o *= factor);
            self.add_values(&mut out, first, end, &weights);
        }
        Chunk { max, sum, out }
    }

    /// The output, `[head_dim]`.
    pub(super) fn attend(&self) -> Vec<f32> {
        let (from, to) = self.visible;
        let mut chunks = (from / CHUNK..to.div_ceil(CHUNK))
            .map(|chunk| self.chunk(from.max(chunk * CHUNK), to.min((chunk + 1) * CHUNK)));
        let first = chunks.next().expect("a query sees at least one key");
        let all = chunks.fold(first, |a, b| {
            let max = a.max.max(b.max);
            let (old, new) = (math::exp(a.max - max), math::exp(b.max - max));
            let sum = a.sum.mul_add(old, b.sum * new);
            let out = a.out.iter().zip(&b.out).map(|(a, b)| a.mul_add(old, b * new)).collect();
            Chunk { max, sum, out }
        });
        let inverse = 1.0 / all.sum;
        all.out.iter().map(|o| o * inverse).collect()
    }

    /// softmax(q · kᵀ · scale) · v by the formula, in f64.
    pub(super) fn textbook(&self) -> Vec<f64> {
        let ((from, to), head_dim) = (self.visible, self.params.head_dim);
        let score = |j: usize| {
            let key = |d: usize| f64::from(self.keys.number(j * head_dim + d, head_dim));
            let product: f64 = (0..head_dim).map(|d| f64::from(self.q[d]) * key(d)).sum();
            let score = product * f64::from(self.params.scale);
            match self.params.soft_cap.map(f64::from) {
                Some(cap) => cap * (score / cap).tanh(),
                None => score,
            }
        };
        let scores: Vec<f64> = (from..to).map(score).collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let mut out = vec![0.0; self.params.head_dim];
        for (j, p) in (from..to).zip(&weights) {
            for (d, o) in out.iter_mut().enumerate() {
                *o += p / sum * f64::from(self.values.number(j * head_dim + d, head_dim));
            }
        }
        out
    }
}

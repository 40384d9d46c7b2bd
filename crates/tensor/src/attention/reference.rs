//! Attention one number at a time: the definition of every bit, and the textbook formula in `f64`.
use super::AttentionParams;
use crate::{math, norm::reference::lane_sum};

const TILE: usize = 64;
const CHUNK: usize = 1024;

/// What a query sees and how it scores.
pub(super) struct Query<'a> {
    pub params: &'a AttentionParams,
    /// `[head_dim]`.
    pub q: &'a [f32],
    /// The first and one past the last position it sees.
    pub visible: (usize, usize),
    /// `[positions][head_dim]`, as stored (rounded, if the store rounds).
    pub keys: &'a [f32],
    pub values: &'a [f32],
}

/// Largest score, sum of weights, and weighted sum of values.
struct Chunk {
    max: f32,
    sum: f32,
    out: Vec<f32>,
}

impl Query<'_> {
    fn key(&self, position: usize) -> &[f32] {
        &self.keys[position * self.params.head_dim..][..self.params.head_dim]
    }

    fn value(&self, position: usize) -> &[f32] {
        &self.values[position * self.params.head_dim..][..self.params.head_dim]
    }

    fn score(&self, position: usize) -> f32 {
        let terms = self.q.iter().zip(self.key(position));
        let score = terms.fold(0.0, |sum: f32, (q, k)| q.mul_add(*k, sum)) * self.params.scale;
        match self.params.soft_cap {
            Some(cap) => cap * math::tanh(score * (1.0 / cap)),
            None => score,
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
            for j in first..end {
                for (o, v) in out.iter_mut().zip(self.value(j)) {
                    *o = weights[j % TILE].mul_add(*v, *o);
                }
            }
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
        let (from, to) = self.visible;
        let score = |j: usize| {
            let product: f64 =
                self.q.iter().zip(self.key(j)).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
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
            for (o, v) in out.iter_mut().zip(self.value(j)) {
                *o += p / sum * f64::from(*v);
            }
        }
        out
    }
}

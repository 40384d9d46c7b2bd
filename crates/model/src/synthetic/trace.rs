//! Texts without words, whose tokens visit experts as those of real texts do.
//!
//! In a trained mixture some experts are visited far more often than others, and neighbouring tokens share experts, because
//! they share a subject. Uniformly random routing has neither, so that no cache and no foresight could help; routing that
//! follows a fixed list would make foresight perfect. Here the routing is computed, by routers of random directions, from hidden
//! states that begin as the tokens' embeddings and are changed by every block on their way; and the tokens are such that it has
//! both properties:
//!
//! - each token belongs to a topic, and embeddings of a topic share a direction: `0.8 topic + 0.6 own`, both of unit length;
//! - the topic of a text is a Markov chain that stays with a probability of 15/16 and else draws a topic by Zipf's law;
//! - tokens of a topic are drawn by Zipf's law.
use chalot_simd::Isa;
use chalot_tensor::{Exec, Format, Matrix, MatrixError};

/// Tokens of a topic.
const TOPIC: usize = 64;
/// One in so many tokens begins another topic.
const TURN: u64 = 16;
/// Spread of a router's logits: the likeliest of 64 experts then have some hundredths to tenths of the probability each.
const LOGITS: f32 = 2.0;

/// An endless text of tokens by Zipf's law, with topics that last.
///
/// ```
/// use chalot_model::synthetic::TokenTrace;
///
/// let tokens: Vec<u32> = TokenTrace::new(1000, 7).take(50).collect();
/// assert!(tokens.iter().all(|&token| token < 1000));
/// assert_eq!(tokens, TokenTrace::new(1000, 7).take(50).collect::<Vec<_>>());
/// ```
#[derive(Clone, Debug)]
pub struct TokenTrace {
    vocab: usize,
    topic: usize,
    random: Random,
}

impl TokenTrace {
    /// A text over a vocabulary of `vocab` tokens (at least one); the seed decides which.
    pub fn new(vocab: usize, seed: u64) -> Self {
        let mut trace = Self { vocab: vocab.max(1), topic: 0, random: Random::new(seed) };
        trace.topic = trace.draw_topic();
        trace
    }

    fn draw_topic(&mut self) -> usize {
        self.random.zipf(self.vocab.div_ceil(TOPIC))
    }
}

impl Iterator for TokenTrace {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.random.next().is_multiple_of(TURN) {
            self.topic = self.draw_topic();
        }
        let first = self.topic * TOPIC;
        let token = first + self.random.zipf(TOPIC.min(self.vocab - first));
        u32::try_from(token).ok()
    }
}

/// The embedding `[vocab][hidden]` in `format`: rows of root mean square 1.
pub(super) fn embedding(
    vocab: usize,
    hidden: usize,
    format: Format,
    seed: u64,
) -> Result<Matrix, MatrixError> {
    let mut random = Random::new(seed);
    let mut weights = Vec::with_capacity(vocab * hidden);
    let mut topic = Vec::new();
    for token in 0..vocab {
        if token % TOPIC == 0 {
            topic = random.direction(hidden);
        }
        let own = random.direction(hidden);
        weights.extend(topic.iter().zip(&own).map(|(topic, own)| 0.8 * topic + 0.6 * own));
    }
    Matrix::from_f32(&Exec::new(Isa::best(), 1), format, vocab, hidden, &weights)
}

/// A router `[experts][hidden]` of random directions.
pub(super) fn router(experts: usize, hidden: usize, seed: u64) -> Result<Matrix, MatrixError> {
    let mut random = Random::new(seed);
    let scale = LOGITS / (hidden as f32).sqrt();
    let rows = (0..experts).flat_map(|_| random.direction(hidden));
    let weights: Vec<f32> = rows.map(|weight| weight * scale).collect();
    Matrix::from_f32(&Exec::new(Isa::best(), 1), Format::F32, experts, hidden, &weights)
}

/// Xorshift.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    /// Of 0 to 1, without 1.
    fn unit(&mut self) -> f64 {
        (self.next() % (1 << 24)) as f64 / f64::from(1 << 24)
    }

    /// Of `0..n`, number k with a probability near 1 / (k + 1): the inverse of the integral of 1 / x.
    fn zipf(&mut self, n: usize) -> usize {
        let x = (self.unit() * ((n + 1) as f64).ln()).exp();
        (x as usize - 1).min(n - 1)
    }

    /// A vector of random direction and root mean square 1: sums of four uniform numbers are round enough.
    fn direction(&mut self, n: usize) -> Vec<f32> {
        let mut sum = || (0..4).map(|_| self.unit() - 0.5).sum::<f64>() as f32 * 3f32.sqrt();
        (0..n).map(|_| sum()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn tokens_follow_zipf_and_topics_last() {
        let tokens: Vec<u32> = TokenTrace::new(4096, 3).take(50_000).collect();
        let mut counts = HashMap::new();
        tokens.iter().for_each(|token| *counts.entry(token).or_insert(0) += 1);
        let mut counts: Vec<usize> = counts.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let top: usize = counts[..counts.len() / 20].iter().sum();
        assert!(top > tokens.len() / 3, "a twentieth of the tokens is {top} of {}", tokens.len());
        let same = tokens.windows(2).filter(|pair| pair[0] / 64 == pair[1] / 64).count();
        assert!((0.92..0.98).contains(&(same as f64 / tokens.len() as f64)), "{same}");
    }

    #[test]
    fn small_vocabularies_have_tokens_too() {
        for vocab in [1, 2, 63, 64, 65] {
            assert!(TokenTrace::new(vocab, 1).take(500).all(|token| (token as usize) < vocab));
        }
    }

    #[test]
    fn embeddings_of_a_topic_are_alike() {
        let rows = embedding(130, 256, Format::F32, 5).unwrap().to_f32();
        let cosine = |a: usize, b: usize| {
            let dot: f32 =
                rows[a * 256..][..256].iter().zip(&rows[b * 256..][..256]).map(|(a, b)| a * b).sum();
            dot / 256.0
        };
        assert!((cosine(3, 3) - 1.0).abs() < 0.3);
        assert!((cosine(3, 40) - 0.64).abs() < 0.3 && cosine(3, 70).abs() < 0.3);
    }
}

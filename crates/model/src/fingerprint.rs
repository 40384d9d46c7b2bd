//! What tells models apart, at the cost of reading a few pages of each matrix.
use std::fmt;

use chalot_tensor::matrix::Matrix;
use xxhash_rust::xxh3::Xxh3;

use crate::weights::{Experts, Ffn, GatedFfn, Layer, Linear, Model};

/// A model's identity: 128 bits that are equal for equal models and differ for models whose keys and values differ, unless
/// somebody sees to it that they do not. It guards against mistakes, not against forgery.
///
/// It is XXH3-128 over, in this order: the configuration as JSON, its name left empty; the embedding; the layers, first to
/// last, each in the order attention (norm, q, k, v, o, the other norms), feed-forward; the final norm; the head, if it is a
/// matrix of its own. A vector counts with its length and all its numbers; a matrix with the text of its
/// specification (`trit2/tensor 2560x6912`), its image's length, and of the image the first 4 KiB, the last 4 KiB and 14 pieces
/// of 4 KiB evenly between them, or all of it up to 64 KiB. So a model keeps its fingerprint when it is renamed or its file is
/// moved; the same weights in another packing are another model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 16]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

const PIECE: usize = 4096;
const PIECES: usize = 16;

impl Fingerprint {
    /// The fingerprint of `model`.
    pub fn of(model: &Model) -> Self {
        let mut hash = Hash(Xxh3::new());
        let mut config = model.config.clone();
        config.name.clear();
        // A configuration is plain numbers and names; if it had no JSON, the weights would still tell models apart.
        hash.bytes(&serde_json::to_vec(&config).unwrap_or_default());
        hash.matrix(&model.embedding);
        model.layers.iter().for_each(|layer| hash.layer(layer));
        hash.vector(&model.final_norm);
        model.head.iter().for_each(|head| hash.matrix(head));
        Self(hash.0.digest128().to_le_bytes())
    }
}

struct Hash(Xxh3);

impl Hash {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn vector(&mut self, vector: &[f32]) {
        self.0.update(&(vector.len() as u64).to_le_bytes());
        vector.iter().for_each(|x| self.0.update(&x.to_le_bytes()));
    }

    fn vectors<'a>(&mut self, vectors: impl IntoIterator<Item = &'a Option<Vec<f32>>>) {
        for vector in vectors {
            // A vector that is not there has a length that none has.
            match vector {
                Some(vector) => self.vector(vector),
                None => self.0.update(&u64::MAX.to_le_bytes()),
            }
        }
    }

    fn matrix(&mut self, matrix: &Matrix) {
        let image: &[u8] = matrix.image();
        self.bytes(matrix.spec().to_string().as_bytes());
        self.0.update(&(image.len() as u64).to_le_bytes());
        if image.len() <= PIECE * PIECES {
            self.0.update(image);
            return;
        }
        let last = image.len() - PIECE;
        for piece in 0..PIECES {
            let start = (last as u64 * piece as u64 / (PIECES as u64 - 1)) as usize;
            self.0.update(&image[start..start + PIECE]);
        }
    }

    fn linear(&mut self, linear: &Linear) {
        self.matrix(&linear.weight);
        self.vectors([&linear.bias]);
    }

    fn layer(&mut self, layer: &Layer) {
        let attention = &layer.attention;
        self.vector(&attention.norm);
        for linear in [&attention.q, &attention.k, &attention.v, &attention.o] {
            self.linear(linear);
        }
        self.vectors([&attention.q_norm, &attention.k_norm, &attention.sub_norm, &attention.post_norm]);
        self.vector(&layer.ffn_norm);
        match &layer.ffn {
            Ffn::Dense(ffn) => self.network(ffn),
            Ffn::Experts(Experts { router, selection_bias, experts, shared }) => {
                self.linear(router);
                self.vectors([selection_bias]);
                experts.iter().chain(shared).for_each(|ffn| self.network(ffn));
            }
        }
        self.vectors([&layer.ffn_post_norm]);
    }

    fn network(&mut self, ffn: &GatedFfn) {
        for linear in [&ffn.gate, &ffn.up, &ffn.down] {
            self.linear(linear);
        }
        self.vectors([&ffn.sub_norm]);
    }
}

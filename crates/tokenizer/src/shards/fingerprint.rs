//! A name for a vocabulary that says which ids it gives.

use sha2::{Digest, Sha256};

use super::hex;
use crate::Tokenizer;

impl Tokenizer {
    /// SHA-256, in hexadecimal digits, of everything that ids depend on: entries, merges, normalizer, pre-tokenizer, added
    /// tokens. It is the same whatever kind of file the tokenizer was read from, if that file says the same; files that
    /// are merely equivalent may differ.
    pub fn fingerprint(&self) -> String {
        let (bpe, spec) = (self.bpe(), self.spec());
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(b"chalot-vocabulary-1");
        for id in 0..bpe.vocab.len() as u32 {
            part(format!("{:?}", bpe.vocab.kind(id)).as_bytes());
            part(bpe.vocab.key(id).unwrap_or_default());
        }
        for (left, right) in bpe.merges_in_order() {
            part(&[left.to_le_bytes(), right.to_le_bytes()].concat());
        }
        // Writing to memory fails only if a `Serialize` of ours says so; none does.
        let json = |value: serde_json::Result<Vec<u8>>| value.unwrap_or_default();
        part(&json(serde_json::to_vec(&spec.normalizer)));
        part(&json(serde_json::to_vec(&spec.pre_tokenizer)));
        part(&json(serde_json::to_vec(&spec.added)));
        part(&[u8::from(spec.strip_prefix), u8::from(bpe.options.ignore_merges)]);
        hex(&hash.finalize())
    }
}

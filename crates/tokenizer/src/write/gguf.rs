//! A tokenizer as the keys of a GGUF file.

use crate::bpe::BpeOptions;
use crate::load::gguf::types;
use crate::pretokenize::pre;
use crate::spec::{AddedToken, Normalizer};
use crate::vocab::{Kind, Writing};
use crate::{GgufVocab, Tokenizer};

impl Tokenizer {
    /// The tokenizer as GGUF keys. [`from_gguf`](Self::from_gguf) makes of them a tokenizer that encodes the same.
    ///
    /// The usual keys say it where they can; what they have no words for (an unnamed pattern, added tokens that take
    /// the white space beside them, ...) is said by a whole tokenizer.json in
    /// [`huggingface_json`](GgufVocab::huggingface_json), and the merges then stand only there.
    pub fn to_gguf(&self) -> GgufVocab {
        let vocab = &self.bpe().vocab;
        let ids = 0..vocab.len() as u32;
        let roles = self.roles();
        let mut keys = GgufVocab {
            tokens: ids.clone().map(|id| vocab.text(id).unwrap_or_else(|| format!("[PAD{id}]"))).collect(),
            token_types: ids.map(|id| type_of(vocab.kind(id))).collect(),
            bos: roles.bos,
            eos: roles.eos,
            unk: self.unk(),
            pad: roles.pad,
            add_bos: Some(roles.add_bos),
            add_eos: Some(roles.add_eos),
            eog: roles.eog.clone(),
            ..GgufVocab::default()
        };
        let named = match vocab.writing() {
            Writing::Bytes => {
                keys.model = "gpt2".into();
                keys.pre = self.pre_name().map(String::from);
                keys.pre.is_some()
            }
            Writing::Text => {
                keys.model = "llama".into();
                keys.add_space_prefix = Some(self.spec().strip_prefix);
                self.scores().is_some()
            }
        };
        if !named {
            keys.huggingface_json = Some(self.to_json());
        } else if let Some(scores) = self.scores() {
            keys.scores = scores.to_vec();
        } else {
            let text = |id| vocab.text(id).unwrap_or_default();
            keys.merges = self
                .bpe()
                .merges_in_order()
                .map(|(left, right)| format!("{} {}", text(left), text(right)))
                .collect();
        }
        keys
    }

    /// The name of a pre-tokenizer that says all that is not the vocabulary itself.
    fn pre_name(&self) -> Option<&'static str> {
        let (spec, options) = (self.spec(), self.bpe().options);
        let plain = |token: &AddedToken| *token == AddedToken::plain(token.id, &token.content, token.special);
        let by_score = self.scores().is_some();
        let ordinary =
            BpeOptions { ignore_merges: options.ignore_merges, unk: options.unk, ..BpeOptions::default() };
        if !spec.added.iter().all(plain) || options != ordinary {
            return None;
        }
        // GGUF has one type for each token. Where an added token is an ordinary entry too, and that matters (as the token
        // of a byte, or of a whole pre-token), it has none.
        let vocab = &self.bpe().vocab;
        let matters = |&id: &u32| options.ignore_merges || vocab.key(id).is_some_and(|key| key.len() == 1);
        if vocab.formed_added().iter().any(matters) {
            return None;
        }
        let same = pre::all().find(|(_, pre)| {
            let normalizer = pre.nfc.then_some(Normalizer::Nfc);
            spec.pre_tokenizer == Some(pre.pre_tokenizer())
                && spec.normalizer == normalizer
                && (by_score || pre.ignore_merges == options.ignore_merges)
        });
        same.map(|(name, _)| name)
    }
}

fn type_of(kind: Kind) -> i32 {
    match kind {
        Kind::Normal | Kind::Literal => types::NORMAL,
        Kind::Byte(_) => types::BYTE,
        Kind::User => types::USER,
        Kind::Control => types::CONTROL,
        Kind::Unknown => types::UNKNOWN,
        Kind::Unused | Kind::Hole => types::UNUSED,
    }
}

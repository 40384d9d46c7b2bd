//! GGUF's names for pre-tokenizers (`tokenizer.ggml.pre`).

use super::known::{GPT2, LLAMA3, O200K, QWEN2, TEKKEN};
use crate::spec::PreTokenizer;

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pre {
    names: &'static [&'static str],
    how: How,
    /// The model's own tokenizer normalizes to NFC.
    pub(crate) nfc: bool,
    /// A pre-token that is an entry becomes this entry.
    pub(crate) ignore_merges: bool,
    /// A prompt begins with BOS if the file does not say otherwise.
    pub(crate) add_bos: bool,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Gpt2,
    /// Digits one by one, then GPT-2.
    DigitsGpt2,
    /// One regular expression after the other, each within the pieces of the one before.
    Regexes(&'static [&'static str]),
}

const PLAIN: Pre = Pre { names: &[], how: How::Gpt2, nfc: false, ignore_merges: false, add_bos: false };

const ALL: [Pre; 10] = [
    Pre { names: &["gpt-2", "gpt2", "mpt", "phi-2", "exaone4"], ..PLAIN },
    // OLMo's and OLMoE's own tokenizer, which is GPT-NeoX's.
    Pre { names: &["olmo", "gpt-neox"], nfc: true, ..PLAIN },
    Pre {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "falcon_e",
            "falcon-e",
            "pixtral",
            "midm-2.0",
            "lfm2",
        ],
        how: How::Regexes(&[LLAMA3]),
        ignore_merges: true,
        add_bos: true,
        ..PLAIN
    },
    Pre { names: &["dbrx", "smaug-bpe", "chatglm-bpe", "glm4"], how: How::Regexes(&[LLAMA3]), ..PLAIN },
    Pre { names: &["qwen2"], how: How::Regexes(&[QWEN2]), nfc: true, ..PLAIN },
    Pre { names: &["deepseek-r1-qwen", "stablelm2", "megrez"], how: How::Regexes(&[QWEN2]), ..PLAIN },
    Pre {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        how: How::DigitsGpt2,
        ..PLAIN
    },
    Pre { names: &["gpt-4o", "llama4"], how: How::Regexes(&[O200K]), ..PLAIN },
    Pre { names: &["tekken"], how: How::Regexes(&[TEKKEN]), ignore_merges: true, add_bos: true, ..PLAIN },
    Pre {
        names: &["default"],
        how: How::Regexes(&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
        ..PLAIN
    },
];

/// What `name` stands for.
pub(crate) fn by_name(name: &str) -> Option<&'static Pre> {
    ALL.iter().find(|pre| pre.names.contains(&name))
}

/// Every name, for messages.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().flat_map(|pre| pre.names.iter().copied())
}

/// The first name of each, for writing.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, &'static Pre)> {
    ALL.iter().map(|pre| (pre.names[0], pre))
}

impl Pre {
    /// As a description.
    pub(crate) fn pre_tokenizer(&self) -> PreTokenizer {
        match self.how {
            How::Gpt2 => PreTokenizer::byte_level(true),
            How::DigitsGpt2 => PreTokenizer::Sequence {
                pretokenizers: vec![
                    PreTokenizer::Digits { individual_digits: true },
                    PreTokenizer::byte_level(true),
                ],
            },
            How::Regexes(regexes) => PreTokenizer::split_then_byte_level(regexes),
        }
    }
}

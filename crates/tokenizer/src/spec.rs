//! The description of a tokenizer around its merges, in the terms of `tokenizer.json`: what every reader produces, what
//! [`crate::normalize`] and [`crate::pretokenize`] carry out, and what the writer writes.

use serde::{Deserialize, Serialize};

/// A normalizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub(crate) enum Normalizer {
    #[serde(rename = "NFC")]
    Nfc,
    #[serde(rename = "NFD")]
    Nfd,
    #[serde(rename = "NFKC")]
    Nfkc,
    #[serde(rename = "NFKD")]
    Nfkd,
    Lowercase,
    Strip {
        strip_left: bool,
        strip_right: bool,
    },
    Prepend {
        prepend: String,
    },
    Replace {
        pattern: TextPattern,
        content: String,
    },
    Sequence {
        normalizers: Vec<Normalizer>,
    },
}

/// A string or a regular expression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum TextPattern {
    String(String),
    Regex(String),
}

/// A pre-tokenizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub(crate) enum PreTokenizer {
    ByteLevel {
        #[serde(default = "yes")]
        add_prefix_space: bool,
        /// Has no influence on ids: always written as true.
        #[serde(default = "yes", deserialize_with = "ignore")]
        trim_offsets: bool,
        #[serde(default = "yes")]
        use_regex: bool,
    },
    Split {
        pattern: TextPattern,
        behavior: Behavior,
        #[serde(default)]
        invert: bool,
    },
    Digits {
        #[serde(default)]
        individual_digits: bool,
    },
    Punctuation {
        #[serde(default = "isolated")]
        behavior: Behavior,
    },
    WhitespaceSplit,
    Metaspace {
        replacement: char,
        /// Older files; the same as `prepend_scheme: always | never`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        add_prefix_space: Option<bool>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prepend_scheme: Option<PrependScheme>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        split: Option<bool>,
    },
    Sequence {
        pretokenizers: Vec<PreTokenizer>,
    },
}

impl PreTokenizer {
    /// Whether text leaves it in the byte alphabet.
    pub(crate) fn is_byte_level(&self) -> bool {
        match self {
            PreTokenizer::ByteLevel { .. } => true,
            PreTokenizer::Sequence { pretokenizers } => pretokenizers.iter().any(PreTokenizer::is_byte_level),
            _ => false,
        }
    }

    /// `ByteLevel` as most files have it.
    pub(crate) fn byte_level(use_regex: bool) -> PreTokenizer {
        PreTokenizer::ByteLevel { add_prefix_space: false, trim_offsets: true, use_regex }
    }

    /// Pieces by `regex`, then the byte level.
    pub(crate) fn split_then_byte_level(regexes: &[&str]) -> PreTokenizer {
        let split = |regex: &&str| PreTokenizer::Split {
            pattern: TextPattern::Regex((*regex).into()),
            behavior: Behavior::Isolated,
            invert: false,
        };
        let mut pretokenizers: Vec<PreTokenizer> = regexes.iter().map(split).collect();
        pretokenizers.push(PreTokenizer::byte_level(false));
        PreTokenizer::Sequence { pretokenizers }
    }
}

/// When SentencePiece's dummy prefix is put before a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PrependScheme {
    /// Before each stretch between added tokens.
    Always,
    /// Before the beginning of the text only.
    First,
    Never,
}

/// What becomes of a delimiter that a split finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Behavior {
    Removed,
    Isolated,
    MergedWithPrevious,
    MergedWithNext,
    Contiguous,
}

fn yes() -> bool {
    true
}

/// Reads a bool and forgets it, so that descriptions that do the same are equal.
fn ignore<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    bool::deserialize(deserializer).map(|_| true)
}

fn isolated() -> Behavior {
    Behavior::Isolated
}

/// An added token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AddedToken {
    pub(crate) id: u32,
    pub(crate) content: String,
    /// Found only where no word character is beside it.
    #[serde(default)]
    pub(crate) single_word: bool,
    /// Takes the white space before it.
    #[serde(default)]
    pub(crate) lstrip: bool,
    /// Takes the white space after it.
    #[serde(default)]
    pub(crate) rstrip: bool,
    /// Looked for in the normalized text, in its own normalized form.
    #[serde(default)]
    pub(crate) normalized: bool,
    /// Has a meaning to the model; plain text where the caller says so.
    #[serde(default)]
    pub(crate) special: bool,
}

impl AddedToken {
    /// With the flags that GGUF and tiktoken files imply.
    pub(crate) fn plain(id: u32, content: &str, special: bool) -> AddedToken {
        AddedToken {
            id,
            content: content.into(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special,
        }
    }
}

/// Everything around the merges.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Spec {
    pub(crate) normalizer: Option<Normalizer>,
    pub(crate) pre_tokenizer: Option<PreTokenizer>,
    /// By id.
    pub(crate) added: Vec<AddedToken>,
    /// Decoding removes one space from the beginning of a text: the dummy prefix.
    pub(crate) strip_prefix: bool,
}

/// Tokens with a part to play in prompts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Roles {
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) pad: Option<u32>,
    pub(crate) add_bos: bool,
    pub(crate) add_eos: bool,
    /// End of generation; sorted.
    pub(crate) eog: Vec<u32>,
}

/// Texts of tokens after which no model goes on.
const END_NAMES: [&str; 22] = [
    "</s>",
    "<eos>",
    "<EOS>",
    "<|eos|>",
    "<|end|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|end▁of▁sentence|>",
    "<｜end▁of▁sentence｜>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|eot|>",
    "<|im_end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<turn|>",
    "<end_of_utterance>",
    "<EOT>",
    "_<EOT>",
    "[EOS]",
    "[EOT]",
];

impl Roles {
    /// Fills `eog` with EOS and every added token of a well-known name.
    pub(crate) fn find_ends(&mut self, added: &[AddedToken]) {
        let named =
            added.iter().filter(|token| END_NAMES.contains(&token.content.as_str())).map(|token| token.id);
        self.eog.extend(named.chain(self.eos));
        self.eog.sort_unstable();
        self.eog.dedup();
    }
}

//! The vocabulary of a GGUF file as plain data.

/// The tokenizer keys of a GGUF file (`tokenizer.ggml.*`), one field each. What a file does not have stays empty.
///
/// This crate knows no GGUF: whoever reads or writes the file copies the keys from and to this struct.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufVocab {
    /// `tokenizer.ggml.model`: `"gpt2"` (byte-level BPE) or `"llama"` / `"gemma"` (SentencePiece with scores).
    pub model: String,
    /// `tokenizer.ggml.pre`: the name of the pre-tokenizer, for `"gpt2"` models.
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`: the text of each id (byte-level models: in GPT-2's alphabet).
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.scores`: one for each token, or empty.
    pub scores: Vec<f32>,
    /// `tokenizer.ggml.token_type`: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte; or empty.
    pub token_types: Vec<i32>,
    /// `tokenizer.ggml.merges`: `"left right"`, best first; or empty.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.bos_token_id`.
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`.
    pub eos: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`: ends a turn.
    pub eot: Option<u32>,
    /// `tokenizer.ggml.eom_token_id`: ends a message.
    pub eom: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unk: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`.
    pub pad: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`: a prompt begins with BOS.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`: a training text ends with EOS.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`: text begins with an invisible space (SentencePiece's dummy prefix).
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.chalot.eog_token_ids`: every token that ends generation; our own key, written where the well-known
    /// names would not give the same list.
    pub eog: Vec<u32>,
    /// `tokenizer.huggingface.json`: a whole tokenizer.json; preferred when it is there.
    pub huggingface_json: Option<String>,
}

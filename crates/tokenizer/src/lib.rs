//! Byte-pair tokenizers for language models: byte-level (GPT-2, Llama 3, Qwen) and SentencePiece-like (Llama 2, Gemma).
//!
//! One [`Tokenizer`] is read from any of the files that carry a vocabulary today:
//!
//! | file | constructor |
//! |---|---|
//! | Hugging Face `tokenizer.json` | [`Tokenizer::from_json`] |
//! | `.tiktoken` ranks | [`Tokenizer::from_tiktoken`] |
//! | the `tokenizer.ggml.*` keys of a GGUF file | [`Tokenizer::from_gguf`] |
//! | llama2.c's `tokenizer.bin` | [`Tokenizer::from_llama2c`] |
//!
//! The ids are those of the reference implementation of each file: Hugging Face `tokenizers` for JSON and for byte-level
//! GGUF vocabularies, `tiktoken` for ranks, SentencePiece for vocabularies with scores.
//!
//! How text becomes ids:
//!
//! 1. **added tokens** (`<|im_end|>`, ...) are cut out where the caller allows it ([`Specials`]);
//! 2. what lies between is **normalized** (NFC, space to `▁`, ...), mostly not at all;
//! 3. it is **cut into pre-tokens** by the vocabulary's pattern; the well-known patterns are hand-written scanners,
//!    any other is run by a general regular-expression engine;
//! 4. each pre-token is **merged** pair by pair, lowest rank first ([Sennrich et al. 2016]), in O(n log n) at worst, unless its
//!    ids are remembered from the last time.
//!
//! [`encode`](Tokenizer::encode) does all that; [`encode_batch`](Tokenizer::encode_batch) and
//! [`encode_parallel`](Tokenizer::encode_parallel) do it on several threads, [`encoder`](Tokenizer::encoder) and
//! [`encode_reader`](Tokenizer::encode_reader) with text that comes in pieces, [`count`](Tokenizer::count) without making ids, and
//! [`encode_with_offsets`](Tokenizer::encode_with_offsets) says where each token is.
//!
//! Text is bytes: invalid UTF-8 is kept by every vocabulary that has tokens for single bytes, and comes back unchanged.
//!
//! [Sennrich et al. 2016]: https://aclanthology.org/P16-1162/
//!
//! ```
//! use chalot_tokenizer::{GgufVocab, Specials, Tokenizer};
//! # fn main() -> Result<(), chalot_tokenizer::TokenizerError> {
//! let vocab = GgufVocab {
//!     model: "gpt2".into(),
//!     pre: Some("gpt-2".into()),
//!     tokens: ["a", "b", "ab", "<|end|>"].map(String::from).to_vec(),
//!     token_types: vec![1, 1, 1, 3],
//!     merges: vec!["a b".into()],
//!     ..GgufVocab::default()
//! };
//! let tokenizer = Tokenizer::from_gguf("example.gguf", vocab)?;
//! let ids = tokenizer.encode("abba<|end|>", Specials::Parse);
//! assert_eq!(ids, [2, 1, 0, 3]);
//! assert_eq!(tokenizer.decode(&ids), b"abba<|end|>");
//! # Ok(())
//! # }
//! ```

mod added;
mod alphabet;
mod automaton;
mod batch;
mod bpe;
mod cache;
mod cache_long;
mod cuts;
mod error;
mod gguf;
mod hash;
pub mod input;
mod load;
mod matches;
mod merges;
mod normalize;
mod offsets;
mod pretokenize;
mod reference;
mod scratch;
mod seams;
pub mod shards;
mod spec;
mod stream;
mod stream_encoder;
mod tokenizer;
pub mod train;
mod unicode;
mod vocab;
mod windows;
mod write;

pub use error::TokenizerError;
pub use gguf::GgufVocab;
pub use pretokenize::Pattern;
pub use reference::Reference;
pub use stream::StreamDecoder;
pub use stream_encoder::StreamEncoder;
pub use tokenizer::{Specials, Tokenizer};

//! The well-known patterns by their many spellings.

use std::convert::Infallible;
use std::str::FromStr;

use super::scan::Scanner;

/// How a byte-level vocabulary cuts text into pre-tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pattern {
    /// GPT-2 (also r50k and p50k).
    Gpt2,
    /// OpenAI's cl100k_base.
    Cl100k,
    /// OpenAI's o200k_base.
    O200k,
    /// Llama 3: cl100k but for white space at the end of a text.
    Llama3,
    /// Qwen 2, 2.5 and 3: Llama 3 with single digits.
    Qwen2,
    /// Any other regular expression; its matches are the pre-tokens, and so is what lies between them.
    Regex(String),
}

pub(crate) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
pub(crate) const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(crate) const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// tiktoken's, but for `{1,3}` in the place of `{1,3}+`: the same here, while Hugging Face's engine takes the plus for a repetition.
pub(crate) const CL100K: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s";
pub(crate) const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(crate) const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Every spelling that a scanner carries out exactly.
const KNOWN: [(&str, Scanner); 12] = [
    (GPT2, Scanner::Gpt2),
    // GPT-2 without the last alternative: what it would match is left over, and left-overs are pieces.
    (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)", Scanner::Gpt2),
    (r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", Scanner::Gpt2),
    (r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s", Scanner::Gpt2),
    (LLAMA3, Scanner::LLAMA3),
    (
        r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Scanner::Cl100k { digits: 3, whole_tail: false, long_s: false },
    ),
    (QWEN2, Scanner::QWEN2),
    (CL100K, Scanner::CL100K),
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
        Scanner::CL100K,
    ),
    (O200K, Scanner::O200K),
    (TEKKEN, Scanner::TEKKEN),
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Scanner::O200k { digits: 3, contractions: false },
    ),
];

/// The scanner that does what `regex` says.
pub(crate) fn scanner_of(regex: &str) -> Option<Scanner> {
    KNOWN.iter().find(|(spelling, _)| *spelling == regex).map(|(_, scanner)| *scanner)
}

/// All spellings, for the tests.
#[cfg(test)]
pub(super) fn all() -> &'static [(&'static str, Scanner)] {
    &KNOWN
}

impl Pattern {
    /// The pattern as a regular expression.
    pub fn regex(&self) -> &str {
        match self {
            Pattern::Gpt2 => GPT2,
            Pattern::Cl100k => CL100K,
            Pattern::O200k => O200K,
            Pattern::Llama3 => LLAMA3,
            Pattern::Qwen2 => QWEN2,
            Pattern::Regex(regex) => regex,
        }
    }
}

impl FromStr for Pattern {
    type Err = Infallible;

    /// `gpt2`, `r50k`, `cl100k`, `o200k`, `llama3`, `qwen2`; anything else is a regular expression.
    fn from_str(name: &str) -> Result<Pattern, Infallible> {
        Ok(match name {
            "gpt2" | "r50k" | "p50k" => Pattern::Gpt2,
            "cl100k" => Pattern::Cl100k,
            "o200k" => Pattern::O200k,
            "llama3" => Pattern::Llama3,
            "qwen2" => Pattern::Qwen2,
            regex => Pattern::Regex(regex.into()),
        })
    }
}

/// What the number of ranks in a `.tiktoken` file tells: the pattern and the special tokens that stand outside the file.
pub(crate) fn guess_tiktoken(ranks: usize) -> Option<(Pattern, Vec<(String, u32)>)> {
    let named = |names: &[(&str, u32)]| names.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect();
    Some(match ranks {
        50_256 => (Pattern::Gpt2, named(&[("<|endoftext|>", 50_256)])),
        50_280 => (Pattern::Gpt2, named(&[("<|endoftext|>", 50_256)])),
        100_256 => (
            Pattern::Cl100k,
            named(&[
                ("<|endoftext|>", 100_257),
                ("<|fim_prefix|>", 100_258),
                ("<|fim_middle|>", 100_259),
                ("<|fim_suffix|>", 100_260),
                ("<|endofprompt|>", 100_276),
            ]),
        ),
        199_998 => (Pattern::O200k, named(&[("<|endoftext|>", 199_999), ("<|endofprompt|>", 200_018)])),
        128_000 => (Pattern::Llama3, llama3_specials()),
        151_643 => (
            Pattern::Qwen2,
            named(&[("<|endoftext|>", 151_643), ("<|im_start|>", 151_644), ("<|im_end|>", 151_645)]),
        ),
        _ => return None,
    })
}

/// Llama 3's 256 special tokens.
fn llama3_specials() -> Vec<(String, u32)> {
    let named = [
        (0, "<|begin_of_text|>"),
        (1, "<|end_of_text|>"),
        (6, "<|start_header_id|>"),
        (7, "<|end_header_id|>"),
        (9, "<|eot_id|>"),
    ];
    let mut reserved = 0;
    let name = |offset: u32| {
        if let Some((_, name)) = named.iter().find(|(at, _)| *at == offset) {
            return ((*name).to_owned(), 128_000 + offset);
        }
        reserved += 1;
        (format!("<|reserved_special_token_{}|>", reserved - 1), 128_000 + offset)
    };
    (0..256).map(name).collect()
}

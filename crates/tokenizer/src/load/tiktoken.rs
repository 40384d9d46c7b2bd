//! `.tiktoken`: one `base64 rank` a line. The pattern and the special tokens stand outside the file.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::ranked;
use crate::bpe::BpeOptions;
use crate::error::quote;
use crate::pretokenize::{self, Pattern};
use crate::spec::{AddedToken, PreTokenizer, Roles, Spec};
use crate::tokenizer::Parts;
use crate::vocab::{Kind, VocabBuilder, Writing};
use crate::{Tokenizer, TokenizerError};

impl Tokenizer {
    /// Reads a `.tiktoken` file: lines of a token in base64 and its rank, which is its id.
    ///
    /// Without a `pattern`, the pattern and the special tokens are those of the known vocabulary with as many ranks (r50k,
    /// p50k, cl100k, o200k, Llama 3, Qwen); `specials` are added to these.
    ///
    /// The ids are tiktoken's: a pre-token that is an entry becomes this entry, others merge by rank.
    pub fn from_tiktoken(
        file: &str,
        bytes: &[u8],
        pattern: Option<Pattern>,
        specials: &[(String, u32)],
    ) -> Result<Tokenizer, TokenizerError> {
        let lines = || {
            bytes
                .split(|&byte| byte == b'\n')
                .map(<[u8]>::trim_ascii)
                .enumerate()
                .filter(|(_, line)| !line.is_empty())
        };
        let count = lines().count();
        let (pattern, mut all_specials) = match pattern {
            Some(pattern) => (pattern, Vec::new()),
            None => pretokenize::guess_tiktoken(count).ok_or_else(|| {
                TokenizerError::unsupported(
                    file,
                    "pattern",
                    format!("a file of {count} ranks, which is no known vocabulary,"),
                    "name the pattern (gpt2, cl100k, o200k, llama3, qwen2 or a regular expression)",
                )
            })?,
        };
        all_specials.extend_from_slice(specials);

        let mut builder = VocabBuilder::new(file, Writing::Bytes, count + all_specials.len());
        for (at, line) in lines() {
            let entry = || format!("line {}", at + 1);
            let wrong = |expected: &str| {
                TokenizerError::entry(file, entry(), quote(&String::from_utf8_lossy(line)), expected)
            };
            let space = line.iter().position(|&byte| byte == b' ').ok_or_else(|| wrong("`base64 rank`"))?;
            let token =
                STANDARD.decode(&line[..space]).map_err(|_| wrong("a token in base64 before the space"))?;
            let rank = std::str::from_utf8(&line[space + 1..]).ok().and_then(|rank| rank.parse::<u32>().ok());
            let rank = rank.ok_or_else(|| wrong("a rank (a whole number) after the space"))?;
            if token.is_empty() {
                return Err(wrong("a token of at least one byte"));
            }
            builder.add(rank, &token, Kind::Normal, entry)?;
        }
        for (name, id) in &all_specials {
            builder.add_added(*id, name, Kind::Control, || format!("special token {}", quote(name)))?;
        }
        let vocab = builder.finish()?;
        if let Some(byte) = (0..=255u8).find(|&byte| vocab.find(&[byte]).is_none()) {
            return Err(TokenizerError::entry(
                file,
                "ranks",
                format!("none for byte 0x{byte:02X}"),
                "one for each of the 256 bytes",
            ));
        }
        let (merges, chars) = ranked::merges(file, &vocab, Some, |id| format!("the token of rank {id}"))?;

        let id_of = |name: &str| all_specials.iter().find(|(special, _)| special == name).map(|(_, id)| *id);
        let roles = Roles {
            bos: id_of("<|begin_of_text|>").or_else(|| id_of("<|endoftext|>")),
            eos: id_of("<|end_of_text|>").or_else(|| id_of("<|endoftext|>")),
            add_bos: id_of("<|begin_of_text|>").is_some(),
            ..Roles::default()
        };
        let scores = (0..vocab.len()).map(|rank| -(rank as f32)).collect();
        let spec = Spec {
            pre_tokenizer: Some(match &pattern {
                Pattern::Gpt2 => PreTokenizer::byte_level(true),
                other => PreTokenizer::split_then_byte_level(&[other.regex()]),
            }),
            added: all_specials.iter().map(|(name, id)| AddedToken::plain(*id, name, true)).collect(),
            ..Spec::default()
        };
        let options = BpeOptions { ignore_merges: true, ..BpeOptions::default() };
        Tokenizer::assemble(file, Parts { vocab, merges, chars, options, spec, roles, scores: Some(scores) })
    }
}

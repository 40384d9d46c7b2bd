//! A tokenizer of what was trained.

use std::collections::HashMap;

use super::TrainOptions;
use super::ids::Ids;
use crate::bpe::BpeOptions;
use crate::merges::{Merge, Merges};
use crate::spec::{AddedToken, PreTokenizer, Roles, Spec};
use crate::tokenizer::Parts;
use crate::vocab::{Kind, VocabBuilder, Writing};
use crate::{Tokenizer, TokenizerError};

/// What errors call the vocabulary.
const NAME: &str = "the trained vocabulary";

pub(crate) fn tokenizer(
    options: &TrainOptions,
    pre_tokenizer: &PreTokenizer,
    ids: &Ids,
    merges: &[(u32, u32)],
) -> Result<Tokenizer, TokenizerError> {
    let mut builder = VocabBuilder::new(NAME, Writing::Bytes, ids.len());
    let specials = options.special_tokens.len() as u32;
    let entry = |id: u32| move || format!("entry {id}");
    let formed = |id: u32| id >= specials || ids.of_bytes().contains(&id);
    for id in (0..ids.len() as u32).filter(|&id| formed(id)) {
        builder.add(id, ids.bytes(id).unwrap_or_default(), Kind::Normal, entry(id))?;
    }
    let added: Vec<AddedToken> = (0..)
        .zip(&options.special_tokens)
        .map(|(id, content)| AddedToken::plain(id, content, true))
        .collect();
    for token in &added {
        builder.add_added(token.id, &token.content, Kind::Control, entry(token.id))?;
    }
    let vocab = builder.finish()?;
    // A pair that was merged twice has its last place, as in Hugging Face's files.
    let mut last = HashMap::with_capacity(merges.len());
    for (at, pair) in merges.iter().enumerate() {
        last.insert(*pair, at);
    }
    let kept = merges.iter().enumerate().filter(|(at, pair)| last[*pair] == *at);
    let mut table = Merges::with_capacity(last.len());
    let mut joined = Vec::new();
    for (rank, (_, &(left, right))) in (0..).zip(kept) {
        joined.clear();
        joined.extend_from_slice(ids.bytes(left).unwrap_or_default());
        joined.extend_from_slice(ids.bytes(right).unwrap_or_default());
        let Some(id) = ids.find(&joined) else { continue };
        table.insert(left, right, Merge { rank, id });
    }
    let spec = Spec { pre_tokenizer: Some(pre_tokenizer.clone()), added, ..Spec::default() };
    let end = options.special_tokens.iter().position(|token| token == "<|endoftext|>");
    let roles = Roles { eos: end.map(|id| id as u32), ..Roles::default() };
    let (chars, options) = (Vec::new(), BpeOptions::default());
    Tokenizer::assemble(NAME, Parts { vocab, merges: table, chars, options, spec, roles, scores: None })
}

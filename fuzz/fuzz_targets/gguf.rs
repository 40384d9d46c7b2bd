//! The keys of a GGUF vocabulary, as lines: the model's name, the pre-tokenizer's, then `t TYPE SCORE TEXT` and `m MERGE`.
#![no_main]

use chalot_tokenizer::{GgufVocab, Specials, Tokenizer};
use libfuzzer_sys::fuzz_target;

const TEXT: &str = "The old king's  words\n\t12 é 日本 <s>|</s> aab";

fn keys(data: &[u8]) -> Option<GgufVocab> {
    let text = std::str::from_utf8(data).ok()?;
    let mut lines = text.split('\n');
    let mut vocab = GgufVocab { model: lines.next()?.into(), ..GgufVocab::default() };
    vocab.pre = lines.next().filter(|pre| !pre.is_empty()).map(String::from);
    for line in lines {
        match line.split_at_checked(2)? {
            ("m ", merge) => vocab.merges.push(merge.into()),
            ("t ", entry) => {
                let mut fields = entry.splitn(3, ' ');
                vocab.token_types.push(fields.next()?.parse().ok()?);
                vocab.scores.push(fields.next()?.parse().ok()?);
                vocab.tokens.push(fields.next()?.into());
            }
            ("b ", id) => vocab.bos = id.parse().ok(),
            ("u ", id) => vocab.unk = id.parse().ok(),
            _ => vocab.add_space_prefix = Some(line.len() % 2 == 0),
        }
    }
    Some(vocab)
}

fuzz_target!(|data: &[u8]| {
    let Some(vocab) = keys(data) else { return };
    let Ok(tokenizer) = Tokenizer::from_gguf("fuzz", vocab) else { return };
    let ids = tokenizer.encode(TEXT, Specials::Parse);
    assert!(ids.iter().all(|&id| tokenizer.token_bytes(id).is_some()));
    assert_eq!(tokenizer.count(TEXT, Specials::Parse), ids.len());
    tokenizer.decode(&ids);
    if let Ok(again) = Tokenizer::from_gguf("again", tokenizer.to_gguf()) {
        assert_eq!(again.encode(TEXT, Specials::Parse), ids);
    }
});

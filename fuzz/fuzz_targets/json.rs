//! Any bytes as a tokenizer.json.
#![no_main]

use chalot_tokenizer::{Specials, Tokenizer};
use libfuzzer_sys::fuzz_target;

const TEXT: &str = "The old king's  words\n\t12 é 日本 <s>|</s> aab";

fuzz_target!(|data: &[u8]| {
    let Ok(tokenizer) = Tokenizer::from_json("fuzz", data) else { return };
    let ids = tokenizer.encode(TEXT, Specials::Parse);
    assert!(ids.iter().all(|&id| tokenizer.token_bytes(id).is_some()));
    assert_eq!(tokenizer.count(TEXT, Specials::Parse), ids.len());
    tokenizer.decode(&ids);
    let mut stream = tokenizer.stream();
    ids.iter().for_each(|&id| drop(stream.push(id).to_owned()));
    tokenizer.encode_with_offsets(TEXT, Specials::AsText);
});

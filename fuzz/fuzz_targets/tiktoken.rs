//! Any bytes as a .tiktoken file.
#![no_main]

use chalot_tokenizer::{Pattern, Specials, Tokenizer};
use libfuzzer_sys::fuzz_target;

const TEXT: &str = "The old king's  words\n\t12 é 日本 <s>|</s> aab";

fuzz_target!(|data: &[u8]| {
    for pattern in [Pattern::Gpt2, Pattern::O200k] {
        let specials = [("<s>".to_owned(), 1000)];
        let Ok(tokenizer) = Tokenizer::from_tiktoken("fuzz", data, Some(pattern), &specials) else { return };
        let ids = tokenizer.encode(TEXT, Specials::Parse);
        assert!(ids.iter().all(|&id| tokenizer.token_bytes(id).is_some()));
        assert_eq!(tokenizer.count(TEXT, Specials::Parse), ids.len());
        if let Some(reference) = tokenizer.reference() {
            assert_eq!(reference.encode(TEXT), tokenizer.encode(TEXT, Specials::AsText));
        }
        tokenizer.decode(&ids);
    }
});

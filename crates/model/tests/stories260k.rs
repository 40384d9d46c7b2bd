//! A trained float model end to end: its greedy text, character by character, against one computed in numpy.
#[path = "support/data.rs"]
mod data;

use std::fs;
use std::sync::Arc;

use chalot_model::{
    Engine, EngineOptions, Finish, Generation, GenerationOptions, LoadOptions, Sampler, SamplingParams,
    Sequence, SequenceOptions, Source,
};
use chalot_simd::Isa;
use chalot_tensor::exec::Exec;
use chalot_tokenizer::Tokenizer;

const BOS: u32 = 1;

#[test]
fn greedy_text_is_the_expected_one() {
    let files = [
        "models/stories260K/stories260K.bin",
        "models/stories260K/tok512.bin",
        "expected/stories260K-greedy.txt",
    ];
    let [Some(model), Some(tokenizer), Some(expected)] = files.map(data::asset) else { return };
    let expected = fs::read_to_string(expected).unwrap();
    let source = Source::open(&model).unwrap();
    let tokenizer = Tokenizer::from_llama2c("tok512.bin", &fs::read(tokenizer).unwrap(), 512).unwrap();
    for isa in Isa::available() {
        for threads in [1, 2] {
            let exec = Exec::new(isa, threads);
            let model = Arc::new(source.load(&exec, &LoadOptions::default()).unwrap());
            let mut seq = Sequence::new(&model, SequenceOptions::default()).unwrap();
            let mut engine = Engine::new(model, exec, EngineOptions::default()).unwrap();
            let mut sampler = Sampler::new(SamplingParams::greedy()).unwrap();
            let options = GenerationOptions { stop: &[BOS], max_tokens: Some(256) };
            let mut generation =
                Generation::start(&mut engine, &mut seq, &mut sampler, &[BOS], options).unwrap();
            let tokens: Vec<u32> = generation.by_ref().map(Result::unwrap).collect();
            assert!(matches!(generation.finish(), Some(Finish::Stop(BOS) | Finish::MaxTokens)));
            // The asset holds the bytes of the tokens as they are, the leading space included.
            let bytes: Vec<u8> =
                tokens.iter().flat_map(|&id| tokenizer.token_bytes(id).unwrap().to_vec()).collect();
            let text = String::from_utf8(bytes).unwrap();
            assert_eq!(
                text.trim_end_matches('\n'),
                expected.trim_end_matches('\n'),
                "{}, {threads} threads",
                isa.name()
            );
        }
    }
}

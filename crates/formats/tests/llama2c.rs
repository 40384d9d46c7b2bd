//! llama2.c's model file.

mod common;

use chalot_formats::ErrorKind;
use chalot_formats::llama2c::{Llama2c, Part};

/// A file whose every float is its own number.
fn file(words: [i32; 7], floats: usize) -> Vec<u8> {
    let header = words.iter().flat_map(|w| w.to_le_bytes());
    header.chain((0..floats).flat_map(|i| (i as f32).to_le_bytes())).collect()
}

#[test]
fn parts_follow_each_other() {
    // dim 4, hidden 6, 2 layers, 2 heads, 1 kv head, vocabulary 5, context 3.
    let sizes = [5 * 4, 2 * 4, 2 * 16, 2 * 8, 2 * 8, 2 * 16, 2 * 4, 2 * 24, 2 * 24, 2 * 24, 4];
    let shared: usize = sizes.iter().sum::<usize>() + 3 * 2;
    for classifier in [false, true] {
        let vocab = if classifier { -5 } else { 5 };
        let bytes = file([4, 6, 2, 2, 1, vocab, 3], shared + if classifier { 20 } else { 0 });
        let model = Llama2c::parse("f", &bytes).unwrap();
        assert_eq!((model.config.vocab_size, model.config.shared_classifier), (5, !classifier));
        let mut first = 0;
        for (part, size) in Part::ALL.iter().zip(sizes) {
            let layers = if part.per_layer() { 2 } else { 1 };
            for layer in 0..layers {
                let weights = model.weights(&bytes, *part, layer).unwrap();
                let (rows, cols) = part.shape(&model.config);
                assert_eq!((weights.len(), weights.len() * layers), (rows * cols, size), "{part:?}");
                assert_eq!(weights[0] as usize, first + layer * size / layers, "{part:?} {layer}");
            }
            first += size;
            assert_eq!(model.range(*part, 2).is_some(), !part.per_layer());
        }
        assert_eq!(model.range(Part::Classifier, 0).is_some(), classifier);
        if classifier {
            assert_eq!(model.weights(&bytes, Part::Classifier, 0).unwrap()[0] as usize, shared);
        } else {
            assert_eq!(model.weights(&bytes, Part::Classifier, 0).unwrap_err().kind, ErrorKind::Missing);
        }
    }
}

#[test]
fn lies_are_refused() {
    let good = [8, 12, 1, 2, 1, 6, 4];
    let refuse = |at: usize, word: i32, kind: ErrorKind, part: &str| {
        let mut words = good;
        words[at] = word;
        let error = Llama2c::parse("evil.bin", &file(words, 568)).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind, kind, "{text}");
        assert!(text.starts_with("evil.bin: ") && text.contains(part), "{text}");
    };
    assert!(Llama2c::parse("f", &file(good, 568)).is_ok());
    for at in 0..7 {
        refuse(at, 0, ErrorKind::Malformed, "positive");
        refuse(at, i32::MIN, ErrorKind::Malformed, "positive");
    }
    refuse(0, 9, ErrorKind::Malformed, "divide");
    refuse(0, 6, ErrorKind::Malformed, "even");
    refuse(3, 3, ErrorKind::Malformed, "divide");
    refuse(4, 4, ErrorKind::Malformed, "divide");
    refuse(2, i32::MAX, ErrorKind::Truncated, "file size");
    refuse(5, -6, ErrorKind::Truncated, "file size");
    refuse(0, 0x616b_3432, ErrorKind::Unsupported, "version");
    let huge = [i32::MAX - 1, i32::MAX, i32::MAX, 1, 1, i32::MAX, i32::MAX];
    let error = Llama2c::parse("f", &file(huge, 0)).unwrap_err();
    assert!(error.to_string().contains("more than can be addressed"), "{error}");
    assert_eq!(Llama2c::parse("f", &[0; 27]).unwrap_err().kind, ErrorKind::Truncated);
}

#[test]
fn the_story_model_is_read() {
    let Some(bytes) = common::asset("models/stories260K/stories260K.bin") else { return };
    let model = Llama2c::parse("stories260K.bin", &bytes).unwrap();
    let c = model.config;
    assert_eq!((c.dim, c.hidden_dim, c.layers, c.heads, c.kv_heads), (64, 172, 5, 8, 4));
    assert_eq!(
        (c.vocab_size, c.context, c.shared_classifier, c.head_dim(), c.kv_dim()),
        (512, 512, true, 8, 32)
    );
    // Norm weights of a trained model are near 1: a part read from the wrong place would not be.
    let norm = model.weights(&bytes, Part::FinalNorm, 0).unwrap();
    assert!(norm.iter().all(|w| (0.05..30.0).contains(w)), "{norm:?}");
}

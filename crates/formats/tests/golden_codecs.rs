//! Codecs against the values that the `gguf` package decodes, bit for bit.

mod common;

use chalot_formats::TensorType;
use chalot_formats::codec::{self, Decoded};
use chalot_formats::safetensors::SafeTensors;

/// The types in the golden file, with whether their blocks could be made by quantizing too.
const TYPES: [(TensorType, bool); 12] = [
    (TensorType::F16, true),
    (TensorType::BF16, true),
    (TensorType::Q4_0, true),
    (TensorType::Q4_1, true),
    (TensorType::Q5_0, true),
    (TensorType::Q5_1, true),
    (TensorType::Q8_0, true),
    (TensorType::Q4K, false),
    (TensorType::Q5K, false),
    (TensorType::Q6K, false),
    (TensorType::TQ1_0, true),
    (TensorType::TQ2_0, true),
];

#[test]
fn every_golden_block_decodes_to_the_same_bits() {
    let bytes = std::fs::read(common::golden("codecs.safetensors")).unwrap();
    let file = SafeTensors::parse("codecs.safetensors", &bytes).unwrap();
    let data = |name: &str| file.data(file.tensor(name).unwrap(), &bytes).unwrap();
    let mut cases = 0;
    for (ty, quantizes) in TYPES {
        let prefix = ty.name().unwrap().to_lowercase();
        let suffixes: &[&str] = if quantizes { &["", ".quantized"] } else { &[""] };
        for suffix in suffixes {
            let values = format!("{prefix}{suffix}.values");
            let info = file.tensor(&values).unwrap();
            let dims: Vec<usize> = info.shape.iter().rev().copied().collect();
            let expected = file.view(info, &bytes).unwrap().to_f32().unwrap();
            let blocks = data(&format!("{prefix}{suffix}.bytes"));

            let mut floats = vec![f32::NAN; expected.len()];
            codec::decode_f32("f", &prefix, ty, &dims, blocks, &mut floats).unwrap();
            assert_bits(&floats, &expected, &values);
            let decoded = codec::decode("f", &prefix, ty, &dims, blocks).unwrap();
            assert_bits(&multiply_out(&decoded), &expected, &values);
            cases += 1;
        }
    }
    // Nothing in the file that this test does not know: two tensors a case, and the source of quantized ones.
    assert_eq!(file.tensors.len(), 2 * cases + TYPES.iter().filter(|(_, quantizes)| *quantizes).count());
}

#[test]
fn rows_decode_alone_as_they_do_together() {
    let bytes = std::fs::read(common::golden("codecs.safetensors")).unwrap();
    let file = SafeTensors::parse("codecs.safetensors", &bytes).unwrap();
    for (ty, _) in TYPES {
        let prefix = ty.name().unwrap().to_lowercase();
        let info = file.tensor(&format!("{prefix}.values")).unwrap();
        let dims: Vec<usize> = info.shape.iter().rev().copied().collect();
        let blocks = file.data(file.tensor(&format!("{prefix}.bytes")).unwrap(), &bytes).unwrap();
        let view = codec::TensorView::new("f", &prefix, ty, &dims, blocks).unwrap();
        let whole = view.to_f32().unwrap();
        let row = multiply_out(&view.decode_rows(1..2).unwrap());
        assert_bits(&row, &whole[view.cols()..], &prefix);
        assert!(multiply_out(&view.decode_rows(1..1).unwrap()).is_empty());
        assert!(view.decode_rows(1..3).is_err());
        assert!(view.decode_rows_f32(0..1, &mut vec![0.0; view.cols() + 1]).is_err());
    }
}

/// The weights of a decoded tensor by the formulas in the docs of [`Decoded`].
fn multiply_out(decoded: &Decoded) -> Vec<f32> {
    match decoded {
        Decoded::Float(values) => values.clone(),
        Decoded::Ternary { codes, block, scales } => {
            assert!(codes.iter().all(|code| (-1..=1).contains(code)));
            codes.iter().enumerate().map(|(i, &code)| f32::from(code) * scales[i / block]).collect()
        }
        Decoded::Int8 { codes, scales } => {
            codes.iter().enumerate().map(|(i, &code)| f32::from(code) * scales[i / 32]).collect()
        }
        Decoded::Int4 { codes, scales, mins } => {
            assert!(codes.iter().all(|&code| code < 16));
            let value = |(i, &code): (usize, &u8)| match mins {
                None => (f32::from(code) - 8.0) * scales[i / 32],
                Some(mins) => f32::from(code) * scales[i / 32] + mins[i / 32],
            };
            codes.iter().enumerate().map(value).collect()
        }
    }
}

fn assert_bits(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.to_bits(), expected.to_bits(), "{what}: weight {i} is {found}, expected {expected}");
    }
}

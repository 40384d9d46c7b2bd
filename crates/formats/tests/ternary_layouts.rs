//! The ternary layouts that no reference package decodes (and those that one does), against bytes written out
//! by hand and against encoders that follow the layouts' description weight by weight.

use chalot_formats::codec::{Decoded, Kind, TensorView, decode};
use chalot_formats::{ErrorKind, TensorType};
use half::f16;
use proptest::prelude::*;

/// Where a weight of a block lies: byte, and the value that its code (0, 1, 2) adds to that byte.
type Place = fn(usize) -> (usize, u16);

/// A layout: type, weights and bytes of a block, the offset of the f16 scale, and the place of each weight.
struct Layout {
    ty: TensorType,
    weights: usize,
    bytes: usize,
    scale_at: usize,
    place: Place,
    /// Bytes hold digits in base 3, stored as fractions of 256.
    base3: bool,
}

/// 3^(4 - n): the first of five digits is the most significant one.
fn digit(n: usize) -> u16 {
    [81, 27, 9, 3, 1][n]
}

const LAYOUTS: [Layout; 5] = [
    Layout {
        ty: TensorType::TQ1_0,
        weights: 256,
        bytes: 54,
        scale_at: 52,
        place: |j| match j {
            0..160 => (j % 32, digit(j / 32)),
            160..240 => (32 + (j - 160) % 16, digit((j - 160) / 16)),
            _ => (48 + (j - 240) % 4, digit((j - 240) / 4)),
        },
        base3: true,
    },
    Layout {
        ty: TensorType::PTQ1_0,
        weights: 128,
        bytes: 28,
        scale_at: 26,
        place: |j| match j {
            0..80 => (j % 16, digit(j / 16)),
            80..120 => (16 + (j - 80) % 8, digit((j - 80) / 8)),
            _ => (24 + (j - 120) % 2, digit((j - 120) / 2)),
        },
        base3: true,
    },
    Layout {
        ty: TensorType::TQ2_0,
        weights: 256,
        bytes: 66,
        scale_at: 64,
        place: |j| (j / 128 * 32 + j % 32, 1 << (2 * (j % 128 / 32))),
        base3: false,
    },
    Layout {
        ty: TensorType::Q2_0,
        weights: 64,
        bytes: 18,
        scale_at: 0,
        place: |j| (2 + j / 4, 1 << (2 * (j % 4))),
        base3: false,
    },
    Layout {
        ty: TensorType::PQ2_0,
        weights: 128,
        bytes: 34,
        scale_at: 0,
        place: |j| (2 + j / 4, 1 << (2 * (j % 4))),
        base3: false,
    },
];

impl Layout {
    fn encode(&self, codes: &[i8], scales: &[f16]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (codes, scale) in codes.chunks(self.weights).zip(scales) {
            let mut block = vec![0u16; self.bytes];
            for (j, code) in codes.iter().enumerate() {
                let (byte, unit) = (self.place)(j);
                block[byte] += (code + 1) as u16 * unit;
            }
            if self.base3 {
                // A fraction of 243 becomes one of 256, rounded up.
                block.iter_mut().for_each(|v| *v = (*v * 256).div_ceil(243));
            }
            let mut block: Vec<u8> = block.into_iter().map(|v| u8::try_from(v).unwrap()).collect();
            block[self.scale_at..self.scale_at + 2].copy_from_slice(&scale.to_le_bytes());
            bytes.extend(block);
        }
        bytes
    }
}

#[test]
fn written_out_blocks() {
    // Q2_0: the scale 0.5, then weights 1, 0, -1, 0 in the first byte and zeros.
    let mut block = vec![0x00, 0x38, 0b01_00_01_10];
    block.resize(18, 0b01_01_01_01);
    let Decoded::Ternary { codes, block: 64, scales } =
        decode("f", "w", TensorType::Q2_0, &[64], &block).unwrap()
    else {
        panic!("Q2_0 is ternary");
    };
    assert_eq!((&codes[..5], scales.as_slice()), (&[1, 0, -1, 0, 0][..], &[0.5][..]));
    assert!(codes[4..].iter().all(|&code| code == 0));

    // PTQ1_0: byte 0 has the digits 2 0 1 2 0 = 162 + 0 + 9 + 6 + 0 = 177 of 243, stored as
    // ceil(177 * 256 / 243) = 187; they are the weights 0, 16, 32, 48, 64. Byte 25 has 0 2 0 1 = 54 + 3 = 57
    // of 243, stored as 61; they are the weights 121, 123, 125, 127. All other bytes: 1 1 1 1 1 = 121, 128.
    let mut block = [128; 28];
    (block[0], block[25]) = (187, 61);
    block[26..].copy_from_slice(&f16::from_f32(-2.0).to_le_bytes());
    let mut expected = [0i8; 128];
    (expected[0], expected[16], expected[32], expected[48], expected[64]) = (1, -1, 0, 1, -1);
    (expected[121], expected[123], expected[125], expected[127]) = (-1, 1, -1, 0);
    assert_eq!(
        decode("f", "w", TensorType::PTQ1_0, &[128], &block).unwrap(),
        Decoded::Ternary { codes: expected.to_vec(), block: 128, scales: vec![-2.0] }
    );

    // I2_S: byte 0 holds weights 0, 32, 64, 96 from the highest bits down; byte 31 weights 31, 63, 95, 127.
    let mut tensor = [0b01_01_01_01; 64];
    (tensor[0], tensor[31]) = (0b10_00_01_10, 0b00_10_10_01);
    tensor[32..36].copy_from_slice(&1.25f32.to_le_bytes());
    let mut expected = [0i8; 128];
    (expected[0], expected[32], expected[64], expected[96]) = (1, -1, 0, 1);
    (expected[31], expected[63], expected[95], expected[127]) = (-1, 1, 1, 0);
    assert_eq!(
        decode("f", "w", TensorType::I2S, &[64, 2], &tensor).unwrap(),
        Decoded::Ternary { codes: expected.to_vec(), block: 128, scales: vec![1.25] }
    );
}

#[test]
fn the_fourth_code_is_plus_two_where_it_is_legal() {
    let mut block = vec![0x00, 0x3c];
    block.resize(34, 0b01_01_01_01);
    block[33] = 0b11_00_10_01;
    let view = TensorView::new("f", "w", TensorType::PQ2_0, &[128], &block).unwrap();
    assert_eq!(view.kind(), Kind::Float);
    let Decoded::Float(values) = view.decode_rows(0..1).unwrap() else { panic!("code 3 is no ternary code") };
    assert_eq!(values[124..], [0.0, 1.0, -1.0, 2.0]);
}

#[test]
fn i2_s_of_another_packing_is_refused_with_a_mend() {
    let mut tensor = [0b01_01_01_01; 64];
    tensor[32..36].copy_from_slice(&1f32.to_le_bytes());
    let with = |at: usize, byte: u8| {
        let mut tensor = tensor;
        tensor[at] = byte;
        decode("model.gguf", "blk.0.attn_q.weight", TensorType::I2S, &[128], &tensor)
    };
    assert!(with(5, 0b01_10_00_01).is_ok());
    for byte in [0b11_01_01_01, 0b01_11_01_01, 0b01_01_11_01, 0b01_01_01_11] {
        let error = with(5, byte).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported);
        let text = error.to_string();
        for part in ["model.gguf", "blk.0.attn_q.weight", "code 3", "TQ2_0"] {
            assert!(text.contains(part), "{text} lacks {part}");
        }
    }
    for scale in [f32::NAN, f32::INFINITY] {
        let mut tensor = tensor;
        tensor[32..36].copy_from_slice(&scale.to_le_bytes());
        let error = decode("f", "w", TensorType::I2S, &[128], &tensor).unwrap_err();
        assert!(error.to_string().contains("scale"), "{error}");
    }
}

#[test]
fn wrong_sizes_are_refused() {
    let refused = |ty, dims: &[usize], len: usize| {
        let error = decode("f", "w", ty, dims, &vec![0; len]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Malformed, "{error}");
    };
    refused(TensorType::TQ1_0, &[256, 2], 107);
    refused(TensorType::TQ1_0, &[128, 2], 54);
    refused(TensorType::Q2_0, &[64], 34);
    refused(TensorType::I2S, &[64, 3], 80);
    refused(TensorType::I2S, &[128], 32);
    let error = decode("f", "w", TensorType::Q2K, &[256], &[0; 84]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    let error = decode("f", "w", TensorType::F32, &[1 << 40, 1 << 40], &[]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge);
}

/// Codes of 1 to 4 rows of 1 to 3 blocks of 256, and a scale for each 64 of them.
fn weights() -> impl Strategy<Value = (usize, usize, Vec<i8>, Vec<f16>)> {
    (1usize..=4, 1usize..=3).prop_flat_map(|(rows, blocks)| {
        let n = rows * blocks * 256;
        let scale = (0u16..0x7c00, any::<bool>())
            .prop_map(|(bits, minus)| f16::from_bits(bits | u16::from(minus) << 15));
        let codes = prop::collection::vec(-1i8..=1, n);
        (Just(rows), Just(blocks * 256), codes, prop::collection::vec(scale, n / 64))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn encoding_and_decoding_gives_codes_and_scales_back((rows, cols, codes, scales) in weights(), pick in any::<usize>()) {
        for layout in &LAYOUTS {
            let scales = &scales[..codes.len() / layout.weights];
            let bytes = layout.encode(&codes, scales);
            let view = TensorView::new("f", "w", layout.ty, &[cols, rows], &bytes).unwrap();
            let expected: Vec<f32> = scales.iter().map(|s| s.to_f32()).collect();
            prop_assert_eq!(view.kind(), Kind::Ternary { block: layout.weights });
            prop_assert_eq!(
                view.decode_rows(0..rows).unwrap(),
                Decoded::Ternary { codes: codes.clone(), block: layout.weights, scales: expected.clone() },
                "{}", layout.ty
            );
            let floats: Vec<f32> = codes.iter().enumerate().map(|(i, &c)| f32::from(c) * expected[i / layout.weights]).collect();
            prop_assert_eq!(&view.to_f32().unwrap(), &floats);

            let row = pick % rows;
            let Decoded::Ternary { codes: part, scales, .. } = view.decode_rows(row..rows).unwrap() else { panic!() };
            prop_assert_eq!(&part, &codes[row * cols..]);
            prop_assert_eq!(&scales, &expected[row * cols / layout.weights..]);
        }
    }

    #[test]
    fn i2_s_decodes_any_rows(
        (cols, rows) in (1usize..200).prop_map(|cols| (cols, 128)),
        seed in prop::collection::vec(-1i8..=1, 1..400),
        scale in -1e3f32..1e3,
        from in 0usize..128,
        count in 0usize..128,
    ) {
        let codes: Vec<i8> = seed.iter().cycle().take(rows * cols).copied().collect();
        let mut bytes = vec![0u8; codes.len() / 4 + 32];
        for (j, code) in codes.iter().enumerate() {
            bytes[j / 128 * 32 + j % 32] |= ((code + 1) as u8) << (6 - 2 * (j % 128 / 32));
        }
        bytes[codes.len() / 4..][..4].copy_from_slice(&scale.to_le_bytes());
        let view = TensorView::new("f", "w", TensorType::I2S, &[cols, rows], &bytes).unwrap();
        let to = (from + count).min(rows);
        let part = &codes[from * cols..to * cols];
        prop_assert_eq!(
            view.decode_rows(from..to).unwrap(),
            Decoded::Ternary { codes: part.to_vec(), block: rows * cols, scales: vec![scale] }
        );
        let mut floats = vec![f32::NAN; part.len()];
        view.decode_rows_f32(from..to, &mut floats).unwrap();
        prop_assert_eq!(floats, part.iter().map(|&c| f32::from(c) * scale).collect::<Vec<f32>>());
    }
}

//! 4-bit types: Q4_0, Q4_1, Q4_K.

use super::float::scale;
use crate::tensor_type::TensorType;

/// Codes 0..=15, a scale and (Q4_1, Q4_K) a minimum for each 32 weights. Other types are not passed here.
pub(super) fn decode(
    ty: TensorType,
    bytes: &[u8],
    codes: &mut [u8],
    scales: &mut [f32],
    mins: Option<&mut [f32]>,
) {
    let mins = mins.unwrap_or_default();
    match ty {
        TensorType::Q4_0 => {
            let codes = codes.as_chunks_mut().0.iter_mut();
            for ((block, codes), scale) in bytes.as_chunks().0.iter().zip(codes).zip(scales) {
                *scale = q4_0(block, codes);
            }
        }
        TensorType::Q4_1 => {
            let codes = codes.as_chunks_mut().0.iter_mut();
            for (((block, codes), scale), min) in bytes.as_chunks().0.iter().zip(codes).zip(scales).zip(mins)
            {
                (*scale, *min) = q4_1(block, codes);
            }
        }
        TensorType::Q4K => {
            let codes = codes.as_chunks_mut().0.iter_mut();
            let scales = scales.as_chunks_mut().0.iter_mut();
            let mins = mins.as_chunks_mut().0.iter_mut();
            for (((block, codes), scales), mins) in
                bytes.as_chunks().0.iter().zip(codes).zip(scales).zip(mins)
            {
                (*scales, *mins) = q4_k(block, codes);
            }
        }
        other => unreachable!("{other} is not a 4-bit type"),
    }
}

/// The same, as floats.
pub(super) fn decode_f32(ty: TensorType, bytes: &[u8], out: &mut [f32]) {
    match ty {
        TensorType::Q4_0 => {
            let mut codes = [0; 32];
            for (block, out) in bytes.as_chunks().0.iter().zip(out.as_chunks_mut::<32>().0) {
                let scale = q4_0(block, &mut codes);
                for (out, &code) in out.iter_mut().zip(&codes) {
                    *out = scale * (f32::from(code) - 8.0);
                }
            }
        }
        TensorType::Q4_1 => {
            let mut codes = [0; 32];
            for (block, out) in bytes.as_chunks().0.iter().zip(out.as_chunks_mut::<32>().0) {
                let (scale, min) = q4_1(block, &mut codes);
                affine(&codes, scale, min, out);
            }
        }
        TensorType::Q4K => {
            let mut codes = [0; 256];
            for (block, out) in bytes.as_chunks().0.iter().zip(out.as_chunks_mut::<256>().0) {
                let (scales, mins) = q4_k(block, &mut codes);
                let groups = codes.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<32>().0);
                for ((codes, out), (scale, min)) in groups.zip(scales.into_iter().zip(mins)) {
                    affine(codes, scale, min, out);
                }
            }
        }
        other => unreachable!("{other} is not a 4-bit type"),
    }
}

fn affine(codes: &[u8; 32], scale: f32, min: f32, out: &mut [f32; 32]) {
    for (out, &code) in out.iter_mut().zip(codes) {
        *out = scale * f32::from(code) + min;
    }
}

/// The scale, then the first 16 codes in the low nibbles beside the last 16 in the high ones.
fn q4_0(block: &[u8; 18], codes: &mut [u8; 32]) -> f32 {
    nibbles(&block[2..], codes);
    scale(block, 0)
}

/// Scale and minimum, then as Q4_0.
fn q4_1(block: &[u8; 20], codes: &mut [u8; 32]) -> (f32, f32) {
    nibbles(&block[4..], codes);
    (scale(block, 0), scale(block, 2))
}

/// The scale of scales, the scale of minimums, 12 bytes of both ([`group_scales`]), then four runs of 32 bytes,
/// each the low nibbles of one group of 32 beside those of the next. The minimum is subtracted.
fn q4_k(block: &[u8; 144], codes: &mut [u8; 256]) -> ([f32; 8], [f32; 8]) {
    for (bytes, codes) in block[16..].as_chunks::<32>().0.iter().zip(codes.as_chunks_mut::<64>().0) {
        nibbles(bytes, codes);
    }
    let (scales, mins) = group_scales(block);
    (scales, mins.map(|min| -min))
}

/// The codes of `bytes`: low nibbles, then high ones. `codes` is twice as long.
#[inline(always)]
fn nibbles(bytes: &[u8], codes: &mut [u8]) {
    let (low, high) = codes.split_at_mut(bytes.len());
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        *low = byte & 15;
        *high = byte >> 4;
    }
}

/// The scales and (positive) minimums of the eight groups of a Q4_K or Q5_K block, whose first 16 bytes are
/// two f16 factors and 8 + 8 six-bit numbers: the first four of each in the low six bits of bytes 0..4
/// (scales) and 4..8 (minimums); of the last four, the low nibbles in bytes 8..12 (scales low, minimums
/// high) and the upper two bits above those of the first four.
pub(super) fn group_scales<const B: usize>(block: &[u8; B]) -> ([f32; 8], [f32; 8]) {
    let (factor, min_factor) = (scale(block, 0), scale(block, 2));
    let packed: [u8; 12] = std::array::from_fn(|i| block[4 + i]);
    let (mut scales, mut mins) = ([0.0; 8], [0.0; 8]);
    for j in 0..4 {
        let (s, m, both) = (packed[j], packed[j + 4], packed[j + 8]);
        scales[j] = factor * f32::from(s & 63);
        mins[j] = min_factor * f32::from(m & 63);
        scales[j + 4] = factor * f32::from(both & 15 | s >> 6 << 4);
        mins[j + 4] = min_factor * f32::from(both >> 4 | m >> 6 << 4);
    }
    (scales, mins)
}

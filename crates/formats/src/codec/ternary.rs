//! Ternary types, and the integer types whose blocks are codes and one scale too (Q8_0, Q5_0).

use super::float::scale;
use super::sink::Sink;
use crate::tensor_type::{I2S_TAIL, TensorType};

/// Decodes blocks of any type of codes and one scale. Other types are not passed here.
pub(super) fn decode(ty: TensorType, bytes: &[u8], sink: &mut impl Sink) {
    match ty {
        TensorType::TQ1_0 => sink.blocks(bytes, tq1_0),
        TensorType::TQ2_0 => sink.blocks(bytes, tq2_0),
        TensorType::Q2_0 => sink.blocks(bytes, q2_0::<18, 64>),
        TensorType::PQ2_0 => sink.blocks(bytes, q2_0::<34, 128>),
        TensorType::PTQ1_0 => sink.blocks(bytes, ptq1_0),
        TensorType::Q8_0 => sink.blocks(bytes, q8_0),
        TensorType::Q5_0 => sink.blocks(bytes, q5_0),
        other => unreachable!("{other} is not a type of codes and one scale"),
    }
}

/// 48 bytes of five digits in stages of 32 and 16, 4 bytes of four digits, then the scale.
fn tq1_0(block: &[u8; 54], codes: &mut [i8; 256]) -> f32 {
    digits::<32, 5>(&block[..32], &mut codes[..160]);
    digits::<16, 5>(&block[32..48], &mut codes[160..240]);
    digits::<4, 4>(&block[48..52], &mut codes[240..]);
    scale(block, 52)
}

/// 24 bytes of five digits in stages of 16 and 8, 2 bytes of four digits, then the scale.
fn ptq1_0(block: &[u8; 28], codes: &mut [i8; 128]) -> f32 {
    digits::<16, 5>(&block[..16], &mut codes[..80]);
    digits::<8, 5>(&block[16..24], &mut codes[80..120]);
    digits::<2, 4>(&block[24..26], &mut codes[120..]);
    scale(block, 26)
}

/// A stage of `M` bytes, each holding `N` digits in base 3, most significant first: digit n of byte m is the
/// code of weight `M n + m`. A byte is a fraction in 256ths, rounded up: multiplying by three moves the next
/// digit into the carry.
#[inline(always)]
fn digits<const M: usize, const N: usize>(bytes: &[u8], codes: &mut [i8]) {
    let Some(bytes) = bytes.first_chunk::<M>() else { return };
    let mut fraction = *bytes;
    for codes in codes.as_chunks_mut::<M>().0.iter_mut().take(N) {
        for (code, fraction) in codes.iter_mut().zip(&mut fraction) {
            let tripled = u16::from(*fraction) * 3;
            *code = (tripled >> 8) as i8 - 1;
            *fraction = tripled as u8;
        }
    }
}

/// Two halves of 128 weights; byte m of a half holds weight 32 i + m at bits 2 i. Then the scale.
fn tq2_0(block: &[u8; 66], codes: &mut [i8; 256]) -> f32 {
    for (bytes, codes) in block.as_chunks::<32>().0.iter().zip(codes.as_chunks_mut::<128>().0) {
        for (i, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (code, byte) in codes.iter_mut().zip(bytes) {
                *code = (byte >> (2 * i) & 3) as i8 - 1;
            }
        }
    }
    scale(block, 64)
}

/// The scale, then weight j in byte j / 4 at bits 2 (j mod 4).
fn q2_0<const B: usize, const W: usize>(block: &[u8; B], codes: &mut [i8; W]) -> f32 {
    for (codes, byte) in codes.as_chunks_mut::<4>().0.iter_mut().zip(&block[2..]) {
        for (i, code) in codes.iter_mut().enumerate() {
            *code = (byte >> (2 * i) & 3) as i8 - 1;
        }
    }
    scale(block, 0)
}

/// The scale, then the codes.
fn q8_0(block: &[u8; 34], codes: &mut [i8; 32]) -> f32 {
    for (code, &byte) in codes.iter_mut().zip(&block[2..]) {
        *code = byte as i8;
    }
    scale(block, 0)
}

/// The scale, the fifth bits of the 32 codes as a little-endian word, then the low nibbles of the first 16
/// codes beside those of the last 16.
fn q5_0(block: &[u8; 22], codes: &mut [i8; 32]) -> f32 {
    let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    for (j, byte) in block[6..].iter().enumerate() {
        codes[j] = ((byte & 15) | ((high >> j & 1) as u8) << 4) as i8 - 16;
        codes[j + 16] = ((byte >> 4) | ((high >> (j + 16) & 1) as u8) << 4) as i8 - 16;
    }
    scale(block, 0)
}

/// Whether a tensor of a 2-bit type holds the code 3.
pub(super) fn has_code_three(ty: TensorType, bytes: &[u8]) -> bool {
    fn any<const B: usize>(bytes: &[u8], codes: std::ops::Range<usize>) -> bool {
        bytes.as_chunks::<B>().0.iter().any(|block| {
            // No early exit inside a block, so that this becomes a few vector instructions.
            block[codes.clone()].iter().fold(0, |found, byte| found | (byte & byte >> 1 & 0x55)) != 0
        })
    }
    match ty {
        TensorType::TQ2_0 => any::<66>(bytes, 0..64),
        TensorType::Q2_0 => any::<18>(bytes, 2..18),
        TensorType::PQ2_0 => any::<34>(bytes, 2..34),
        TensorType::I2S => any::<32>(&bytes[..bytes.len() - I2S_TAIL], 0..32),
        _ => false,
    }
}

/// Blocks of 128 weights of I2_S: byte m holds weight 32 i + m at bits 6 - 2 i.
fn i2_s_block(block: &[u8; 32], codes: &mut [i8; 128]) {
    for (i, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (code, byte) in codes.iter_mut().zip(block) {
            *code = (byte >> (6 - 2 * i) & 3) as i8 - 1;
        }
    }
}

/// The codes of an I2_S tensor from weight `first` on, as many as `codes` takes. `bytes` is the whole tensor;
/// its blocks run over the flattened weights, so that rows may begin inside a block.
pub(super) fn i2_s(bytes: &[u8], first: usize, codes: &mut [i8]) {
    for_each_i2_s_block(bytes, first, codes, |codes, out| out.copy_from_slice(codes));
}

/// As [`i2_s`], multiplied by the scale.
pub(super) fn i2_s_f32(bytes: &[u8], first: usize, scale: f32, out: &mut [f32]) {
    for_each_i2_s_block(bytes, first, out, |codes, out| {
        for (out, &code) in out.iter_mut().zip(codes) {
            *out = scale * f32::from(code);
        }
    });
}

/// Decodes the blocks under weights `first..first + out.len()` and hands the part of each that falls into
/// that range to `put`, with its place in `out`.
fn for_each_i2_s_block<T>(bytes: &[u8], first: usize, mut out: &mut [T], put: impl Fn(&[i8], &mut [T])) {
    let blocks = bytes.as_chunks::<32>().0;
    let mut skip = first % 128;
    let mut codes = [0; 128];
    for block in &blocks[first / 128..] {
        if out.is_empty() {
            break;
        }
        i2_s_block(block, &mut codes);
        let (part, rest) = out.split_at_mut((128 - skip).min(out.len()));
        put(&codes[skip..skip + part.len()], part);
        skip = 0;
        out = rest;
    }
}

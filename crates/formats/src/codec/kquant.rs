//! Types of five and six bits that no kernel keeps as they are: decoded to floats.

use super::float::scale;
use super::int4::group_scales;

/// Scale and minimum, fifth bits as a little-endian word, nibbles as Q4_0.
pub(super) fn q5_1(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<24>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        let (scale, min) = (scale(block, 0), scale(block, 2));
        let high = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
        for (j, byte) in block[8..].iter().enumerate() {
            let low = u32::from(byte & 15) | (high >> j & 1) << 4;
            let upper = u32::from(byte >> 4) | (high >> (j + 16) & 1) << 4;
            out[j] = scale * low as f32 + min;
            out[j + 16] = scale * upper as f32 + min;
        }
    }
}

/// Q4_K's factors and group scales, 32 bytes of fifth bits (bit g of byte l belongs to weight l of group g),
/// then Q4_K's nibbles.
pub(super) fn q5_k(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<176>().0.iter().zip(out.as_chunks_mut::<256>().0) {
        let (scales, mins) = group_scales(block);
        let high = &block[16..48];
        for (group, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let low = &block[48 + 32 * (group / 2)..][..32];
            let shift = 4 * (group % 2);
            for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
                let code = (low >> shift & 15) | (high >> group & 1) << 4;
                *out = scales[group] * f32::from(code) - mins[group];
            }
        }
    }
}

/// 128 bytes of low nibbles, 64 of the upper two bits, 16 signed scales, one for each 16 weights, and their
/// factor. In each half of 128 weights, group i of 32 has its nibbles in run i mod 2 of 32 bytes (low for the
/// first two groups, high for the last two) and its upper bits at bits 2 i.
pub(super) fn q6_k(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<210>().0.iter().zip(out.as_chunks_mut::<256>().0) {
        let factor = scale(block, 208);
        for (group, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (half, i) = (group / 4, group % 4);
            let low = &block[64 * half + 32 * (i % 2)..][..32];
            let high = &block[128 + 32 * half..][..32];
            for (part, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let scale = factor * f32::from(block[192 + 2 * group + part] as i8);
                let bits = low[16 * part..].iter().zip(&high[16 * part..]);
                for (out, (low, high)) in out.iter_mut().zip(bits) {
                    let code = (low >> (4 * (i / 2)) & 15) | (high >> (2 * i) & 3) << 4;
                    *out = scale * f32::from(code as i8 - 32);
                }
            }
        }
    }
}

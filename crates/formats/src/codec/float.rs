//! Float types.

use half::slice::HalfFloatSliceExt;

/// f16 bits to f32, exactly.
pub fn f16_to_f32(bits: u16) -> f32 {
    half::f16::from_bits(bits).to_f32()
}

/// bf16 bits to f32, exactly.
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The f16 at `at` in a block.
pub(super) fn scale<const B: usize>(block: &[u8; B], at: usize) -> f32 {
    half::f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

pub(crate) fn f32(bytes: &[u8], out: &mut [f32]) {
    for (&bytes, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = f32::from_le_bytes(bytes);
    }
}

pub(crate) fn f64(bytes: &[u8], out: &mut [f32]) {
    for (&bytes, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = f64::from_le_bytes(bytes) as f32;
    }
}

pub(crate) fn bf16(bytes: &[u8], out: &mut [f32]) {
    for (&bytes, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = bf16_to_f32(u16::from_le_bytes(bytes));
    }
}

pub(crate) fn f16(bytes: &[u8], out: &mut [f32]) {
    // Through aligned slabs, for which `half` uses the CPU's conversion where there is one.
    const SLAB: usize = 512;
    let mut slab = [half::f16::ZERO; SLAB];
    for (bytes, out) in bytes.chunks(2 * SLAB).zip(out.chunks_mut(SLAB)) {
        let slab = &mut slab[..out.len()];
        for (&bytes, half) in bytes.as_chunks().0.iter().zip(slab.iter_mut()) {
            *half = half::f16::from_le_bytes(bytes);
        }
        slab.convert_to_f32_slice(out);
    }
}

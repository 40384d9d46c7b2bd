//! Where decoded blocks of codes go. Each block layout is written once, as a function from the bytes of a
//! block to its codes and scale; the sink decides whether codes and scales are kept or multiplied.

/// Takes blocks of `B` bytes that decode to `W` codes and one scale.
pub(super) trait Sink {
    /// Decodes all blocks of `bytes` with `block`.
    fn blocks<const B: usize, const W: usize>(
        &mut self,
        bytes: &[u8],
        block: impl Fn(&[u8; B], &mut [i8; W]) -> f32,
    );
}

/// Keeps codes and scales.
pub(super) struct Codes<'a> {
    pub(super) codes: &'a mut [i8],
    pub(super) scales: &'a mut [f32],
}

impl Sink for Codes<'_> {
    fn blocks<const B: usize, const W: usize>(
        &mut self,
        bytes: &[u8],
        block: impl Fn(&[u8; B], &mut [i8; W]) -> f32,
    ) {
        let (blocks, codes) = (bytes.as_chunks::<B>().0, self.codes.as_chunks_mut::<W>().0);
        for ((bytes, codes), scale) in blocks.iter().zip(codes).zip(self.scales.iter_mut()) {
            *scale = block(bytes, codes);
        }
    }
}

/// Multiplies.
pub(super) struct Floats<'a> {
    pub(super) out: &'a mut [f32],
}

impl Sink for Floats<'_> {
    fn blocks<const B: usize, const W: usize>(
        &mut self,
        bytes: &[u8],
        block: impl Fn(&[u8; B], &mut [i8; W]) -> f32,
    ) {
        let mut codes = [0; W];
        for (bytes, out) in bytes.as_chunks::<B>().0.iter().zip(self.out.as_chunks_mut::<W>().0) {
            let scale = block(bytes, &mut codes);
            for (out, &code) in out.iter_mut().zip(&codes) {
                *out = scale * f32::from(code);
            }
        }
    }
}

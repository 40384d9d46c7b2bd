//! The tensor types of GGUF files: names, ids and sizes.

use std::fmt;

/// How many weights a block holds and how many bytes it takes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct BlockSize {
    /// Weights in a block.
    pub weights: usize,
    /// Bytes of a block.
    pub bytes: usize,
}

macro_rules! tensor_types {
    ($($variant:ident $name:literal $id:literal $weights:literal $bytes:literal $doc:literal;)*) => {
        /// How the weights of a tensor are stored. Ids as in ggml, with those of the ternary dialects that
        /// this crate reads beside them; an id that is in neither is kept as [`TensorType::Unknown`], so that
        /// a file can be listed even where it cannot be loaded.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum TensorType {
            $(#[doc = $doc] $variant,)*
            /// A type this crate knows nothing of, not even its size.
            Unknown(u32),
        }

        impl TensorType {
            /// Every known type.
            pub const ALL: &[TensorType] = &[$(TensorType::$variant),*];

            /// The type with this id.
            pub fn from_id(id: u32) -> TensorType {
                match id {
                    $($id => TensorType::$variant,)*
                    other => TensorType::Unknown(other),
                }
            }

            /// The id written in GGUF files.
            pub fn id(self) -> u32 {
                match self {
                    $(TensorType::$variant => $id,)*
                    TensorType::Unknown(id) => id,
                }
            }

            /// The usual name; `None` for unknown types.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(TensorType::$variant => Some($name),)*
                    TensorType::Unknown(_) => None,
                }
            }

            /// Weights and bytes of a block; `None` for unknown types. I2_S has 32 more bytes at the end of
            /// the tensor (see [`TensorType::byte_len`]).
            pub fn block(self) -> Option<BlockSize> {
                match self {
                    $(TensorType::$variant => Some(BlockSize { weights: $weights, bytes: $bytes }),)*
                    TensorType::Unknown(_) => None,
                }
            }
        }
    };
}

tensor_types! {
    F32     "F32"      0   1   4 "IEEE single.";
    F16     "F16"      1   1   2 "IEEE half.";
    Q4_0    "Q4_0"     2  32  18 "f16 scale, 4-bit codes minus 8.";
    Q4_1    "Q4_1"     3  32  20 "f16 scale and minimum, 4-bit codes.";
    Q5_0    "Q5_0"     6  32  22 "f16 scale, 5-bit codes minus 16.";
    Q5_1    "Q5_1"     7  32  24 "f16 scale and minimum, 5-bit codes.";
    Q8_0    "Q8_0"     8  32  34 "f16 scale, 8-bit codes.";
    Q8_1    "Q8_1"     9  32  40 "An activation type that no model file holds.";
    Q2K     "Q2_K"    10 256  84 "2-bit K-quant.";
    Q3K     "Q3_K"    11 256 110 "3-bit K-quant.";
    Q4K     "Q4_K"    12 256 144 "4-bit K-quant: 8 groups of 32 with 6-bit scales and minimums.";
    Q5K     "Q5_K"    13 256 176 "5-bit K-quant: 8 groups of 32 with 6-bit scales and minimums.";
    Q6K     "Q6_K"    14 256 210 "6-bit K-quant: 16 groups of 16 with 8-bit scales.";
    Q8K     "Q8_K"    15 256 292 "An activation type that no model file holds.";
    IQ2XXS  "IQ2_XXS" 16 256  66 "2-bit codebook type.";
    IQ2XS   "IQ2_XS"  17 256  74 "2-bit codebook type.";
    IQ3XXS  "IQ3_XXS" 18 256  98 "3-bit codebook type.";
    IQ1S    "IQ1_S"   19 256  50 "1-bit codebook type.";
    IQ4NL   "IQ4_NL"  20  32  18 "4-bit non-linear type.";
    IQ3S    "IQ3_S"   21 256 110 "3-bit codebook type.";
    IQ2S    "IQ2_S"   22 256  82 "2-bit codebook type.";
    IQ4XS   "IQ4_XS"  23 256 136 "4-bit non-linear type.";
    I8      "I8"      24   1   1 "Signed bytes; the native file's matrix images.";
    I16     "I16"     25   1   2 "Signed 16-bit integers.";
    I32     "I32"     26   1   4 "Signed 32-bit integers.";
    I64     "I64"     27   1   8 "Signed 64-bit integers.";
    F64     "F64"     28   1   8 "IEEE double.";
    IQ1M    "IQ1_M"   29 256  56 "1-bit codebook type.";
    BF16    "BF16"    30   1   2 "The upper half of an IEEE single.";
    TQ1_0   "TQ1_0"   34 256  54 "Ternary, base 3, an f16 scale for 256 weights.";
    TQ2_0   "TQ2_0"   35 256  66 "Ternary, 2 bits, an f16 scale for 256 weights.";
    I2S     "I2_S"    36 128  32 "Ternary, 2 bits, one f32 scale for the tensor (bitnet.cpp's dialect).";
    MXFP4   "MXFP4"   39  32  17 "4-bit float with a shared exponent.";
    NVFP4   "NVFP4"   40  64  36 "4-bit float with 8-bit float scales.";
    Q1_0    "Q1_0"    41 128  18 "Binary.";
    Q2_0    "Q2_0"    42  64  18 "2-bit codes minus 1, an f16 scale for 64 weights. Tensors of the older 128-weight form are reported as PQ2_0.";
    PQ2_0   "PQ2_0"  142 128  34 "2-bit codes minus 1, an f16 scale for 128 weights.";
    PTQ1_0  "PTQ1_0" 143 128  28 "Ternary, base 3, an f16 scale for 128 weights.";
}

/// Bytes that follow the blocks of an I2_S tensor: the f32 scale and 28 bytes of padding.
pub(crate) const I2S_TAIL: usize = 32;

impl TensorType {
    /// Bytes of a tensor of `elements` weights: `None` for an unknown type, where `elements` is not a
    /// multiple of the block, or where the size does not fit `usize`.
    pub fn byte_len(self, elements: usize) -> Option<usize> {
        let block = self.block()?;
        if !elements.is_multiple_of(block.weights) {
            return None;
        }
        let blocks = (elements / block.weights).checked_mul(block.bytes)?;
        blocks.checked_add(if self == TensorType::I2S { I2S_TAIL } else { 0 })
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => f.pad(&format!("type {}", self.id())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_are_unique_and_round_trip() {
        for (index, &ty) in TensorType::ALL.iter().enumerate() {
            assert_eq!(TensorType::from_id(ty.id()), ty);
            for &other in &TensorType::ALL[..index] {
                assert_ne!(other.id(), ty.id());
                assert_ne!(other.name(), ty.name());
            }
        }
        assert_eq!(TensorType::from_id(4), TensorType::Unknown(4));
        assert_eq!(TensorType::Unknown(4).id(), 4);
    }

    #[test]
    fn sizes_are_checked() {
        assert_eq!(TensorType::TQ1_0.byte_len(512), Some(108));
        assert_eq!(TensorType::TQ1_0.byte_len(100), None);
        assert_eq!(TensorType::I2S.byte_len(256), Some(96));
        assert_eq!(TensorType::F64.byte_len(usize::MAX), None);
        assert_eq!(TensorType::I8.byte_len(usize::MAX), Some(usize::MAX));
        assert_eq!(TensorType::Unknown(99).byte_len(1), None);
    }

    #[test]
    fn display_pads() {
        assert_eq!(
            format!("{:>6}|{:<8}|{}", TensorType::Q4K, TensorType::F32, TensorType::Unknown(4)),
            "  Q4_K|F32     |type 4"
        );
    }
}

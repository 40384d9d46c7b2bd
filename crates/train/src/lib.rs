//! Trains ternary language models from scratch.
pub mod checkpoint;
pub mod data;
pub mod log;
pub mod plot;
pub mod processes;
pub mod random;
pub mod recipe;
pub mod run;

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

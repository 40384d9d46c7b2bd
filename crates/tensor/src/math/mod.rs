//! The transcendental functions, with the same bits on every CPU.
//!
//! A platform's own `expf` differs from another's in the last bit; ours are polynomials whose every step
//! (range reduction, fused multiply-adds, the final scaling) is a correctly rounded IEEE operation, done in
//! the order written in `scalar.rs`. `vector.rs` does the same steps on sixteen lanes; the tests hold them
//! equal, bit for bit.
//!
//! Errors, measured on every 61st `f32` against `f64` (the tests sample more thinly), and edges:
//!
//! | function | error at most | NaN | +inf | -inf | remarks |
//! |---|---|---|---|---|---|
//! | [`exp`] | 0.9 ulp | NaN | inf | 0 | inf above 88.72284; gradual underflow, 0 below -103.972 |
//! | [`sigmoid`] | 2.4 ulp | NaN | 1 | 0 | 0 below -88.72284 |
//! | [`silu`] | 2.4 ulp | NaN | inf | NaN | -0 below -88.72284 |
//! | [`tanh`] | 1.4 ulp | NaN | 1 | -1 | odd: `tanh(-x) == -tanh(x)`, -0 included |
//! | [`erf`] | 1.3 ulp | NaN | 1 | -1 | odd |
//! | [`gelu_tanh`] | 1.3e-7 abs(x) | NaN | inf | NaN | |
//! | [`gelu_erf`] | 9e-8 abs(x) | NaN | inf | NaN | |
//!
//! The coefficients are minimax fits (Remez exchange on the relative error), rounded to `f32`.

pub mod lanes;
mod peak;
mod scalar;
#[cfg(test)]
mod tests;
pub mod vector;

pub use peak::fma_peak;
pub use scalar::{erf, exp, gelu_erf, gelu_tanh, sigmoid, silu, tanh};

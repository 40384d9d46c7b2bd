//! The angles: cosines and sines of every position.
use std::{f32::consts::PI, fmt, sync::OnceLock};

use serde::{Deserialize, Serialize};

/// Positions computed at a time, when one of them is first asked for.
const STEP: usize = 1024;

/// How a model that was stretched to a longer context slows its rotations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RopeScaling {
    /// Not at all.
    #[default]
    None,
    /// Every frequency divided by `factor` (Chen et al. 2023, position interpolation).
    Linear {
        /// The stretch.
        factor: f32,
    },
    /// Llama 3.1's: long waves are divided by `factor`, short ones kept, those between blended. A wave is long
    /// beyond `original_context / low_freq_factor`, short below `original_context / high_freq_factor`.
    Llama3 {
        /// The stretch of the long waves.
        factor: f32,
        /// Bounds the long waves.
        low_freq_factor: f32,
        /// Bounds the short waves.
        high_freq_factor: f32,
        /// The context of the first training, in tokens.
        original_context: usize,
    },
    /// The frequency of each pair divided by its own factor (GGUF's tensor `rope_freqs`), `[dims / 2]`.
    Factors(Vec<f32>),
}

/// Parameters that make no table.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RopeError {
    /// The rotated dimensions are not pairs.
    #[error("rope: {0} rotated dimensions; they must be even and at least 2")]
    Dims(usize),
    /// The base is no base.
    #[error("rope: theta is {0}; it must be finite and positive")]
    Theta(f64),
    /// A scaling factor is unusable.
    #[error("rope: {name} is {value}; it must be finite and positive")]
    Factor {
        /// Which.
        name: &'static str,
        /// Its value.
        value: f32,
    },
    /// As many factors as pairs are needed.
    #[error("rope: {found} frequency factors; {expected} pairs need as many")]
    Factors {
        /// Pairs.
        expected: usize,
        /// Factors.
        found: usize,
    },
    /// Positions stop being exact in f32.
    #[error("rope: a context of {0} positions; at most 16777216 (2^24) are supported")]
    Positions(usize),
}

/// Cosines and sines of the angles of every position, filled in steps of 1,024 positions when first needed.
///
/// Frequency i is `1 / theta^(2i / dims)`, and the angle its product with the position. Both are rounded to
/// `f32` where the frameworks that trained the models round them, so that a long context sees the angles of
/// its training; their cosine and sine are taken in `f64` by `libm` (the same on every platform), then rounded.
pub struct RopeTable {
    frequencies: Box<[f32]>,
    positions: usize,
    /// Each step: `[STEP][2][dims / 2]`, cosines then sines.
    steps: Box<[OnceLock<Box<[f32]>>]>,
}

impl RopeTable {
    /// A table for the first `dims` numbers of a head and the positions `0..positions`.
    ///
    /// # Errors
    /// If a parameter is out of its range.
    pub fn new(dims: usize, theta: f64, scaling: &RopeScaling, positions: usize) -> Result<Self, RopeError> {
        if dims == 0 || !dims.is_multiple_of(2) {
            return Err(RopeError::Dims(dims));
        }
        if !(theta.is_finite() && theta > 0.0) {
            return Err(RopeError::Theta(theta));
        }
        if positions > 1 << 24 {
            return Err(RopeError::Positions(positions));
        }
        let mut frequencies: Box<[f32]> = (0..dims / 2)
            .map(|i| {
                let exponent = (2 * i) as f32 / dims as f32;
                1.0 / libm::pow(theta, exponent.into()) as f32
            })
            .collect();
        scale(&mut frequencies, scaling)?;
        let steps = (0..positions.div_ceil(STEP)).map(|_| OnceLock::new()).collect();
        Ok(Self { frequencies, positions, steps })
    }

    /// How many numbers of a head are rotated.
    pub fn dims(&self) -> usize {
        2 * self.frequencies.len()
    }

    /// The number of positions.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// The angle per position of each pair, in radians, `[dims / 2]`.
    pub fn frequencies(&self) -> &[f32] {
        &self.frequencies
    }

    /// Cosines and sines at `position`, `[dims / 2]` each.
    ///
    /// # Panics
    /// If `position` is not below `positions()`.
    pub fn row(&self, position: usize) -> (&[f32], &[f32]) {
        let step = self.steps[position / STEP].get_or_init(|| self.fill(position / STEP * STEP));
        let row = &step[position % STEP * self.dims()..][..self.dims()];
        row.split_at(self.frequencies.len())
    }

    fn fill(&self, first: usize) -> Box<[f32]> {
        let pairs = self.frequencies.len();
        let mut rows = vec![0.0; STEP * self.dims()];
        for (i, row) in rows.chunks_exact_mut(self.dims()).enumerate() {
            let (cos, sin) = row.split_at_mut(pairs);
            for ((cos, sin), frequency) in cos.iter_mut().zip(sin).zip(&self.frequencies) {
                let angle = (first + i) as f32 * frequency;
                let (s, c) = libm::sincos(angle.into());
                (*cos, *sin) = (c as f32, s as f32);
            }
        }
        rows.into()
    }
}

impl fmt::Debug for RopeTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RopeTable").field("dims", &self.dims()).field("positions", &self.positions).finish()
    }
}

fn positive(name: &'static str, value: f32) -> Result<f32, RopeError> {
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err(RopeError::Factor { name, value }) }
}

fn scale(frequencies: &mut [f32], scaling: &RopeScaling) -> Result<(), RopeError> {
    match *scaling {
        RopeScaling::None => {}
        RopeScaling::Linear { factor } => {
            let factor = positive("the factor of linear scaling", factor)?;
            frequencies.iter_mut().for_each(|f| *f /= factor);
        }
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            let factor = positive("llama3's factor", factor)?;
            let low = positive("llama3's low_freq_factor", low_freq_factor)?;
            let high = positive("llama3's high_freq_factor", high_freq_factor)?;
            positive("llama3's high_freq_factor - low_freq_factor", high - low)?;
            let context = positive("llama3's original context", original_context as f32)?;
            for f in frequencies {
                let wavelength = 2.0 * PI / *f;
                if wavelength > context / low {
                    *f /= factor;
                } else if wavelength >= context / high {
                    let smooth = (context / wavelength - low) / (high - low);
                    *f = (1.0 - smooth) * *f / factor + smooth * *f;
                }
            }
        }
        RopeScaling::Factors(ref factors) => {
            if factors.len() != frequencies.len() {
                return Err(RopeError::Factors { expected: frequencies.len(), found: factors.len() });
            }
            for (f, &factor) in frequencies.iter_mut().zip(factors) {
                *f /= positive("a frequency factor", factor)?;
            }
        }
    }
    Ok(())
}

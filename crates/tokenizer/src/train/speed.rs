//! How fast training is, beside the textbook's algorithm.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::time::Instant;

use super::{TrainError, TrainOptions, Trainer};

/// What training achieved on a text: counting, merging and all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Megabytes of text a second.
    pub mb_per_second: f64,
    /// The same with [`Trainer::merge_linear`] in the place of [`Trainer::merge`].
    pub linear_mb_per_second: f64,
}

impl Speed {
    /// Trains on one text in both ways, one after the other.
    ///
    /// The linear way takes time in proportion to merges times different pre-tokens: on a megabyte with 2,000 entries
    /// it takes seconds.
    ///
    /// # Errors
    /// Those of [`Trainer::new`] and [`Trainer::merge`].
    pub fn measure(text: &str, options: TrainOptions) -> Result<Speed, TrainError> {
        let mut go = |_| ControlFlow::Continue(());
        let megabytes = text.len() as f64 / 1e6;
        let mut timed = |linear: bool| -> Result<f64, TrainError> {
            let start = Instant::now();
            let mut trainer = Trainer::new(options.clone())?;
            match trainer.count([Ok::<_, Infallible>(text)].into_iter(), &mut go) {
                Ok(_) => {}
                Err(never) => match never {},
            }
            if linear {
                trainer.merge_linear();
            } else {
                let _ = trainer.merge(&mut go)?;
            }
            Ok(megabytes / start.elapsed().as_secs_f64())
        };
        Ok(Speed { mb_per_second: timed(false)?, linear_mb_per_second: timed(true)? })
    }

    /// How many times as fast.
    pub fn over_linear(&self) -> f64 {
        self.mb_per_second / self.linear_mb_per_second
    }
}

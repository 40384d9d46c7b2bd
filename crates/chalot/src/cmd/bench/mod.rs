//! `chalot bench`: the engine's speed as a share of what this machine can do, both measured in the same run.
//!
//! A round measures a yardstick (`chalot::tensor::yardstick`) and then the work, on the same threads; of all rounds the
//! median is taken, of the yardstick and of the work each by itself. So both see the same neighbours and clocks, and
//! shares follow from the printed numbers.
mod attention;
mod decode;
mod experts;
mod kernels;
mod prefetch;
mod prefill;
mod profile;
mod speculate;
mod subject;
mod tokenizer;
mod yardsticks;

use crate::{
    args::bench::{Bench, What},
    settings::Settings,
};

/// Measures what was asked for.
pub fn bench(args: Bench, settings: &Settings) -> anyhow::Result<()> {
    let packing = settings.tuning.values.packing;
    match args.what {
        What::Decode(mut args) => {
            args.of.packing.resolve(packing);
            decode::decode(&args, settings)
        }
        What::Prefill(mut args) => {
            args.of.packing.resolve(packing);
            prefill::prefill(&args, settings)
        }
        What::Profile(mut args) => {
            args.of.packing.resolve(packing);
            profile::profile(&args, settings)
        }
        What::Kernels(mut args) => {
            args.packing.iter_mut().for_each(|weights| weights.resolve(packing));
            kernels::kernels(&args, settings)
        }
        What::Attention(args) => attention::attention(&args, settings),
        What::Speculate(mut args) => {
            args.packing.resolve(packing);
            speculate::speculate(&args, settings)
        }
        What::Tokenizer(args) => tokenizer::tokenizer(&args, settings),
        What::Experts(mut args) => {
            args.packing.resolve(packing);
            experts::experts(&args, settings)
        }
        What::Prefetch(args) => prefetch::prefetch(&args, settings),
    }
}

/// The middle one; the lower of the two in the middle. NaN when there are none.
pub fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// The sample that a share of them does not exceed: the 99th percentile for 0.99. NaN when there are none.
fn quantile(mut samples: Vec<f64>, share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let rank = (share * samples.len() as f64).ceil() as usize;
    samples.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
}

/// "85%"
fn percent(share: f64) -> String {
    format!("{:.0}%", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.0);
        assert_eq!(median(vec![5.0]), 5.0);
        assert!(median(vec![]).is_nan());
    }

    #[test]
    fn quantiles() {
        let samples: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(quantile(samples.clone(), 0.99), 198.0);
        assert_eq!(quantile(samples, 1.0), 200.0);
        assert_eq!(quantile(vec![5.0], 0.99), 5.0);
        assert!(quantile(vec![], 0.99).is_nan());
    }
}

//! An axis: which values it shows and where its marks are.

use super::Panel;

/// A range of values with marks at round ones.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) marks: Vec<f64>,
    decimals: usize,
}

impl Axis {
    /// From `low` to `high`, with about `wanted` marks.
    pub(super) fn new(low: f64, high: f64, wanted: usize) -> Axis {
        let (low, high) = if high > low { (low, high) } else { (low - 0.5, low + 0.5) };
        let rough = (high - low) / wanted.max(1) as f64;
        let unit = 10f64.powf(rough.log10().floor());
        let distance = [1.0, 2.0, 2.5, 5.0, 10.0].map(|times| times * unit);
        let distance = distance.into_iter().find(|&distance| distance >= rough).unwrap_or(10.0 * unit);
        let first = (low / distance).ceil() as i64;
        let last = (high / distance).floor() as i64;
        let marks = (first..=last).map(|number| number as f64 * distance).collect();
        let digits = (0..6).find(|&digits| {
            let scaled = distance * 10f64.powi(digits);
            (scaled - scaled.round()).abs() < 1e-6 * scaled
        });
        Axis { low, high, marks, decimals: digits.unwrap_or(6) as usize }
    }

    /// The steps of a panel.
    pub(super) fn steps(panel: &Panel, wanted: usize) -> Axis {
        let last = panel.curves.iter().filter_map(|curve| curve.points.last()).map(|point| point.0);
        Axis::new(0.0, last.fold(1.0, f64::max), wanted)
    }

    /// The values of a panel. The first steps of a run fall so fast that the rest would be a flat line: values above those
    /// of a twentieth of the run are cut off.
    pub(super) fn values(panel: &Panel, wanted: usize) -> Axis {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for curve in &panel.curves {
            let begin = curve.points.len() / 20;
            for &(_, value) in &curve.points[begin..] {
                low = low.min(value);
                high = high.max(value);
            }
        }
        let margin = 0.05 * (high - low);
        Axis::new(low - margin, high + margin, wanted)
    }

    /// The points of a curve from where it comes into the range on.
    pub(super) fn visible<'a>(&self, points: &'a [(f64, f64)]) -> &'a [(f64, f64)] {
        let begin = points.iter().position(|point| (self.low..=self.high).contains(&point.1)).unwrap_or(0);
        &points[begin..]
    }

    /// 0 at the low end, 1 at the high end; values beyond are moved to the ends.
    pub(super) fn place(&self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// A mark's text.
    pub(super) fn label(&self, value: f64) -> String {
        if self.high >= 10_000.0 && self.decimals == 0 {
            return match value {
                0.0 => "0".into(),
                value if value % 1000.0 == 0.0 => format!("{}k", value / 1000.0),
                value => format!("{:.1}k", value / 1000.0),
            };
        }
        format!("{value:.*}", self.decimals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round() {
        let labels = |low, high| {
            let axis = Axis::new(low, high, 5);
            axis.marks.iter().map(|&mark| axis.label(mark)).collect::<Vec<_>>()
        };
        assert_eq!(labels(0.0, 1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(1.43, 2.61), ["1.50", "1.75", "2.00", "2.25", "2.50"]);
        assert_eq!(labels(0.0, 300.0), ["0", "100", "200", "300"]);
        assert_eq!(labels(0.0, 30_000.0), ["0", "10k", "20k", "30k"]);
        assert_eq!(Axis::new(2.0, 2.0, 3).place(2.0), 0.5);
    }
}

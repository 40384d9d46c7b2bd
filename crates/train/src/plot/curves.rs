//! From the records of runs to the curves that are drawn.

use crate::log::Record;

/// A run to draw.
#[derive(Clone, Debug)]
pub struct Run {
    /// What it is called in the legend.
    pub label: String,
    /// Its log.
    pub records: Vec<Record>,
}

/// One diagram.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// What is drawn, with its unit.
    pub title: &'static str,
    /// The curves of all runs that have it.
    pub curves: Vec<Curve>,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Number of the run, which has a colour.
    pub run: usize,
    /// Of two curves of a run in one panel, the second is drawn lighter.
    pub second: bool,
    /// Steps and values, ascending.
    pub points: Vec<(f64, f64)>,
}

impl Curve {
    /// The value at its end.
    pub fn last(&self) -> f64 {
        self.points.last().map_or(f64::NAN, |point| point.1)
    }
}

/// A curve that is drawn from more points than this is averaged into so many pieces: single steps are noise.
const PIECES: usize = 200;

/// The panels for some runs; those without curves are left out.
pub fn panels(runs: &[Run]) -> Vec<Panel> {
    type Value = fn(&Record) -> Option<f64>;
    let figures: [(&str, [Option<Value>; 2]); 4] = [
        ("training loss, nats a token", [Some(|r| Some(step(r)?.loss)), None]),
        ("held-out text, bits a byte", [Some(|r| Some(held_out(r)?.bits_per_byte)), None]),
        ("loss at the early exit, nats a token", [Some(|r| step(r)?.exit_loss), None]),
        (
            "expert load: busiest and idlest, 1 is even",
            [Some(|r| Some(step(r)?.experts?.most)), Some(|r| Some(step(r)?.experts?.least))],
        ),
    ];
    let panels = figures.into_iter().map(|(title, values)| {
        let mut curves = Vec::new();
        for (run, Run { records, .. }) in runs.iter().enumerate() {
            for (number, value) in values.iter().enumerate() {
                let Some(value) = value else { continue };
                let points: Vec<_> = records
                    .iter()
                    .filter_map(|record| Some((record.step()? as f64, value(record)?)))
                    .filter(|(_, value)| value.is_finite())
                    .collect();
                if !points.is_empty() {
                    curves.push(Curve { run, second: number > 0, points: averaged(&points) });
                }
            }
        }
        Panel { title, curves }
    });
    panels.filter(|panel| !panel.curves.is_empty()).collect()
}

fn step(record: &Record) -> Option<&crate::log::Step> {
    match record {
        Record::Step(step) => Some(step),
        _ => None,
    }
}

fn held_out(record: &Record) -> Option<&crate::log::HeldOut> {
    match record {
        Record::HeldOut(held_out) => Some(held_out),
        _ => None,
    }
}

fn averaged(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(PIECES);
    let mean = |piece: &[(f64, f64)]| piece.iter().map(|point| point.1).sum::<f64>() / piece.len() as f64;
    points.chunks(size).filter_map(|piece| Some((piece.last()?.0, mean(piece)))).collect()
}

//! The curves as text: Braille patterns, two dots wide and four high in each character.

use super::axis::Axis;
use super::{Panel, Run, panels};

/// Characters of a panel's lines.
const LINES: usize = 10;
/// Marks for runs, where there are no colours.
const COLORS: [u8; 6] = [36, 33, 32, 35, 34, 31];

/// The curves of `runs` in lines of at most `width` characters (at least 40 are taken), in colours if `color`.
pub fn terminal(runs: &[Run], width: usize, color: bool) -> String {
    let paint = |run: usize, text: &str| match color {
        true => format!("\x1b[{}m{text}\x1b[0m", COLORS[run % COLORS.len()]),
        false => text.to_owned(),
    };
    let mut out = String::new();
    if runs.len() > 1 {
        for (number, run) in runs.iter().enumerate() {
            out.push_str(&format!("{} {}\n", paint(number, &format!("{}", number + 1)), run.label));
        }
    }
    for panel in panels(runs) {
        out.push_str(&format!("{}\n{}", panel.title, drawn(&panel, width.max(40), runs.len() > 1, &paint)));
    }
    out
}

fn drawn(panel: &Panel, width: usize, several: bool, paint: &dyn Fn(usize, &str) -> String) -> String {
    let (steps, values) = (Axis::steps(panel, 4), Axis::values(panel, 4));
    let labels: Vec<String> = values.marks.iter().map(|&mark| values.label(mark)).collect();
    let margin = labels.iter().map(String::len).max().unwrap_or(0);
    let ends: Vec<String> = panel
        .curves
        .iter()
        .map(|curve| {
            let name = if several { format!(" ({})", curve.run + 1) } else { String::new() };
            format!("{:.3}{name}", curve.last())
        })
        .collect();
    let right = ends.iter().map(String::len).max().unwrap_or(0) + 1;
    let columns = width.saturating_sub(margin + 2 + right).max(10);
    let mut cells = vec![(0u8, 0usize); columns * LINES];
    for curve in &panel.curves {
        let place = |&(step, value): &(f64, f64)| {
            let x = steps.place(step) * (columns * 2 - 1) as f64;
            let y = (1.0 - values.place(value)) * (LINES * 4 - 1) as f64;
            (x, y)
        };
        let mut dot = |x: f64, y: f64| {
            let (x, y) = (x.round() as usize, y.round() as usize);
            let cell = &mut cells[y / 4 * columns + x / 2];
            *cell = (cell.0 | BITS[y % 4][x % 2], curve.run);
        };
        let points = values.visible(&curve.points);
        for (from, to) in points.iter().zip(points.iter().skip(1).chain(points.last())) {
            let ((x0, y0), (x1, y1)) = (place(from), place(to));
            let count = (x1 - x0).abs().max((y1 - y0).abs()).ceil().max(1.0);
            for part in 0..=count as usize {
                let part = part as f64 / count;
                dot(x0 + part * (x1 - x0), y0 + part * (y1 - y0));
            }
        }
    }
    let line_of = |value: f64| ((1.0 - values.place(value)) * (LINES * 4 - 1) as f64).round() as usize / 4;
    let mut out = String::new();
    // The value at the end of each curve, on its line or the next free one.
    let mut end_at = [None; LINES];
    for (curve, text) in panel.curves.iter().zip(&ends) {
        let wanted = line_of(curve.last());
        let free = (wanted..LINES).chain((0..wanted).rev()).find(|&line| end_at[line].is_none());
        if let Some(line) = free {
            end_at[line] = Some((curve.run, text));
        }
    }
    for line in 0..LINES {
        let label = values.marks.iter().position(|&mark| line_of(mark) == line).map_or("", |at| &labels[at]);
        out.push_str(&format!("{label:>margin$} "));
        out.push(if label.is_empty() { '│' } else { '┤' });
        for &(bits, run) in &cells[line * columns..][..columns] {
            match char::from_u32(0x2800 + u32::from(bits)).filter(|_| bits > 0) {
                Some(c) => out.push_str(&paint(run, &c.to_string())),
                None => out.push(' '),
            }
        }
        if let Some((run, text)) = end_at[line] {
            out.push(' ');
            out.push_str(&paint(run, text));
        }
        out.truncate(out.trim_end_matches(' ').len());
        out.push('\n');
    }
    let mut axis = vec!['─'; columns];
    let mut below = vec![' '; columns + right];
    for &mark in &steps.marks {
        let at = (steps.place(mark) * (columns - 1) as f64).round() as usize;
        axis[at] = '┬';
        let label = steps.label(mark);
        let begin = at.saturating_sub(label.len() / 2).min(below.len() - label.len());
        for (cell, c) in below[begin..].iter_mut().zip(label.chars()) {
            *cell = c;
        }
    }
    let axis: String = axis.into_iter().collect();
    let below: String = below.into_iter().collect();
    out.push_str(&format!("{:margin$} └{axis} step\n{:margin$}  {}\n", "", "", below.trim_end()));
    out
}

/// Unicode's numbering of the dots.
const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

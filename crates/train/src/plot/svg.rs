//! A picture of the curves.

use std::fmt::Write;

use super::axis::Axis;
use super::{Panel, Run, panels};

/// One colour a run, told apart also by those who see few colours (Okabe and Ito).
const COLORS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666"];
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 40.0;
const LEGEND: f64 = 26.0;

/// The curves of `runs`, two panels beside each other. Runs without records give an empty picture.
pub fn svg(runs: &[Run], title: &str) -> String {
    let panels = panels(runs);
    let columns = panels.len().clamp(1, 2);
    let lines = panels.len().div_ceil(columns).max(1);
    let width = WIDTH * columns as f64 / 2.0;
    let legend = if runs.len() > 1 { LEGEND * runs.len().div_ceil(columns) as f64 } else { 0.0 };
    let top = 44.0 + legend;
    let height = top + HEIGHT * lines as f64;
    let mut out = String::new();
    let mut draw = |text: std::fmt::Arguments| {
        // Writing to a string does not fail.
        let _ = out.write_fmt(text);
    };
    draw(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"24\" y=\"28\" font-size=\"16\" font-weight=\"600\" fill=\"#222222\">{}</text>\n",
        escape(title)
    ));
    if runs.len() > 1 {
        for (number, run) in runs.iter().enumerate() {
            let x = 24.0 + (number % columns) as f64 * WIDTH / 2.0;
            let y = 52.0 + (number / columns) as f64 * LEGEND;
            let color = COLORS[number % COLORS.len()];
            draw(format_args!(
                "<path d=\"M{x} {} h22\" stroke=\"{color}\" stroke-width=\"2.5\"/>\
                 <text x=\"{}\" y=\"{y}\" fill=\"#222222\">{}</text>\n",
                y - 4.0,
                x + 30.0,
                escape(&run.label)
            ));
        }
    }
    for (number, panel) in panels.iter().enumerate() {
        let x = (number % columns) as f64 * WIDTH / 2.0;
        let y = top + (number / columns) as f64 * HEIGHT;
        draw(format_args!("{}", drawn(panel, x, y)));
    }
    draw(format_args!("</svg>\n"));
    out
}

fn drawn(panel: &Panel, x: f64, y: f64) -> String {
    let (steps, values) = (Axis::steps(panel, 4), Axis::values(panel, 5));
    let (inner_width, inner_height) = (WIDTH / 2.0 - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    let (left, top) = (x + LEFT, y + TOP);
    let at_x = |value: f64| left + steps.place(value) * inner_width;
    let at_y = |value: f64| top + (1.0 - values.place(value)) * inner_height;
    let mut out = String::new();
    let mut draw = |text: std::fmt::Arguments| {
        let _ = out.write_fmt(text);
    };
    draw(format_args!(
        "<text x=\"{left}\" y=\"{}\" font-weight=\"600\" fill=\"#222222\">{}</text>\n",
        y + 30.0,
        escape(panel.title)
    ));
    for &mark in &values.marks {
        draw(format_args!(
            "<path d=\"M{left} {0:.1} h{inner_width}\" stroke=\"#e4e4e4\"/>\
             <text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\" fill=\"#666666\">{3}</text>\n",
            at_y(mark),
            left - 8.0,
            at_y(mark) + 4.0,
            values.label(mark)
        ));
    }
    for &mark in &steps.marks {
        draw(format_args!(
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#666666\">{}</text>\n",
            at_x(mark),
            top + inner_height + 18.0,
            steps.label(mark)
        ));
    }
    draw(format_args!(
        "<path d=\"M{left} {0} h{inner_width}\" stroke=\"#888888\"/>\
         <text x=\"{1}\" y=\"{2}\" text-anchor=\"end\" fill=\"#666666\">step</text>\n",
        top + inner_height,
        left + inner_width,
        top + inner_height + 34.0
    ));
    // Values at the ends of curves, moved apart where they would overlap.
    let mut ends: Vec<(f64, String, &str)> = Vec::new();
    for curve in &panel.curves {
        let color = COLORS[curve.run % COLORS.len()];
        let opacity = if curve.second { "0.55" } else { "1" };
        let points: Vec<String> = values
            .visible(&curve.points)
            .iter()
            .map(|&(step, value)| format!("{:.1} {:.1}", at_x(step), at_y(value)))
            .collect();
        let path = format!("M{}", points.join("L"));
        draw(format_args!(
            "<path d=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\" stroke-linejoin=\"round\" opacity=\"{opacity}\"/>\n"
        ));
        if let Some(&(step, value)) = curve.points.last() {
            draw(format_args!(
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\" fill=\"{color}\" opacity=\"{opacity}\"/>\n",
                at_x(step),
                at_y(value)
            ));
            ends.push((at_y(value), format!("{value:.3}"), color));
        }
    }
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut lowest = f64::NEG_INFINITY;
    for (at, text, color) in ends {
        let at = at.max(lowest + 13.0);
        lowest = at;
        draw(format_args!(
            "<text x=\"{}\" y=\"{:.1}\" fill=\"{color}\">{text}</text>\n",
            left + inner_width + 8.0,
            at + 4.0
        ));
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

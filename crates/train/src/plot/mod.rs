//! The curves of runs, as an SVG picture and as text for a terminal.

mod axis;
mod curves;
mod svg;
mod terminal;

pub use curves::{Curve, Panel, Run, panels};
pub use svg::svg;
pub use terminal::terminal;

#[cfg(test)]
mod tests;

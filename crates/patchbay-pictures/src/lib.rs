//! Pictures as SVG, for those who look at results with no Python: grids, curves and bars, one below the other.
//!
//! A picture is text alone. Whatever is written into it is escaped, and nothing in it is loaded from anywhere.

mod bars;
mod color;
mod curves;
mod grid;
mod panel;

pub use bars::Bars;
pub use curves::Curves;
pub use grid::{Cell, Grid, Shades};
pub use panel::{Panel, page};

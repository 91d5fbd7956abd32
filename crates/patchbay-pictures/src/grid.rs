//! Grids of coloured cells.

use crate::color::{diverging, ink, sequential};
use crate::panel::{Anchor, LETTER, LINE, Panel, told, widest};

/// How values become colours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shades {
    /// Blue below this value, red above it.
    Around(f64),
    /// White at 0, blue at the largest value, or at this one.
    UpTo(Option<f64>),
}

/// A cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Its value.
    pub value: f64,
    /// What is written in it.
    pub text: String,
}

/// A grid: the first row is at the top.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// What stands above it.
    pub title: String,
    /// Names of the rows, and what they are.
    pub rows: (String, Vec<String>),
    /// Names of the columns, and what they are.
    pub columns: (String, Vec<String>),
    /// The cells, row by row.
    pub cells: Vec<Vec<Cell>>,
    /// Their colours.
    pub shades: Shades,
}

/// The least width of a cell.
const CELL: f64 = 18.0;

impl Grid {
    /// The grid as a part of a picture.
    pub fn panel(&self) -> Panel {
        let texts = self.cells.iter().flatten().map(|cell| &cell.text);
        let cell = (widest(texts) + LETTER).max(CELL);
        let upright = widest(&self.columns.1) + LETTER > cell;
        let left = widest(&self.rows.1) + 2.0 * LETTER;
        let below = if upright { widest(&self.columns.1) + LETTER } else { LINE };
        let (count, high) = (self.columns.1.len() as f64, self.cells.len() as f64 * CELL);
        let top = 1.4 * LINE;
        let mut panel = Panel::new(left + count * cell, top + high + below + 1.2 * LINE);
        panel.title(&self.title);
        let share = self.share();
        for (row, cells) in self.cells.iter().enumerate() {
            let y = top + row as f64 * CELL;
            let name = self.rows.1.get(row).map_or("", String::as_str);
            panel.text((left - LETTER, y + 0.7 * CELL), name, Anchor::End, "#333");
            for (column, Cell { value, text }) in cells.iter().enumerate() {
                let x = left + column as f64 * cell;
                let share = share(*value);
                let fill = match self.shades {
                    Shades::Around(_) => diverging(share),
                    Shades::UpTo(_) => sequential(share),
                };
                let place = self.columns.1.get(column).map_or("", String::as_str);
                let hover = format!("{} {name}, {} {place}: {} {text}", self.rows.0, self.columns.0, told(*value));
                panel.rectangle([x, y, cell - 0.5, CELL - 0.5], &fill, hover.trim_end());
                if !text.is_empty() {
                    panel.text((x + cell / 2.0, y + 0.7 * CELL), text, Anchor::Middle, ink(share));
                }
            }
        }
        for (column, name) in self.columns.1.iter().enumerate() {
            let x = left + (column as f64 + 0.5) * cell;
            match upright {
                true => panel.upright((x + 0.3 * LETTER, top + high + LETTER), name),
                false => panel.text((x, top + high + 0.8 * LINE), name, Anchor::Middle, "#333"),
            }
        }
        let axes = format!("{} by {}", self.rows.0, self.columns.0);
        panel.text((left, top + high + below + LINE), &axes, Anchor::Start, "#777");
        panel
    }

    /// How far a value is on the way from no colour to all of it.
    fn share(&self) -> impl Fn(f64) -> f64 {
        let values = || self.cells.iter().flatten().map(|cell| cell.value).filter(|value| value.is_finite());
        let (middle, reach) = match self.shades {
            Shades::Around(middle) => (middle, values().map(|value| (value - middle).abs()).fold(0.0, f64::max)),
            Shades::UpTo(most) => (0.0, most.unwrap_or_else(|| values().fold(0.0, f64::max))),
        };
        move |value| if reach > 0.0 { (value - middle) / reach } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::page;

    #[test]
    fn cells_have_their_colours_and_tell_their_values() {
        let cell = |value| Cell { value, text: String::new() };
        let grid = Grid {
            title: "a".into(),
            rows: ("layer".into(), vec!["0".into(), "5".into()]),
            columns: ("position".into(), vec!["0: The".into(), "1: cat".into()]),
            cells: vec![vec![cell(1.0), cell(3.0)], vec![cell(2.0), cell(f64::NAN)]],
            shades: Shades::Around(2.0),
        };
        let svg = page("patching", &[grid.panel()]);
        for part in ["#2166ac", "#b2182b", "#ffffff", "#ccc", "layer 5, position 0: The: 2", "rotate(-90"] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert_eq!(svg.matches("<rect").count(), 5);
    }
}

//! Curves.

use crate::color::curve;
use crate::panel::{Anchor, LETTER, LINE, Panel, told, widest};

/// Curves over the same places.
#[derive(Clone, Debug, PartialEq)]
pub struct Curves {
    /// What stands above them.
    pub title: String,
    /// What the places are, and their names.
    pub x: (String, Vec<String>),
    /// What the values are.
    pub y: String,
    /// Curves by name: of several lines each has their mean, drawn thick.
    pub curves: Vec<(String, Vec<Vec<f64>>)>,
}

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 220.0;
/// Lines across, to read values by.
const MARKS: usize = 4;
/// Names of places that there is room for.
const NAMES: usize = 16;

impl Curves {
    /// The curves as a part of a picture.
    pub fn panel(&self) -> Panel {
        let values =
            self.curves.iter().flat_map(|(_, lines)| lines).flatten().copied().filter(|value| value.is_finite());
        let (low, high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = match (low < high, low.is_finite()) {
            (true, _) => (low, high),
            (false, true) => (low - 0.5, low + 0.5),
            (false, false) => (0.0, 1.0),
        };
        let (left, top) = (10.0 * LETTER, 1.4 * LINE);
        let names = widest(self.curves.iter().map(|(name, _)| name));
        let mut panel = Panel::new(left + WIDTH + 3.0 * LETTER + names, top + HEIGHT + 2.4 * LINE);
        panel.title(&self.title);
        let y = |value: f64| top + HEIGHT * (1.0 - (value - low) / (high - low));
        for mark in 0..=MARKS {
            let value = low + (high - low) * mark as f64 / MARKS as f64;
            panel.line(&[(left, y(value)), (left + WIDTH, y(value))], "#ddd", 1.0, 1.0);
            panel.text((left - LETTER, y(value) + 4.0), &told(value), Anchor::End, "#333");
        }
        let count = self.x.1.len();
        let x = |place: usize| left + WIDTH * (place as f64 + 0.5) / count.max(1) as f64;
        for (place, name) in self.x.1.iter().enumerate().step_by(count.div_ceil(NAMES).max(1)) {
            panel.text((x(place), top + HEIGHT + 0.9 * LINE), name, Anchor::Middle, "#333");
        }
        let axes = format!("{} by {}", self.y, self.x.0);
        panel.text((left, top + HEIGHT + 2.0 * LINE), &axes, Anchor::Start, "#777");
        for (number, (name, lines)) in self.curves.iter().enumerate() {
            let points = |line: &[f64]| -> Vec<(f64, f64)> {
                let there = line.iter().enumerate().filter(|(_, value)| value.is_finite());
                there.map(|(place, value)| (x(place), y(*value))).collect()
            };
            if lines.len() > 1 {
                lines.iter().for_each(|line| panel.line(&points(line), curve(number), 1.0, 0.3));
            }
            let mean = mean(lines);
            panel.line(&points(&mean), curve(number), 2.5, 1.0);
            for (place, value) in mean.iter().enumerate().filter(|(_, value)| value.is_finite()) {
                let hover = format!(
                    "{name}, {} {}: {}",
                    self.x.0,
                    self.x.1.get(place).map_or("", String::as_str),
                    told(*value)
                );
                panel.rectangle([x(place) - 2.5, y(*value) - 2.5, 5.0, 5.0], curve(number), &hover);
            }
            let at = (left + WIDTH + 2.0 * LETTER, top + (number as f64 + 0.8) * LINE);
            panel.text(at, name, Anchor::Start, curve(number));
        }
        panel
    }
}

/// The mean of lines, place by place.
fn mean(lines: &[Vec<f64>]) -> Vec<f64> {
    let longest = lines.iter().map(Vec::len).max().unwrap_or(0);
    let at = |place: usize| {
        let there = lines.iter().filter_map(|line| line.get(place));
        let (sum, count) = there.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
        sum / count
    };
    (0..longest).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::page;

    #[test]
    fn a_mean_and_its_lines() {
        let curves = Curves {
            title: String::new(),
            x: ("layer".into(), (0..3).map(|layer| layer.to_string()).collect()),
            y: "probability".into(),
            curves: vec![
                ("right".into(), vec![vec![0.0, 0.5, 1.0], vec![0.0, 0.1, 0.2]]),
                ("wrong".into(), vec![vec![0.5, f64::NAN, 0.25]]),
            ],
        };
        let svg = page("targets", &[curves.panel()]);
        assert_eq!(svg.matches("<polyline").count(), 5 + 3 + 1);
        assert!(svg.contains("right, layer 2: 0.6") && !svg.contains("NaN"), "{svg}");
        // nothing to draw is drawn as nothing
        let none = Curves { curves: Vec::new(), ..curves };
        assert!(!page("", &[none.panel()]).contains("NaN"));
    }
}

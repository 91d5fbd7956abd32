//! Bars.

use crate::color::diverging;
use crate::panel::{Anchor, LETTER, LINE, Panel, told, widest};

/// Values by name, the first at the top.
#[derive(Clone, Debug, PartialEq)]
pub struct Bars {
    /// What stands above them.
    pub title: String,
    /// Names and values.
    pub bars: Vec<(String, f64)>,
    /// What the values are.
    pub axis: String,
}

const WIDTH: f64 = 360.0;

impl Bars {
    /// The bars as a part of a picture.
    pub fn panel(&self) -> Panel {
        let finite = self.bars.iter().map(|(_, value)| *value).filter(|value| value.is_finite());
        let (low, high) = finite.fold((0.0f64, 0.0f64), |(low, high), value| (low.min(value), high.max(value)));
        let reach = (high - low).max(f64::MIN_POSITIVE);
        let (left, top) = (widest(self.bars.iter().map(|(name, _)| name)) + 2.0 * LETTER, 1.4 * LINE);
        let mut panel = Panel::new(left + WIDTH + 10.0 * LETTER, top + self.bars.len() as f64 * LINE + 1.2 * LINE);
        panel.title(&self.title);
        let x = |value: f64| left + WIDTH * (value - low) / reach;
        for (number, (name, value)) in self.bars.iter().enumerate() {
            let y = top + number as f64 * LINE;
            panel.text((left - LETTER, y + 0.7 * LINE), name, Anchor::End, "#333");
            let value = if value.is_finite() { *value } else { 0.0 };
            let (from, to) = (x(value.min(0.0)), x(value.max(0.0)));
            let bar = [from, y, (to - from).max(0.5), LINE - 3.0];
            panel.rectangle(bar, &diverging(value.signum()), &format!("{name}: {}", told(self.bars[number].1)));
            panel.text((to + 0.5 * LETTER, y + 0.7 * LINE), &told(self.bars[number].1), Anchor::Start, "#555");
        }
        panel.text((left, top + (self.bars.len() as f64 + 0.9) * LINE), &self.axis, Anchor::Start, "#777");
        panel
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::page;

    #[test]
    fn bars_go_both_ways() {
        let bars = vec![("a".into(), 2.0), ("b".into(), -1.0), ("c".into(), f64::INFINITY)];
        let svg = page("shares", &[Bars { title: String::new(), bars, axis: "share".into() }.panel()]);
        assert!(svg.contains("#b2182b") && svg.contains("#2166ac") && svg.contains("c: inf"), "{svg}");
    }
}

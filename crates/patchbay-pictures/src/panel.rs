//! A part of a picture, and how parts are put together.

use std::fmt::Write;

/// Width of a letter at the size that is used, in pixels.
pub(crate) const LETTER: f64 = 6.2;
/// Height of a line.
pub(crate) const LINE: f64 = 16.0;
/// Room around everything.
const MARGIN: f64 = 12.0;
/// Letters of a label that are shown; the mouse tells all of it.
const SHOWN: usize = 24;

/// A part of a picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Panel {
    pub(crate) width: f64,
    pub(crate) height: f64,
    body: String,
}

/// Where a text stands by its place.
#[derive(Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

impl Panel {
    pub(crate) fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    /// A rectangle, of which the mouse tells something.
    pub(crate) fn rectangle(&mut self, [x, y, width, height]: [f64; 4], fill: &str, told: &str) {
        let told = if told.is_empty() { String::new() } else { format!("<title>{}</title>", escaped(told)) };
        self.add(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\">{told}</rect>"
        ));
    }

    /// What stands above all else, as long as it is.
    pub(crate) fn title(&mut self, title: &str) {
        self.width = self.width.max(title.chars().count() as f64 * LETTER);
        let y = LINE * 0.8;
        self.add(format_args!("<text x=\"0\" y=\"{y:.1}\" fill=\"#111\">{}</text>", escaped(title)));
    }

    /// A text, shortened where it is long.
    pub(crate) fn text(&mut self, (x, y): (f64, f64), text: &str, anchor: Anchor, fill: &str) {
        self.label((x, y), text, anchor, fill, "");
    }

    /// A text that reads upwards.
    pub(crate) fn upright(&mut self, (x, y): (f64, f64), text: &str) {
        let turned = format!(" transform=\"rotate(-90 {x:.1} {y:.1})\"");
        self.label((x, y), text, Anchor::End, "#333", &turned);
    }

    fn label(&mut self, (x, y): (f64, f64), text: &str, anchor: Anchor, fill: &str, more: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(&shortened(text));
        self.add(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{fill}\"{more}>{text}</text>"
        ));
    }

    /// A line through points.
    pub(crate) fn line(&mut self, points: &[(f64, f64)], color: &str, width: f64, opacity: f64) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.add(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{width}\" opacity=\"{opacity}\"/>",
            points.join(" ")
        ));
    }

    fn add(&mut self, part: std::fmt::Arguments<'_>) {
        // writing to a string does not fail
        let _ = self.body.write_fmt(part);
        self.body.push('\n');
    }
}

/// A whole picture: a title, and panels below it.
pub fn page(title: &str, panels: &[Panel]) -> String {
    let titled = title.chars().count() as f64 * LETTER * 1.2;
    let width = panels.iter().map(|panel| panel.width).fold(titled, f64::max) + 2.0 * MARGIN;
    let (mut body, mut y) = (String::new(), MARGIN + 1.5 * LINE);
    for panel in panels {
        let _ = write!(body, "<g transform=\"translate({MARGIN:.1} {y:.1})\">\n{}</g>\n", panel.body);
        y += panel.height + MARGIN;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{y:.0}\" viewBox=\"0 0 {width:.0} {y:.0}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{MARGIN}\" y=\"{:.1}\" font-size=\"14\" fill=\"#111\">{}</text>\n{body}</svg>\n",
        MARGIN + LINE * 0.8,
        escaped(title)
    )
}

/// How wide the longest of some labels is.
pub(crate) fn widest<'a>(labels: impl IntoIterator<Item = &'a String>) -> f64 {
    labels.into_iter().map(|label| shortened(label).chars().count()).max().unwrap_or(0) as f64 * LETTER
}

/// A text as far as there is room for it; spaces alone would not be seen.
fn shortened(text: &str) -> String {
    if !text.is_empty() && text.chars().all(|c| c == ' ') {
        return "␣".repeat(text.len().min(SHOWN));
    }
    match text.char_indices().nth(SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// A text as it stands in XML 1.0, which has no place for most control characters.
fn escaped(text: &str) -> String {
    let mut found = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => found.push_str("&amp;"),
            '<' => found.push_str("&lt;"),
            '>' => found.push_str("&gt;"),
            '"' => found.push_str("&quot;"),
            '\n' => found.push('⏎'),
            '\t' => found.push('⇥'),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => found.push('\u{fffd}'),
            c => found.push(c),
        }
    }
    found
}

/// A number as people read it: four digits.
pub(crate) fn told(value: f64) -> String {
    match value {
        value if !value.is_finite() => value.to_string(),
        value if value != 0.0 && !(1e-3..1e5).contains(&value.abs()) => format!("{value:.2e}"),
        value => {
            let text = format!("{value:.4}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_leave_their_place() {
        let mut panel = Panel::new(10.0, 10.0);
        panel.text((0.0, 0.0), "<script>\"&\u{1}\n", Anchor::Start, "#000");
        panel.text((0.0, 0.0), "  ", Anchor::Start, "#000");
        panel.title("a title that is longer than a label may be");
        let svg = page("<b>", &[panel]);
        assert!(svg.contains("&lt;script&gt;&quot;&amp;\u{fffd}⏎") && svg.contains("&lt;b&gt;"), "{svg}");
        assert!(svg.contains(">␣␣<") && svg.contains("than a label may be<"), "{svg}");
        assert!(!svg.contains("<script") && !svg.contains("<b>"));
    }

    #[test]
    fn numbers_have_four_digits() {
        for (value, text) in [
            (0.0, "0"),
            (1.5, "1.5"),
            (-0.12345, "-0.1235"),
            (1e-9, "1.00e-9"),
            (123456.0, "1.23e5"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(told(value), text);
        }
    }
}

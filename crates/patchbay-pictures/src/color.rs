//! Colours of values.

type Color = [f64; 3];

const WHITE: Color = [255.0, 255.0, 255.0];
const BLUE: Color = [33.0, 102.0, 172.0];
const RED: Color = [178.0, 24.0, 43.0];

/// A colour between blue (-1), white (0) and red (1).
pub(crate) fn diverging(share: f64) -> String {
    if share < 0.0 { between(WHITE, BLUE, -share) } else { between(WHITE, RED, share) }
}

/// A colour between white (0) and blue (1).
pub(crate) fn sequential(share: f64) -> String {
    between(WHITE, BLUE, share)
}

/// What is read on a colour of this share.
pub(crate) fn ink(share: f64) -> &'static str {
    if share.abs() > 0.6 { "#fff" } else { "#111" }
}

/// Colours of curves, by number: those of Okabe and Ito, which most eyes tell apart.
pub(crate) fn curve(number: usize) -> &'static str {
    const COLORS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];
    COLORS[number % COLORS.len()]
}

/// Grey where there is no number.
fn between(from: Color, to: Color, share: f64) -> String {
    if share.is_nan() {
        return "#ccc".into();
    }
    let part = |i: usize| (from[i] + (to[i] - from[i]) * share.clamp(0.0, 1.0)).round() as u8;
    format!("#{:02x}{:02x}{:02x}", part(0), part(1), part(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_middle() {
        assert_eq!([diverging(-1.0), diverging(0.0), diverging(9.0)], ["#2166ac", "#ffffff", "#b2182b"]);
        assert_eq!([sequential(0.0), sequential(1.0), sequential(f64::NAN)], ["#ffffff", "#2166ac", "#ccc"]);
    }
}

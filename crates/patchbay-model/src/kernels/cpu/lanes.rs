//! Reductions in an order that vectorises and depends on the length alone.

/// Partial results kept side by side.
const LANES: usize = 16;

/// `join` over `of(x)` of all elements: lane `i` takes elements `i`, `i + 16`, …, and the lanes are joined in pairs.
///
/// `start` has to leave what it is joined with as it is. Elements at the end that do the same change no bit.
#[inline(always)]
pub(super) fn fold(row: &[f32], start: f32, of: impl Fn(f32) -> f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = join(*lane, of(*x));
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = join(*lane, of(*x));
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = join(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_zeros_change_no_bit() {
        let row: Vec<f32> = (1..50).map(|x| 1.0 / x as f32).collect();
        let sum = |row: &[f32]| fold(row, 0.0, |x| x, |a, b| a + b);
        for zeros in 0..40 {
            let longer = [row.clone(), vec![0.0; zeros]].concat();
            assert_eq!(sum(&row).to_bits(), sum(&longer).to_bits());
        }
        assert_eq!(fold(&row, 0.0, |x| x, f32::max), 1.0);
    }
}

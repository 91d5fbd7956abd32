//! The exponential function, in a form that compilers turn into vector code.

/// `eˣ` with a relative error below 2e-7; -inf gives 0, and NaN stays NaN.
///
/// `x` is split into `n ln 2 + r` with `|r| ≤ ln 2 / 2`, `eʳ` is a polynomial (the coefficients of Cephes' `expf`), and
/// `2ⁿ` is put into the exponent's bits. No operation in it is fused, so that every instruction set gives the same bits.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const LOWEST: f32 = -87.336_54;
    const HIGHEST: f32 = 88.722_83;
    // Adding and taking away this number rounds to the nearest whole one.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, the first with few enough bits that its product with n is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;

    let clamped = x.clamp(LOWEST, HIGHEST);
    let n = (clamped * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = clamped - n * LN2_HIGH - n * LN2_LOW;
    let power = small(r) + 1.0;
    // Twice half the exponent: 2^128 itself has no float.
    let half = (n * 0.5 + ROUND) - ROUND;
    let value = power * two_to(half) * two_to(n - half);
    let value = if x < LOWEST { 0.0 } else { value };
    let value = if x > HIGHEST { f32::INFINITY } else { value };
    if x.is_nan() { x } else { value }
}

/// `eˣ - 1`, with a relative error below 3e-7 also near 0.
#[inline(always)]
pub(super) fn exp_minus_one(x: f32) -> f32 {
    const CLOSE: f32 = 0.5 * std::f32::consts::LN_2;
    let (near, far) = (small(x), exp(x) - 1.0);
    if x.abs() <= CLOSE { near } else { far }
}

/// `eʳ - 1` of `|r| ≤ ln 2 / 2`.
#[inline(always)]
fn small(r: f32) -> f32 {
    let mut power = 1.987_569_2e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        power = power * r + coefficient;
    }
    power * r * r + r
}

/// `2ⁿ` of a whole number from -126 to 127.
#[inline(always)]
fn two_to(n: f32) -> f32 {
    // The lowest bits of 2²³ + m are m's, so that no conversion is needed.
    const BIAS: f32 = 8_388_608.0 + 127.0;
    f32::from_bits((n + BIAS).to_bits() << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_exact_value_everywhere() {
        for step in 0..2_000_000 {
            let x = -87.3 + 176.0 * (step as f32 / 2_000_000.0);
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2e-7, "exp({x}) is off by {error:e}");
        }
    }

    #[test]
    fn minus_one_agrees_with_the_exact_value_everywhere() {
        for step in 0..1_000_000 {
            let x = -20.0 + 24.0 * (step as f32 / 1_000_000.0);
            for x in [x, x * 1e-3, x * 1e-6] {
                let exact = f64::from(x).exp_m1();
                let error = (f64::from(exp_minus_one(x)) - exact).abs();
                assert!(error <= 3e-7 * exact.abs(), "exp({x}) - 1 is off by {error:e}");
            }
        }
        assert_eq!(exp_minus_one(f32::NEG_INFINITY), -1.0);
        assert!(exp_minus_one(f32::NAN).is_nan());
    }

    #[test]
    fn the_ends_are_those_of_the_real_function() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-200.0), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(89.0), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }
}

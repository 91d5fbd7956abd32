//! Normal random numbers that are the same on every machine.
//!
//! The stream of a seed is SplitMix64 (Steele, Lea and Flood, 2014): its output number n is a mix of `seed + (n + 1) · γ`, so
//! that any element can be made without those before it. Each two outputs make two normal numbers by the transformation of
//! Box and Muller (1958), with the functions of the `libm` crate, which are the same everywhere.

/// The golden ratio, as a fraction of 2^64.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// Output number `n` of the stream of a seed.
fn output(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(GAMMA));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The first `count` normal numbers of a seed.
pub(super) fn normal(seed: u64, count: usize) -> Vec<f64> {
    const SCALE: f64 = 1.0 / (1u64 << 53) as f64;
    let mut numbers = Vec::with_capacity(count + 1);
    for pair in 0..count.div_ceil(2) as u64 {
        // in (0, 1], so that its logarithm is finite
        let u = ((output(seed, 2 * pair) >> 11) + 1) as f64 * SCALE;
        let v = (output(seed, 2 * pair + 1) >> 11) as f64 * SCALE;
        let radius = libm::sqrt(-2.0 * libm::log(u));
        let (sin, cos) = libm::sincos(2.0 * std::f64::consts::PI * v);
        numbers.push(radius * cos);
        numbers.push(radius * sin);
    }
    numbers.truncate(count);
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_splitmix64() {
        // the first outputs of the reference implementation for the seed 1234567
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([0, 1, 2].map(|n| output(1_234_567, n)), expected);
    }

    /// The first numbers of seed 7, as the same formula gives them in Python's double precision.
    const KNOWN: [f64; 3] = [1.3649922974572282, 0.14452122126941494, -0.39652397525381783];

    #[test]
    fn numbers_are_known_and_normal() {
        assert_eq!(normal(7, 3), KNOWN);
        let numbers = normal(7, 100_001);
        assert_eq!(numbers[..100_000], normal(7, 100_000));
        assert_ne!(numbers[..2], normal(8, 2));
        let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
        let square = numbers.iter().map(|x| x * x).sum::<f64>() / numbers.len() as f64;
        assert!(mean.abs() < 0.01 && (square - 1.0).abs() < 0.02, "{mean} {square}");
    }
}

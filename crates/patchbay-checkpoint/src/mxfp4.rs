//! The numbers of MXFP4 (Open Compute Project 2023): 4-bit floats times a power of two.

/// What half a byte stands for: its highest bit is the sign.
const VALUES: [f64; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// The number that the lower four bits of `half` stand for in a block scaled by `2^(scale - 127)`.
pub(crate) fn number(half: u8, scale: u8) -> f32 {
    // Double precision has every power that a scale can name as a normal number.
    let power = f64::from_bits((u64::from(scale) + 1023 - 127) << 52);
    (VALUES[usize::from(half & 0xF)] * power) as f32
}

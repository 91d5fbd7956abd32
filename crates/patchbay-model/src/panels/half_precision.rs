//! Half precision to single, as code that becomes vectors.

use half::f16;

/// The number itself. `half`'s own conversion looks for the processor's instruction each time it is called, which a loop over 32 scales
/// takes longer for than for all else.
#[inline(always)]
pub(super) fn single(x: f16) -> f32 {
    let bits = u32::from(x.to_bits());
    let (sign, rest) = (bits << 16 & 0x8000_0000, bits << 13 & 0x0fff_e000);
    // the exponent counts from -15 there and from -127 here; numbers below the normal ones come out right too
    let scaled = f32::from_bits(rest) * f32::from_bits(0x7780_0000);
    // infinities and what is no number
    let above = if rest >= 0x0f80_0000 { 0x7f80_0000 } else { 0 };
    f32::from_bits(scaled.to_bits() | above | sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_the_same() {
        for bits in 0..=u16::MAX {
            let (x, found) = (f16::from_bits(bits), single(f16::from_bits(bits)));
            match x.is_nan() {
                true => assert!(found.is_nan(), "{bits:#x}"),
                false => assert_eq!(found.to_bits(), x.to_f32().to_bits(), "{bits:#x}"),
            }
        }
    }
}

//! What a model's matrices are kept as in memory.

use std::fmt;
use std::str::FromStr;

use candle_core::DType;

/// What a model's matrices are kept as in memory.
///
/// On the processor everything else is float32, all sums included, whatever the matrices are: the less they take, the faster a
/// few tokens go, since the work is then reading them. On other devices activations have the matrices' type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats with 5 bits of exponent.
    F16,
    /// 16-bit floats with 8 bits of exponent.
    Bf16,
    /// 8-bit integers, 32 of one row with a common 16-bit scale.
    Q8_0,
    /// 4-bit integers, 32 of one row with a common scale and offset, in superblocks of 256.
    Q4K,
}

impl Precision {
    /// All of them, from the largest to the smallest.
    pub const ALL: [Self; 5] = [Self::F32, Self::F16, Self::Bf16, Self::Q8_0, Self::Q4K];

    /// How it is written: `f32`, `f16`, `bf16`, `q8_0`, `q4_k`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4K => "q4_k",
        }
    }

    /// Bytes that so many numbers take, their scales included.
    pub fn bytes(self, numbers: u64) -> u64 {
        // bits of a block, and numbers in it
        let (bits, block) = match self {
            Self::F32 => (32, 1),
            Self::F16 | Self::Bf16 => (16, 1),
            Self::Q8_0 => (8 * 34, 32),
            Self::Q4K => (8 * 148, 256),
        };
        numbers.saturating_mul(bits).div_ceil(8 * block)
    }

    /// The type of tensors that hold such numbers; nothing where they are no tensors.
    pub fn dtype(self) -> Option<DType> {
        match self {
            Self::F32 => Some(DType::F32),
            Self::F16 => Some(DType::F16),
            Self::Bf16 => Some(DType::BF16),
            Self::Q8_0 | Self::Q4K => None,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|one| one.name() == text).ok_or_else(|| format!("`{text}` is none of {}", known()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for one in Precision::ALL {
            assert_eq!(one.to_string().parse(), Ok(one));
        }
        assert_eq!("q8".parse::<Precision>().unwrap_err(), "`q8` is none of f32, f16, bf16, q8_0, q4_k");
    }

    #[test]
    fn scales_are_counted() {
        assert_eq!(Precision::ALL.map(|one| one.bytes(256)), [1024, 512, 512, 272, 148]);
        assert_eq!(Precision::F32.bytes(u64::MAX), u64::MAX / 8 + 1);
    }
}

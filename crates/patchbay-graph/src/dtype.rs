//! Types of tensor elements, and how they combine.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// True or false, one byte.
    Bool,
    /// Unsigned 8-bit integer.
    U8,
    /// Unsigned 32-bit integer.
    U32,
    /// Signed 64-bit integer.
    I64,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
}

impl DType {
    /// Every type.
    pub const ALL: [Self; 8] =
        [Self::Bool, Self::U8, Self::U32, Self::I64, Self::F16, Self::Bf16, Self::F32, Self::F64];

    /// The name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::U8 => "u8",
            Self::U32 => "u32",
            Self::I64 => "i64",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }

    /// The type with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Size of one element in bytes.
    pub fn size(self) -> usize {
        match self {
            Self::Bool | Self::U8 => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::U32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }

    /// Whether it is a floating-point type.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }

    /// The type of an operation on both, as PyTorch promotes tensors of one or more dimensions.
    #[must_use]
    pub fn promote(self, other: Self) -> Self {
        match (self, other) {
            (Self::F16, Self::Bf16) | (Self::Bf16, Self::F16) => Self::F32,
            (Self::U8, Self::U32) | (Self::U32, Self::U8) => Self::I64,
            (a, b) => a.max(b),
        }
    }

    /// The type of a function whose values are real, such as `exp`: integers become f32.
    #[must_use]
    pub fn to_float(self) -> Self {
        if self.is_float() { self } else { Self::F32 }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

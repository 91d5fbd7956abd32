//! One element of a tensor in JSON.

use std::io;

use serde::ser::{Error as _, Serialize, Serializer};

/// One element. Each float is written with the digits of its own type: 0.1 and not 0.10000000149011612.
pub enum Number {
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A float of 32 bits.
    F32(f32),
    /// A float of 64 bits.
    F64(f64),
    /// It could not be read.
    Lost(io::Error),
}

impl From<f32> for Number {
    fn from(x: f32) -> Self {
        Self::F32(x)
    }
}

impl From<f64> for Number {
    fn from(x: f64) -> Self {
        Self::F64(x)
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Lost(error) => Err(S::Error::custom(error)),
            &Self::Bool(x) => serializer.serialize_bool(x),
            &Self::Int(x) => serializer.serialize_i64(x),
            &Self::F32(x) if x.is_finite() => serializer.serialize_f32(x),
            &Self::F64(x) if x.is_finite() => serializer.serialize_f64(x),
            &Self::F32(x) => serializer.serialize_str(not_finite(x.into())),
            &Self::F64(x) => serializer.serialize_str(not_finite(x)),
        }
    }
}

fn not_finite(x: f64) -> &'static str {
    match (x.is_nan(), x > 0.0) {
        (true, _) => "NaN",
        (false, true) => "Infinity",
        (false, false) => "-Infinity",
    }
}

//! Where a model runs, and what its weights are kept as, as the operator writes it.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;
use patchbay_model::Precision;
use serde::{Deserialize, Serialize};

use crate::Failure;

/// `auto`, `cpu`, `cuda` or `cuda:N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The first CUDA device, or the CPU where there is none.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device by its number.
    Cuda(usize),
}

/// `auto`, or a precision: `f32`, `f16`, `bf16`, `q8_0` or `q4_k`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DtypeChoice {
    /// The exact one: f32.
    #[default]
    Auto,
    /// The one of this name.
    Of(Precision),
}

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    /// Status 422 where this machine, or this build, has no such device.
    pub fn open(self) -> Result<Device, Failure> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Auto => Ok(Device::cuda_if_available(0)?),
            Self::Cuda(number) => Device::new_cuda(number).map_err(|error| {
                Failure::new(422, "unsupported", format!("the device {self} cannot be opened: {error}"))
                    .hint("take `cpu`, or a build with the feature `cuda` on a machine with that device")
            }),
        }
    }
}

impl DtypeChoice {
    /// What the matrices shall be kept as.
    pub fn precision(self) -> Precision {
        match self {
            Self::Auto => Precision::F32,
            Self::Of(precision) => precision,
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text.strip_prefix("cuda:").and_then(|number| number.parse().ok()).map(Self::Cuda).ok_or_else(|| {
                Failure::new(422, "bad_argument", format!("there is no device `{text}`"))
                    .hint("take `auto`, `cpu`, `cuda` or `cuda:N`")
            }),
        }
    }
}

impl FromStr for DtypeChoice {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text.parse().map(Self::Of).map_err(|_| {
                Failure::new(422, "bad_argument", format!("weights are not kept as `{text}`"))
                    .hint("take `auto`, `f32`, `bf16`, `f16`, `q8_0` or `q4_k`")
            }),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl fmt::Display for DtypeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Of(precision) => f.write_str(precision.name()),
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = Failure;

    fn try_from(text: String) -> Result<Self, Failure> {
        text.parse()
    }
}

impl TryFrom<String> for DtypeChoice {
    type Error = Failure;

    fn try_from(text: String) -> Result<Self, Failure> {
        text.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

impl From<DtypeChoice> for String {
    fn from(choice: DtypeChoice) -> Self {
        choice.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for text in ["auto", "cpu", "cuda:0", "cuda:3"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        for text in ["auto", "f32", "bf16", "f16", "q8_0", "q4_k"] {
            assert_eq!(text.parse::<DtypeChoice>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse::<DeviceChoice>().unwrap(), DeviceChoice::Cuda(0));
        for text in ["", "gpu", "cuda:", "cuda:-1"] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
        assert!("f64".parse::<DtypeChoice>().is_err());
    }
}

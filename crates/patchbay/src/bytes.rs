//! Numbers of bytes, as people write them.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// So many bytes: `1000`, `64KiB`, `512MiB`, `1.5GiB`, `2TiB`. In a file it may be a number, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "u64")]
pub(crate) struct Bytes(pub(crate) u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

const UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unit = UNITS.iter().find_map(|(name, bytes)| Some((text.strip_suffix(name)?.trim_end(), *bytes)));
        let bytes = match unit {
            None => text.parse().ok(),
            Some((number, unit)) => {
                let bytes = number.parse::<f64>().ok().map(|number| number * unit as f64);
                bytes.filter(|bytes| (0.0..=u64::MAX as f64).contains(bytes)).map(|bytes| bytes as u64)
            }
        };
        bytes.map(Self).ok_or_else(|| format!("`{text}` is no number of bytes; write 1000000, 512MiB or 8GiB"))
    }
}

impl TryFrom<Written> for Bytes {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<Bytes> for u64 {
    fn from(Bytes(bytes): Bytes) -> Self {
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_with_and_without_a_unit() {
        for (text, bytes) in [("0", 0), ("1234", 1234), ("1KiB", 1024), ("1.5GiB", 3 << 29), ("8 MiB", 8 << 20)] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "GiB", "-1", "-1GiB", "1GB", "1.5", "nanGiB", "infGiB", "99999999999999TiB"] {
            let error = text.parse::<Bytes>().unwrap_err();
            assert!(error.contains("512MiB"), "{text}: {error}");
        }
    }
}

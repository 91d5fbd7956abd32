//! The forms in which requests come and answers go: JSON, base64 inside of JSON, and safetensors.
//!
//! A tensor leaves the server in one of three forms ([`tensor`]), and all three carry the same bits: JSON prints each
//! float with the fewest digits that read back as the same float, base64 and safetensors carry the bytes.

pub mod block;
pub mod edit;
pub mod generation;
pub mod job;
pub mod json;
pub mod model;
pub mod nested;
pub mod number;
pub mod planned;
pub mod proof;
pub mod result;
pub mod safetensors;
pub mod session;
pub mod spool;
pub mod stored;
pub mod tensor;
pub mod tensor_body;
pub mod tokens;
pub mod trace;
pub mod tree;
pub mod validation;

use serde::Serialize;

use std::io;

use crate::Failure;

/// Media type of JSON.
pub const JSON: &str = "application/json";
/// Media type of a safetensors file.
pub const SAFETENSORS: &str = "application/vnd.safetensors";
/// Media type of pictures.
pub const SVG: &str = "image/svg+xml";
/// Media type of problem details (RFC 9457).
pub const PROBLEM: &str = "application/problem+json";

/// What may happen while an answer is written: its elements cannot be read, or it cannot be sent.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::internal(error)
    }
}

/// The body of an answer, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Its media type.
    pub media_type: &'static str,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Encoded {
    /// A value as JSON.
    ///
    /// # Errors
    /// When the value cannot be serialized, which is a fault of the server.
    pub fn json(value: &impl Serialize) -> Result<Self, Failure> {
        let bytes = serde_json::to_vec(value).map_err(Failure::internal)?;
        Ok(Self { media_type: JSON, bytes })
    }
}

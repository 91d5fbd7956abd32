//! A tensor in an answer.
//!
//! ```json
//! {"dtype": "f32", "shape": [2, 3], "data": [[1.0, 2.5, "NaN"], [0.1, "-Infinity", 4.0]]}
//! ```
//!
//! Where the rows differ in length the tensor is left-padded with zeros, and `lengths` says how long each row truly is,
//! for each axis of tokens: `"lengths": {"1": [4, 2, 5]}`. The protocol leaves the form open; an object by axis is taken
//! because a slice can leave the two token axes of an attention matrix with different lengths.

use std::fmt;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Serialize, SerializeStruct, Serializer};
use utoipa::ToSchema;

use super::nested::Nested;
use super::tensor::{Lengths, WireTensor};

/// How the elements of a tensor are written in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `data`: nested lists.
    Lists,
    /// `b64`: base64 of the little-endian bytes.
    Base64,
    /// Not at all: the elements are elsewhere, in a safetensors file.
    Elsewhere,
}

/// A tensor in JSON: `dtype`, `shape` and either `data` (nested lists) or `b64` (little-endian bytes).
#[derive(Debug)]
pub struct TensorBody {
    /// The tensor.
    pub tensor: WireTensor,
    /// How its elements are written.
    pub form: Form,
}

/// A tensor: `dtype`, `shape` and either `data` or `b64`. The contract's picture of what [`TensorBody`] writes.
#[derive(ToSchema)]
#[schema(as = Tensor, example = json!({"dtype": "f32", "shape": [1, 3], "data": [[0.1, -2.5, "NaN"]]}))]
pub struct TensorSchema {
    /// Type of the elements: `bool`, `u8`, `u32`, `i64`, `f16`, `bf16`, `f32` or `f64`.
    pub dtype: String,
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    /// The elements, nested as `shape` says. One that is not finite is `"NaN"`, `"Infinity"` or `"-Infinity"`.
    pub data: Option<serde_json::Value>,
    /// The little-endian bytes of the elements, in base64.
    pub b64: Option<String>,
    /// Where rows differ in length: for each axis of tokens, by its number, the true length in every row. Shorter rows
    /// are padded with zeros on the left.
    #[schema(value_type = Option<BTreeMap<String, Vec<usize>>>)]
    pub lengths: Option<Lengths>,
}

impl Serialize for TensorBody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tensor = &self.tensor;
        let mut body = serializer.serialize_struct("Tensor", 4)?;
        body.serialize_field("dtype", tensor.dtype().name())?;
        body.serialize_field("shape", tensor.dims())?;
        match self.form {
            Form::Lists => body.serialize_field("data", &Nested::new(tensor.dims(), &|i| tensor.number(i)))?,
            Form::Base64 => body.serialize_field("b64", &Base64(tensor))?,
            Form::Elsewhere => {}
        }
        if let Some(lengths) = tensor.lengths() {
            body.serialize_field("lengths", lengths)?;
        }
        body.end()
    }
}

/// The bytes of a tensor in base64, written piece by piece.
struct Base64<'a>(&'a WireTensor);

impl fmt::Display for Base64<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let write = |piece: &[u8]| f.write_str(&STANDARD.encode(piece)).map_err(io::Error::other);
        self.0.pieces(write).map_err(|_| fmt::Error)
    }
}

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

//! A tensor in an answer.
//!
//! ```json
//! {"dtype": "f32", "shape": [2, 3], "data": [[1.0, 2.5, "NaN"], [0.1, "-Infinity", 4.0]]}
//! ```
//!
//! Where the rows differ in length the tensor is left-padded with zeros, and `lengths` says how long each row truly is,
//! for each axis of tokens: `"lengths": {"1": [4, 2, 5]}`. The protocol leaves the form open; an object by axis is taken
//! because a slice can leave the two token axes of an attention matrix with different lengths.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use candle_core::Tensor;
use patchbay_graph::{DType, Shape};
use serde::ser::{Serialize, SerializeStruct, Serializer};
use utoipa::ToSchema;

use super::nested::Nested;
use crate::Failure;

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

/// True lengths of rows, by axis.
pub type Lengths = BTreeMap<usize, Vec<usize>>;

/// The lengths of a shape's ragged axes, if it has any.
pub fn lengths(shape: &Shape) -> Option<Lengths> {
    shape.ragged.as_ref().map(|ragged| ragged.axes.iter().map(|(axis, lengths)| (*axis, lengths.to_vec())).collect())
}

/// A tensor ready to be written, in any of the forms.
#[derive(Clone, Debug)]
pub struct WireTensor {
    dtype: DType,
    dims: Vec<usize>,
    elements: Elements,
    lengths: Option<Lengths>,
}

/// Elements in row-major order. f16 and bf16 are kept as f32, which holds them exactly.
#[derive(Clone, Debug)]
enum Elements {
    U8(Vec<u8>),
    U32(Vec<u32>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl WireTensor {
    /// Takes the elements of a tensor; booleans are u8 there. Floats are first converted to `convert`, if given.
    ///
    /// # Errors
    /// When the tensor cannot be read, which is a fault of the server.
    pub fn new(
        tensor: &Tensor,
        dtype: DType,
        lengths: Option<Lengths>,
        convert: Option<DType>,
    ) -> candle_core::Result<Self> {
        let dtype = convert.filter(|_| dtype.is_float()).unwrap_or(dtype);
        let flat = tensor.flatten_all()?.to_dtype(storage(dtype))?;
        let elements = match dtype {
            DType::Bool | DType::U8 => Elements::U8(flat.to_vec1()?),
            DType::U32 => Elements::U32(flat.to_vec1()?),
            DType::I64 => Elements::I64(flat.to_vec1()?),
            DType::F16 | DType::Bf16 | DType::F32 => Elements::F32(flat.to_dtype(candle_core::DType::F32)?.to_vec1()?),
            DType::F64 => Elements::F64(flat.to_vec1()?),
        };
        Ok(Self { dtype, dims: tensor.dims().to_vec(), elements, lengths })
    }

    /// Type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Sizes of the axes, padding included.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The little-endian bytes.
    pub fn bytes(&self) -> Vec<u8> {
        match (&self.elements, self.dtype) {
            (Elements::U8(data), _) => data.clone(),
            (Elements::U32(data), _) => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            (Elements::I64(data), _) => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            (Elements::F32(data), DType::F16) => {
                data.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect()
            }
            (Elements::F32(data), DType::Bf16) => {
                data.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect()
            }
            (Elements::F32(data), _) => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            (Elements::F64(data), _) => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }

    fn number(&self, i: usize) -> Number {
        match &self.elements {
            Elements::U8(data) if self.dtype == DType::Bool => Number::Bool(data[i] != 0),
            Elements::U8(data) => Number::Int(data[i].into()),
            Elements::U32(data) => Number::Int(data[i].into()),
            Elements::I64(data) => Number::Int(data[i]),
            Elements::F32(data) => Number::F32(data[i]),
            Elements::F64(data) => Number::F64(data[i]),
        }
    }
}

/// The type in which the executor holds a type of the protocol.
pub fn storage(dtype: DType) -> candle_core::DType {
    match dtype {
        DType::Bool | DType::U8 => candle_core::DType::U8,
        DType::U32 => candle_core::DType::U32,
        DType::I64 => candle_core::DType::I64,
        DType::F16 => candle_core::DType::F16,
        DType::Bf16 => candle_core::DType::BF16,
        DType::F32 => candle_core::DType::F32,
        DType::F64 => candle_core::DType::F64,
    }
}

/// One element. Each float is written with the digits of its own type: 0.1 and not 0.10000000149011612.
pub(super) enum Number {
    Bool(bool),
    Int(i64),
    F32(f32),
    F64(f64),
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
        match *self {
            Self::Bool(x) => serializer.serialize_bool(x),
            Self::Int(x) => serializer.serialize_i64(x),
            Self::F32(x) if x.is_finite() => serializer.serialize_f32(x),
            Self::F64(x) if x.is_finite() => serializer.serialize_f64(x),
            Self::F32(x) => serializer.serialize_str(not_finite(x.into())),
            Self::F64(x) => serializer.serialize_str(not_finite(x)),
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

/// A tensor in JSON: `dtype`, `shape` and either `data` (nested lists) or `b64` (little-endian bytes).
#[derive(Clone, Debug)]
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
        body.serialize_field("dtype", tensor.dtype.name())?;
        body.serialize_field("shape", &tensor.dims)?;
        match self.form {
            Form::Lists => body.serialize_field("data", &Nested::new(&tensor.dims, &|i| tensor.number(i)))?,
            Form::Base64 => body.serialize_field("b64", &STANDARD.encode(tensor.bytes()))?,
            Form::Elsewhere => {}
        }
        if let Some(lengths) = &tensor.lengths {
            body.serialize_field("lengths", lengths)?;
        }
        body.end()
    }
}

impl From<candle_core::Error> for Failure {
    fn from(error: candle_core::Error) -> Self {
        Self::internal(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use serde_json::json;

    fn wire(tensor: &Tensor, dtype: DType, convert: Option<DType>) -> WireTensor {
        WireTensor::new(tensor, dtype, None, convert).unwrap()
    }

    fn body(tensor: WireTensor, form: Form) -> serde_json::Value {
        serde_json::to_value(TensorBody { tensor, form }).unwrap()
    }

    #[test]
    fn numbers_that_are_not_finite_are_strings() {
        let data = vec![0.1f32, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        let tensor = Tensor::from_vec(data, (2, 2), &Device::Cpu).unwrap();
        let text =
            serde_json::to_string(&TensorBody { tensor: wire(&tensor, DType::F32, None), form: Form::Lists }).unwrap();
        assert_eq!(text, r#"{"dtype":"f32","shape":[2,2],"data":[[0.1,"NaN"],["Infinity","-Infinity"]]}"#);
    }

    /// Readers take JSON numbers as f64 and narrow them; the bits must survive that.
    #[test]
    fn every_f32_reads_back_as_the_same_bits() {
        let mut state = 1u32;
        let floats: Vec<f32> = (0..200_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                f32::from_bits(state ^ (state >> 15))
            })
            .chain([0.0, -0.0, f32::MIN_POSITIVE, f32::MAX, f32::EPSILON, 1e-45, 16_777_216.0])
            .filter(|x| x.is_finite())
            .collect();
        let tensor = Tensor::from_slice(&floats, floats.len(), &Device::Cpu).unwrap();
        let text =
            serde_json::to_vec(&TensorBody { tensor: wire(&tensor, DType::F32, None), form: Form::Lists }).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        for (written, read) in floats.iter().zip(value["data"].as_array().unwrap()) {
            assert_eq!(written.to_bits(), (read.as_f64().unwrap() as f32).to_bits(), "{written:e} as {read}");
        }
    }

    #[test]
    fn types_convert_and_bytes_follow() {
        let tensor = Tensor::new(&[1.5f32, -0.1], &Device::Cpu).unwrap();
        let half = wire(&tensor, DType::F32, Some(DType::F16));
        assert_eq!(half.bytes(), [0x00, 0x3e, 0x66, 0xae]);
        assert_eq!(body(half, Form::Lists)["data"], json!([1.5, -0.099_975_586_f32]));
        let bf16 = wire(&tensor, DType::F32, Some(DType::Bf16));
        assert_eq!(bf16.bytes(), [0xc0, 0x3f, 0xcd, 0xbd]);
        assert_eq!(body(bf16, Form::Base64)["b64"], json!("wD/NvQ=="));
        let ids = Tensor::new(&[7i64, -1], &Device::Cpu).unwrap();
        assert_eq!(
            body(wire(&ids, DType::I64, Some(DType::F16)), Form::Lists),
            json!({"dtype": "i64", "shape": [2], "data": [7, -1]})
        );
        let flags = Tensor::new(&[1u8, 0], &Device::Cpu).unwrap();
        assert_eq!(body(wire(&flags, DType::Bool, None), Form::Lists)["data"], json!([true, false]));
    }

    #[test]
    fn a_single_number_has_no_list() {
        let tensor = Tensor::new(2.5f64, &Device::Cpu).unwrap();
        assert_eq!(
            body(wire(&tensor, DType::F64, None), Form::Lists),
            json!({"dtype": "f64", "shape": [], "data": 2.5})
        );
    }
}

//! Tensors that a caller keeps: as they are put, listed and given back.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use patchbay_graph::literal::Literal;
use patchbay_graph::problem::Problem;
use patchbay_graph::{DType, Encoding};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::result::as_map;
use super::tensor::{WireTensor, storage};
use super::tensor_body::{Form, TensorBody};
use super::{Encoded, SAFETENSORS, safetensors};
use crate::Failure;
use crate::store::{Shelf, StoredTensor, Tensors};

/// The caller's tensors.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TensorList {
    /// Always `list`.
    #[schema(value_type = String, example = "list")]
    pub object: &'static str,
    /// The names, in alphabetical order.
    pub data: Vec<StoredView>,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// What a name holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({"name": "joy", "bytes": 2304, "tensors": {"joy": {"dtype": "f32", "shape": [576]}}}))]
pub struct StoredView {
    /// The name.
    pub name: String,
    /// Bytes of all its tensors.
    pub bytes: u64,
    /// Its tensors by key.
    #[serde(serialize_with = "as_map")]
    #[schema(value_type = std::collections::BTreeMap<String, StoredShape>)]
    pub tensors: Vec<(String, StoredShape)>,
}

/// Type and shape of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct StoredShape {
    /// Type of the elements.
    #[schema(value_type = String)]
    pub dtype: &'static str,
    /// Sizes of the axes.
    pub shape: Vec<usize>,
}

impl StoredView {
    /// What `name` holds.
    pub fn new(name: &str, tensors: &Tensors) -> Self {
        let shape =
            |stored: &StoredTensor| StoredShape { dtype: stored.dtype.name(), shape: stored.tensor.dims().to_vec() };
        Self {
            name: name.to_owned(),
            bytes: tensors.values().map(StoredTensor::bytes).sum(),
            tensors: tensors.iter().map(|(key, stored)| (key.clone(), shape(stored))).collect(),
        }
    }
}

impl TensorList {
    /// Everything on a shelf.
    pub fn new(shelf: &Shelf) -> Self {
        let data: Vec<StoredView> = shelf.iter().map(|(name, tensors)| StoredView::new(name, tensors)).collect();
        Self { object: "list", bytes: data.iter().map(|view| view.bytes).sum(), data }
    }
}

/// Tensors from a safetensors file.
///
/// # Errors
/// Status 400 for bytes that are no such file, 422 for types that the protocol does not have or a file without tensors.
pub fn from_safetensors(bytes: &[u8]) -> Result<Tensors, Failure> {
    let tensors: Tensors = safetensors::read(bytes)?
        .into_iter()
        .map(|(key, dtype, tensor)| (key, StoredTensor { dtype, tensor }))
        .collect();
    not_empty(tensors)
}

/// Tensors from JSON: one, in any form that an operand has, or several by key.
///
/// # Errors
/// With a pointer to what is not a tensor.
pub fn from_json(name: &str, body: &Value) -> Result<Tensors, Failure> {
    let tensors = match body {
        Value::Object(object) if !is_tensor(object) => {
            let tensor = |(key, value): (&String, &Value)| {
                if key == safetensors::RESERVED {
                    let detail = format!("a safetensors file cannot hold a tensor named `{key}`");
                    return Err(Failure::new(422, "bad_name", detail).hint("take another key").at(format!("/{key}")));
                }
                let literal = literal(value).map_err(|problem| problem.under(key))?;
                Ok((key.clone(), stored(&literal)?))
            };
            object.iter().map(tensor).collect::<Result<_, Failure>>()?
        }
        value => [(name.to_owned(), stored(&literal(value)?)?)].into(),
    };
    not_empty(tensors)
}

/// Whether an object is one tensor; in one of several by key, no value is a string.
fn is_tensor(object: &Map<String, Value>) -> bool {
    object.contains_key("data") || object.contains_key("b64") || object.get("dtype").is_some_and(Value::is_string)
}

fn literal(value: &Value) -> Result<Literal, Problem> {
    match value {
        Value::Object(object) => Literal::from_object(object),
        value => Literal::from_json(value),
    }
}

fn stored(literal: &Literal) -> Result<StoredTensor, Failure> {
    let Literal { dtype, dims, data, .. } = literal;
    let dims = dims.as_slice();
    safetensors::check_shape(dims)?;
    let tensor = match dtype {
        // Integers of 64 bits do not pass through f64 twice without loss in every type of candle's cast.
        DType::I64 => Tensor::from_vec(data.iter().map(|x| *x as i64).collect(), dims, &Device::Cpu)?,
        dtype => Tensor::from_slice(data, dims, &Device::Cpu)?.to_dtype(storage(*dtype))?,
    };
    Ok(StoredTensor { dtype: *dtype, tensor })
}

fn not_empty(tensors: Tensors) -> Result<Tensors, Failure> {
    match tensors.is_empty() {
        true => Err(Failure::new(422, "bad_argument", "the body holds no tensor").hint("send at least one")),
        false => Ok(tensors),
    }
}

/// What a name holds: a tensor where it holds one under the name itself, else an object by key; or a safetensors file.
///
/// # Errors
/// When a tensor cannot be read, which is a fault of the server.
pub fn encode(name: &str, tensors: &Tensors, encoding: Encoding) -> Result<Encoded, Failure> {
    let wire = tensors
        .iter()
        .map(|(key, stored)| Ok((key.clone(), WireTensor::new(&stored.tensor, stored.dtype, None, None)?)))
        .collect::<Result<Vec<_>, Failure>>()?;
    let form = match encoding {
        Encoding::Safetensors => {
            let mut bytes = Vec::new();
            let wire = wire.iter().map(|(key, tensor)| (key.as_str(), tensor));
            safetensors::File::new(wire, HashMap::new())?.write(&mut bytes)?;
            return Ok(Encoded { media_type: SAFETENSORS, bytes });
        }
        Encoding::Json => Form::Lists,
        Encoding::Base64 => Form::Base64,
    };
    let mut bodies: Vec<(String, TensorBody)> =
        wire.into_iter().map(|(key, tensor)| (key, TensorBody { tensor, form })).collect();
    match bodies.len() {
        1 if bodies[0].0 == name => Encoded::json(&bodies.swap_remove(0).1),
        _ => Encoded::json(&ByKey(bodies)),
    }
}

#[derive(Serialize)]
struct ByKey(#[serde(serialize_with = "as_map")] Vec<(String, TensorBody)>);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn round(body: Value) -> Value {
        let tensors = from_json("joy", &body).unwrap();
        serde_json::from_slice(&encode("joy", &tensors, Encoding::Json).unwrap().bytes).unwrap()
    }

    #[test]
    fn one_tensor_or_several() {
        assert_eq!(round(json!([1.5, "NaN"])), json!({"dtype": "f32", "shape": [2], "data": [1.5, "NaN"]}));
        let one = json!({"dtype": "f16", "shape": [1, 2], "data": [[0.5, -1.0]]});
        assert_eq!(round(one.clone()), one);
        let several = json!({"a": {"dtype": "i64", "shape": [2], "data": [1, -2]}, "b": one});
        assert_eq!(round(several.clone()), several);
    }

    #[test]
    fn what_is_no_tensor_is_pointed_to() {
        let fail = |body| from_json("joy", &body).unwrap_err();
        assert_eq!(fail(json!({"a": {"data": ["x"]}})).pointer.as_deref(), Some("/a/data/0"));
        assert_eq!(fail(json!({"dtype": "f33", "data": [1]})).pointer.as_deref(), Some("/dtype"));
        assert_eq!(fail(json!({"dtype": "f32", "shape": [1]})).code, "missing_field");
        assert_eq!(fail(json!({"__metadata__": [1]})).code, "bad_name");
        assert_eq!(fail(json!({"shape": vec![1; 17], "data": [1]})).code, "too_large");
        assert_eq!(fail(json!({})).status, 422);
        assert!(fail(json!([[1], [2, 3]])).detail.contains("differ in length"));
    }

    #[test]
    fn through_a_safetensors_file_and_back() {
        let tensors = from_json("joy", &json!({"a": [1.5, 2.0], "b": [true, false]})).unwrap();
        let file = encode("joy", &tensors, Encoding::Safetensors).unwrap();
        let back = from_safetensors(&file.bytes).unwrap();
        assert_eq!(StoredView::new("x", &back), StoredView::new("x", &tensors));
    }
}

//! Tensors written into a request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::dtype::DType;
use crate::problem::{Code, Problem, Result};
use crate::shape::{MAX_RANK, Shape};

/// A tensor that came with the request.
#[derive(Clone, Debug, PartialEq)]
pub struct Literal {
    /// Type of the elements.
    pub dtype: DType,
    /// Sizes of the axes.
    pub dims: Vec<usize>,
    /// The elements in row-major order. Every type that the protocol takes fits without loss, i64 from 2^53 on excepted,
    /// which is refused.
    pub data: Vec<f64>,
    /// A plain number, which takes the type of what it is combined with, as in PyTorch.
    pub weak: bool,
}

impl Literal {
    /// A plain number.
    pub fn number(value: f64, dtype: DType) -> Self {
        Self { dtype, dims: Vec::new(), data: vec![value], weak: true }
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        Shape::dense(self.dims.clone())
    }

    /// A number, a boolean or a nested list of them.
    pub fn from_json(value: &Value) -> Result<Self> {
        let mut reader = Reader::default();
        reader.read(value, 0)?;
        let dtype = match (reader.floats, reader.ints, reader.bools) {
            (false, true, _) => DType::I64,
            (false, false, true) => DType::Bool,
            _ => DType::F32,
        };
        Self { dtype, dims: reader.dims, data: reader.data, weak: !value.is_array() }.held()
    }

    /// `{"dtype", "shape", "data" | "b64"}`.
    pub fn from_object(object: &Map<String, Value>) -> Result<Self> {
        if let Some(key) = object.keys().find(|key| !["dtype", "shape", "data", "b64"].contains(&key.as_str())) {
            let problem = Problem::new(Code::UnknownField, format!("a tensor has no field `{key}`"));
            return Err(problem.suggest(key, ["dtype", "shape", "data", "b64"]).under(key));
        }
        let dtype = match object.get("dtype") {
            None => None,
            Some(Value::String(name)) => Some(DType::from_name(name).ok_or_else(|| {
                let names = DType::ALL.map(DType::name);
                Problem::new(Code::DtypeMismatch, format!("there is no dtype `{name}`"))
                    .suggest(name, names)
                    .under("dtype")
            })?),
            Some(_) => return Err(Problem::new(Code::Malformed, "`dtype` is a name, such as \"f32\"").under("dtype")),
        };
        let dims = object.get("shape").map(dims).transpose().map_err(|problem| problem.under("shape"))?;
        match (object.get("data"), object.get("b64")) {
            (Some(data), None) => Self::from_data(data, dtype, dims).map_err(|problem| problem.under("data")),
            (None, Some(Value::String(text))) => {
                let (Some(dtype), Some(dims)) = (dtype, dims) else {
                    return Err(Problem::new(Code::MissingField, "`b64` needs `dtype` and `shape` beside it"));
                };
                Self::from_bytes(text, dtype, dims).map_err(|problem| problem.under("b64"))
            }
            (None, Some(_)) => Err(Problem::new(Code::Malformed, "`b64` is a string").under("b64")),
            _ => Err(Problem::new(Code::MissingField, "a tensor has either `data` or `b64`")),
        }
    }

    fn from_data(data: &Value, dtype: Option<DType>, dims: Option<Vec<usize>>) -> Result<Self> {
        let mut literal = Self::from_json(data)?;
        literal.weak = false;
        literal.dtype = dtype.unwrap_or(literal.dtype);
        literal = literal.held()?;
        let Some(dims) = dims else { return Ok(literal) };
        let flat = literal.dims.len() <= 1 && dims.iter().product::<usize>() == literal.data.len();
        if literal.dims != dims && !flat {
            let found = literal.shape();
            let detail = format!("the data has shape {found}, `shape` says {}", Shape::dense(dims));
            return Err(Problem::new(Code::ShapeMismatch, detail));
        }
        literal.dims = dims;
        Ok(literal)
    }

    fn from_bytes(text: &str, dtype: DType, dims: Vec<usize>) -> Result<Self> {
        let bytes = STANDARD
            .decode(text)
            .map_err(|error| Problem::new(Code::Malformed, format!("`b64` is not base64: {error}")))?;
        let expected = Shape::dense(dims.clone()).elements().and_then(|n| n.checked_mul(dtype.size()));
        if expected != Some(bytes.len()) {
            let detail = format!(
                "`b64` holds {} bytes, {dtype} of shape {} has another number",
                bytes.len(),
                Shape::dense(dims)
            );
            return Err(Problem::new(Code::ShapeMismatch, detail));
        }
        let data = bytes.chunks_exact(dtype.size()).map(|bytes| element(dtype, bytes)).collect();
        Self { dtype, dims, data, weak: false }.held()
    }

    /// The literal, if its type can hold every element.
    fn held(self) -> Result<Self> {
        let range = match self.dtype {
            DType::Bool => 0.0..=1.0,
            DType::U8 => 0.0..=f64::from(u8::MAX),
            DType::U32 => 0.0..=f64::from(u32::MAX),
            // a whole number beyond that may have been rounded to its neighbour
            DType::I64 => -EXACT..=EXACT,
            DType::F16 | DType::Bf16 | DType::F32 | DType::F64 => return Ok(self),
        };
        match self.data.iter().find(|x| !range.contains(x) || x.fract() != 0.0) {
            None => Ok(self),
            Some(x) => {
                let detail = format!("{x} is not a number of type {}", self.dtype);
                let whole = format!("whole numbers from {} to {}", range.start(), range.end());
                Err(Problem::new(Code::DtypeMismatch, detail).hint(format!("{} takes {whole}", self.dtype)))
            }
        }
    }

    /// The JSON that reads back as this literal.
    pub fn to_json(&self) -> Value {
        let number = |x: &f64| match self.dtype {
            DType::Bool => json!(*x != 0.0),
            dtype if !dtype.is_float() => json!(*x as i64),
            _ => number_to_json(*x),
        };
        if self.weak {
            return number(&self.data[0]);
        }
        let data: Vec<Value> = self.data.iter().map(number).collect();
        json!({"dtype": self.dtype.name(), "shape": self.dims, "data": data})
    }
}

/// The whole numbers that f64 tells from their neighbours.
const EXACT: f64 = ((1i64 << 53) - 1) as f64;

/// A list of sizes.
fn dims(value: &Value) -> Result<Vec<usize>> {
    let sizes = value.as_array().and_then(|list| {
        list.iter().map(|size| size.as_u64().and_then(|n| usize::try_from(n).ok())).collect::<Option<Vec<_>>>()
    });
    let sizes = sizes.ok_or_else(|| Problem::new(Code::Malformed, "`shape` is a list of sizes, such as [2, 576]"))?;
    match Shape::dense(sizes.clone()).elements() {
        Some(_) => Ok(sizes),
        None => Err(Problem::new(Code::TooLarge, format!("shape {sizes:?} has more elements than can be counted"))),
    }
}

/// One little-endian element.
fn element(dtype: DType, bytes: &[u8]) -> f64 {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let bits = u64::from_le_bytes(wide);
    match dtype {
        DType::Bool | DType::U8 | DType::U32 => bits as f64,
        DType::I64 => bits as i64 as f64,
        DType::F16 => half_to_f64(bits as u16),
        DType::Bf16 => f64::from(f32::from_bits((bits as u32) << 16)),
        DType::F32 => f64::from(f32::from_bits(bits as u32)),
        DType::F64 => f64::from_bits(bits),
    }
}

/// IEEE 754 half precision.
fn half_to_f64(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let fraction = f64::from(bits & 0x3ff) / 1024.0;
    match i32::from(bits >> 10 & 0x1f) {
        0 => sign * fraction * 2f64.powi(-14),
        31 if fraction == 0.0 => sign * f64::INFINITY,
        31 => f64::NAN,
        exponent => sign * (1.0 + fraction) * 2f64.powi(exponent - 15),
    }
}

/// The number that this text stands for where JSON has none.
pub(crate) fn non_finite(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// A number as JSON has it, or as the text that stands for it.
pub(crate) fn number_to_json(x: f64) -> Value {
    match x {
        _ if x.is_nan() => json!("NaN"),
        _ if x.is_infinite() => json!(if x > 0.0 { "Infinity" } else { "-Infinity" }),
        _ => json!(x),
    }
}

#[derive(Default)]
struct Reader {
    dims: Vec<usize>,
    data: Vec<f64>,
    floats: bool,
    ints: bool,
    bools: bool,
}

impl Reader {
    fn read(&mut self, value: &Value, depth: usize) -> Result<()> {
        if let Value::Array(items) = value {
            match self.dims.get(depth) {
                None if depth == MAX_RANK => {
                    return Err(Problem::new(Code::TooLarge, format!("a tensor has more than {MAX_RANK} axes")));
                }
                None if self.data.is_empty() => self.dims.push(items.len()),
                Some(size) if *size == items.len() => {}
                _ => return Err(Problem::new(Code::ShapeMismatch, "the lists of a tensor differ in length or depth")),
            }
            return items
                .iter()
                .enumerate()
                .try_for_each(|(i, item)| self.read(item, depth + 1).map_err(|problem| problem.under(i)));
        }
        if depth != self.dims.len() {
            return Err(Problem::new(Code::ShapeMismatch, "the lists of a tensor differ in length or depth"));
        }
        let number = match value {
            Value::Bool(value) => {
                self.bools = true;
                f64::from(u8::from(*value))
            }
            Value::Number(number) => {
                let whole = number.is_i64() || number.is_u64();
                self.ints |= whole;
                self.floats |= !whole;
                number.as_f64().unwrap_or(f64::NAN)
            }
            Value::String(text) => {
                self.floats = true;
                non_finite(text).ok_or_else(|| {
                    Problem::new(Code::Malformed, format!("{text:?} is not a number"))
                        .hint("numbers that are not finite are \"NaN\", \"Infinity\" and \"-Infinity\"")
                })?
            }
            _ => return Err(Problem::new(Code::Malformed, "a tensor is made of numbers")),
        };
        self.data.push(number);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_nested_lists_and_types_them() {
        let literal = Literal::from_json(&json!([[1, 2], [3, 4]])).unwrap();
        assert_eq!((literal.dtype, literal.dims.as_slice()), (DType::I64, [2, 2].as_slice()));
        assert_eq!(Literal::from_json(&json!([1, 2.5])).unwrap().dtype, DType::F32);
        assert_eq!(Literal::from_json(&json!([true])).unwrap().dtype, DType::Bool);
        assert!(Literal::from_json(&json!([[1], [2, 3]])).is_err());
        assert!(Literal::from_json(&json!([1, [2]])).is_err());
        assert_eq!(Literal::from_json(&json!([[], []])).unwrap().dims, [2, 0]);
    }

    #[test]
    fn reads_bytes_of_every_type() {
        for (dtype, b64, value) in [
            ("f32", "AADAPw==", 1.5),
            ("bf16", "wD8=", 1.5),
            ("f16", "AD4=", 1.5),
            ("i64", "/////////v8=", -281_474_976_710_657.0),
        ] {
            let object = json!({"dtype": dtype, "shape": [1], "b64": b64});
            assert_eq!(Literal::from_object(object.as_object().unwrap()).unwrap().data, [value], "{dtype}");
        }
    }

    #[test]
    fn refuses_shapes_that_overflow() {
        let object = json!({"dtype": "f32", "shape": [u64::MAX, 16], "data": []});
        assert_eq!(Literal::from_object(object.as_object().unwrap()).unwrap_err().code, Code::TooLarge);
    }
}

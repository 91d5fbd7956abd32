//! safetensors files, out and in.

use std::borrow::Cow;
use std::collections::HashMap;

use candle_core::{Device, Tensor};
use patchbay_graph::DType;
use patchbay_graph::problem::{Code, Problem};
use patchbay_graph::shape::{MAX_RANK, Shape};
use safetensors::tensor::{Dtype, SafeTensors, View};

use super::tensor::{WireTensor, storage};
use super::{Encoded, SAFETENSORS};
use crate::Failure;

/// The key that the format keeps for itself.
pub const RESERVED: &str = "__metadata__";

/// Tensors by name, and text by name, as one file.
///
/// # Errors
/// When the format cannot hold them, which is a fault of the server.
pub fn write<'a>(
    tensors: impl IntoIterator<Item = (&'a str, &'a WireTensor)>,
    metadata: HashMap<String, String>,
) -> Result<Encoded, Failure> {
    let views = tensors.into_iter().map(|(name, tensor)| (name, ByteView { tensor, bytes: tensor.bytes() }));
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(Failure::internal)?;
    Ok(Encoded { media_type: SAFETENSORS, bytes })
}

/// The tensors of a file, by name.
///
/// # Errors
/// Status 400 where the bytes are not such a file, 422 where a tensor's type is not one of the protocol's.
pub fn read(bytes: &[u8]) -> Result<Vec<(String, DType, Tensor)>, Failure> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| {
        Failure::new(400, "malformed", format!("the body is not a safetensors file: {error}"))
            .hint("send what safetensors' save() gives, with the content type application/vnd.safetensors")
    })?;
    let mut tensors = Vec::new();
    for (name, view) in file.iter() {
        let dtype = dtype(view.dtype()).ok_or_else(|| {
            let names = DType::ALL.map(DType::name).join(", ");
            let detail = format!("tensor `{name}` is of type {:?}", view.dtype());
            Failure::new(422, "dtype_mismatch", detail).hint(format!("tensors may be {names}"))
        })?;
        check_shape(view.shape()).map_err(|problem| problem.hint(format!("it is tensor `{name}` of the file")))?;
        let tensor = Tensor::from_raw_buffer(view.data(), storage(dtype), view.shape(), &Device::Cpu)?;
        // Any byte but 0 stands for true; kept as 1 so that every form of it says the same.
        let tensor = if dtype == DType::Bool { tensor.ne(0u8)? } else { tensor };
        tensors.push((name.to_owned(), dtype, tensor));
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(tensors)
}

/// Whether a tensor may have this shape.
///
/// # Errors
/// More axes than are taken, or more elements than can be counted.
pub(super) fn check_shape(dims: &[usize]) -> Result<(), Problem> {
    if dims.len() > MAX_RANK {
        let detail = format!("a tensor of {} axes; it may have {MAX_RANK}", dims.len());
        return Err(Problem::new(Code::TooLarge, detail));
    }
    match Shape::dense(dims).elements() {
        Some(_) => Ok(()),
        None => Err(Problem::new(Code::TooLarge, format!("shape {dims:?} has more elements than can be counted"))),
    }
}

fn dtype(dtype: Dtype) -> Option<DType> {
    DType::ALL.into_iter().find(|ours| theirs(*ours) == dtype)
}

fn theirs(dtype: DType) -> Dtype {
    match dtype {
        DType::Bool => Dtype::BOOL,
        DType::U8 => Dtype::U8,
        DType::U32 => Dtype::U32,
        DType::I64 => Dtype::I64,
        DType::F16 => Dtype::F16,
        DType::Bf16 => Dtype::BF16,
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
    }
}

struct ByteView<'a> {
    tensor: &'a WireTensor,
    bytes: Vec<u8>,
}

impl View for ByteView<'_> {
    fn dtype(&self) -> Dtype {
        theirs(self.tensor.dtype())
    }

    fn shape(&self) -> &[usize] {
        self.tensor.dims()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.bytes.as_slice().into()
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let tensor = Tensor::new(&[[1.5f32, -0.0], [f32::INFINITY, 3.0]], &Device::Cpu).unwrap();
        for dtype in [DType::F16, DType::Bf16, DType::F32, DType::F64] {
            let wire = WireTensor::new(&tensor, DType::F32, None, Some(dtype)).unwrap();
            let file = write([("x", &wire)], HashMap::from([("response".into(), "{}".into())])).unwrap();
            let read = read(&file.bytes).unwrap();
            assert_eq!((read[0].0.as_str(), read[0].1, read[0].2.dims()), ("x", dtype, [2, 2].as_slice()));
            assert_eq!(WireTensor::new(&read[0].2, dtype, None, None).unwrap().bytes(), wire.bytes());
        }
    }

    #[test]
    fn shapes_that_cannot_be_are_refused_and_flags_are_0_or_1() {
        let file = |dtype: &str, shape: &[usize], data: &[u8]| {
            let range = [0, data.len()];
            let header = serde_json::json!({"x": {"dtype": dtype, "shape": shape, "data_offsets": range}}).to_string();
            [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
        };
        for shape in [[0, 1 << 40, 1 << 40].as_slice(), &[1; 17]] {
            let bytes = file("U8", shape, if shape[0] == 0 { &[] } else { &[7] });
            assert_eq!(read(&bytes).unwrap_err().code, "too_large", "{shape:?}");
        }
        let read = read(&file("BOOL", &[3], &[0, 1, 7])).unwrap();
        assert_eq!(read[0].2.to_vec1::<u8>().unwrap(), [0, 1, 1]);
    }

    #[test]
    fn bytes_that_are_no_file_are_refused() {
        for bytes in [b"".as_slice(), b"{}", b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", &[8, 0, 0, 0, 0, 0, 0, 0, b'{']] {
            assert_eq!(read(bytes).unwrap_err().status, 400);
        }
    }
}

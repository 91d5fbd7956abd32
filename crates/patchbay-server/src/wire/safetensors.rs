//! safetensors files, out and in.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, Write};

use candle_core::{Device, Tensor};
use patchbay_graph::DType;
use patchbay_graph::problem::{Code, Problem};
use patchbay_graph::shape::{MAX_RANK, Shape};
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo};

use super::tensor::{WireTensor, storage};
use crate::Failure;

/// The key that the format keeps for itself.
pub const RESERVED: &str = "__metadata__";

/// A file of tensors by name, and text by name, about to be written.
#[derive(Debug)]
pub struct File<'a> {
    header: Vec<u8>,
    tensors: Vec<&'a WireTensor>,
}

impl<'a> File<'a> {
    /// Lays the file out.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn new(
        tensors: impl IntoIterator<Item = (&'a str, &'a WireTensor)>,
        metadata: HashMap<String, String>,
    ) -> io::Result<Self> {
        let mut tensors: Vec<_> = tensors.into_iter().collect();
        // the format wants elements at multiples of their size: wider ones first
        tensors.sort_by_key(|(name, tensor)| (Reverse(tensor.dtype().size()), *name));
        let mut end = 0;
        let place = |(name, tensor): &(&str, &WireTensor)| {
            let start = end;
            end += tensor.byte_len();
            let shape = tensor.dims().to_vec();
            ((*name).to_owned(), TensorInfo { dtype: theirs(tensor.dtype()), shape, data_offsets: (start, end) })
        };
        let infos = tensors.iter().map(place).collect();
        let mut header = serde_json::to_vec(&Metadata::new(Some(metadata), infos).map_err(io::Error::other)?)?;
        header.resize(header.len().next_multiple_of(8), b' ');
        Ok(Self { header, tensors: tensors.into_iter().map(|(_, tensor)| tensor).collect() })
    }

    /// How many bytes it is.
    pub fn byte_len(&self) -> u64 {
        let tensors: u64 = self.tensors.iter().map(|tensor| tensor.byte_len() as u64).sum();
        8 + self.header.len() as u64 + tensors
    }

    /// Writes it.
    ///
    /// # Errors
    /// When the tensors cannot be read, or the file not written.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&(self.header.len() as u64).to_le_bytes())?;
        out.write_all(&self.header)?;
        self.tensors.iter().try_for_each(|tensor| tensor.write_to(out))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let tensor = Tensor::new(&[[1.5f32, -0.0], [f32::INFINITY, 3.0]], &Device::Cpu).unwrap();
        let flags = Tensor::new(&[1u8, 0, 1], &Device::Cpu).unwrap();
        let flags = WireTensor::new(&flags, DType::Bool, None, None).unwrap();
        for dtype in [DType::F16, DType::Bf16, DType::F32, DType::F64] {
            let wire = WireTensor::new(&tensor, DType::F32, None, Some(dtype)).unwrap();
            let mut file = Vec::new();
            let metadata = HashMap::from([("response".into(), "{}".into())]);
            let written = File::new([("a", &flags), ("x", &wire), ("b", &flags)], metadata).unwrap();
            written.write(&mut file).unwrap();
            assert_eq!(written.byte_len(), file.len() as u64);
            let mut read = read(&file).unwrap();
            assert!(read.iter().take(2).all(|(_, dtype, tensor)| *dtype == DType::Bool && tensor.dims() == [3]));
            read.drain(..2);
            assert_eq!((read[0].0.as_str(), read[0].1, read[0].2.dims()), ("x", dtype, [2, 2].as_slice()));
            let again = WireTensor::new(&read[0].2, dtype, None, None).unwrap();
            let [found, sent] = [&again, &wire].map(|tensor| {
                let mut bytes = Vec::new();
                tensor.write_to(&mut bytes).map(|()| bytes).unwrap()
            });
            assert_eq!(found, sent);
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

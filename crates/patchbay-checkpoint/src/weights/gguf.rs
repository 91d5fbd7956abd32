//! Weights of a GGUF file, under Hugging Face's names and in Hugging Face's layout.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device, Tensor};

use super::{Entry, Part, Stored, Weights};
use crate::CheckpointError;
use crate::gguf::{GgufFile, GgufTensor, Layout, Part as StoredPart, Role, TensorNames};

/// A tensor, or a run of its rows, stored in ggml blocks.
struct Blocks {
    dtype: GgmlDType,
    /// Rows first, as Hugging Face counts; before `layout` is undone.
    stored: Vec<usize>,
    /// The same without a first axis that Hugging Face's tensor lacks.
    shape: Vec<usize>,
    layout: Layout,
    bytes: Range<usize>,
    half: Option<usize>,
}

impl Blocks {
    /// The part of a stored tensor; nothing where its shape does not allow it.
    fn new(tensor: &GgufTensor, part: &StoredPart) -> Option<Self> {
        let GgufTensor { shape, dtype, bytes, .. } = tensor;
        let (rows, rest) = shape.split_first()?;
        let (stored, bytes) = match &part.rows {
            None => (shape.clone(), bytes.clone()),
            // A row is made of whole blocks, unless the tensor is one row alone.
            Some(_) if rest.is_empty() && dtype.block_size() > 1 => return None,
            Some(taken) => {
                let row = bytes.len() / rows;
                let stored = [&[taken.len()], rest].concat();
                (stored, bytes.start + taken.start * row..bytes.start + taken.end * row)
            }
        };
        let shape = if part.slab { rest.to_vec() } else { stored.clone() };
        Some(Self { dtype: *dtype, stored, shape, layout: part.layout, bytes, half: part.half })
    }

    fn read(&self, bytes: &[u8]) -> candle_core::Result<Tensor> {
        let storage = QStorage::from_data(Cow::Borrowed(bytes), &Device::Cpu, self.dtype)?;
        let values = QTensor::new(storage, self.stored.as_slice())?.dequantize(&Device::Cpu)?;
        self.layout.undo(values.reshape(self.shape.as_slice())?)
    }
}

impl Stored for Blocks {
    fn read(&self, bytes: &[u8], _: &Part, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        self.read(bytes)?.to_dtype(dtype)?.to_device(device)
    }

    fn has_parts(&self) -> bool {
        false
    }
}

/// Two tensors whose rows Hugging Face has in one, the first half before the second.
struct Halves([Blocks; 2]);

impl Stored for Halves {
    fn read(&self, bytes: &[u8], _: &Part, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let Self([upper, lower]) = self;
        let (first, second) = bytes.split_at_checked(upper.bytes.len()).unwrap_or((bytes, &[]));
        let rows = upper.shape.len().saturating_sub(2);
        Tensor::cat(&[upper.read(first)?, lower.read(second)?], rows)?.to_dtype(dtype)?.to_device(device)
    }

    fn has_parts(&self) -> bool {
        false
    }
}

impl Weights {
    /// The tensors of an opened file. Tensors that the architecture's table does not name are refused: a part of the
    /// model that nobody reads would make every result silently wrong.
    pub(crate) fn from_gguf(gguf: &GgufFile, names: &TensorNames) -> Result<Self, CheckpointError> {
        let malformed = |detail: String| CheckpointError::malformed(gguf.path(), detail);
        let mut found: BTreeMap<String, Vec<Blocks>> = BTreeMap::new();
        for tensor in &gguf.tensors {
            let parts = match names.find(tensor) {
                Some(Role::Weights(parts)) => parts,
                Some(Role::Unused) => continue,
                None => {
                    let GgufTensor { name, shape, .. } = tensor;
                    let what =
                        format!("tensor `{name}` of shape {shape:?} in architecture \"{}\"", names.architecture());
                    return Err(CheckpointError::Unsupported { file: gguf.path().to_path_buf(), what, known: vec![] });
                }
            };
            for part in parts {
                let blocks = Blocks::new(tensor, &part).ok_or_else(|| impossible(gguf, tensor))?;
                found.entry(part.name).or_default().push(blocks);
            }
        }
        let mut entries = BTreeMap::new();
        for (name, mut blocks) in found {
            blocks.sort_by_key(|blocks| blocks.half);
            let ranges = blocks.iter().map(|blocks| blocks.bytes.clone()).collect();
            let (shape, stored): (_, Box<dyn Stored>) = match <[Blocks; 1]>::try_from(blocks) {
                Ok([whole]) if whole.half.is_none() => {
                    let shape = whole.layout.shape(&whole.shape);
                    (shape, Box::new(whole))
                }
                Ok([_]) => return Err(malformed(format!("half of `{name}` is missing"))),
                Err(blocks) => match <[Blocks; 2]>::try_from(blocks) {
                    Ok(halves) if [halves[0].half, halves[1].half] == [Some(0), Some(1)] => {
                        (joined(&halves[0].shape, &halves[1].shape), Box::new(Halves(halves)))
                    }
                    _ => return Err(malformed(format!("several tensors are `{name}`"))),
                },
            };
            let shape =
                shape.ok_or_else(|| malformed(format!("the tensors that make `{name}` have impossible shapes")))?;
            entries.insert(name, Entry { file: gguf.file.clone(), bytes: ranges, shape, stored });
        }
        Ok(Self { origin: gguf.path().to_path_buf(), entries })
    }
}

fn impossible(gguf: &GgufFile, tensor: &GgufTensor) -> CheckpointError {
    let detail = format!("tensor `{}` has the impossible shape {:?}", tensor.name, tensor.shape);
    CheckpointError::malformed(gguf.path(), detail)
}

/// The shape of two tensors, one's rows after the other's.
fn joined(upper: &[usize], lower: &[usize]) -> Option<Vec<usize>> {
    let rows = upper.len().checked_sub(2)?;
    let mut shape = upper.to_vec();
    shape[rows] = shape[rows].checked_add(*lower.get(rows)?)?;
    let same = upper.len() == lower.len() && (0..upper.len()).all(|axis| axis == rows || upper[axis] == lower[axis]);
    same.then_some(shape)
}

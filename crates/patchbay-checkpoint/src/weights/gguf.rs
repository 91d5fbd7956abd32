//! Weights of a GGUF file, under Hugging Face's names and in Hugging Face's layout.

use std::borrow::Cow;
use std::collections::BTreeMap;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{Device, Tensor};

use super::{Entry, Stored, Weights};
use crate::CheckpointError;
use crate::gguf::{GgufFile, Layout, Role, TensorNames};

/// A tensor stored in ggml blocks.
struct Blocks {
    dtype: GgmlDType,
    /// Rows first, as Hugging Face counts; before `layout` is undone.
    shape: Vec<usize>,
    layout: Layout,
}

impl Stored for Blocks {
    fn read(&self, bytes: &[u8], device: &Device) -> candle_core::Result<Tensor> {
        let storage = QStorage::from_data(Cow::Borrowed(bytes), &Device::Cpu, self.dtype)?;
        let values = QTensor::new(storage, self.shape.as_slice())?.dequantize(&Device::Cpu)?;
        self.layout.undo(values)?.to_device(device)
    }
}

impl Weights {
    /// The tensors of an opened file. Tensors that the architecture's table does not name are refused: a part of the
    /// model that nobody reads would make every result silently wrong.
    pub(crate) fn from_gguf(gguf: &GgufFile, names: &TensorNames) -> Result<Self, CheckpointError> {
        let mut entries = BTreeMap::new();
        for tensor in &gguf.tensors {
            let (name, layout) = match names.find(&tensor.name) {
                Some(Role::Weight { name, layout }) => (name, layout),
                Some(Role::Derived) => continue,
                None => {
                    let what = format!("tensor `{}` in architecture \"{}\"", tensor.name, names.architecture());
                    return Err(CheckpointError::Unsupported { file: gguf.path().to_path_buf(), what, known: vec![] });
                }
            };
            let shape = layout.shape(&tensor.shape).ok_or_else(|| {
                let detail = format!("tensor `{}` has the impossible shape {:?}", tensor.name, tensor.shape);
                CheckpointError::malformed(gguf.path(), detail)
            })?;
            let stored = Box::new(Blocks { dtype: tensor.dtype, shape: tensor.shape.clone(), layout });
            entries.insert(name, Entry { file: gguf.file.clone(), bytes: tensor.bytes.clone(), shape, stored });
        }
        Ok(Self { origin: gguf.path().to_path_buf(), entries })
    }
}

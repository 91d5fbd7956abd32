//! Weights of a GGUF file, under Hugging Face's names and in Hugging Face's layout.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use super::{Entry, Part, Stored, Weights};
use crate::CheckpointError;
use crate::gguf::{BlockFormat, GgufFile, GgufTensor, Half, Join, Layout, Part as StoredPart, Role, TensorNames};

/// A tensor, or a run of its rows, stored in ggml blocks.
struct Blocks {
    format: BlockFormat,
    /// Rows first, as Hugging Face counts; before `layout` is undone.
    stored: Vec<usize>,
    /// The same without a first axis that Hugging Face's tensor lacks.
    shape: Vec<usize>,
    layout: Layout,
    bytes: Range<usize>,
    half: Option<Half>,
}

impl Blocks {
    /// The part of a stored tensor; nothing where its shape does not allow it.
    fn new(tensor: &GgufTensor, part: &StoredPart) -> Option<Self> {
        let GgufTensor { shape, format, bytes, .. } = tensor;
        let (rows, rest) = shape.split_first()?;
        let (stored, bytes) = match &part.rows {
            None => (shape.clone(), bytes.clone()),
            // A row is made of whole blocks, unless the tensor is one row alone.
            Some(_) if rest.is_empty() && format.block_size() > 1 => return None,
            Some(taken) => {
                let row = bytes.len() / rows;
                let stored = [&[taken.len()], rest].concat();
                (stored, bytes.start + taken.start * row..bytes.start + taken.end * row)
            }
        };
        let shape = if part.slab { rest.to_vec() } else { stored.clone() };
        Some(Self { format: *format, stored, shape, layout: part.layout, bytes, half: part.half })
    }

    fn read(&self, bytes: &[u8]) -> candle_core::Result<Tensor> {
        self.layout.undo(self.format.numbers(bytes, &self.stored)?.reshape(self.shape.as_slice())?)
    }

    /// The shape that [`Blocks::read`] gives; nothing where there is none.
    fn shape(&self) -> Option<Vec<usize>> {
        self.layout.shape(&self.shape)
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

/// Two tensors that Hugging Face has in one.
struct Halves([Blocks; 2], Join);

impl Halves {
    /// A first and a second half, joined as both say.
    fn new(blocks: Vec<Blocks>) -> Option<Self> {
        let [first, second] = <[Blocks; 2]>::try_from(blocks).ok()?;
        let (Half { place: 0, join }, Half { place: 1, join: same }) = (first.half?, second.half?) else { return None };
        (join == same).then_some(Self([first, second], join))
    }

    fn shape(&self) -> Option<Vec<usize>> {
        let Self([first, second], join) = self;
        join.shape(&first.shape()?, &second.shape()?)
    }
}

impl Stored for Halves {
    fn read(&self, bytes: &[u8], _: &Part, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let Self([first, second], join) = self;
        let (firsts, seconds) = bytes.split_at_checked(first.bytes.len()).unwrap_or((bytes, &[]));
        join.join(&first.read(firsts)?, &second.read(seconds)?)?.to_dtype(dtype)?.to_device(device)
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
        let mut entries = listed(gguf, names)?;
        for (name, mut blocks) in found {
            blocks.sort_by_key(|blocks| blocks.half.map(|half| half.place));
            let ranges = blocks.iter().map(|blocks| blocks.bytes.clone()).collect();
            let (shape, stored): (_, Box<dyn Stored>) = match <[Blocks; 1]>::try_from(blocks) {
                Ok([whole]) if whole.half.is_none() => (whole.shape(), Box::new(whole)),
                Ok([_]) => return Err(malformed(format!("half of `{name}` is missing"))),
                Err(blocks) => {
                    let halves =
                        Halves::new(blocks).ok_or_else(|| malformed(format!("several tensors are `{name}`")))?;
                    (halves.shape(), Box::new(halves))
                }
            };
            let shape =
                shape.ok_or_else(|| malformed(format!("the tensors that make `{name}` have impossible shapes")))?;
            entries.insert(name, Entry { file: gguf.file.clone(), bytes: ranges, shape, stored });
        }
        Ok(Self { origin: gguf.path().to_path_buf(), entries })
    }
}

/// The tensors that are lists of the metadata.
fn listed(gguf: &GgufFile, names: &TensorNames) -> Result<BTreeMap<String, Entry>, CheckpointError> {
    const SIZE: usize = size_of::<f32>();
    let mut entries = BTreeMap::new();
    for (key, tensors, shape) in names.lists() {
        let list = gguf.singles(key).filter(|list| list.len() >= SIZE * tensors.len());
        let list = list.ok_or_else(|| gguf.wrong(key, &format!("a list of {} 32-bit floats", tensors.len())))?;
        for (name, start) in tensors.into_iter().zip(list.step_by(SIZE)) {
            let blocks = Blocks {
                format: BlockFormat::F32,
                stored: vec![1],
                shape: shape.to_vec(),
                layout: Layout::AsIs,
                bytes: start..start + SIZE,
                half: None,
            };
            let bytes = vec![blocks.bytes.clone()];
            let entry = Entry { file: gguf.file.clone(), bytes, shape: shape.to_vec(), stored: Box::new(blocks) };
            entries.insert(name, entry);
        }
    }
    Ok(entries)
}

fn impossible(gguf: &GgufFile, tensor: &GgufTensor) -> CheckpointError {
    let detail = format!("tensor `{}` has the impossible shape {:?}", tensor.name, tensor.shape);
    CheckpointError::malformed(gguf.path(), detail)
}

//! From a GGUF tensor's name to Hugging Face's, and what has to be undone in it.

use candle_core::Tensor;
use serde_json::Value;

use super::architectures::{Architecture, Row};
use crate::{CheckpointError, Config};

/// What llama.cpp's converter does to a tensor, as the tables name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// Adds 1 (Gemma's norms, whose weights are around 0 in Hugging Face's files).
    PlusOne,
    /// Query rows reordered so that rotary pairs are neighbours.
    PairedQueryRows,
    /// The same for keys.
    PairedKeyRows,
    /// A matrix is transposed; a vector stays.
    Transposed,
}

/// A change with the model's numbers in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    AsIs,
    PlusOne,
    Paired { heads: usize },
    Transposed,
}

impl Layout {
    /// The shape after the change is undone; nothing where the stored shape does not allow it.
    pub(crate) fn shape(self, stored: &[usize]) -> Option<Vec<usize>> {
        match self {
            Self::AsIs | Self::PlusOne => Some(stored.to_vec()),
            Self::Transposed => (stored.len() <= 2).then(|| stored.iter().rev().copied().collect()),
            Self::Paired { heads } => {
                let rows = *stored.first()?;
                let pairs = heads.checked_mul(2).filter(|&pairs| pairs > 0)?;
                (stored.len() <= 2 && rows.is_multiple_of(pairs)).then(|| stored.to_vec())
            }
        }
    }

    /// The tensor as Hugging Face has it.
    pub(crate) fn undo(self, tensor: Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::AsIs => Ok(tensor),
            Self::PlusOne => tensor.affine(1.0, -1.0),
            Self::Transposed if tensor.rank() < 2 => Ok(tensor),
            Self::Transposed => tensor.t()?.contiguous(),
            // In the file a head's rows are r0 r(d/2) r1 r(d/2+1) …: [heads, d/2, 2]; in Hugging Face's [heads, 2, d/2].
            Self::Paired { heads } => {
                let (shape, rows) = (tensor.shape().clone(), tensor.dim(0)?);
                let columns = tensor.elem_count() / rows.max(1);
                tensor.reshape((heads, rows / heads / 2, 2, columns))?.transpose(1, 2)?.contiguous()?.reshape(shape)
            }
        }
    }
}

/// What a tensor of the file is to the model.
pub(crate) enum Role {
    /// A weight.
    Weight {
        /// Hugging Face's name.
        name: String,
        /// What to undo.
        layout: Layout,
    },
    /// Numbers that follow from the configuration, which is where they are read.
    Derived,
}

/// The names of one model's tensors.
pub(crate) struct TensorNames {
    architecture: &'static Architecture,
    heads: usize,
    kv_heads: usize,
    layers: usize,
}

impl TensorNames {
    pub(super) fn new(architecture: &'static Architecture, config: &Config) -> Result<Self, CheckpointError> {
        let count = |keys: [&str; 2]| match config.raw().get(keys[0]).and_then(Value::as_u64) {
            Some(_) => config.usize(keys[0]),
            None => config.usize(keys[1]),
        };
        let heads = count(["num_attention_heads", "n_head"])?;
        Ok(Self {
            architecture,
            heads,
            kv_heads: config.usize_or("num_key_value_heads", heads)?,
            layers: count(["num_hidden_layers", "n_layer"])?,
        })
    }

    /// `general.architecture`.
    pub(crate) fn architecture(&self) -> &'static str {
        self.architecture.name
    }

    /// What the tensor of this name is.
    pub(crate) fn find(&self, gguf: &str) -> Option<Role> {
        if gguf == super::rope::FACTORS {
            return Some(Role::Derived);
        }
        let (stem, suffix) = gguf.rsplit_once('.').filter(|(_, suffix)| matches!(*suffix, "weight" | "bias"))?;
        self.architecture.tensors.iter().copied().flatten().find_map(|row| self.match_row(row, stem, suffix))
    }

    fn match_row(&self, row: &Row, stem: &str, suffix: &str) -> Option<Role> {
        let name = match row.gguf.split_once('*') {
            None => (row.gguf == stem).then(|| row.hf.to_owned())?,
            Some((before, after)) => {
                let layer = stem.strip_prefix(before)?.strip_suffix(after)?;
                let known = layer.parse::<usize>().is_ok_and(|layer| layer < self.layers);
                known.then(|| row.hf.replace('*', layer))?
            }
        };
        let layout = match row.change {
            Change::None => Layout::AsIs,
            Change::PlusOne => Layout::PlusOne,
            Change::PairedQueryRows => Layout::Paired { heads: self.heads },
            Change::PairedKeyRows => Layout::Paired { heads: self.kv_heads },
            Change::Transposed => Layout::Transposed,
        };
        Some(Role::Weight { name: format!("{name}.{suffix}"), layout })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn paired_rows_come_apart_head_by_head() {
        // Two heads of 4 rows; Hugging Face's order is 0..8, the file's pairs row i with row i + 2 of its head.
        let stored = Tensor::new(&[0_f32, 2., 1., 3., 4., 6., 5., 7.], &Device::Cpu).unwrap();
        let undone = Layout::Paired { heads: 2 }.undo(stored).unwrap();
        assert_eq!(undone.to_vec1::<f32>().unwrap(), [0., 1., 2., 3., 4., 5., 6., 7.]);
    }

    #[test]
    fn shapes_that_cannot_be_undone_are_nothing() {
        assert_eq!(Layout::Paired { heads: 3 }.shape(&[8, 4]), None);
        assert_eq!(Layout::Paired { heads: 0 }.shape(&[8, 4]), None);
        assert_eq!(Layout::Transposed.shape(&[2, 3]), Some(vec![3, 2]));
        assert_eq!(Layout::Transposed.shape(&[2, 3, 4]), None);
    }
}

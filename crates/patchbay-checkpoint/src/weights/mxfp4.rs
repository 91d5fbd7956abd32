//! MXFP4 (Open Compute Project 2023): blocks of 4-bit floats, two to a byte, with a power of 2 for each block.
//!
//! A projection is stored as two tensors of bytes in the place of one of numbers: `name_blocks`, `[experts, out, G, B]`,
//! and `name_scales`, `[experts, out, G]`. Each byte holds two numbers, the lower half first, so that a row has `2 G B`
//! of them; block `g` is scaled by `2^(scale - 127)`. As transformers does, they become one tensor `[experts, in, out]`.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Device, Tensor, bail};
use safetensors::Dtype;

use super::{Entry, Part, Stored};
use crate::CheckpointError;
use crate::mxfp4::number;

const BLOCKS: &str = "_blocks";
const SCALES: &str = "_scales";

/// The blocks of one projection.
struct Mxfp4 {
    /// `[experts, out, G, B]`.
    shape: [usize; 4],
    blocks: Box<dyn Stored>,
    scales: Entry,
}

impl Stored for Mxfp4 {
    fn read(&self, bytes: &[u8], _: &Part, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let [experts, outputs, groups, size] = self.shape;
        let blocks = self.blocks.read(bytes, &Part::of(&self.shape), DType::F32, &Device::Cpu)?;
        let blocks = unsigned(&*self.blocks, &blocks)?;
        let scales = unsigned(&*self.scales.stored, &self.scales.read(DType::F32, &Device::Cpu)?)?;
        let mut numbers = Vec::with_capacity(2 * blocks.len());
        for (block, scale) in blocks.chunks_exact(size.max(1)).zip(scales) {
            for pair in block {
                numbers.extend([pair & 0xF, pair >> 4].map(|half| number(half, scale)));
            }
        }
        let numbers = Tensor::from_vec(numbers, (experts, outputs, 2 * groups * size), &Device::Cpu)?;
        numbers.transpose(1, 2)?.to_dtype(dtype)?.to_device(device)
    }

    fn has_parts(&self) -> bool {
        false
    }
}

/// A tensor's bytes, where it is stored as unsigned bytes; they were read as floats, which have all of them.
fn unsigned(stored: &dyn Stored, tensor: &Tensor) -> candle_core::Result<Vec<u8>> {
    match stored.dtype() {
        Some(Dtype::U8) => tensor.to_dtype(DType::U8)?.flatten_all()?.to_vec1(),
        other => bail!("MXFP4 is stored as U8, not {other:?}"),
    }
}

/// Puts a projection in the place of each two tensors that stand for one.
///
/// # Errors
/// Where blocks lack their scales, scales their blocks, or the shapes of the two do not fit one another.
pub(super) fn join(entries: &mut BTreeMap<String, Entry>) -> Result<(), CheckpointError> {
    let projection = |name: &String| Some(name.strip_suffix(BLOCKS).or(name.strip_suffix(SCALES))?.to_owned());
    let projections: BTreeSet<String> = entries.keys().filter_map(projection).collect();
    for name in projections {
        match [BLOCKS, SCALES].map(|part| entries.remove(&format!("{name}{part}"))) {
            [Some(blocks), Some(scales)] => super::insert(entries, name.clone(), joined(&name, blocks, scales)?)?,
            [Some(alone), None] => return Err(lonely(&name, &alone, BLOCKS, SCALES)),
            [None, Some(alone)] => return Err(lonely(&name, &alone, SCALES, BLOCKS)),
            [None, None] => {}
        }
    }
    Ok(())
}

fn joined(name: &str, blocks: Entry, scales: Entry) -> Result<Entry, CheckpointError> {
    let inputs = |[_, _, groups, size]: [usize; 4]| groups.checked_mul(size)?.checked_mul(2);
    let fits = |shape: [usize; 4]| scales.shape == shape[..3] && shape.iter().all(|size| *size > 0);
    let shape = <[usize; 4]>::try_from(blocks.shape.as_slice()).ok().filter(|shape| fits(*shape));
    let Some((shape, inputs)) = shape.and_then(|shape| Some((shape, inputs(shape)?))) else {
        let detail = format!(
            "`{name}{BLOCKS}` {:?} and `{name}{SCALES}` {:?} do not fit one another: they must be [experts, out, blocks, \
             bytes] and [experts, out, blocks]",
            blocks.shape, scales.shape
        );
        return Err(CheckpointError::malformed(&blocks.file.0, detail));
    };
    let Entry { file, bytes, stored, .. } = blocks;
    let stored = Box::new(Mxfp4 { shape, blocks: stored, scales });
    Ok(Entry { file, bytes, shape: vec![shape[0], inputs, shape[1]], stored })
}

fn lonely(name: &str, entry: &Entry, there: &str, missing: &str) -> CheckpointError {
    CheckpointError::malformed(&entry.file.0, format!("there is a tensor `{name}{there}` without `{name}{missing}`"))
}

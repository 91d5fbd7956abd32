//! Reading and writing parts of a tensor, block by block.
//!
//! Both are made of operations that candle can differentiate, and nothing is changed in place.

use candle_core::{DType, Device, Result, Tensor};
use patchbay_graph::selection::Blocks;

/// The blocks of `source`, in order, as a tensor of shape `dims`; padding is zero.
pub(crate) fn read(source: &Tensor, blocks: &Blocks, dims: &[usize]) -> Result<Tensor> {
    if blocks.is_identity() {
        return source.reshape(dims);
    }
    if blocks.index.is_empty() {
        return Tensor::zeros(dims, source.dtype(), source.device());
    }
    let mut table = source.reshape((blocks.total, blocks.size))?;
    let mut index = blocks.index.clone();
    if blocks.has_padding() {
        let zeros = Tensor::zeros((1, blocks.size), source.dtype(), source.device())?;
        table = Tensor::cat(&[&table, &zeros], 0)?;
        let zero = blocks.total as u32;
        index.iter_mut().filter(|block| **block == Blocks::PAD).for_each(|block| *block = zero);
    }
    table.contiguous()?.index_select(&tensor(index, source.device())?, 0)?.reshape(dims)
}

/// `target` with these blocks replaced by `part`; where a block is named twice the last one counts.
pub(crate) fn write(target: &Tensor, blocks: &Blocks, part: &Tensor) -> Result<Tensor> {
    if blocks.is_identity() {
        return part.reshape(target.dims());
    }
    let table = target.reshape((blocks.total, blocks.size))?;
    let part = part.reshape((blocks.index.len(), blocks.size))?;
    let mut index: Vec<u32> = (0..blocks.total as u32).collect();
    for (i, block) in blocks.index.iter().enumerate().filter(|(_, block)| **block != Blocks::PAD) {
        index[*block as usize] = (blocks.total + i) as u32;
    }
    Tensor::cat(&[&table, &part], 0)?.index_select(&tensor(index, target.device())?, 0)?.reshape(target.dims())
}

/// Euclidean norm of the difference, in double precision. Equal elements differ by nothing, infinite ones too.
pub(crate) fn distance(before: &Tensor, after: &Tensor) -> Result<f64> {
    let flat = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    let (before, after) = (flat(before)?, flat(after)?);
    let square = |(a, b): (&f32, &f32)| if a == b { 0.0 } else { (f64::from(*a) - f64::from(*b)).powi(2) };
    Ok(before.iter().zip(&after).map(square).sum::<f64>().sqrt())
}

/// Rows of a matrix.
pub(crate) fn rows(matrix: &Tensor, which: &[u32]) -> Result<Tensor> {
    let all = which.len() == matrix.dim(0)? && which.iter().enumerate().all(|(i, row)| i == *row as usize);
    if all { Ok(matrix.clone()) } else { matrix.index_select(&tensor(which.to_vec(), matrix.device())?, 0) }
}

fn tensor(index: Vec<u32>, device: &Device) -> Result<Tensor> {
    let len = index.len();
    Tensor::from_vec(index, len, device)
}

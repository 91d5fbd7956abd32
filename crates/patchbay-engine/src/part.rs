//! Reading and writing parts of a tensor, block by block.

use candle_core::{CpuStorage, DType, Device, InplaceOp2, Layout, Result, Tensor, Var, bail};
use patchbay_graph::selection::Blocks;

/// A site's packed value while steps look at it.
pub(crate) struct Shown {
    value: Tensor,
    /// Whether nobody else holds its memory, so that it can be written in place.
    own: bool,
}

impl Shown {
    pub(crate) fn new(value: &Tensor) -> Result<Self> {
        Ok(Self { value: value.contiguous()?, own: false })
    }

    /// The value to go on with.
    pub(crate) fn into_value(self) -> Tensor {
        self.value
    }

    /// The blocks in order, as a tensor of shape `dims`; padding is zero.
    pub(crate) fn read(&mut self, blocks: &Blocks, dims: &[usize]) -> Result<Tensor> {
        // what is read as it lies shares the memory
        self.own &= !blocks.is_identity();
        read(&self.value, blocks, dims)
    }

    /// Puts a part into these blocks; where a block is named twice the last one counts.
    pub(crate) fn write(&mut self, blocks: &Blocks, part: &Tensor) -> Result<()> {
        let plain = self.value.device().is_cpu() && self.value.dtype() == DType::F32;
        let tracked = self.value.track_op() || part.track_op();
        if !plain || tracked || blocks.is_identity() {
            (self.value, self.own) = (write(&self.value, blocks, part)?, false);
            return Ok(());
        }
        if !self.own {
            (self.value, self.own) = (self.value.copy()?, true);
        }
        self.value.inplace_op2(&part.contiguous()?, &Scatter(blocks))
    }

    /// Adds a variable that is zero.
    pub(crate) fn vary(&mut self) -> Result<Var> {
        let variable = Var::zeros(self.value.dims(), self.value.dtype(), self.value.device())?;
        (self.value, self.own) = ((&self.value + variable.as_tensor())?, false);
        Ok(variable)
    }
}

/// Puts blocks into a matrix of float32 that nobody else holds.
struct Scatter<'a>(&'a Blocks);

impl InplaceOp2 for Scatter<'_> {
    fn name(&self) -> &'static str {
        "scatter-blocks"
    }

    fn cpu_fwd(&self, into: &mut CpuStorage, at: &Layout, from: &CpuStorage, of: &Layout) -> Result<()> {
        let (CpuStorage::F32(into), CpuStorage::F32(from)) = (into, from) else {
            bail!("blocks of float32 go into float32 alone");
        };
        let (Some((start, end)), Some((first, last))) = (at.contiguous_offsets(), of.contiguous_offsets()) else {
            bail!("blocks go from contiguous memory to contiguous memory");
        };
        let (into, from, size) = (&mut into[start..end], &from[first..last], self.0.size);
        let parts = from.chunks_exact(size.max(1));
        for (block, part) in self.0.index.iter().zip(parts).filter(|(block, _)| **block != Blocks::PAD) {
            into[*block as usize * size..][..size].copy_from_slice(part);
        }
        Ok(())
    }
}

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
fn write(target: &Tensor, blocks: &Blocks, part: &Tensor) -> Result<Tensor> {
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

/// Euclidean norm of the difference of two parts that were read from these blocks, in double precision; padding does not count.
/// Equal elements differ by nothing, infinite ones too.
pub(crate) fn distance(before: &Tensor, after: &Tensor, blocks: &Blocks) -> Result<f64> {
    let flat = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    let (before, after) = (flat(before)?, flat(after)?);
    let square = |(a, b): (&f32, &f32)| if a == b { 0.0 } else { (f64::from(*a) - f64::from(*b)).powi(2) };
    let size = blocks.size.max(1);
    let parts = before.chunks_exact(size).zip(after.chunks_exact(size)).zip(&blocks.index);
    let there = parts.filter(|(_, block)| **block != Blocks::PAD);
    let squares = there.flat_map(|((before, after), _)| before.iter().zip(after)).map(square);
    Ok(squares.sum::<f64>().sqrt())
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

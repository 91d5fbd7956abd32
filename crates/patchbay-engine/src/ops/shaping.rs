//! Elements laid out anew.

use candle_core::{Result, Tensor};
use patchbay_graph::ops::Op;

use super::{Call, host};

impl Call<'_> {
    fn x(&self) -> &Tensor {
        &self.input(0).tensor
    }

    /// Axes that are listed one by one.
    fn listed(&self, name: &str) -> Result<Vec<usize>> {
        let axes = self.attrs.ints(name).unwrap_or(&[]).iter().map(|axis| self.input(0).shape.axis(*axis));
        axes.collect::<std::result::Result<_, _>>().map_err(candle_core::Error::wrap)
    }

    pub(super) fn transpose(&self) -> Result<Tensor> {
        let shape = self.input(0).shape;
        let axis = |name: &str| self.attrs.axis_or(name, shape, 0).map_err(candle_core::Error::wrap);
        match (axis("dim0")?, axis("dim1")?) {
            (Some(a), Some(b)) => self.x().transpose(a, b),
            _ => Ok(self.x().clone()),
        }
    }

    pub(super) fn permute(&self) -> Result<Tensor> {
        self.x().permute(self.listed("dims")?)
    }

    pub(super) fn repeat(&self) -> Result<Tensor> {
        let times: Vec<usize> = self.attrs.ints("repeats").unwrap_or(&[]).iter().map(|n| *n as usize).collect();
        // each axis becomes two, the first of which is expanded
        let new = times.len() - self.x().rank();
        let mut split = Vec::with_capacity(2 * times.len());
        let mut full = Vec::with_capacity(2 * times.len());
        for (axis, times) in times.iter().enumerate() {
            let size = axis.checked_sub(new).map_or(1, |axis| self.x().dims()[axis]);
            if *times > 1 {
                split.push(1);
                full.push(*times);
            }
            split.push(size);
            full.push(size);
        }
        self.x().reshape(split)?.broadcast_as(full)?.reshape(self.shape.dims.as_slice())
    }

    pub(super) fn flip(&self) -> Result<Tensor> {
        self.x().contiguous()?.flip(&self.listed("dims")?)
    }

    /// Every argument, in the type of the result.
    fn parts(&self) -> Result<Vec<Tensor>> {
        let part = |tensor: &Tensor| match self.dtype.is_float() {
            true => tensor.to_dtype(crate::values::candle_dtype(self.dtype)),
            false => host::of_ints(host::ints(tensor)?, tensor.dims(), self.dtype, self.device),
        };
        self.inputs.iter().map(|input| part(&input.tensor)?.contiguous()).collect()
    }

    pub(super) fn cat(&self) -> Result<Tensor> {
        let axis = self.axis(self.shape, 0)?.unwrap_or(0);
        let mut parts = self.parts()?;
        parts.retain(|part| part.elem_count() > 0);
        Tensor::cat(&parts, axis)
    }

    pub(super) fn stack(&self) -> Result<Tensor> {
        let axis = self.attrs.int("dim").unwrap_or(0);
        let rank = self.shape.rank() as i64;
        Tensor::stack(&self.parts()?, (if axis < 0 { axis + rank } else { axis }) as usize)
    }

    pub(super) fn split(&self) -> Result<Tensor> {
        let axis = self.axis(self.input(0).shape, 0)?.unwrap_or(0);
        let start = match self.attrs.get("split_size_or_sections") {
            Some(patchbay_graph::ops::Attr::Int(each)) => *each as usize * self.out,
            _ => {
                let sections = self.attrs.ints("split_size_or_sections").unwrap_or(&[]);
                sections[..self.out].iter().sum::<i64>() as usize
            }
        };
        self.x().narrow(axis, start, self.shape.dims[axis])
    }

    /// `tril` and `triu`.
    pub(super) fn triangle(&self) -> Result<Tensor> {
        let dims = self.x().dims();
        let (rows, columns) = (dims[dims.len() - 2], dims[dims.len() - 1]);
        let diagonal = self.attrs.int("diagonal").unwrap_or(0);
        let lower = self.spec.op == Op::Tril;
        let kept = |row: usize, column: usize| {
            let above = column as i64 - row as i64;
            if lower { above <= diagonal } else { above >= diagonal }
        };
        let mask: Vec<u8> =
            (0..rows).flat_map(|row| (0..columns).map(move |column| u8::from(kept(row, column)))).collect();
        let mask = Tensor::from_vec(mask, (rows, columns), self.device)?.broadcast_as(dims)?;
        mask.where_cond(self.x(), &self.x().zeros_like()?)
    }
}

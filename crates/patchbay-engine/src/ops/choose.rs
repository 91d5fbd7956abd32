//! Comparisons, logic, and choices.

use candle_core::{DType, Result, Tensor};
use patchbay_graph::ops::Op;

use super::{Call, broadcast, host};
use crate::values::candle_dtype;

impl Call<'_> {
    /// 1 where the comparison holds between both in the type that they have together.
    pub(super) fn compare(&self) -> Result<Tensor> {
        let args = self.arguments();
        let (dtype, dims) = (self.given(&args).promoted(), self.shape.dims.as_slice());
        let arg = |number: usize| {
            let tensor = self.input(number).tensor.detach();
            let tensor = match dtype.is_float() {
                true => tensor.to_dtype(candle_dtype(dtype))?,
                false => host::of_ints(host::ints(&tensor)?, tensor.dims(), dtype, self.device)?,
            };
            tensor.broadcast_as(dims)
        };
        let (a, b) = (arg(0)?, arg(1)?);
        match self.spec.op {
            Op::Eq => a.eq(&b),
            Op::Ne => a.ne(&b),
            Op::Lt => a.lt(&b),
            Op::Le => a.le(&b),
            Op::Gt => a.gt(&b),
            _ => a.ge(&b),
        }
    }

    pub(super) fn logic(&self) -> Result<Tensor> {
        let truth = |number: usize| truth(&self.input(number).tensor.detach());
        match self.spec.op {
            Op::LogicalNot => truth(0)?.eq(0u8),
            Op::LogicalAnd => truth(0)?.broadcast_mul(&truth(1)?),
            _ => truth(0)?.broadcast_maximum(&truth(1)?),
        }
    }

    /// `where` and `masked_fill`.
    pub(super) fn choose(&self) -> Result<Tensor> {
        let dims = self.shape.dims.as_slice();
        let (condition, yes, no) = match self.spec.op {
            Op::Where => ("condition", "input", "other"),
            _ => ("mask", "value", "input"),
        };
        // a plain `true` comes as a number in full precision
        let condition = self.need(condition)?.tensor.to_dtype(DType::U8)?.broadcast_as(dims)?;
        let branch = |name: &str| self.branch(&self.need(name)?.tensor, dims);
        condition.where_cond(&branch(yes)?, &branch(no)?)
    }

    fn branch(&self, tensor: &Tensor, dims: &[usize]) -> Result<Tensor> {
        match self.dtype.is_float() {
            true => broadcast(&tensor.to_dtype(self.work())?, dims),
            false => host::of_ints(host::ints(tensor)?, tensor.dims(), self.dtype, self.device)?.broadcast_as(dims),
        }
    }

    /// `input` held between `min` and `max`; where they contradict each other `max` counts. The gradient of what is held, and of
    /// what just touches a bound, goes to the bound.
    pub(super) fn clamp(&self) -> Result<Tensor> {
        let dims = self.shape.dims.as_slice();
        let bound = |name: &str| self.find(name).map(|input| self.branch(&input.tensor, dims)).transpose();
        let mut x = self.branch(&self.input(0).tensor, dims)?;
        if let Some(min) = bound("min")? {
            x = held(min.detach().ge(&x.detach())?, &min)?.where_cond(&min, &x)?;
        }
        if let Some(max) = bound("max")? {
            x = held(max.detach().le(&x.detach())?, &max)?.where_cond(&max, &x)?;
        }
        // what is no number has no slope
        x.detach().ne(&x.detach())?.where_cond(&x.detach(), &x)
    }
}

/// 1 where a bound holds, or is no number.
fn held(holds: Tensor, bound: &Tensor) -> Result<Tensor> {
    let bound = bound.detach();
    holds.maximum(&bound.ne(&bound)?)
}

/// 1 where an element is not 0.
pub(super) fn truth(tensor: &Tensor) -> Result<Tensor> {
    tensor.ne(&tensor.zeros_like()?)
}

//! Tensor operations on candle, one arm each, made of operations that candle can differentiate.

use candle_core::{DType, Result, Tensor};
use candle_nn::ops::{sigmoid, silu, softmax};
use patchbay_graph::Shape;
use patchbay_graph::ops::{Attr, Op, OpSpec, axes};
use patchbay_graph::plan::Value;

use crate::ragged;
use crate::values::candle_dtype;

/// One operation with its arguments.
pub(crate) struct Call<'a> {
    pub(crate) spec: &'static OpSpec,
    pub(crate) attrs: &'a [(&'static str, Attr)],
    /// The arguments, with their shapes and types.
    pub(crate) args: Vec<(&'a Value, Tensor)>,
    /// What the plan says of the result.
    pub(crate) out: &'a Value,
}

impl Call<'_> {
    /// Runs the operation. Padding stays zero.
    pub(crate) fn run(&self) -> Result<Tensor> {
        let dtype = candle_dtype(self.out.dtype);
        let result = match self.spec.op {
            Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Pow | Op::Maximum | Op::Minimum => self.binary(dtype)?,
            Op::Sum => self.sum(dtype)?,
            Op::Mean => self.mean(dtype)?,
            Op::Softmax => self.softmax(dtype)?,
            _ => self.unary(dtype)?,
        };
        ragged::fill_padding(&result, &self.out.shape, 0.0)
    }

    fn attr(&self, name: &str) -> Option<&Attr> {
        self.attrs.iter().find(|(n, _)| *n == name).map(|(_, attr)| attr)
    }

    fn number(&self, name: &str) -> Option<f64> {
        match self.attr(name) {
            Some(Attr::Number(number)) => Some(*number),
            _ => None,
        }
    }

    fn word(&self, name: &str) -> Option<&str> {
        match self.attr(name) {
            Some(Attr::Word(word)) => Some(word),
            _ => None,
        }
    }

    fn arg(&self, i: usize, dtype: DType) -> Result<Tensor> {
        self.args[i].1.to_dtype(dtype)
    }

    fn shape(&self) -> &Shape {
        &self.args[0].0.shape
    }

    fn binary(&self, dtype: DType) -> Result<Tensor> {
        let (a, b) = (self.arg(0, dtype)?, self.arg(1, dtype)?);
        let scaled = |b: Tensor| match self.number("alpha") {
            None => Ok(b),
            Some(alpha) => b.to_dtype(DType::F64)?.affine(alpha, 0.0)?.to_dtype(dtype),
        };
        match self.spec.op {
            Op::Add => a.broadcast_add(&scaled(b)?),
            Op::Sub => a.broadcast_sub(&scaled(b)?),
            Op::Mul => a.broadcast_mul(&b),
            Op::Div => {
                let quotient = a.broadcast_div(&b)?;
                match self.word("rounding_mode") {
                    Some("floor") => quotient.floor(),
                    Some(_) => quotient.sign()?.mul(&quotient.abs()?.floor()?),
                    None => Ok(quotient),
                }
            }
            Op::Maximum => a.broadcast_maximum(&b),
            Op::Minimum => a.broadcast_minimum(&b),
            _ => pow(&a, &b),
        }
    }

    /// Candle has no such functions of integers; they are exact in double precision up to 2^53.
    fn unary(&self, dtype: DType) -> Result<Tensor> {
        let x = self.arg(0, if dtype.is_float() { dtype } else { DType::F64 })?;
        let y = match self.spec.op {
            Op::Neg => x.neg(),
            Op::Abs => x.abs(),
            Op::Sqrt => x.sqrt(),
            Op::Rsqrt => x.sqrt()?.recip(),
            Op::Exp => x.exp(),
            Op::Log => x.log(),
            Op::Sin => x.sin(),
            Op::Cos => x.cos(),
            Op::Tanh => x.tanh(),
            Op::Sigmoid => sigmoid(&x),
            Op::Relu => x.relu(),
            Op::Gelu if self.word("approximate") == Some("tanh") => x.gelu(),
            Op::Gelu => x.gelu_erf(),
            Op::Silu => silu(&x),
            Op::Floor => x.floor(),
            Op::Round => round_half_even(&x),
            Op::Sign => x.sign(),
            _ => {
                let (low, high) = (self.number("min"), self.number("max"));
                x.clamp(low.unwrap_or(f64::NEG_INFINITY), high.unwrap_or(f64::INFINITY))
            }
        }?;
        y.to_dtype(dtype)
    }

    /// The axes worked along, and whether they stay with size 1.
    fn reduction(&self) -> Result<(Vec<usize>, bool)> {
        let axes = axes(self.attr("dim"), self.shape()).map_err(candle_core::Error::wrap)?;
        Ok((axes, self.attr("keepdim") == Some(&Attr::Flag(true))))
    }

    fn sum(&self, dtype: DType) -> Result<Tensor> {
        let (axes, keep) = self.reduction()?;
        sum(&self.arg(0, dtype)?, axes, keep)
    }

    fn mean(&self, dtype: DType) -> Result<Tensor> {
        let (axes, keep) = self.reduction()?;
        let x = self.arg(0, dtype)?;
        let total = sum(&x, axes.clone(), keep)?;
        let there = ragged::mask(self.shape(), x.device())?;
        match there {
            None => {
                let count: usize = axes.iter().map(|axis| self.shape().dims[*axis]).product();
                total.affine(1.0 / count as f64, 0.0)
            }
            Some(mask) => {
                let count = sum(&mask.broadcast_as(x.dims())?.to_dtype(dtype)?, axes, keep)?;
                total.div(&count)
            }
        }
    }

    fn softmax(&self, dtype: DType) -> Result<Tensor> {
        let shape = self.shape();
        let axis = match self.attr("dim") {
            Some(Attr::Axes(axes)) if axes.len() == 1 => shape.axis(axes[0]).map_err(candle_core::Error::wrap)?,
            _ => candle_core::bail!("softmax works along one axis"),
        };
        let x = self.arg(0, dtype)?;
        match shape.is_ragged(axis) {
            true => softmax(&ragged::fill_padding(&x, shape, f64::NEG_INFINITY)?, axis),
            false => softmax(&x, axis),
        }
    }
}

fn sum(x: &Tensor, axes: Vec<usize>, keep: bool) -> Result<Tensor> {
    if axes.is_empty() {
        return Ok(x.clone());
    }
    if keep { x.sum_keepdim(axes) } else { x.sum(axes) }
}

/// Nearest whole number; halves go to the even one, as IEEE 754 and PyTorch round.
fn round_half_even(x: &Tensor) -> Result<Tensor> {
    let nearest = x.round()?;
    let half = (x - x.floor()?)?.eq(0.5)?;
    let even = x.affine(0.5, 0.0)?.round()?.affine(2.0, 0.0)?;
    half.where_cond(&even, &nearest)
}

/// `a` to the power of `b`, negative bases included.
fn pow(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !a.dtype().is_float() {
        return pow(&a.to_dtype(DType::F64)?, &b.to_dtype(DType::F64)?)?.round()?.to_dtype(a.dtype());
    }
    if b.elem_count() == 1 {
        let exponent = b.flatten_all()?.get(0)?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        let dims = a.broadcast_mul(b)?.dims().to_vec();
        return a.powf(exponent)?.broadcast_as(dims)?.contiguous();
    }
    let dims = a.broadcast_mul(b)?.dims().to_vec();
    let (a, b) = (a.broadcast_as(dims.as_slice())?, b.broadcast_as(dims.as_slice())?);
    let size = a.abs()?.log()?.mul(&b)?.exp()?;
    let whole = b.eq(&b.floor()?)?;
    let half = b.affine(0.5, 0.0)?;
    let odd = half.ne(&half.floor()?)?;
    let (one, nan) = (b.ones_like()?, b.affine(0.0, f64::NAN)?);
    let sign = whole.where_cond(&odd.where_cond(&one.neg()?, &one)?, &nan)?;
    let sign = a.lt(0.0)?.where_cond(&sign, &one)?;
    b.eq(0.0)?.where_cond(&one, &size.mul(&sign)?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn tensor(data: &[f32]) -> Tensor {
        Tensor::new(data, &Device::Cpu).unwrap()
    }

    #[test]
    fn rounds_halves_to_even() {
        let x = tensor(&[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.4, 1.6]);
        let rounded = round_half_even(&x).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(rounded, [-2.0, -2.0, 0.0, 0.0, 2.0, 2.0, 0.0, 2.0]);
    }

    #[test]
    fn raises_negative_bases() {
        let (a, b) = (tensor(&[-2.0, -2.0, 0.0, 2.0, 0.0, -1.0]), tensor(&[3.0, 2.0, 0.0, -1.0, 2.0, 0.5]));
        let raised = pow(&a, &b).unwrap().to_vec1::<f32>().unwrap();
        for (found, expected) in raised.iter().zip([-8.0, 4.0, 1.0, 0.5, 0.0]) {
            assert!((found - expected).abs() < 1e-5, "{raised:?}");
        }
        assert!(raised[5].is_nan());
    }
}

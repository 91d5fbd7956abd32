//! Folds over axes, and what runs along one.
//!
//! Everything is folded with the axes kept at size 1, and takes its planned shape at the end.

use candle_core::{DType, Result, Tensor};
use patchbay_graph::ops::{LONG_SUM, Op};

use super::Call;
use super::host::{self, Lanes};
use crate::ragged;
use patchbay_model::derive::derived;

/// A fold at work: the argument with its padding set to what does not count, and the axes.
struct Fold {
    x: Tensor,
    axes: Vec<usize>,
    /// Sizes with the axes kept at 1.
    kept: Vec<usize>,
}

impl Call<'_> {
    fn fold(&self, filler: f64) -> Result<Fold> {
        let axes = self.axes()?;
        let mut kept = self.input(0).shape.dims.clone();
        axes.iter().for_each(|axis| kept[*axis] = 1);
        Ok(Fold { x: self.filled_with(&axes, filler)?, axes, kept })
    }

    /// The argument as floats; where rows differ in length along one of the axes, with `filler` in the padding.
    fn filled_with(&self, axes: &[usize], filler: f64) -> Result<Tensor> {
        let (x, shape) = (self.float(0)?, self.input(0).shape);
        match filler != 0.0 && axes.iter().any(|axis| shape.is_ragged(*axis)) {
            true => ragged::fill_padding(&x, shape, filler),
            false => Ok(x),
        }
    }

    fn planned(&self, folded: Tensor) -> Result<Tensor> {
        folded.reshape(self.shape.dims.as_slice())
    }

    /// A constant in place of what is folded out of no elements.
    fn constant(&self, value: f64) -> Result<Tensor> {
        Tensor::full(value, self.shape.dims.as_slice(), self.device)
    }

    fn is_empty(&self) -> bool {
        self.input(0).shape.elements() == Some(0)
    }

    pub(super) fn sum(&self) -> Result<Tensor> {
        if self.is_empty() {
            return self.constant(0.0);
        }
        if !self.dtype.is_float() {
            return self.whole_fold(0, i64::wrapping_add);
        }
        let Fold { x, axes, .. } = self.fold(0.0)?;
        self.planned(sum(&x, &axes)?)
    }

    /// Of whole numbers, over all axes that are folded.
    fn whole_fold(&self, start: i64, add: fn(i64, i64) -> i64) -> Result<Tensor> {
        let (input, axes) = (self.input(0), self.axes()?);
        let there = ragged::mask(input.shape, self.device)?;
        let mut data = host::ints(&input.tensor)?;
        if let Some(mask) = there {
            let mask = host::ints(&mask.broadcast_as(input.shape.dims.as_slice())?)?;
            data.iter_mut().zip(mask).filter(|(_, there)| *there == 0).for_each(|(x, _)| *x = start);
        }
        let mut dims = input.shape.dims.clone();
        for axis in axes {
            let lanes = Lanes::new(&dims, Some(axis));
            let fold = |(_, first)| (0..lanes.size).map(|a| data[first + a * lanes.inner]).fold(start, add);
            data = lanes.each().map(fold).collect();
            dims[axis] = 1;
        }
        host::of_ints(data, &self.shape.dims, self.dtype, self.device)
    }

    /// Real elements behind each element of a fold.
    fn counts(&self, fold: &Fold) -> Result<Tensor> {
        let shape = self.input(0).shape;
        let Some(mask) = ragged::mask(shape, self.device)? else {
            let count: usize = fold.axes.iter().map(|axis| shape.dims[*axis]).product();
            return Tensor::full(count as f64, (), self.device)?.to_dtype(fold.x.dtype());
        };
        // axes that the mask leaves at size 1 count as they are
        let alike = |axis: &&usize| mask.dims()[**axis] == 1;
        let times: usize = fold.axes.iter().filter(alike).map(|axis| shape.dims[*axis]).product();
        let real = sum(&mask.to_dtype(DType::F64)?, &fold.axes)?;
        real.affine(times as f64, 0.0)?.to_dtype(fold.x.dtype())
    }

    pub(super) fn mean(&self) -> Result<Tensor> {
        if self.is_empty() {
            return self.constant(f64::NAN);
        }
        let fold = self.fold(0.0)?;
        let total = sum(&fold.x, &fold.axes)?;
        self.planned(total.broadcast_div(&self.counts(&fold)?)?)
    }

    /// `var` and `std`.
    pub(super) fn spread(&self) -> Result<Tensor> {
        if self.is_empty() {
            return self.constant(f64::NAN);
        }
        let fold = self.fold(0.0)?;
        let counts = self.counts(&fold)?;
        // more is taken from the count than there is: PyTorch divides by 0, and its slope by what is left
        let left = (&counts - self.attrs.correction())?;
        let free = left.lt(0.0)?.where_cond(&left.zeros_like()?, &left)?;
        let x = fold.x.detach();
        let mean = sum(&x, &fold.axes)?.broadcast_div(&counts)?;
        let apart = ragged::fill_padding(&x.broadcast_sub(&mean)?, self.input(0).shape, 0.0)?;
        let var = sum(&apart.sqr()?, &fold.axes)?.broadcast_div(&free)?;
        if self.spec.op == Op::Var {
            let slope = apart.affine(2.0, 0.0)?.broadcast_div(&left)?;
            return self.planned(derived(&fold.x, var, move |_, _, g| slope.broadcast_mul(g))?);
        }
        let slope = apart.broadcast_div(&left)?;
        self.planned(derived(&fold.x, var.sqrt()?, move |_, std, g| {
            let share = std.eq(0.0)?.where_cond(&g.zeros_like()?, &(g / std)?)?;
            slope.broadcast_mul(&share)
        })?)
    }

    pub(super) fn norm(&self) -> Result<Tensor> {
        let p = self.attrs.number("p").unwrap_or(2.0);
        if self.is_empty() {
            return self.constant(0.0);
        }
        let Fold { x, axes, .. } = self.fold(if p < 0.0 { f64::INFINITY } else { 0.0 })?;
        let size = x.detach().abs()?;
        let norm = match p {
            0.0 => sum(&size.ne(0.0)?.to_dtype(size.dtype())?, &axes)?,
            1.0 => sum(&size, &axes)?,
            2.0 => sum(&size.sqr()?, &axes)?.sqrt()?,
            f64::INFINITY => largest(&size, &axes)?,
            f64::NEG_INFINITY => largest(&size.neg()?, &axes)?.neg()?,
            p => sum(&size.powf(p)?, &axes)?.powf(1.0 / p)?,
        };
        self.planned(derived(&x, norm, move |x, norm, g| norm_slope(x, norm, g, p, &axes))?)
    }

    pub(super) fn prod(&self) -> Result<Tensor> {
        if self.is_empty() {
            return self.constant(1.0);
        }
        if !self.dtype.is_float() {
            return self.whole_fold(1, i64::wrapping_mul);
        }
        let Fold { x, axes, kept } = self.fold(1.0)?;
        let dims = x.dims().to_vec();
        let lanes = if axes.len() == 1 { Lanes::new(&dims, Some(axes[0])) } else { flat(&dims) };
        let data = host::floats(&x.detach())?;
        let product = |(_, first)| (0..lanes.size).map(|a| data[first + a * lanes.inner]).product();
        let result = host::of_floats(lanes.each().map(product).collect(), &kept, &x)?;
        self.planned(derived(&x, result, move |x, _, g| {
            let (data, g) = (host::floats(x)?, host::floats(g)?);
            host::of_floats(others(&data, lanes, |lane| g[lane]), &dims, x)
        })?)
    }

    pub(super) fn cumsum(&self) -> Result<Tensor> {
        let input = self.input(0);
        let axis = self.axis(input.shape, -1)?;
        let lanes = Lanes::new(&input.shape.dims, axis);
        if !self.dtype.is_float() {
            let mut data = host::ints(&input.tensor)?;
            for (_, first) in lanes.each() {
                (1..lanes.size).for_each(|a| {
                    let at = first + a * lanes.inner;
                    data[at] = data[at].wrapping_add(data[at - lanes.inner]);
                });
            }
            return host::of_ints(data, &self.shape.dims, self.dtype, self.device);
        }
        let x = self.float(0)?;
        let result = running_sums(&x.detach(), lanes, false)?;
        derived(&x, result, move |_, _, g| running_sums(g, lanes, true))
    }

    pub(super) fn softmax(&self) -> Result<Tensor> {
        let Some(axis) = self.axis(self.input(0).shape, -1)? else { return self.lone(1.0) };
        let x = self.filled_with(&[axis], f64::NEG_INFINITY)?;
        let result = patchbay_model::kernels::softmax(&x, axis)?;
        derived(&x, result, move |_, y, g| {
            let mean = (g * y)?.sum_keepdim(axis)?;
            y * g.broadcast_sub(&mean)?
        })
    }

    pub(super) fn log_softmax(&self) -> Result<Tensor> {
        let Some(axis) = self.axis(self.input(0).shape, -1)? else { return self.lone(0.0) };
        log_softmax(&self.filled_with(&[axis], f64::NEG_INFINITY)?, axis)
    }

    /// A function of a single number that is the same for all of them, NaN excepted.
    fn lone(&self, value: f64) -> Result<Tensor> {
        let x = self.float(0)?;
        (&x - &x.detach())?.affine(0.0, value)
    }

    pub(super) fn logsumexp(&self) -> Result<Tensor> {
        if self.is_empty() {
            return self.constant(f64::NEG_INFINITY);
        }
        let Fold { x, axes, .. } = self.fold(f64::NEG_INFINITY)?;
        let d = x.detach();
        let top = largest(&d, &axes)?;
        let top = top.abs()?.eq(f64::INFINITY)?.where_cond(&top.zeros_like()?, &top)?;
        let result = (sum(&d.broadcast_sub(&top)?.exp()?, &axes)?.log()? + top)?;
        self.planned(derived(&x, result, |x, y, g| x.broadcast_sub(y)?.exp()?.broadcast_mul(g))?)
    }
}

/// Sum over axes, which stay with size 1.
pub(super) fn sum(x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    if axes.is_empty() {
        return Ok(x.clone());
    }
    let count: usize = axes.iter().map(|axis| x.dims()[*axis]).product();
    match count > LONG_SUM && x.dtype() == DType::F32 {
        true => x.to_dtype(DType::F64)?.sum_keepdim(axes)?.to_dtype(DType::F32),
        false => x.sum_keepdim(axes),
    }
}

/// The largest over axes, which stay with size 1; NaN where there is one. Without a gradient.
fn largest(x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let top = axes.iter().try_fold(x.clone(), |x, axis| x.contiguous()?.max_keepdim(*axis))?;
    // candle's maximum passes over NaN
    let odd = sum(&x.ne(x)?.to_dtype(x.dtype())?, axes)?.gt(0.0)?;
    odd.where_cond(&top.affine(0.0, f64::NAN)?, &top)
}

/// Logarithm of the softmax along an axis.
pub(super) fn log_softmax(x: &Tensor, axis: usize) -> Result<Tensor> {
    let d = x.detach();
    let below = d.broadcast_sub(&d.contiguous()?.max_keepdim(axis)?)?;
    let result = below.broadcast_sub(&below.exp()?.sum_keepdim(axis)?.log()?)?;
    derived(x, result, move |_, y, g| g - y.exp()?.broadcast_mul(&g.sum_keepdim(axis)?)?)
}

/// Gradient of a norm, as PyTorch has it (`norm_backward`): 0 where the norm is.
fn norm_slope(x: &Tensor, norm: &Tensor, g: &Tensor, p: f64, axes: &[usize]) -> Result<Tensor> {
    let zero = x.zeros_like()?;
    let none = |found: &Tensor, at: &Tensor| at.eq(0.0)?.where_cond(&found.zeros_like()?, found);
    match p {
        0.0 => Ok(zero),
        1.0 => x.sign()?.broadcast_mul(g),
        2.0 => x.broadcast_mul(&none(&(g / norm)?, norm)?),
        p if p.is_infinite() => {
            let all = norm.broadcast_as(x.dims())?;
            let equal = x.abs()?.eq(&all)?.maximum(&(x.ne(x)? * all.ne(&all)?)?)?.to_dtype(x.dtype())?;
            let share = (g / sum(&equal, axes)?)?;
            (x.sign()? * equal)?.broadcast_mul(&share)
        }
        p if p < 2.0 => {
            let slope = (x.sign()? * none(&x.abs()?.powf(p - 1.0)?, x)?)?;
            let share = (g / norm.powf(p - 1.0)?)?;
            slope.broadcast_mul(&if p < 1.0 { share } else { none(&share, norm)? })
        }
        p => (x * x.abs()?.powf(p - 2.0)?)?.broadcast_mul(&none(&(g / norm.powf(p - 1.0)?)?, norm)?),
    }
}

/// All elements as one lane.
fn flat(dims: &[usize]) -> Lanes {
    Lanes { outer: 1, size: dims.iter().product(), inner: 1 }
}

/// For every element the product of the others of its lane, times the lane's factor.
fn others(data: &[f64], lanes: Lanes, factor: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut out = vec![0.0; data.len()];
    for (lane, first) in lanes.each() {
        let at = |a: usize| first + a * lanes.inner;
        let mut before = factor(lane);
        for a in 0..lanes.size {
            out[at(a)] = before;
            before *= data[at(a)];
        }
        let mut after = 1.0;
        for a in (0..lanes.size).rev() {
            out[at(a)] *= after;
            after *= data[at(a)];
        }
    }
    out
}

/// For every element the sum of those of its lane up to it, or from it on.
fn running_sums(x: &Tensor, lanes: Lanes, backwards: bool) -> Result<Tensor> {
    let mut data = host::floats(x)?;
    for (_, first) in lanes.each() {
        let mut total = 0.0;
        for a in 0..lanes.size {
            let at = first + lanes.inner * if backwards { lanes.size - 1 - a } else { a };
            total += data[at];
            data[at] = total;
        }
    }
    host::of_floats(data, x.dims(), x)
}

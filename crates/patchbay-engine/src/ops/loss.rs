//! How far values are from each other.

use candle_core::{DType, Result, Tensor};
use patchbay_graph::Code;
use patchbay_graph::ops::ClassAxis;

use super::reduce::{log_softmax, sum};
use super::refused::refused;
use super::{Call, host};
use crate::ragged;
use patchbay_model::derive::derived;

impl Call<'_> {
    /// x1 / max(‖x1‖, eps) · x2 / max(‖x2‖, eps); the slope of the bound is that of the norm, as in PyTorch.
    pub(super) fn cosine_similarity(&self) -> Result<Tensor> {
        let eps = self.attrs.number("eps").unwrap_or(1e-8);
        let shape = self.input(0).shape.broadcast(self.input(1).shape).map_err(candle_core::Error::wrap)?;
        let axes: Vec<usize> = self.axis(&shape, 1)?.into_iter().collect();
        let direction = |number: usize| {
            let x = self.broadcast(number, &shape.dims)?;
            let norm = length(&x, &axes)?;
            let d = norm.detach();
            let bounded = (&norm + (d.lt(eps)?.where_cond(&d.affine(0.0, eps)?, &d)? - &d)?)?;
            x.broadcast_div(&bounded)
        };
        sum(&(direction(0)? * direction(1)?)?, &axes)?.reshape(self.shape.dims.as_slice())
    }

    pub(super) fn cross_entropy(&self) -> Result<Tensor> {
        let (input, target) = (self.need("input")?, self.need("target")?);
        let classes = ClassAxis::of(input.shape, target.shape, target.dtype).map_err(candle_core::Error::wrap)?;
        if input.shape.elements() == Some(0) {
            let nothing = if self.attrs.word("reduction") == Some("sum") { 0.0 } else { f64::NAN };
            return Tensor::full(nothing, self.shape.dims.as_slice(), self.device);
        }
        let log_probs = log_softmax(&self.float(0)?, classes.axis)?;
        let weight = match self.find("weight") {
            None => None,
            Some(weight) => {
                let mut dims = vec![1; input.shape.rank()];
                dims[classes.axis] = input.shape.dims[classes.axis];
                Some(weight.tensor.to_dtype(self.work())?.reshape(dims)?.broadcast_as(log_probs.dims())?)
            }
        };
        match classes.probabilities {
            true => self.of_probabilities(&log_probs, &target.tensor, weight.as_ref(), classes.axis),
            false => self.of_classes(&log_probs, &target.tensor, weight.as_ref(), classes.axis),
        }
    }

    fn of_probabilities(
        &self,
        log_probs: &Tensor,
        target: &Tensor,
        weight: Option<&Tensor>,
        axis: usize,
    ) -> Result<Tensor> {
        let smoothing = self.attrs.number("label_smoothing").unwrap_or(0.0);
        let count = log_probs.dim(axis)?;
        let target = target.to_dtype(self.work())?.affine(1.0 - smoothing, smoothing / count as f64)?;
        let terms = (log_probs * target)?;
        let terms = weight.map_or(Ok(terms.clone()), |weight| &terms * weight)?;
        let losses = terms.sum(axis)?.neg()?;
        let places = losses.elem_count() as f64;
        self.reduced(&losses, &Tensor::full(places, (), self.device)?.to_dtype(losses.dtype())?)
    }

    fn of_classes(&self, log_probs: &Tensor, target: &Tensor, weight: Option<&Tensor>, axis: usize) -> Result<Tensor> {
        let smoothing = self.attrs.number("label_smoothing").unwrap_or(0.0);
        let ignored = self.attrs.int("ignore_index").unwrap_or(-100);
        let count = log_probs.dim(axis)?;
        let places = target.dims().to_vec();
        let target = host::ints(target)?;
        if let Some(class) = target.iter().find(|class| **class != ignored && !(0..count as i64).contains(*class)) {
            return Err(refused(
                Code::IndexOutOfRange,
                format!("class {class} of {count} in the target of `cross_entropy`"),
            ));
        }
        let there: Vec<u8> = target.iter().map(|class| u8::from(*class != ignored)).collect();
        let there = Tensor::from_vec(there, places.as_slice(), self.device)?;
        let classes = target.iter().map(|class| if *class == ignored { 0 } else { *class as u32 }).collect();
        let classes = Tensor::from_vec(classes, places.as_slice(), self.device)?.unsqueeze(axis)?;
        let pick = |x: &Tensor| x.contiguous()?.gather(&classes, axis)?.squeeze(axis);
        let present = |x: &Tensor| there.where_cond(x, &x.zeros_like()?);
        let weights = match weight {
            None => there.to_dtype(log_probs.dtype())?,
            Some(weight) => present(&pick(weight)?)?,
        };
        let chosen = present(&(pick(log_probs)? * &weights)?)?.neg()?;
        let losses = match smoothing {
            0.0 => chosen,
            smoothing => {
                let weighted = weight.map_or(Ok(log_probs.clone()), |weight| log_probs * weight)?;
                let spread = present(&weighted.sum(axis)?)?.affine(-smoothing / count as f64, 0.0)?;
                (chosen.affine(1.0 - smoothing, 0.0)? + spread)?
            }
        };
        self.reduced(&losses, &weights.sum_all()?)
    }

    /// Losses as `reduction` says; a mean divides by `total`.
    fn reduced(&self, losses: &Tensor, total: &Tensor) -> Result<Tensor> {
        match self.attrs.word("reduction") {
            Some("none") => Ok(losses.clone()),
            Some("sum") => losses.sum_all(),
            _ => losses.sum_all()? / total,
        }
    }

    pub(super) fn kl_div(&self) -> Result<Tensor> {
        let shape = self.input(0).shape.broadcast(self.input(1).shape).map_err(candle_core::Error::wrap)?;
        let (input, target) = (self.broadcast(0, &shape.dims)?, self.broadcast(1, &shape.dims)?);
        let terms = match self.attrs.flag("log_target") {
            true => (target.exp()? * (&target - &input)?)?,
            false => (entropy(&target)? - (&target * &input)?)?,
        };
        let terms = ragged::fill_padding(&terms, &shape, 0.0)?;
        let total = match self.attrs.word("reduction") {
            Some("none") => return Ok(terms),
            Some("sum") => return terms.sum_all(),
            Some("batchmean") => self.input(0).shape.dims[0] as f64,
            _ => match ragged::mask(&shape, self.device)? {
                None => terms.elem_count() as f64,
                Some(mask) => {
                    let there = mask.broadcast_as(shape.dims.as_slice())?.to_dtype(DType::F64)?;
                    there.sum_all()?.to_scalar::<f64>()?
                }
            },
        };
        terms.sum_all()? / total
    }
}

/// Euclidean length along axes, which stay with size 1; its slope at 0 is 0.
fn length(x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let length = sum(&x.detach().sqr()?, axes)?.sqrt()?;
    derived(x, length, |x, length, g| {
        let share = length.eq(0.0)?.where_cond(&g.zeros_like()?, &(g / length)?)?;
        x.broadcast_mul(&share)
    })
}

/// t · log t, which is 0 at 0; there it has no slope.
fn entropy(t: &Tensor) -> Result<Tensor> {
    let value = |t: &Tensor| t.eq(0.0)?.where_cond(&t.zeros_like()?, &(t * t.log()?)?);
    derived(t, value(&t.detach())?, |t, _, g| g * (t.log()? + (t * t.recip()?)?)?)
}

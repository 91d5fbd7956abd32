//! Fast float32 kernels for the processor.
//!
//! Written once against pulp's portable vectors and dispatched at run time to AVX-512, AVX2, NEON or scalar code. They
//! are safe Rust but for how work is lent to the crew of threads, and columns of a matrix to each of them.
//!
//! **The same bits alone or in any batch.** The order of every reduction depends on nothing but the length of what is
//! reduced: a projection sums over its inputs, a norm over its width, a softmax over the keys of a query counted from
//! its segment's start. How many rows there are, how they are tiled and which thread takes them changes no order. The
//! fused attention keeps to the order of its parts, so that looking at the scores does not change them either.
//!
//! None of these kernels has a backward. They refuse tensors that track their operations; for those there are [`Derived`](derived::Derived)
//! ones.

mod activation;
mod attention;
mod crew;
mod derived;
mod exp;
mod grouped;
mod heads;
mod lanes;
mod linear;
mod memory;
mod mix;
mod norm;
mod parallel;
mod rotary;
mod rows;
mod scores;
mod softmax;
mod tile;

use std::sync::Arc;

use candle_core::{DType, Result, Tensor};
use pulp::Arch;

use super::{Kernels, Scoring};
use crate::instructions::arch;
use crate::parameters::{Linear, Norm};
use crate::rope::RotaryRows;
use crate::segments::Segments;
use crate::spec::Activation;

/// Fast float32 kernels for the processor, for tensors in its memory.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    arch: Arch,
}

impl Cpu {
    /// The kernels for the best instruction set found on this machine, or for the one that the environment names.
    pub fn new() -> Self {
        Self { arch: arch() }
    }
}

/// The softmax along an axis, untracked: with the fast kernel along the last axis of float32 numbers in the processor's memory.
///
/// # Errors
/// candle's, where memory runs out or the device fails.
pub fn softmax(x: &Tensor, axis: usize) -> Result<Tensor> {
    let x = x.detach();
    if axis + 1 == x.rank() && x.device().is_cpu() && x.dtype() == DType::F32 {
        return softmax::softmax(arch(), &x);
    }
    let raised = x.broadcast_sub(&x.contiguous()?.max_keepdim(axis)?)?.exp()?;
    raised.broadcast_div(&raised.sum_keepdim(axis)?)
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

impl Kernels for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn linear(&self, x: &Tensor, projections: &[&Linear]) -> Result<Vec<Tensor>> {
        linear::linear(self.arch, x, projections)
    }

    fn norm(&self, x: &Tensor, norm: &Norm) -> Result<Tensor> {
        norm::norm(self.arch, x, norm)
    }

    fn rotate(&self, x: &Tensor, rows: &RotaryRows) -> Result<Tensor> {
        rotary::rotate(self.arch, x, rows)
    }

    fn scores(&self, q: &Tensor, keys: &[Tensor], segments: &Segments, scoring: &Scoring) -> Result<Tensor> {
        attention::scores(self.arch, q, keys, segments, scoring)
    }

    fn probs(&self, scores: &Tensor, segments: &Segments, heads: usize, sinks: Option<&[f32]>) -> Result<Tensor> {
        attention::probs(self.arch, scores, segments, heads, sinks)
    }

    fn mix(&self, probs: &Tensor, values: &[Tensor], segments: &Segments, heads: usize) -> Result<Tensor> {
        attention::mix(self.arch, probs, values, segments, heads)
    }

    fn attention(
        &self,
        q: &Tensor,
        keys: &[Tensor],
        values: &[Tensor],
        segments: &Segments,
        scoring: &Scoring,
    ) -> Result<Tensor> {
        attention::fused(self.arch, q, keys, values, segments, scoring)
    }

    fn fused(&self) -> bool {
        true
    }

    fn reads_panels(&self) -> bool {
        true
    }

    fn differentiable(&self) -> Arc<dyn Kernels> {
        Arc::new(derived::Derived { arch: self.arch })
    }

    fn activate(&self, activation: Activation, x: &Tensor, up: Option<&Tensor>) -> Result<Tensor> {
        activation::activate(self.arch, activation, x, up)
    }
}

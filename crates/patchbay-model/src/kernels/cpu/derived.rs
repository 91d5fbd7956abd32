//! The kernels that a gradient is taken through, on the processor.

use candle_core::{Result, Tensor};
use pulp::Arch;

use super::linear::{linear, linear_backward};
use crate::derive::derived;
use crate::kernels::{Kernels, Plain, Scoring};
use crate::parameters::{Linear, Norm};
use crate::rope::RotaryRows;
use crate::segments::Segments;
use crate::spec::Activation;

/// Fast projections, whose backward is as fast, among candle's operations.
#[derive(Clone, Copy, Debug)]
pub(super) struct Derived {
    pub(super) arch: Arch,
}

impl Kernels for Derived {
    fn name(&self) -> &'static str {
        "cpu with a backward"
    }

    fn linear(&self, x: &Tensor, projections: &[&Linear]) -> Result<Vec<Tensor>> {
        let arch = self.arch;
        // nobody asks for gradients of weights
        let outputs = linear(arch, &x.detach(), projections)?;
        let derive = |(y, projection): (Tensor, &&Linear)| {
            let weight = projection.weight.clone();
            derived(x, y, move |_, _, gradient| linear_backward(arch, gradient, &weight))
        };
        outputs.into_iter().zip(projections).map(derive).collect()
    }

    fn norm(&self, x: &Tensor, norm: &Norm) -> Result<Tensor> {
        Plain.norm(x, norm)
    }

    fn rotate(&self, x: &Tensor, rows: &RotaryRows) -> Result<Tensor> {
        Plain.rotate(x, rows)
    }

    fn scores(&self, q: &Tensor, keys: &[Tensor], segments: &Segments, scoring: &Scoring) -> Result<Tensor> {
        Plain.scores(q, keys, segments, scoring)
    }

    fn probs(&self, scores: &Tensor, segments: &Segments, heads: usize, sinks: Option<&[f32]>) -> Result<Tensor> {
        Plain.probs(scores, segments, heads, sinks)
    }

    fn mix(&self, probs: &Tensor, values: &[Tensor], segments: &Segments, heads: usize) -> Result<Tensor> {
        Plain.mix(probs, values, segments, heads)
    }

    fn activate(&self, activation: Activation, x: &Tensor, up: Option<&Tensor>) -> Result<Tensor> {
        Plain.activate(activation, x, up)
    }
}

//! The MLP with all its sites.

use candle_core::{Result, Tensor};
use patchbay_graph::LayerSite;

use crate::attention::linear;
use crate::experts::Experts;
use crate::kernels::Kernels;
use crate::parameters::Linear;
use crate::spec::Activation;
use crate::tap::{LayerTap, NoTap};

/// What a block has after its second norm.
#[derive(Debug)]
pub(crate) enum FeedForward {
    Mlp(Mlp),
    Experts(Experts),
}

impl FeedForward {
    /// `x: [T, D]` to `[T, D]`, offering the sites up to `mlp.output`.
    pub(crate) fn forward(&self, kernels: &dyn Kernels, x: &Tensor, tap: &mut LayerTap<'_>) -> Result<Tensor> {
        match self {
            Self::Mlp(mlp) => mlp.forward(kernels, x, tap),
            Self::Experts(experts) => experts.forward(kernels, x, tap),
        }
    }
}

/// The MLP of one block, or one expert: `down(activation(gate) · up)`, or `down(activation(up))` without a gate.
#[derive(Debug)]
pub(crate) struct Mlp {
    pub(crate) activation: Activation,
    /// What the activation's numbers are made of, each with its standardized name.
    pub(crate) learned: Vec<(&'static str, Tensor)>,
    pub(crate) gate: Option<Linear>,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

impl Mlp {
    /// `x: [T, D]` to `[T, D]`, from `mlp.gate` to `mlp.output`.
    pub(crate) fn forward(&self, kernels: &dyn Kernels, x: &Tensor, tap: &mut LayerTap<'_>) -> Result<Tensor> {
        let neurons = match &self.gate {
            Some(gate) => {
                let mut projected = kernels.linear(x, &[gate, &self.up])?.into_iter();
                let (Some(gate), Some(up)) = (projected.next(), projected.next()) else {
                    candle_core::bail!("{} kernels lost a projection", kernels.name());
                };
                let gate = tap.offer(LayerSite::Gate, gate)?;
                let up = tap.offer(LayerSite::Up, up)?;
                kernels.activate(self.activation, &gate, Some(&up))?
            }
            None => {
                let up = tap.offer(LayerSite::Up, linear(kernels, x, &self.up)?)?;
                kernels.activate(self.activation, &up, None)?
            }
        };
        let neurons = tap.offer(LayerSite::Neurons, neurons)?;
        tap.offer(LayerSite::MlpOutput, linear(kernels, &neurons, &self.down)?)
    }

    /// The same without sites: one expert of several.
    pub(crate) fn apply(&self, kernels: &dyn Kernels, x: &Tensor) -> Result<Tensor> {
        self.forward(kernels, x, &mut LayerTap { layer: 0, tap: &mut NoTap })
    }
}

//! A mixture of experts with its sites.

use candle_core::{DType, Result, Tensor};
use candle_nn::ops;
use patchbay_graph::LayerSite;

use crate::attention::linear;
use crate::kernels::Kernels;
use crate::mlp::Mlp;
use crate::parameters::Linear;
use crate::router::Router;
use crate::spec::Weighed;
use crate::tap::LayerTap;

/// The experts of one block. T packed tokens, E experts.
#[derive(Debug)]
pub(crate) struct Experts {
    pub(crate) router: Router,
    pub(crate) experts: Vec<Mlp>,
    pub(crate) shared: Option<Shared>,
    pub(crate) weighed: Weighed,
}

/// The expert that every token goes through besides.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) mlp: Mlp,
    /// `[1, D]`: the sigmoid of this projection is a factor on the output.
    pub(crate) gate: Option<Linear>,
}

impl Experts {
    /// `x: [T, D]` to `[T, D]`, from `mlp.router.logits` to `mlp.output`.
    pub(crate) fn forward(&self, kernels: &dyn Kernels, x: &Tensor, tap: &mut LayerTap<'_>) -> Result<Tensor> {
        let logits = tap.offer(LayerSite::RouterLogits, linear(kernels, x, &self.router.projection)?)?;
        let weights = tap.offer(LayerSite::RouterProbs, self.router.weights(&logits)?)?;
        let mixed = self.mix(kernels, &x.contiguous()?, &weights)?;
        let output = match &self.shared {
            Some(shared) => (mixed + shared.forward(kernels, x)?)?,
            None => mixed,
        };
        tap.offer(LayerSite::MlpOutput, output)
    }

    /// Each expert's output for the tokens that give it a weight `[T, E]`, a factor on its output or its input, added up.
    ///
    /// An expert that no token gives a weight does not run. A token's sum goes through its experts in their order, so that it does
    /// not depend on the tokens beside it.
    fn mix(&self, kernels: &dyn Kernels, x: &Tensor, weights: &Tensor) -> Result<Tensor> {
        let index = |tokens: &[u32]| Tensor::from_slice(tokens, tokens.len(), x.device());
        let rows: Vec<Vec<f32>> = weights.to_dtype(DType::F32)?.to_vec2()?;
        let by_expert = weights.t()?.contiguous()?;
        let (mut tokens, mut shares) = (Vec::new(), Vec::new());
        for (number, expert) in self.experts.iter().enumerate() {
            let own = (0..).zip(&rows).filter(|(_, row)| row[number] != 0.0).map(|(token, _)| token);
            let own: Vec<u32> = own.collect();
            if own.is_empty() {
                continue;
            }
            let index = index(&own)?;
            let input = x.index_select(&index, 0)?;
            let weight = by_expert.get(number)?.index_select(&index, 0)?.unsqueeze(1)?;
            shares.push(match self.weighed {
                Weighed::Output => expert.apply(kernels, &input)?.broadcast_mul(&weight)?,
                Weighed::Input => expert.apply(kernels, &input.broadcast_mul(&weight)?)?,
            });
            tokens.extend(own);
        }
        let nothing = Tensor::zeros(x.shape(), x.dtype(), x.device())?;
        if shares.is_empty() {
            return Ok(nothing);
        }
        nothing.index_add(&index(&tokens)?, &Tensor::cat(&shares, 0)?, 0)
    }
}

impl Shared {
    fn forward(&self, kernels: &dyn Kernels, x: &Tensor) -> Result<Tensor> {
        let output = self.mlp.apply(kernels, x)?;
        match &self.gate {
            Some(gate) => output.broadcast_mul(&ops::sigmoid(&linear(kernels, x, gate)?)?),
            None => Ok(output),
        }
    }
}

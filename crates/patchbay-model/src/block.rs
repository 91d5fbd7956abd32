//! The one block that every architecture runs through.

use candle_core::{Result, Tensor};
use patchbay_graph::LayerSite;
use patchbay_graph::module::NormPlace;

use crate::attention::{Attention, normed};
use crate::kernels::Kernels;
use crate::mlp::FeedForward;
use crate::parameters::Norm;
use crate::run::Run;
use crate::spec::Residual;
use crate::tap::LayerTap;

/// One block of a decoder.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) residual: Residual,
    pub(crate) attn_norm: Option<Norm>,
    pub(crate) attention: Attention,
    pub(crate) attn_post_norm: Option<Norm>,
    pub(crate) mlp_norm: Option<Norm>,
    pub(crate) mlp: FeedForward,
    pub(crate) mlp_post_norm: Option<Norm>,
    pub(crate) multiplier: Option<f64>,
}

impl Block {
    /// The norm at a place, if the block has one there.
    pub(crate) fn norm(&self, place: NormPlace) -> Option<&Norm> {
        match place {
            NormPlace::AttnNorm => self.attn_norm.as_ref(),
            NormPlace::AttnPostNorm => self.attn_post_norm.as_ref(),
            NormPlace::MlpNorm => self.mlp_norm.as_ref(),
            NormPlace::MlpPostNorm => self.mlp_post_norm.as_ref(),
        }
    }

    /// The residual stream `x: [T, D]` through the block; what comes out are the rows that go on.
    pub(crate) fn forward(
        &self,
        kernels: &dyn Kernels,
        x: Tensor,
        run: &mut Run<'_>,
        tap: &mut LayerTap<'_>,
    ) -> Result<Tensor> {
        let x = tap.offer(LayerSite::Input, x)?;
        let attn_normed = normed(kernels, x.clone(), self.attn_norm.as_ref())?;
        let attn_input = tap.offer(LayerSite::AttnInput, attn_normed.clone())?;
        let attn = self.attention.forward(kernels, &attn_input, run, tap)?;
        let attn = tap.offer(LayerSite::AttnAdd, self.added(kernels, attn, self.attn_post_norm.as_ref())?)?;

        let x = run.going_on(&x)?;
        let with_attn = (&x + attn)?;
        let (stream, mlp_input) = match (self.residual, &self.mlp_norm) {
            (Residual::Sequential, norm) => {
                let mid = tap.offer(LayerSite::ResidMid, with_attn)?;
                let normed = normed(kernels, mid.clone(), norm.as_ref())?;
                (mid, normed)
            }
            (Residual::Parallel, Some(norm)) => (with_attn, kernels.norm(&x, norm)?),
            (Residual::Parallel, None) => (with_attn, run.going_on(&attn_normed)?),
        };
        let mlp_input = tap.offer(LayerSite::MlpInput, mlp_input)?;
        let mlp = self.mlp.forward(kernels, &mlp_input, tap)?;
        let mlp = tap.offer(LayerSite::MlpAdd, self.added(kernels, mlp, self.mlp_post_norm.as_ref())?)?;
        tap.offer(LayerSite::Output, (stream + mlp)?)
    }

    /// What a part's output adds to the stream.
    fn added(&self, kernels: &dyn Kernels, output: Tensor, norm: Option<&Norm>) -> Result<Tensor> {
        let output = normed(kernels, output, norm)?;
        self.multiplier.map_or(Ok(output.clone()), |multiplier| output * multiplier)
    }
}

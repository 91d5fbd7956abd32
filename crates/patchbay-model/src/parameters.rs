//! Weights as the kernels see them, whatever the checkpoint's layout was.

use candle_core::{Result, Tensor};

use crate::matrix::Matrix;
use crate::spec::NormKind;

/// `y = x Wᵀ + b`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Matrix,
    /// `[out]`.
    pub bias: Option<Tensor>,
}

impl Linear {
    /// Some of its outputs: `[ids, in]`.
    ///
    /// # Errors
    /// Where there is no such output, or memory runs out.
    pub(crate) fn outputs(&self, ids: &[u32]) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| bias.index_select(&Tensor::new(ids, bias.device())?, 0));
        Ok(Self { weight: self.weight.select(ids)?.into(), bias: bias.transpose()? })
    }
}

/// A norm over the last axis.
#[derive(Clone, Debug)]
pub struct Norm {
    /// Its kind.
    pub kind: NormKind,
    /// What keeps the root away from zero.
    pub eps: f32,
    /// `[width]`, or `[groups, width]` for values whose last two axes are these; with any offset already added.
    pub weight: Tensor,
    /// `[width]`.
    pub bias: Option<Tensor>,
}

//! Weights as the kernels see them, whatever the checkpoint's layout was.

use candle_core::Tensor;

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

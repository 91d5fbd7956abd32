//! A weight matrix, in the form that the device's kernels read.

use std::sync::Arc;

use candle_core::{DType, Result, Tensor};

use crate::error::LoadError;
use crate::panels::Panels;
use crate::precision::Precision;

/// A weight matrix, in the form that the device's kernels read. Cloning shares the numbers.
#[derive(Clone, Debug)]
pub enum Matrix {
    /// `[rows, columns]`, contiguous.
    Plain(Tensor),
    /// In panels, for the processor.
    Panels(Arc<Panels>),
}

/// How matrices shall be kept.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// As tensors of this type.
    Plain(DType),
    /// In panels.
    Panels(Precision),
}

impl Form {
    /// That of a device whose kernels read no panels.
    ///
    /// # Errors
    /// Where there are no tensors of this precision.
    pub(crate) fn plain(precision: Precision) -> std::result::Result<Self, LoadError> {
        precision.dtype().map(Self::Plain).ok_or(LoadError::Precision { precision })
    }

    /// The type of activations beside such matrices.
    pub(crate) fn activations(self) -> DType {
        match self {
            Self::Plain(dtype) => dtype,
            Self::Panels(_) => DType::F32,
        }
    }
}

impl From<Tensor> for Matrix {
    fn from(tensor: Tensor) -> Self {
        Self::Plain(tensor)
    }
}

impl From<Panels> for Matrix {
    fn from(panels: Panels) -> Self {
        Self::Panels(Arc::new(panels))
    }
}

impl Matrix {
    /// Rows and columns.
    ///
    /// # Errors
    /// Where a plain tensor is no matrix.
    pub fn dims2(&self) -> Result<(usize, usize)> {
        match self {
            Self::Plain(tensor) => tensor.dims2(),
            Self::Panels(panels) => Ok(panels.dims()),
        }
    }

    /// `[rows, columns]`: the tensor itself where it is plain, and else one made of what the panels stand for, in float32.
    ///
    /// # Errors
    /// Where memory runs out.
    pub fn tensor(&self) -> Result<Tensor> {
        match self {
            Self::Plain(tensor) => Ok(tensor.clone()),
            Self::Panels(panels) => panels.tensor(),
        }
    }

    /// Some rows: `[indices, columns]`.
    ///
    /// # Errors
    /// Where there is no such row.
    pub fn select(&self, indices: &[u32]) -> Result<Tensor> {
        match self {
            Self::Plain(tensor) => tensor.index_select(&Tensor::new(indices, tensor.device())?, 0),
            Self::Panels(panels) => panels.select(indices),
        }
    }

    /// Whether the numbers are the same.
    ///
    /// # Errors
    /// candle's.
    pub(crate) fn same(&self, other: &Self) -> Result<bool> {
        match (self, other) {
            (Self::Plain(a), Self::Plain(b)) => Ok(a.ne(b)?.flatten_all()?.max(0)?.to_scalar::<u8>()? == 0),
            (Self::Panels(a), Self::Panels(b)) => Ok(a == b),
            _ => Ok(false),
        }
    }

    /// The columns from `start` on, as a matrix.
    ///
    /// # Errors
    /// Where there are not so many.
    pub(crate) fn columns(&self, start: usize, count: usize) -> Result<Self> {
        match self {
            Self::Plain(tensor) => Ok(tensor.narrow(1, start, count)?.contiguous()?.into()),
            Self::Panels(panels) => Ok(panels.columns(start, count)?.into()),
        }
    }
}

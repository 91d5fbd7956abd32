//! Elements in memory: whole numbers, and whatever goes along one axis.

use candle_core::{DType, Device, Result, Tensor};
use patchbay_graph::DType as GraphType;
use patchbay_graph::Shape;

/// Elements in row-major order as whole numbers.
pub(super) fn ints(tensor: &Tensor) -> Result<Vec<i64>> {
    tensor.to_dtype(DType::I64)?.flatten_all()?.to_vec1()
}

/// Elements in row-major order.
pub(super) fn floats(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// A tensor of whole numbers; those that the type cannot hold wrap around, and booleans are 1 where the number is not 0.
pub(super) fn of_ints(data: Vec<i64>, dims: &[usize], dtype: GraphType, device: &Device) -> Result<Tensor> {
    let bytes = |byte: fn(i64) -> u8| Tensor::from_vec(data.iter().map(|x| byte(*x)).collect(), dims, device);
    match dtype {
        GraphType::Bool => bytes(|x| u8::from(x != 0)),
        GraphType::U8 => bytes(|x| x as u8),
        GraphType::U32 => Tensor::from_vec(data.iter().map(|x| *x as u32).collect(), dims, device),
        _ => Tensor::from_vec(data, dims, device),
    }
}

/// A tensor of the same type and on the same device as `like`.
pub(super) fn of_floats(data: Vec<f64>, dims: &[usize], like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(data, dims, like.device())?.to_dtype(like.dtype())
}

/// How elements lie along one axis: element `a` of lane `(outer, inner)` is number `(outer · size + a) · inner_count + inner`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lanes {
    pub(super) outer: usize,
    pub(super) size: usize,
    pub(super) inner: usize,
}

impl Lanes {
    /// Along an axis; all of a single number where there is none.
    pub(super) fn new(dims: &[usize], axis: Option<usize>) -> Self {
        let Some(axis) = axis else { return Self { outer: 1, size: 1, inner: 1 } };
        Self { outer: dims[..axis].iter().product(), size: dims[axis], inner: dims[axis + 1..].iter().product() }
    }

    /// Every lane: its number, the number of its first element, and the distance between its elements.
    pub(super) fn each(self) -> impl Iterator<Item = (usize, usize)> {
        let Self { outer, size, inner } = self;
        (0..outer).flat_map(move |o| (0..inner).map(move |i| (o * inner + i, o * size * inner + i)))
    }

    /// How much of each lane is padding; nothing where rows do not differ along the axis.
    pub(super) fn padding(self, shape: &Shape, axis: Option<usize>) -> Option<Vec<usize>> {
        let (ragged, axis) = (shape.ragged.as_ref()?, axis?);
        let lengths = ragged.lengths(axis)?;
        let rows = shape.dims[ragged.rows];
        let below = |from: usize, to: usize| shape.dims[from..to].iter().product::<usize>();
        let row = |o: usize, i: usize| match ragged.rows < axis {
            true => o / below(ragged.rows + 1, axis) % rows,
            false => i / below(ragged.rows + 1, shape.rank()) % rows,
        };
        let lanes = (0..self.outer).flat_map(|o| (0..self.inner).map(move |i| (o, i)));
        Some(lanes.map(|(o, i)| self.size - lengths[row(o, i)]).collect())
    }
}

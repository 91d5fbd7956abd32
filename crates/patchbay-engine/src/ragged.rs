//! What operations have to know of rows that differ in length: where the padding is.

use candle_core::{Device, Result, Tensor};
use patchbay_graph::Shape;

/// 1 where a ragged tensor has an element, 0 in its padding, of a shape that broadcasts to the tensor's.
pub(crate) fn mask(shape: &Shape, device: &Device) -> Result<Option<Tensor>> {
    let Some(ragged) = &shape.ragged else { return Ok(None) };
    let rows = shape.dims[ragged.rows];
    let mut mask: Option<Tensor> = None;
    for (axis, lengths) in &ragged.axes {
        let size = shape.dims[*axis];
        let row = |row: usize| (0..size).map(move |i| (row, i));
        let data: Vec<u8> = (0..rows).flat_map(row).map(|(row, i)| u8::from(i + lengths[row] >= size)).collect();
        let mut dims = vec![1; shape.rank()];
        dims[ragged.rows] = rows;
        dims[*axis] = size;
        let one = Tensor::from_vec(data, (rows, size), device)?;
        let one = if ragged.rows < *axis { one } else { one.t()?.contiguous()? }.reshape(dims)?;
        mask = Some(match mask {
            None => one,
            Some(other) => other.broadcast_mul(&one)?,
        });
    }
    Ok(mask)
}

/// The tensor with its padding set to `fill`.
pub(crate) fn fill_padding(tensor: &Tensor, shape: &Shape, fill: f64) -> Result<Tensor> {
    let Some(mask) = mask(shape, tensor.device())? else { return Ok(tensor.clone()) };
    let filler = Tensor::full(fill as f32, (), tensor.device())?.to_dtype(tensor.dtype())?;
    mask.broadcast_as(tensor.dims())?.where_cond(tensor, &filler.broadcast_as(tensor.dims())?)
}

//! Tensors out of nothing, and tensors of another type.

use candle_core::{DType, Result, Tensor};
use patchbay_graph::DType as GraphType;
use patchbay_graph::ops::Op;

use super::{Call, choose, host, random};
use crate::values::candle_dtype;

impl Call<'_> {
    pub(super) fn filled(&self) -> Result<Tensor> {
        let value = match self.spec.op {
            Op::Zeros => 0.0,
            Op::Ones => 1.0,
            _ => self.attrs.number("fill_value").unwrap_or(0.0),
        };
        let one = match (self.dtype.is_float(), self.attrs.int("fill_value")) {
            (true, _) => Tensor::full(value, (), self.device)?.to_dtype(candle_dtype(self.dtype))?,
            (false, whole) => host::of_ints(vec![whole.unwrap_or(value as i64)], &[], self.dtype, self.device)?,
        };
        one.broadcast_as(self.shape.dims.as_slice())?.contiguous()
    }

    pub(super) fn eye(&self) -> Result<Tensor> {
        let (rows, columns) = (self.shape.dims[0], self.shape.dims[1]);
        let mut data = vec![0u8; rows * columns];
        (0..rows.min(columns)).for_each(|place| data[place * columns + place] = 1);
        Tensor::from_vec(data, (rows, columns), self.device)?.to_dtype(candle_dtype(self.dtype))
    }

    pub(super) fn arange(&self) -> Result<Tensor> {
        let number = |name: &str, default: f64| self.attrs.number(name).unwrap_or(default);
        let (start, step, count) = (number("start", 0.0), number("step", 1.0), self.shape.dims[0]);
        if self.dtype.is_float() {
            let data: Vec<f64> = (0..count).map(|i| start + i as f64 * step).collect();
            return Tensor::from_vec(data, count, self.device);
        }
        let whole = |name: &str, value: f64| self.attrs.int(name).unwrap_or(value as i64);
        let (start, step) = (whole("start", start), whole("step", step));
        let data = (0..count).map(|i| start.wrapping_add(step.wrapping_mul(i as i64))).collect();
        host::of_ints(data, &self.shape.dims, self.dtype, self.device)
    }

    pub(super) fn randn(&self) -> Result<Tensor> {
        let seed = self.attrs.int("seed").unwrap_or(0) as u64;
        let count = self.shape.elements().unwrap_or(0);
        Tensor::from_vec(random::normal(seed, count), self.shape.dims.as_slice(), self.device)
    }

    /// Floats become whole numbers towards 0, and wrap around where the type is too small; all but 0 is true.
    pub(super) fn cast(&self) -> Result<Tensor> {
        let input = self.input(0);
        match (self.dtype, input.dtype.is_float()) {
            (GraphType::Bool, _) => choose::truth(&input.tensor.detach()),
            (dtype, _) if dtype.is_float() => input.tensor.to_dtype(candle_dtype(dtype)),
            (dtype, true) => {
                let data = host::floats(&input.tensor.detach())?.into_iter().map(|x| x as i64).collect();
                host::of_ints(data, input.tensor.dims(), dtype, self.device)
            }
            (dtype, false) => {
                host::of_ints(host::ints(&input.tensor.to_dtype(DType::I64)?)?, input.tensor.dims(), dtype, self.device)
            }
        }
    }
}

//! Tensor operations on candle, one function each.
//!
//! Floats are computed in f32 (f64 stays f64) out of operations whose backward is right in candle, or, where candle's is not
//! PyTorch's, with a backward of our own (`derive`). Whole numbers have no gradient and are computed in i64 on the host
//! (`host`), where they wrap around as PyTorch's do.

mod choose;
mod create;
mod elementwise;
mod host;
mod index;
mod linear;
mod loss;
mod order;
mod pairwise;
mod random;
mod reduce;
mod refused;
mod shaping;
#[cfg(test)]
mod tests;

use candle_core::{DType, Device, Result, Tensor};
use patchbay_graph::ops::{Arg, Attrs, Given, Op, OpSpec};
use patchbay_graph::{DType as GraphType, Shape};

pub(crate) use refused::Refused;

use crate::ragged;
use crate::values::candle_dtype;

/// A value among the arguments.
#[derive(Clone, Debug)]
pub(crate) struct Input<'a> {
    /// The parameter that it fills.
    pub(crate) name: &'static str,
    /// Its shape, with the lengths of rows.
    pub(crate) shape: &'a Shape,
    /// Its type.
    pub(crate) dtype: GraphType,
    /// A plain number.
    pub(crate) weak: bool,
    /// Its elements; booleans are bytes.
    pub(crate) tensor: Tensor,
}

/// One operation with its arguments.
pub(crate) struct Call<'a> {
    pub(crate) spec: &'static OpSpec,
    pub(crate) attrs: Attrs<'a>,
    pub(crate) inputs: Vec<Input<'a>>,
    /// Which output is wanted.
    pub(crate) out: usize,
    /// What the plan says of the output.
    pub(crate) shape: &'a Shape,
    pub(crate) dtype: GraphType,
    pub(crate) device: &'a Device,
}

impl Call<'_> {
    /// Runs the operation. Padding stays zero.
    ///
    /// # Errors
    /// The device failed, or a value is out of range ([`Refused`]).
    pub(crate) fn run(&self) -> Result<Tensor> {
        let dtype = candle_dtype(self.dtype);
        if self.shape.elements() == Some(0) {
            return Tensor::zeros(self.shape.dims.as_slice(), dtype, self.device);
        }
        let result = self.function()?.to_dtype(dtype)?;
        if result.dims() != self.shape.dims {
            candle_core::bail!("`{}` made {:?}, planned was {}", self.spec.name, result.dims(), self.shape);
        }
        ragged::fill_padding(&result, self.shape, 0.0)
    }

    #[rustfmt::skip]
    fn function(&self) -> Result<Tensor> {
        match self.spec.op {
            Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Pow | Op::Maximum | Op::Minimum => self.pairwise(),
            Op::Neg | Op::Abs | Op::Sqrt | Op::Rsqrt | Op::Exp | Op::Log | Op::Sin | Op::Cos | Op::Tanh | Op::Sigmoid
            | Op::Relu | Op::Gelu | Op::Silu | Op::Floor | Op::Ceil | Op::Round | Op::Sign => self.elementwise(),
            Op::Clamp => self.clamp(),
            Op::Eq | Op::Ne | Op::Lt | Op::Le | Op::Gt | Op::Ge => self.compare(),
            Op::LogicalAnd | Op::LogicalOr | Op::LogicalNot => self.logic(),
            Op::Where | Op::MaskedFill => self.choose(),
            Op::Sum => self.sum(),
            Op::Mean => self.mean(),
            Op::Var | Op::Std => self.spread(),
            Op::Norm => self.norm(),
            Op::Prod => self.prod(),
            Op::Cumsum => self.cumsum(),
            Op::Softmax => self.softmax(),
            Op::LogSoftmax => self.log_softmax(),
            Op::Logsumexp => self.logsumexp(),
            Op::Max | Op::Min => self.extreme(),
            Op::Argmax | Op::Argmin => self.place(),
            Op::Topk | Op::Sort => self.order(),
            Op::Matmul | Op::Einsum | Op::Dot | Op::Outer => self.product(),
            Op::CosineSimilarity => self.cosine_similarity(),
            Op::CrossEntropy => self.cross_entropy(),
            Op::KlDiv => self.kl_div(),
            Op::Reshape | Op::Squeeze | Op::Unsqueeze => self.input(0).tensor.reshape(self.shape.dims.as_slice()),
            Op::Transpose => self.transpose(),
            Op::Permute => self.permute(),
            Op::Expand => self.input(0).tensor.broadcast_as(self.shape.dims.as_slice()),
            Op::Repeat => self.repeat(),
            Op::Flip => self.flip(),
            Op::Cat => self.cat(),
            Op::Stack => self.stack(),
            Op::Split => self.split(),
            Op::Tril | Op::Triu => self.triangle(),
            Op::IndexSelect => self.index_select(),
            Op::Gather => self.gather(),
            Op::ScatterAdd => self.scatter_add(),
            Op::OneHot => self.one_hot(),
            Op::Zeros | Op::Ones | Op::Full => self.filled(),
            Op::Eye => self.eye(),
            Op::Arange => self.arange(),
            Op::Randn => self.randn(),
            Op::Cast => self.cast(),
            Op::Clone => Ok(self.input(0).tensor.clone()),
            Op::Detach => Ok(self.input(0).tensor.detach()),
        }
    }

    /// The type that floats are computed in.
    fn work(&self) -> DType {
        let all = self.inputs.iter().filter(|input| !input.weak).map(|input| input.dtype).chain([self.dtype]);
        match self.dtype {
            GraphType::F64 => DType::F64,
            dtype if dtype.is_float() => DType::F32,
            // comparisons and indices are made of their arguments
            _ if all.into_iter().any(|dtype| dtype == GraphType::F64) => DType::F64,
            _ => DType::F32,
        }
    }

    /// An argument by its number.
    fn input(&self, number: usize) -> &Input<'_> {
        &self.inputs[number]
    }

    /// An argument by its name.
    fn find(&self, name: &str) -> Option<&Input<'_>> {
        self.inputs.iter().find(|input| input.name == name)
    }

    /// An argument by its name, which must be there.
    fn need(&self, name: &str) -> Result<&Input<'_>> {
        match self.find(name) {
            Some(input) => Ok(input),
            None => candle_core::bail!("`{}` was not given `{name}`", self.spec.name),
        }
    }

    /// An argument as floats.
    fn float(&self, number: usize) -> Result<Tensor> {
        self.input(number).tensor.to_dtype(self.work())
    }

    /// An argument as floats, broadcast to these sizes.
    fn broadcast(&self, number: usize, dims: &[usize]) -> Result<Tensor> {
        broadcast(&self.float(number)?, dims)
    }

    /// The axis of `dim`; none where the argument is a single number.
    fn axis(&self, shape: &Shape, default: i64) -> Result<Option<usize>> {
        self.attrs.axis_or("dim", shape, default).map_err(candle_core::Error::wrap)
    }

    /// The axes of `dim`, or all.
    fn axes(&self) -> Result<Vec<usize>> {
        self.attrs.axes(self.input(0).shape).map_err(candle_core::Error::wrap)
    }

    /// What the rules of the language see.
    fn arguments(&self) -> Vec<Arg<'_>> {
        let arg = |input: &'_ Input<'_>| (input.name, input.dtype, input.weak);
        let shapes = self.inputs.iter().map(|input| input.shape);
        shapes
            .zip(self.inputs.iter().map(arg))
            .map(|(shape, (name, dtype, weak))| Arg { name, shape, dtype, weak, literal: None })
            .collect()
    }

    /// What the rules of the language see, with these arguments.
    fn given<'b>(&'b self, args: &'b [Arg<'b>]) -> Given<'b> {
        Given { spec: self.spec, args, attrs: self.attrs }
    }
}

/// A tensor broadcast to these sizes. One that has them stays as it is: its gradient would be summed over no axes, slowly.
fn broadcast(tensor: &Tensor, dims: &[usize]) -> Result<Tensor> {
    if tensor.dims() == dims { Ok(tensor.clone()) } else { tensor.broadcast_as(dims) }
}

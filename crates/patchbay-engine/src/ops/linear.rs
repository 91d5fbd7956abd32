//! Products, all of them contractions: two terms at a time, each pair as one batch of matrix products.

use candle_core::{Result, Tensor};
use patchbay_graph::ops::einsum::Product;
use patchbay_graph::ops::{Op, product};

use super::{Call, host};

/// A tensor whose axes have labels, each once.
#[derive(Clone)]
struct Term {
    tensor: Tensor,
    labels: Vec<usize>,
}

impl Call<'_> {
    pub(super) fn product(&self) -> Result<Tensor> {
        if self.spec.op == Op::Outer && !self.dtype.is_float() {
            return self.whole_outer();
        }
        let args = self.arguments();
        let plan = product(&self.given(&args)).map_err(candle_core::Error::wrap)?;
        // candle multiplies no matrices of whole numbers; they are exact in double precision up to 2^53
        let dtype = if self.dtype.is_float() { self.work() } else { candle_core::DType::F64 };
        let term = |number: usize| Term::new(&plan, number, &self.input(number).tensor.to_dtype(dtype)?);
        let mut terms: Vec<Option<Term>> =
            (0..self.inputs.len()).map(|number| term(number).map(Some)).collect::<Result<_>>()?;
        for pair in plan.pairs() {
            if let (Some(left), Some(right)) = (terms[pair.left].take(), terms[pair.right].take()) {
                terms[pair.left] = Some(left.times(&right, &pair.keep, &plan)?);
            }
        }
        match terms.into_iter().flatten().next() {
            Some(last) => last.in_order(&plan.output)?.reshape(self.shape.dims.as_slice()),
            None => candle_core::bail!("a product of nothing"),
        }
    }

    fn whole_outer(&self) -> Result<Tensor> {
        let (a, b) = (host::ints(&self.input(0).tensor)?, host::ints(&self.input(1).tensor)?);
        let data = a.iter().flat_map(|a| b.iter().map(|b| a.wrapping_mul(*b))).collect();
        host::of_ints(data, &self.shape.dims, self.dtype, self.device)
    }
}

impl Term {
    /// An operand: the diagonal of repeated labels, without axes that are broadcast, summed over what only it has.
    fn new(plan: &Product, number: usize, tensor: &Tensor) -> Result<Self> {
        let mut labels = plan.operands[number].clone();
        let mut tensor = tensor.clone();
        while let Some((first, second)) = repeated(&labels) {
            tensor = diagonal(&tensor, first, second)?;
            labels.remove(second);
        }
        let kept = plan.labels(number);
        for axis in (0..labels.len()).rev().filter(|axis| !kept.contains(&labels[*axis])).collect::<Vec<_>>() {
            tensor = tensor.squeeze(axis)?;
            labels.remove(axis);
        }
        let needed = plan.needed(number);
        let summed: Vec<usize> = (0..labels.len()).filter(|axis| !needed.contains(&labels[*axis])).collect();
        if !summed.is_empty() {
            tensor = tensor.sum(summed)?;
            labels.retain(|label| needed.contains(label));
        }
        Ok(Self { tensor, labels })
    }

    /// The product with another term, summed over all labels but those to keep.
    fn times(&self, other: &Self, keep: &[usize], plan: &Product) -> Result<Self> {
        let part = |of: &[usize], shared: bool, kept: bool, others: &[usize]| -> Vec<usize> {
            of.iter().copied().filter(|l| others.contains(l) == shared && keep.contains(l) == kept).collect()
        };
        let batch = part(&self.labels, true, true, &other.labels);
        let summed = part(&self.labels, true, false, &other.labels);
        let rows = part(&self.labels, false, true, &other.labels);
        let columns = part(&other.labels, false, true, &self.labels);
        let count = |labels: &[usize]| labels.iter().map(|label| plan.size(*label)).product::<usize>();
        let (b, m, k, n) = (count(&batch), count(&rows), count(&summed), count(&columns));
        let left = self.in_order(&[&batch[..], &rows, &summed].concat())?;
        let right = other.in_order(&[&batch[..], &summed, &columns].concat())?;
        let tensor = if summed.is_empty() || (m == 1 && n == 1) {
            let all = left
                .reshape((b, m, 1, k))?
                .broadcast_mul(&right.reshape((b, k, n))?.transpose(1, 2)?.reshape((b, 1, n, k))?)?;
            if k == 1 { all.squeeze(3)? } else { all.sum(3)? }
        } else {
            left.reshape((b, m, k))?.contiguous()?.matmul(&right.reshape((b, k, n))?.contiguous()?)?
        };
        let labels = [batch, rows, columns].concat();
        let dims: Vec<usize> = labels.iter().map(|label| plan.size(*label)).collect();
        Ok(Self { tensor: tensor.reshape(dims)?, labels })
    }

    /// The tensor with its axes in the order of these labels.
    fn in_order(&self, labels: &[usize]) -> Result<Tensor> {
        let axes: Option<Vec<usize>> =
            labels.iter().map(|label| self.labels.iter().position(|own| own == label)).collect();
        match axes {
            Some(axes) if axes.len() == self.labels.len() => self.tensor.permute(axes),
            _ => candle_core::bail!("a term has other labels than planned"),
        }
    }
}

/// The first two axes with one label.
fn repeated(labels: &[usize]) -> Option<(usize, usize)> {
    (0..labels.len())
        .find_map(|second| labels[..second].iter().position(|l| *l == labels[second]).map(|first| (first, second)))
}

/// The elements whose places on two axes are equal; the second axis is gone.
fn diagonal(tensor: &Tensor, first: usize, second: usize) -> Result<Tensor> {
    let dims = tensor.dims().to_vec();
    let size = dims[first];
    let mut order: Vec<usize> = (0..dims.len()).filter(|axis| *axis != first && *axis != second).collect();
    let others: Vec<usize> = order.iter().map(|axis| dims[*axis]).collect();
    order.splice(0..0, [first, second]);
    let places: Vec<u32> = (0..size as u32).map(|place| place * (size as u32 + 1)).collect();
    let places = Tensor::from_vec(places, size, tensor.device())?;
    let lines = tensor.permute(order)?.reshape((size * size, others.iter().product::<usize>()))?;
    let taken = lines.index_select(&places, 0)?.reshape([&[size][..], &others].concat())?;
    // the diagonal goes back to where the first axis was
    let mut back: Vec<usize> = (1..dims.len() - 1).collect();
    back.insert(first, 0);
    taken.permute(back)
}

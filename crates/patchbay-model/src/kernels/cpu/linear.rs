//! Projections: `x Wᵀ + b`.
//!
//! For few rows the work is reading the weights, for many it is multiplying. One loop serves both: a block of weight rows
//! comes from memory once and stays in the second-level cache; a few input rows at a time stay in the first-level cache
//! and are multiplied with it, strip by strip.

use std::ops::Range;

use candle_core::{Result, Tensor, bail};
use pulp::{Arch, Simd, WithSimd};

use super::dots::{LEFT, strip};
use super::memory::{Floats, split_columns};
use super::parallel::{part, share};
use crate::parameters::Linear;

/// Floats of weights that stay in the second-level cache.
const WEIGHTS: usize = 1 << 16;
/// Floats of input rows that stay in the first-level cache beside a strip of weights.
const INPUTS: usize = 1 << 13;
/// Input rows of the largest tile.
const TILE: usize = 6;
/// Multiplications below which a projection is not worth waking another core.
const SMALL: usize = 1 << 16;

/// `x: [T, in]` to one `[T, out]` for each projection.
pub(super) fn linear(arch: Arch, x: &Tensor, projections: &[&Linear]) -> Result<Vec<Tensor>> {
    let (tokens, input) = x.dims2()?;
    let mut widths = Vec::with_capacity(projections.len());
    for linear in projections {
        let (out, expected) = linear.weight.dims2()?;
        if expected != input {
            bail!("a projection of {expected} inputs was given {input}");
        }
        widths.push(out);
    }
    let x = x.contiguous()?;
    let x = Floats::of(&x)?;
    let weights = projections.iter().map(|linear| Floats::of(&linear.weight)).collect::<Result<Vec<_>>>()?;
    let biases = projections.iter().map(|linear| linear.bias.as_ref().map(Floats::of).transpose());
    let biases = biases.collect::<Result<Vec<_>>>()?;
    let mut outputs: Vec<_> = widths.iter().map(|out| vec![0.0; tokens * out]).collect();

    let total: usize = widths.iter().sum();
    let columns = if tokens * input * total <= SMALL { total.max(1) } else { part(total, LEFT) };
    let mut jobs = Vec::new();
    for (index, output) in outputs.iter_mut().enumerate() {
        let out = widths[index];
        let parts = (0..out).step_by(columns).map(|first| columns.min(out - first));
        let firsts = (0..out).step_by(columns);
        for (first, output) in firsts.zip(split_columns(output, out, parts)) {
            let last = out.min(first + columns);
            let weight = &weights[index][first * input..last * input];
            let bias = biases[index].as_ref().map(|bias| &bias[first..last]);
            jobs.push(Job { x: &x, input, weight, bias, output });
        }
    }
    share(jobs, |job| arch.dispatch(job));
    outputs
        .into_iter()
        .zip(widths)
        .map(|(data, out)| Tensor::from_vec(data, (tokens, out), &candle_core::Device::Cpu))
        .collect()
}

/// Some neighbouring outputs of one projection, for all rows.
struct Job<'a> {
    x: &'a [f32],
    input: usize,
    /// `[outputs, input]`.
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    /// A row's outputs, for each row of `x`.
    output: Vec<&'a mut [f32]>,
}

impl WithSimd for Job<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (rows, outputs) = (self.output.len(), self.weight.len() / self.input.max(1));
        let block = (WEIGHTS / self.input.max(1)).next_multiple_of(LEFT).max(LEFT);
        let group = (INPUTS / self.input.max(1) / TILE * TILE).max(TILE);
        for first in (0..outputs).step_by(block) {
            for row in (0..rows).step_by(group) {
                self.block(simd, first..outputs.min(first + block), row..rows.min(row + group));
            }
        }
    }
}

impl Job<'_> {
    #[inline(always)]
    fn block<S: Simd>(&mut self, simd: S, outputs: Range<usize>, rows: Range<usize>) {
        let (x, input, bias) = (self.x, self.input, self.bias);
        let row = |row: usize| &x[row * input..(row + 1) * input];
        let bias = |output: usize| bias.map_or(0.0, |bias| bias[output]);
        let weight = |output: usize| &self.weight[output * input..(output + 1) * input];
        let tiled = outputs.end - outputs.len() % LEFT;
        for first in (outputs.start..tiled).step_by(LEFT) {
            let left = [weight(first), weight(first + 1), weight(first + 2), weight(first + 3)];
            strip(simd, left, row, rows.clone(), |row, products| {
                for (offset, product) in products.into_iter().enumerate() {
                    self.output[row][first + offset] = product + bias(first + offset);
                }
            });
        }
        for output in tiled..outputs.end {
            strip(simd, [weight(output)], row, rows.clone(), |row, [product]| {
                self.output[row][output] = product + bias(output);
            });
        }
    }
}

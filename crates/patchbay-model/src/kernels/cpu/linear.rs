//! Projections: `x Wᵀ + b`, and their gradient.
//!
//! For few rows the work is reading the weights, for many it is multiplying. One loop serves both: a panel of weights comes
//! from memory once and stays in the second-level cache, and the rows go through it in groups.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor, bail};
use pulp::{Arch, Simd, WithSimd};

use super::grouped::Grouped;
use super::memory::{Columns, Floats, split_columns};
use super::parallel::{part, share};
use super::tile::{multiply, multiply_widening};
use crate::matrix::Matrix;
use crate::panels::{Lanes, PANEL, Panels};
use crate::parameters::Linear;
use crate::precision::Precision;

/// Multiplications below which a projection is not worth waking another core.
const SMALL: usize = 1 << 16;

/// `x: [T, in]` to one `[T, out]` for each projection.
pub(super) fn linear(arch: Arch, x: &Tensor, projections: &[&Linear]) -> Result<Vec<Tensor>> {
    let (tokens, input) = x.dims2()?;
    let weights = projections.iter().map(|linear| panels(&linear.weight)).collect::<Result<Vec<_>>>()?;
    if let Some((_, expected)) = weights.iter().map(|weights| weights.dims()).find(|(_, columns)| *columns != input) {
        bail!("a projection of {expected} inputs was given {input}");
    }
    let biases = projections.iter().map(|linear| linear.bias.as_ref().map(Floats::of).transpose());
    let biases = biases.collect::<Result<Vec<_>>>()?;
    let x = x.contiguous()?;
    let x = Grouped::new(arch, &Floats::of(&x)?, input);

    let total: usize = weights.iter().map(|weights| weights.count()).sum();
    let columns = columns_of_a_job(tokens * input, total);
    let mut outputs: Vec<_> = weights.iter().map(|weights| vec![0.0; tokens * weights.dims().0]).collect();
    let mut jobs = Vec::new();
    for ((weights, bias), output) in weights.iter().zip(&biases).zip(&mut outputs) {
        let source = Source::Rows(weights);
        jobs.extend(split(weights.dims().0, columns, output).map(|(columns, output)| {
            let bias = bias.as_ref().map(|bias| &bias[columns.clone()]);
            Job { x: &x, source, columns, bias, output }
        }));
    }
    share(jobs, |job| arch.dispatch(job));
    let made = outputs.into_iter().zip(&weights);
    made.map(|(data, weights)| Tensor::from_vec(data, (tokens, weights.dims().0), &Device::Cpu)).collect()
}

/// The gradient of a projection's input, `[T, in]`, by that of its output, `gradient: [T, out]`.
pub(super) fn linear_backward(arch: Arch, gradient: &Tensor, weight: &Matrix) -> Result<Tensor> {
    let (tokens, output) = gradient.dims2()?;
    let weights = panels(weight)?;
    let (rows, input) = weights.dims();
    if rows != output {
        bail!("a projection of {rows} outputs was given a gradient of {output}");
    }
    let gradient = gradient.contiguous()?;
    let x = Grouped::new(arch, &Floats::of(&gradient)?, output);
    let mut data = vec![0.0; tokens * input];
    let columns = columns_of_a_job(tokens * output, input.div_ceil(PANEL));
    let source = Source::Columns(&weights);
    let jobs = split(input, columns, &mut data);
    let jobs = jobs.map(|(columns, output)| Job { x: &x, source, columns, bias: None, output }).collect();
    share(jobs, |job| arch.dispatch(job));
    Tensor::from_vec(data, (tokens, input), &Device::Cpu)
}

/// The matrix in panels: as it is, or made now where it is plain.
fn panels(matrix: &Matrix) -> Result<Cow<'_, Arc<Panels>>> {
    match matrix {
        Matrix::Panels(panels) => Ok(Cow::Borrowed(panels)),
        Matrix::Plain(tensor) => Ok(Cow::Owned(Arc::new(Panels::of(tensor, Precision::F32)?))),
    }
}

/// How many outputs a job makes, of so many panels, where a panel takes so many multiplications a row of it.
fn columns_of_a_job(numbers: usize, panels: usize) -> usize {
    PANEL * if numbers * panels * PANEL <= SMALL { panels.max(1) } else { part(panels, 1) }
}

/// A matrix's outputs in jobs of `columns`, each with its part of every row.
fn split(width: usize, columns: usize, output: &mut [f32]) -> impl Iterator<Item = (Range<usize>, Columns<'_>)> {
    let ranges = (0..width).step_by(columns).map(move |first| first..width.min(first + columns));
    ranges.clone().zip(split_columns(output, width, ranges.map(|range| range.len())))
}

/// Where the weights of 32 outputs come from.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// 32 rows of the matrix: a panel.
    Rows(&'a Panels),
    /// 32 columns of it.
    Columns(&'a Panels),
}

impl<'a> Source<'a> {
    #[inline(always)]
    fn panel(self, number: usize, scratch: &'a mut Vec<Lanes>) -> &'a [Lanes] {
        match self {
            Self::Rows(panels) => panels.panel(number, scratch),
            Self::Columns(panels) => {
                turned(panels, number, scratch);
                scratch
            }
        }
    }
}

/// 32 columns of a matrix as a panel: for each of its rows the numbers side by side.
#[inline(always)]
fn turned(panels: &Panels, number: usize, to: &mut Vec<Lanes>) {
    let (rows, columns) = panels.dims();
    let columns = number * PANEL..columns.min((number + 1) * PANEL);
    to.resize(rows, [0.0; PANEL]);
    let mut block = [[0.0; PANEL]; PANEL];
    for (panel, to) in to.chunks_mut(PANEL).enumerate() {
        panels.widened(panel, columns.clone(), &mut block[..columns.len()]);
        for (row, to) in to.iter_mut().enumerate() {
            *to = std::array::from_fn(|column| block[column][row]);
        }
    }
}

/// Some neighbouring outputs of one projection, for all rows.
struct Job<'a> {
    x: &'a Grouped,
    source: Source<'a>,
    /// The outputs, from a multiple of 32 on.
    columns: Range<usize>,
    bias: Option<&'a [f32]>,
    /// A row's outputs, for each row of `x`.
    output: Columns<'a>,
}

impl WithSimd for Job<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let mut scratch = Vec::new();
        if let Source::Rows(panels) = self.source
            && panels.precision() != Precision::F32
            && let [group] = self.x.groups()
        {
            return self.few_rows(simd, panels, group.clone());
        }
        for groups in self.x.runs() {
            for first in self.columns.clone().step_by(PANEL) {
                let panel = self.source.panel(first / PANEL, &mut scratch);
                let at = first - self.columns.start;
                for group in groups {
                    multiply(simd, panel, self.x.of(group), group.len(), |row, offset, products| {
                        put(self.output.row(group.start + row), at + offset, products, self.bias);
                    });
                }
            }
        }
    }
}

impl Job<'_> {
    /// Of one group of rows, for which widening a panel as a whole would only be in the way.
    #[inline(always)]
    fn few_rows<S: Simd>(&mut self, simd: S, panels: &Panels, group: Range<usize>) {
        for first in self.columns.clone().step_by(PANEL) {
            let (panel, at) = ((panels, first / PANEL), first - self.columns.start);
            multiply_widening(simd, panel, self.x.of(&group), group.len(), |row, offset, products| {
                put(self.output.row(group.start + row), at + offset, products, self.bias);
            });
        }
    }
}

/// Puts products with their bias from a place of a row's outputs on, as many as there is room for.
#[inline(always)]
fn put(output: &mut [f32], at: usize, products: &[f32], bias: Option<&[f32]>) {
    let to = output.len().min(at)..output.len().min(at + products.len());
    let bias = bias.map(|bias| &bias[to.clone()]);
    add(&mut output[to], products, bias);
}

/// As many products as there is room for, and their bias.
#[inline(always)]
fn add(to: &mut [f32], products: &[f32], bias: Option<&[f32]>) {
    match bias {
        None => to.copy_from_slice(&products[..to.len()]),
        Some(bias) => {
            for ((to, product), bias) in to.iter_mut().zip(products).zip(bias) {
                *to = product + bias;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instructions::arch;

    /// A row's outputs have the same bits alone, in a few rows and in many, whatever the weights are kept as.
    #[test]
    fn company_changes_no_bit() {
        let numbers = |count: usize, seed: usize| -> Vec<f32> {
            (0..count).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0).collect()
        };
        for (rows, columns) in [(1, 1), (33, 31), (70, 129), (64, 576), (40, 1000)] {
            let weight = Tensor::from_vec(numbers(rows * columns, 1), (rows, columns), &Device::Cpu).unwrap();
            let x = Tensor::from_vec(numbers(30 * columns, 2), (30, columns), &Device::Cpu).unwrap();
            for precision in Precision::ALL {
                let weight = Matrix::Panels(Arc::new(Panels::of(&weight, precision).unwrap()));
                let projection = Linear { weight, bias: None };
                let out =
                    |x: &Tensor| -> Vec<Vec<f32>> { linear(arch(), x, &[&projection]).unwrap()[0].to_vec2().unwrap() };
                let all = out(&x);
                for (first, count) in [(0, 1), (3, 2), (9, 3), (1, 4), (8, 5), (2, 6), (5, 7), (4, 12), (9, 20)] {
                    let few = out(&x.narrow(0, first, count).unwrap());
                    assert_eq!(few, all[first..first + count], "{precision}: {count} rows of [{rows}, {columns}]");
                }
            }
        }
    }
}

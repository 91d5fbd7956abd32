//! Softmax over the last axis.

use candle_core::{Device, Result, Tensor};
use pulp::{Arch, Simd, WithSimd};

use super::exp::exp;
use super::lanes::fold;
use super::memory::Floats;
use super::parallel::{rows_per_job, share};

/// The softmax of each row of `x: [.., width]`.
pub(super) fn softmax(arch: Arch, x: &Tensor) -> Result<Tensor> {
    let width = x.dims().last().copied().unwrap_or(1).max(1);
    let x = x.contiguous()?;
    let input = Floats::of(&x)?;
    let mut output = vec![0.0; input.len()];
    let chunk = rows_per_job(width) * width;
    share(input.chunks(chunk).zip(output.chunks_mut(chunk)).collect(), |(input, output)| {
        for (input, row) in input.chunks_exact(width).zip(output.chunks_exact_mut(width)) {
            row.copy_from_slice(input);
            arch.dispatch(Softmax { row, sink: None });
        }
    });
    Tensor::from_vec(output, x.shape(), &Device::Cpu)
}

/// The softmax of a row, and of a sink that is no part of it.
pub(super) struct Softmax<'a> {
    pub(super) row: &'a mut [f32],
    pub(super) sink: Option<f32>,
}

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { row, sink } = self;
        let highest = fold(row, f32::NEG_INFINITY, |x| x, f32::max);
        let highest = sink.map_or(highest, |sink| highest.max(sink));
        for score in &mut *row {
            *score = exp(*score - highest);
        }
        let total = fold(row, 0.0, |x| x, |a, b| a + b);
        let total = sink.map_or(total, |sink| total + exp(sink - highest));
        for prob in row {
            *prob /= total;
        }
    }
}

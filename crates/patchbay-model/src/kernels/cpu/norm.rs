//! Norms over the last axis.

use candle_core::{Device, Result, Tensor, bail};
use pulp::{Arch, Simd, WithSimd};

use super::lanes::fold;
use super::memory::Floats;
use super::parallel::{rows_per_job, share};
use crate::parameters::Norm;
use crate::spec::NormKind;

/// The norm of `x: [.., width]`.
pub(super) fn norm(arch: Arch, x: &Tensor, norm: &Norm) -> Result<Tensor> {
    let shape = norm.weight.dims();
    if !x.dims().ends_with(shape) {
        bail!("a norm over {shape:?} channels was given a value of shape {:?}", x.shape());
    }
    let width = shape.last().copied().unwrap_or(1);
    let x = x.contiguous()?;
    let input = Floats::of(&x)?;
    let weight = Floats::of(&norm.weight)?;
    let bias = norm.bias.as_ref().map(Floats::of).transpose()?;
    let parameters =
        Parameters { kind: norm.kind, eps: norm.eps, width, weight: &weight, bias: bias.as_deref().unwrap_or(&[]) };
    let mut output = vec![0.0; input.len()];
    let chunk = rows_per_job(weight.len()) * weight.len();
    share(input.chunks(chunk).zip(output.chunks_mut(chunk)).collect(), |(input, output)| {
        arch.dispatch(Job { parameters: &parameters, input, output });
    });
    Tensor::from_vec(output, x.shape(), &Device::Cpu)
}

/// Some neighbouring rows.
struct Job<'a> {
    parameters: &'a Parameters<'a>,
    input: &'a [f32],
    output: &'a mut [f32],
}

impl WithSimd for Job<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.parameters.rows(self.input, self.output);
    }
}

struct Parameters<'a> {
    kind: NormKind,
    eps: f32,
    width: usize,
    /// One width, or one for each group.
    weight: &'a [f32],
    /// Empty where there is none.
    bias: &'a [f32],
}

impl Parameters<'_> {
    #[inline(always)]
    fn rows(&self, input: &[f32], output: &mut [f32]) {
        let width = self.width;
        let weights = self.weight.chunks_exact(width).cycle();
        for ((x, y), weight) in input.chunks_exact(width).zip(output.chunks_exact_mut(width)).zip(weights) {
            let mean = match self.kind {
                NormKind::Rms => 0.0,
                NormKind::Layer => fold(x, 0.0, |x| x, |a, b| a + b) / width as f32,
            };
            let variance = fold(x, 0.0, |x| (x - mean) * (x - mean), |a, b| a + b) / width as f32;
            let factor = 1.0 / (variance + self.eps).sqrt();
            for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                *y = (x - mean) * factor * weight;
            }
            for (y, bias) in y.iter_mut().zip(self.bias) {
                *y += bias;
            }
        }
    }
}

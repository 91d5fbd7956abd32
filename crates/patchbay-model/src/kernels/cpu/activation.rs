//! Activations, fused with the product of a gated MLP.

use candle_core::{Device, Result, Tensor, bail};
use pulp::{Arch, Simd, WithSimd};

use super::exp::{exp, exp_minus_one};
use super::memory::Floats;
use super::parallel::{rows_per_job, share};
use crate::spec::{Activation, Xielu};

/// `activation(x) · up`.
pub(super) fn activate(arch: Arch, activation: Activation, x: &Tensor, up: Option<&Tensor>) -> Result<Tensor> {
    if let Some(up) = up
        && up.shape() != x.shape()
    {
        bail!("a gate of shape {:?} cannot meet an up projection of shape {:?}", x.shape(), up.shape());
    }
    let x = x.contiguous()?;
    let up = up.map(Tensor::contiguous).transpose()?;
    let input = Floats::of(&x)?;
    let up = up.as_ref().map(Floats::of).transpose()?;
    let mut output = vec![0.0; input.len()];
    let chunk = rows_per_job(1);
    let ups: Vec<Option<&[f32]>> = match &up {
        Some(up) => up.chunks(chunk).map(Some).collect(),
        None => vec![None; input.len().div_ceil(chunk)],
    };
    let jobs = output.chunks_mut(chunk).zip(input.chunks(chunk)).zip(ups).collect();
    share(jobs, |((output, input), up)| arch.dispatch(Job { activation, input, up, output }));
    Tensor::from_vec(output, x.shape(), &Device::Cpu)
}

/// Some neighbouring elements.
struct Job<'a> {
    activation: Activation,
    input: &'a [f32],
    up: Option<&'a [f32]>,
    output: &'a mut [f32],
}

impl WithSimd for Job<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        apply(self.activation, self.input, self.up, self.output);
    }
}

#[inline(always)]
fn apply(activation: Activation, input: &[f32], up: Option<&[f32]>, output: &mut [f32]) {
    match activation {
        Activation::Silu => each(input, output, |x| x / (1.0 + exp(-x))),
        Activation::GeluErf => each(input, output, gelu_erf),
        Activation::GeluTanh => each(input, output, gelu_tanh),
        Activation::Relu => each(input, output, relu),
        Activation::ReluSquared => each(input, output, |x| relu(x) * relu(x)),
        Activation::Xielu(numbers) => each(input, output, |x| xielu(numbers, x)),
        Activation::ClampedSilu { sharpness, limit } => {
            each(input, output, |x| {
                let x = if x > limit { limit } else { x };
                x / (1.0 + exp(-sharpness * x))
            });
            for (y, up) in output.iter_mut().zip(up.unwrap_or(&[])) {
                let up = if *up > limit { limit } else { *up };
                *y *= if up < -limit { -limit } else { up } + 1.0;
            }
            return;
        }
    }
    for (y, up) in output.iter_mut().zip(up.unwrap_or(&[])) {
        *y *= up;
    }
}

#[inline(always)]
fn each(input: &[f32], output: &mut [f32], of: impl Fn(f32) -> f32) {
    for (y, x) in output.iter_mut().zip(input) {
        *y = of(*x);
    }
}

/// `x / 2 · (1 + erf(x / √2))`.
#[inline(always)]
fn gelu_erf(x: f32) -> f32 {
    0.5 * x * (1.0 + candle_core::cpu::erf::erf_f32(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// `x / 2 · (1 + tanh(u))` with `u = √(2/π) (x + 0.044715 x³)`, which is `x / (1 + e⁻²ᵘ)`.
#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769_2;
    x / (1.0 + exp(-TWICE_SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x)))
}

#[inline(always)]
fn xielu(Xielu { positive, negative, beta, eps }: Xielu, x: f32) -> f32 {
    let below = (exp_minus_one(if x > eps { eps } else { x }) - x) * negative;
    let curve = if x > 0.0 { positive * x * x } else { below };
    curve + beta * x
}

/// `max(x, 0)`; NaN stays NaN.
#[inline(always)]
fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

//! Rotating heads by their tokens' positions.

use std::ops::Range;

use candle_core::{Device, Result, Tensor, bail};
use pulp::{Arch, Simd, WithSimd};

use super::memory::Floats;
use super::parallel::{rows_per_job, share};
use crate::rope::{Pairing, RotaryRows};

/// Rotates `x: [T, heads, d]`.
pub(super) fn rotate(arch: Arch, x: &Tensor, rows: &RotaryRows) -> Result<Tensor> {
    let (tokens, heads, dim) = x.dims3()?;
    let (known, pairs) = rows.cos.dims2()?;
    let (rotated, pairing) = (rows.start..rows.start + 2 * pairs, rows.pairing);
    if known != tokens || rotated.end > dim {
        bail!(
            "channels {rotated:?} of {tokens} tokens' heads of {dim} cannot be rotated by {known} rows of {pairs} pairs"
        );
    }
    let x = x.contiguous()?;
    let input = Floats::of(&x)?;
    let (cos, sin) = (Floats::of(&rows.cos)?, Floats::of(&rows.sin)?);
    let mut output = input.to_vec();
    let tokens_per_job = rows_per_job(heads * dim);
    let angles = cos.chunks(tokens_per_job * pairs).zip(sin.chunks(tokens_per_job * pairs));
    let heads_of = tokens_per_job * heads * dim;
    let jobs = output.chunks_mut(heads_of).zip(input.chunks(heads_of)).zip(angles).collect();
    share(jobs, |((output, input), (cos, sin))| {
        arch.dispatch(Job { heads, dim, rotated: rotated.clone(), pairing, input, output, cos, sin });
    });
    Tensor::from_vec(output, x.shape(), &Device::Cpu)
}

/// Some neighbouring tokens.
struct Job<'a> {
    heads: usize,
    dim: usize,
    /// The channels of a head that rotate.
    rotated: Range<usize>,
    pairing: Pairing,
    /// What `output` is a copy of.
    input: &'a [f32],
    output: &'a mut [f32],
    cos: &'a [f32],
    sin: &'a [f32],
}

impl WithSimd for Job<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { heads, dim, rotated, pairing, input, output, cos, sin } = self;
        let pairs = rotated.len() / 2;
        let angles = cos.chunks_exact(pairs).zip(sin.chunks_exact(pairs));
        let tokens = output.chunks_exact_mut(heads * dim).zip(input.chunks_exact(heads * dim));
        for ((token, input), (cos, sin)) in tokens.zip(angles) {
            for (head, input) in token.chunks_exact_mut(dim).zip(input.chunks_exact(dim)) {
                turn(&input[rotated.clone()], &mut head[rotated.clone()], cos, sin, pairing);
            }
        }
    }
}

/// Rotates the channels of a head, of which `head` is a copy.
#[inline(always)]
fn turn(input: &[f32], head: &mut [f32], cos: &[f32], sin: &[f32], pairing: Pairing) {
    match pairing {
        Pairing::Halves => {
            let (first, second) = head.split_at_mut(cos.len());
            for ((a, b), (cos, sin)) in first.iter_mut().zip(second).zip(cos.iter().zip(sin)) {
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
        Pairing::Neighbours => {
            for (pair, (cos, sin)) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos.iter().zip(sin)) {
                let [a, b] = *pair;
                *pair = [a * cos - b * sin, b * cos + a * sin];
            }
        }
        Pairing::NeighboursToHalves => {
            let (first, second) = head.split_at_mut(cos.len());
            let pairs = input.as_chunks::<2>().0.iter().zip(cos.iter().zip(sin));
            for ((x, y), ([a, b], (cos, sin))) in first.iter_mut().zip(second).zip(pairs) {
                (*x, *y) = (a * cos - b * sin, b * cos + a * sin);
            }
        }
    }
}

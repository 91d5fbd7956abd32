//! The kernels as candle's operations, each with a right backward: any device, any float type, and the oracle.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::ops;

use super::{Kernels, Scoring, check_spans};
use crate::parameters::{Linear, Norm};
use crate::rope::{Pairing, RotaryRows};
use crate::segments::{Segment, Segments, Span};
use crate::spec::{Activation, NormKind};

/// The kernels as candle's operations.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Kernels for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn linear(&self, x: &Tensor, projections: &[&Linear]) -> Result<Vec<Tensor>> {
        let project = |linear: &&Linear| {
            let y = x.matmul(&linear.weight.t()?)?;
            linear.bias.as_ref().map_or(Ok(y.clone()), |bias| y.broadcast_add(bias))
        };
        projections.iter().map(project).collect()
    }

    fn norm(&self, x: &Tensor, norm: &Norm) -> Result<Tensor> {
        let zeros = || norm.weight.zeros_like();
        match norm.kind {
            NormKind::Rms => ops::rms_norm_slow(x, &norm.weight, norm.eps),
            NormKind::Layer => {
                let bias = norm.bias.clone().map_or_else(zeros, Ok)?;
                ops::layer_norm_slow(x, &norm.weight, &bias, norm.eps)
            }
        }
    }

    fn rotate(&self, x: &Tensor, rows: &RotaryRows) -> Result<Tensor> {
        let (tokens, heads, dim) = x.dims3()?;
        let pairs = rows.cos.dim(1)?;
        let (cos, sin) = (rows.cos.unsqueeze(1)?, rows.sin.unsqueeze(1)?);
        let (a, b) = match rows.pairing {
            Pairing::Halves => (x.narrow(2, 0, pairs)?, x.narrow(2, pairs, pairs)?),
            Pairing::Neighbours => {
                let x = x.narrow(2, 0, 2 * pairs)?.contiguous()?.reshape((tokens, heads, pairs, 2))?;
                (x.narrow(3, 0, 1)?.squeeze(3)?, x.narrow(3, 1, 1)?.squeeze(3)?)
            }
        };
        let turned_a = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
        let turned_b = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
        let turned = match rows.pairing {
            Pairing::Halves => Tensor::cat(&[turned_a, turned_b], 2)?,
            Pairing::Neighbours => Tensor::stack(&[turned_a, turned_b], 3)?.reshape((tokens, heads, 2 * pairs))?,
        };
        if 2 * pairs == dim {
            return Ok(turned);
        }
        Tensor::cat(&[turned, x.narrow(2, 2 * pairs, dim - 2 * pairs)?], 2)
    }

    fn scores(&self, q: &Tensor, keys: &[Tensor], segments: &Segments, scoring: &Scoring) -> Result<Tensor> {
        let heads = q.dim(1)?;
        check_spans(segments, keys)?;
        let matrix = |segment: &Segment| {
            let q = heads_first(&q.narrow(0, segment.start, segment.len)?, heads)?;
            let k = heads_first(&looked_on(keys, segment)?, heads)?;
            let scores = (q.matmul(&k.t()?)? * f64::from(scoring.scale))?;
            let scores = match scoring.soft_cap.map(f64::from) {
                Some(cap) => ((scores / cap)?.tanh()? * cap)?,
                None => scores,
            };
            let scores = match &scoring.alibi {
                Some(_) => scores.broadcast_add(&biases(segment, heads, scoring, &scores)?)?,
                None => scores,
            };
            let hidden = Tensor::new(f32::NEG_INFINITY, q.device())?.to_dtype(q.dtype())?;
            let seen = seen(segment, scoring, q.device())?.broadcast_as(scores.shape())?;
            seen.where_cond(&scores, &hidden.broadcast_as(scores.shape())?)?.flatten_all()
        };
        cat(segments.iter().map(matrix), q, &[0])
    }

    fn probs(&self, scores: &Tensor, segments: &Segments, heads: usize) -> Result<Tensor> {
        let softmax = |matrix: Result<Tensor>| {
            let probs = ops::softmax(&matrix?.to_dtype(DType::F32)?, D::Minus1)?;
            probs.to_dtype(scores.dtype())?.flatten_all()
        };
        cat(matrices(scores, segments, heads).map(softmax), scores, &[0])
    }

    fn mix(&self, probs: &Tensor, values: &[Tensor], segments: &Segments, heads: usize) -> Result<Tensor> {
        check_spans(segments, values)?;
        let mix = |(matrix, segment): (Result<Tensor>, &Segment)| {
            matrix?.matmul(&heads_first(&looked_on(values, segment)?, heads)?)?.transpose(0, 1)?.contiguous()
        };
        let width = values.first().map_or(Ok(0), |values| values.dim(2))?;
        cat(matrices(probs, segments, heads).zip(segments).map(mix), probs, &[0, heads, width])
    }

    fn activate(&self, activation: Activation, x: &Tensor, up: Option<&Tensor>) -> Result<Tensor> {
        let active = match activation {
            Activation::Silu => ops::silu(x)?,
            Activation::GeluErf => x.gelu_erf()?,
            Activation::GeluTanh => x.gelu()?,
            Activation::Relu => x.relu()?,
            Activation::ReluSquared => x.relu()?.sqr()?,
        };
        up.map_or(Ok(active.clone()), |up| active * up)
    }
}

/// The rows that a segment looks on, `[keys, K, d]`.
fn looked_on(sources: &[Tensor], segment: &Segment) -> Result<Tensor> {
    let part = |span: &Span| sources[span.source].narrow(0, span.start, span.len);
    match segment.keys.as_slice() {
        [span] => part(span),
        spans => Tensor::cat(&spans.iter().map(part).collect::<Result<Vec<_>>>()?, 0),
    }
}

/// Heads `[rows, K, d]` as `[heads, rows, d]`, each repeated for the query heads that share it.
fn heads_first(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (rows, stored, dim) = x.dims3()?;
    let shared = (stored, heads / stored, rows, dim);
    x.transpose(0, 1)?.unsqueeze(1)?.broadcast_as(shared)?.contiguous()?.reshape((heads, rows, dim))
}

/// Each segment's `[heads, len, keys]`.
fn matrices(flat: &Tensor, segments: &Segments, heads: usize) -> impl Iterator<Item = Result<Tensor>> {
    let mut start = 0;
    segments.iter().map(move |segment| {
        let shape = (heads, segment.len, segment.key_count());
        let count = heads * segment.len * segment.key_count();
        start += count;
        flat.narrow(0, start - count, count)?.reshape(shape)
    })
}

/// `[len, keys]`: 1 where the query (row) sees the key (column).
fn seen(segment: &Segment, scoring: &Scoring, device: &Device) -> Result<Tensor> {
    let keys = segment.key_count();
    let row = |query| (0..keys).map(move |key| u8::from((scoring.first_key(query)..=query).contains(&key)));
    Tensor::from_vec(segment.positions().flat_map(row).collect(), (segment.len, keys), device)
}

/// `[heads, 1, keys]`: what each head adds to each key's scores.
fn biases(segment: &Segment, heads: usize, scoring: &Scoring, like: &Tensor) -> Result<Tensor> {
    let row = |head| (0..segment.key_count()).map(move |key| scoring.bias(head, key, segment.length));
    let biases: Vec<f32> = (0..heads).flat_map(row).collect();
    Tensor::from_vec(biases, (heads, 1, segment.key_count()), like.device())?.to_dtype(like.dtype())
}

/// The parts one after the other, or an empty tensor of `like`'s type where there are none.
fn cat(parts: impl Iterator<Item = Result<Tensor>>, like: &Tensor, empty: &[usize]) -> Result<Tensor> {
    let parts = parts.collect::<Result<Vec<_>>>()?;
    if parts.is_empty() { Tensor::zeros(empty, like.dtype(), like.device()) } else { Tensor::cat(&parts, 0) }
}

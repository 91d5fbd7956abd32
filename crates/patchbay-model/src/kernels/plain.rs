//! The kernels as candle's operations, each with a right backward: any device, any float type, and the oracle.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::ops;

use super::{Kernels, Scoring, check_spans};
use crate::derive::{derived, derived2};
use crate::parameters::{Linear, Norm};
use crate::rope::{Pairing, RotaryRows};
use crate::segments::{Segment, Segments, Span};
use crate::spec::{Activation, NormKind, Xielu};

/// The kernels as candle's operations.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Kernels for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn linear(&self, x: &Tensor, projections: &[&Linear]) -> Result<Vec<Tensor>> {
        // nobody asks for gradients of weights: candle's own product would make them, each as large as its weight
        let project = |linear: &&Linear| {
            let y = x.detach().matmul(&linear.weight.tensor()?.t()?)?;
            let y = linear.bias.as_ref().map_or(Ok(y.clone()), |bias| y.broadcast_add(bias))?;
            let weight = linear.weight.clone();
            derived(x, y, move |_, _, gradient| gradient.contiguous()?.matmul(&weight.tensor()?))
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
        let (start, end) = (rows.start, rows.start + 2 * pairs);
        let (a, b) = match rows.pairing {
            Pairing::Halves => (x.narrow(2, start, pairs)?, x.narrow(2, start + pairs, pairs)?),
            Pairing::Neighbours | Pairing::NeighboursToHalves => {
                let x = x.narrow(2, start, 2 * pairs)?.contiguous()?.reshape((tokens, heads, pairs, 2))?;
                (x.narrow(3, 0, 1)?.squeeze(3)?, x.narrow(3, 1, 1)?.squeeze(3)?)
            }
        };
        let turned_a = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
        let turned_b = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
        let turned = match rows.pairing {
            Pairing::Halves | Pairing::NeighboursToHalves => Tensor::cat(&[turned_a, turned_b], 2)?,
            Pairing::Neighbours => Tensor::stack(&[turned_a, turned_b], 3)?.reshape((tokens, heads, 2 * pairs))?,
        };
        if 2 * pairs == dim {
            return Ok(turned);
        }
        let kept = |from, to| if from < to { Some(x.narrow(2, from, to - from)) } else { None };
        let parts = [kept(0, start), Some(Ok(turned)), kept(end, dim)].into_iter().flatten();
        Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 2)
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

    fn probs(&self, scores: &Tensor, segments: &Segments, heads: usize, sinks: Option<&[f32]>) -> Result<Tensor> {
        let sinks = sinks.map(|sinks| Tensor::new(sinks, scores.device())?.reshape((heads, 1, 1))).transpose()?;
        let softmax = |matrix: Result<Tensor>| {
            let matrix = matrix?.to_dtype(DType::F32)?;
            let (_, rows, keys) = matrix.dims3()?;
            let probs = match &sinks {
                Some(sinks) => {
                    let with_sinks = Tensor::cat(&[&matrix, &sinks.broadcast_as((heads, rows, 1))?], 2)?;
                    ops::softmax(&with_sinks, D::Minus1)?.narrow(2, 0, keys)?
                }
                None => ops::softmax(&matrix, D::Minus1)?,
            };
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
            Activation::Xielu(numbers) => xielu(numbers, x)?,
            Activation::ClampedSilu { sharpness, limit } => {
                let up = up.map_or_else(|| x.zeros_like(), |up| Ok(up.clone()))?;
                return clamped_silu([sharpness, limit].map(f64::from), x, &up);
            }
        };
        up.map_or(Ok(active.clone()), |up| active * up)
    }
}

/// `gate · σ(sharpness · gate) · (up + 1)` of the bounded gate and up.
fn clamped_silu([sharpness, limit]: [f64; 2], gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let parts = move |gate: &Tensor, up: &Tensor| {
        let gate = gate.minimum(limit)?;
        let share = ops::sigmoid(&(&gate * sharpness)?)?;
        Ok::<_, candle_core::Error>((gate, share, (up.clamp(-limit, limit)? + 1.0)?))
    };
    let value = {
        let (gate, share, up) = parts(&gate.detach(), &up.detach())?;
        ((gate * share)? * up)?
    };
    derived2(gate, up, value, move |raw_gate, raw_up, _, gradient| {
        let (gate, share, up) = parts(raw_gate, raw_up)?;
        let moves = |inside: Tensor| inside.to_dtype(gradient.dtype());
        let active = (&gate * &share)?;
        // of x σ(s x): σ(s x) + s x σ(s x) (1 - σ(s x))
        let slope = (&share + ((&active * (1.0 - &share)?)? * sharpness)?)?;
        let to_gate = (((gradient * up)? * slope)? * moves(raw_gate.le(limit)?)?)?;
        let to_up = ((gradient * active)? * moves(raw_up.abs()?.le(limit)?)?)?;
        Ok((to_gate, to_up))
    })
}

/// `exp(x) - 1` is here `tanh(x / 2) (exp(x) + 1)`, which loses nothing near 0.
fn xielu(numbers: Xielu, x: &Tensor) -> Result<Tensor> {
    let [positive, negative, beta, eps] =
        [numbers.positive, numbers.negative, numbers.beta, numbers.eps].map(f64::from);
    let value = |x: &Tensor| {
        let below = {
            let bounded = x.minimum(eps)?;
            let raised = ((&bounded * 0.5)?.tanh()? * (bounded.exp()? + 1.0)?)?;
            ((raised - x)? * negative)?
        };
        x.gt(0.0)?.where_cond(&(x.sqr()? * positive)?, &below)? + (x * beta)?
    };
    let slope = move |x: &Tensor| {
        let moves = x.lt(eps)?.to_dtype(x.dtype())?;
        let below = (((x.minimum(eps)?.exp()? * moves)? - 1.0)? * negative)?;
        x.gt(0.0)?.where_cond(&(x * (2.0 * positive))?, &below)? + beta
    };
    derived(x, value(&x.detach())?, move |x, _, gradient| gradient * slope(x)?)
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

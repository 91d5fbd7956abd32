//! Attention with all its sites.

use std::sync::Arc;

use candle_core::{DType, Result, Tensor};
use patchbay_graph::LayerSite;

use crate::kernels::{Kernels, Scoring};
use crate::memory::Sources;
use crate::parameters::{Linear, Norm};
use crate::rope::Rotary;
use crate::run::Run;
use crate::segments::Segments;
use crate::spec::PositionScale;
use crate::tap::LayerTap;

/// The attention of one block. T packed tokens, H query heads, K key/value heads, d the size of a query or key head.
#[derive(Debug)]
pub(crate) struct Attention {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) value_dim: usize,
    pub(crate) q_latent: Option<Latent>,
    pub(crate) kv_latent: Option<Latent>,
    pub(crate) q: Linear,
    pub(crate) k: Linear,
    pub(crate) v: Linear,
    pub(crate) o: Linear,
    pub(crate) clip: Option<f64>,
    pub(crate) q_norm: Option<Norm>,
    pub(crate) k_norm: Option<Norm>,
    pub(crate) norm_after_rotation: bool,
    pub(crate) rotary: Option<Arc<Rotary>>,
    pub(crate) position_scale: Option<PositionScale>,
    pub(crate) scoring: Scoring,
    /// `[H]`, those that the scoring has.
    pub(crate) sinks: Option<Tensor>,
}

/// What queries, or keys and values, are projected from in the input's place.
#[derive(Debug)]
pub(crate) struct Latent {
    /// `[latent + shared, D]`.
    pub(crate) down: Linear,
    /// `[latent]`.
    pub(crate) norm: Norm,
}

impl Attention {
    /// `x: [T, D]` to `[T, D]`, from `self_attn.q` to `self_attn.output`. Rows that do not go on have keys and values alone.
    pub(crate) fn forward(
        &self,
        kernels: &dyn Kernels,
        x: &Tensor,
        run: &mut Run<'_>,
        tap: &mut LayerTap<'_>,
    ) -> Result<Tensor> {
        let projected = self.projected(kernels, x, run)?;
        let norms = [self.q_norm.as_ref(), self.k_norm.as_ref()];
        let [before, after] = if self.norm_after_rotation { [[None; 2], norms] } else { [norms, [None; 2]] };
        let q = tap.offer(LayerSite::Q, self.split(kernels, &projected[0], self.heads, before[0])?)?;
        let k = tap.offer(LayerSite::K, self.split(kernels, &projected[1], self.kv_heads, before[1])?)?;
        let v = tap.offer(LayerSite::V, self.split(kernels, &projected[2], self.kv_heads, None)?)?;
        let (q, k) = self.rotated(kernels, q, k, run)?;
        let (q, k) = (normed(kernels, q, after[0])?, normed(kernels, k, after[1])?);
        let q = tap.offer(LayerSite::QRot, self.scaled(q, run.onward_segments())?)?;
        let k = tap.offer(LayerSite::KRot, k)?;
        let Sources { keys, values } = run.memory.exchange(tap.layer, k, v)?;
        let segments = run.onward_segments();
        let z = if tap.wants(LayerSite::Scores) || tap.wants(LayerSite::Probs) {
            let scores = tap.offer(LayerSite::Scores, kernels.scores(&q, &keys, segments, &self.scoring)?)?;
            let sinks = self.scoring.sinks.as_deref();
            let probs = tap.offer(LayerSite::Probs, kernels.probs(&scores, segments, self.heads, sinks)?)?;
            kernels.mix(&probs, &values, segments, self.heads)?
        } else {
            kernels.attention(&q, &keys, &values, segments, &self.scoring)?
        };
        let z = tap.offer(LayerSite::Z, z)?;
        let output = self.project(kernels, &z, tap)?;
        tap.offer(LayerSite::AttnOutput, output)
    }

    /// Queries `[.., H·d]` of the rows that go on, keys `[T, K·d]` and values `[T, K·value_dim]` of all rows.
    fn projected(&self, kernels: &dyn Kernels, x: &Tensor, run: &Run<'_>) -> Result<Vec<Tensor>> {
        let Self { q, k, v, q_latent, kv_latent, .. } = self;
        if run.onward.is_none() && q_latent.is_none() && kv_latent.is_none() {
            return kernels.linear(x, &[q, k, v]);
        }
        let mut projected = kernels.linear(&narrowed(kernels, &run.going_on(x)?, q_latent.as_ref())?.0, &[q])?;
        let (latent, shared) = narrowed(kernels, x, kv_latent.as_ref())?;
        projected.extend(kernels.linear(&latent, &[k, v])?);
        if let Some(shared) = shared {
            projected[1] = self.with_shared(&projected[1], &shared)?;
        }
        Ok(projected)
    }

    /// Keys `[T, K·own]` with what all heads share, `[T, shared]`, at the end of each.
    fn with_shared(&self, keys: &Tensor, shared: &Tensor) -> Result<Tensor> {
        let (tokens, width) = shared.dims2()?;
        let keys = keys.reshape((tokens, self.kv_heads, keys.dim(1)? / self.kv_heads))?;
        let shared = shared.unsqueeze(1)?.broadcast_as((tokens, self.kv_heads, width))?.contiguous()?;
        Tensor::cat(&[&keys, &shared], 2)?.flatten_from(1)
    }

    /// A projection as heads `[T, heads, d]`, normed and clipped: each head by itself, or all at once.
    fn split(&self, kernels: &dyn Kernels, x: &Tensor, heads: usize, norm: Option<&Norm>) -> Result<Tensor> {
        let (tokens, width) = x.dims2()?;
        let shape = (tokens, heads, width / heads);
        let x = match norm {
            Some(norm) if norm.weight.dims() == [width] => kernels.norm(x, norm)?.reshape(shape)?,
            _ => normed(kernels, x.reshape(shape)?, norm)?,
        };
        self.clip.map_or(Ok(x.clone()), |clip| x.clamp(-clip, clip))
    }

    fn rotated(&self, kernels: &dyn Kernels, q: Tensor, k: Tensor, run: &Run<'_>) -> Result<(Tensor, Tensor)> {
        let Some(rotary) = &self.rotary else { return Ok((q, k)) };
        let k = kernels.rotate(&k, &rotary.rows(run.segments)?)?;
        Ok((kernels.rotate(&q, &rotary.rows(run.onward_segments())?)?, k))
    }

    /// Rotated queries `[T, H, d]`, each token's times the factor of its position.
    fn scaled(&self, q: Tensor, segments: &Segments) -> Result<Tensor> {
        let Some(scale) = &self.position_scale else { return Ok(q) };
        let factors: Vec<f32> = segments.positions().map(|position| scale.at(position)).collect();
        if factors.iter().all(|factor| *factor == 1.0) {
            return Ok(q);
        }
        let count = factors.len();
        q.broadcast_mul(&Tensor::from_vec(factors, (count, 1, 1), q.device())?.to_dtype(q.dtype())?)
    }

    /// The output projection, with each head's share of it where that is wanted.
    ///
    /// Where a write to the shares changed something the output is their sum and the bias; elsewhere it keeps its bits.
    fn project(&self, kernels: &dyn Kernels, z: &Tensor, tap: &mut LayerTap<'_>) -> Result<Tensor> {
        let output = linear(kernels, &z.flatten_from(1)?, &self.o)?;
        if !tap.wants(LayerSite::Heads) {
            return Ok(output);
        }
        let shares = self.shares(kernels, z)?;
        let written = tap.offer(LayerSite::Heads, shares.clone())?;
        if written.id() == shares.id() {
            return Ok(output);
        }
        let changed = written.ne(&shares)?.to_dtype(DType::F32)?.sum(1)?.gt(0.0)?;
        let sum = written.sum(1)?;
        let sum = self.o.bias.as_ref().map_or(Ok(sum.clone()), |bias| sum.broadcast_add(bias))?;
        // The difference is 0 where it is used, but takes gradients to what was written.
        changed.where_cond(&sum, &(output + (written - shares)?.sum(1)?)?)
    }

    /// Each head's share of the output, without the bias: `[T, H, D]`.
    fn shares(&self, kernels: &dyn Kernels, z: &Tensor) -> Result<Tensor> {
        let share = |head| {
            let z = z.narrow(1, head, 1)?.squeeze(1)?;
            let weight = self.o.weight.columns(head * self.value_dim, self.value_dim)?;
            linear(kernels, &z, &Linear { weight, bias: None })
        };
        Tensor::stack(&(0..self.heads).map(share).collect::<Result<Vec<_>>>()?, 1)
    }
}

/// A latent of `x: [T, D]`, normed, and what is projected beyond it; `x` itself where there is no latent.
fn narrowed(kernels: &dyn Kernels, x: &Tensor, latent: Option<&Latent>) -> Result<(Tensor, Option<Tensor>)> {
    let Some(Latent { down, norm }) = latent else { return Ok((x.clone(), None)) };
    let (down, width) = (linear(kernels, x, down)?, norm.weight.elem_count());
    let beyond = down.dim(1)? - width;
    let shared = if beyond > 0 { Some(down.narrow(1, width, beyond)?) } else { None };
    Ok((kernels.norm(&down.narrow(1, 0, width)?.contiguous()?, norm)?, shared))
}

/// One projection.
pub(crate) fn linear(kernels: &dyn Kernels, x: &Tensor, projection: &Linear) -> Result<Tensor> {
    Ok(kernels.linear(x, &[projection])?.swap_remove(0))
}

/// The norm of a value, where there is one.
pub(crate) fn normed(kernels: &dyn Kernels, x: Tensor, norm: Option<&Norm>) -> Result<Tensor> {
    norm.map_or(Ok(x.clone()), |norm| kernels.norm(&x, norm))
}

//! The arithmetic of a block, behind one small trait.
//!
//! [`Plain`] is made of candle's operations: it runs on any device and in any float type, every operation in it has a
//! backward, and it is what the others are tested against. [`Cpu`] is fast float32 on the processor, has no backward,
//! and gives a token the same bits whatever else is packed beside it.

mod cpu;
mod plain;

use std::fmt::Debug;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor};

pub use self::cpu::{Cpu, softmax};
pub use self::plain::Plain;
use crate::error::LoadError;
use crate::instructions::instructions;
use crate::parameters::{Linear, Norm};
use crate::rope::RotaryRows;
use crate::segments::{Segments, Span};
use crate::spec::{Activation, Alibi, AlibiOrigin};

/// What attention does to the product of a query and a key before the softmax.
#[derive(Clone, Debug, PartialEq)]
pub struct Scoring {
    /// Factor on the product.
    pub scale: f32,
    /// `cap · tanh(x / cap)`, after the factor.
    pub soft_cap: Option<f32>,
    /// A bias on the scores, after the soft cap.
    pub alibi: Option<Alibi>,
    /// How many tokens back a query sees, itself included; all where nothing stands here.
    pub window: Option<usize>,
    /// Positions in a chunk, where a query sees the keys of its own chunk alone.
    pub chunk: Option<usize>,
    /// A logit of each head that takes part in the softmax and belongs to no key.
    pub sinks: Option<Vec<f32>>,
}

impl Scoring {
    /// The first position that the query at this one sees; the last one is its own.
    pub fn first_key(&self, query: usize) -> usize {
        let in_window = self.window.map_or(0, |window| (query + 1).saturating_sub(window));
        let in_chunk = self.chunk.map_or(0, |chunk| query - query % chunk.max(1));
        in_window.max(in_chunk)
    }

    /// What a head adds to the score of the key at this position, in a sequence of this many tokens.
    pub fn bias(&self, head: usize, key: usize, length: usize) -> f32 {
        let Some(Alibi { slopes, origin, rounded, factor }) = &self.alibi else { return 0.0 };
        let position = match origin {
            AlibiOrigin::First => key as f32,
            AlibiOrigin::Last => key as f32 - (length as f32 - 1.0),
        };
        let Some(slope) = slopes.get(head) else { return 0.0 };
        let product = if *rounded { bf16(bf16(*slope) * bf16(position)) } else { slope * position };
        product * factor
    }
}

/// The nearest number that bfloat16 has; of two equally near the even one.
fn bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits(bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
}

/// The arithmetic of a block. T packed tokens; H query heads, K key/value heads, d the size of a head.
///
/// Attention is causal within each segment, whose keys and values lie in one or several sources, `[rows, K, d]` each.
/// Attention matrices are flat: each segment's `[H, len, keys]`, one after the other, with a key for each position up to
/// that of its last token.
pub trait Kernels: Send + Sync + Debug {
    /// What the kernels are called in messages.
    fn name(&self) -> &'static str;

    /// `x Wᵀ + b` of `x: [T, in]` for several projections of one input: one `[T, out]` each.
    ///
    /// # Errors
    /// candle's, where shapes, types or devices do not fit, or memory runs out. The other kernels fail alike.
    fn linear(&self, x: &Tensor, projections: &[&Linear]) -> Result<Vec<Tensor>>;

    /// The norm of `x` over its last axis; `[.., groups, width]` where each group has a weight of its own.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    fn norm(&self, x: &Tensor, norm: &Norm) -> Result<Tensor>;

    /// Rotates the heads `x: [T, heads, d]` by their tokens' positions.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    fn rotate(&self, x: &Tensor, rows: &RotaryRows) -> Result<Tensor>;

    /// Scaled and masked scores (masked: -inf) of `q: [T, H, d]` and the sources of keys.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    fn scores(&self, q: &Tensor, keys: &[Tensor], segments: &Segments, scoring: &Scoring) -> Result<Tensor>;

    /// The softmax of each row of attention matrices with this many heads. Where each head has a sink, its share is what
    /// a row lacks of 1.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    fn probs(&self, scores: &Tensor, segments: &Segments, heads: usize, sinks: Option<&[f32]>) -> Result<Tensor>;

    /// Each head's mix of the values: `[T, heads, d]`.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    fn mix(&self, probs: &Tensor, values: &[Tensor], segments: &Segments, heads: usize) -> Result<Tensor>;

    /// `mix(probs(scores(q, keys)), values)`, with no need to keep what lies between.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    fn attention(
        &self,
        q: &Tensor,
        keys: &[Tensor],
        values: &[Tensor],
        segments: &Segments,
        scoring: &Scoring,
    ) -> Result<Tensor> {
        let heads = q.dim(1)?;
        let scores = self.scores(q, keys, segments, scoring)?;
        let probs = self.probs(&scores, segments, heads, scoring.sinks.as_deref())?;
        self.mix(&probs, values, segments, heads)
    }

    /// The activation of `x`, times `up` where there is one, or what the activation makes of it.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    fn activate(&self, activation: Activation, x: &Tensor, up: Option<&Tensor>) -> Result<Tensor>;

    /// Whether [`attention`](Self::attention) never holds whole matrices.
    fn fused(&self) -> bool {
        false
    }

    /// Whether they read matrices in [`Panels`](crate::Panels).
    fn reads_panels(&self) -> bool {
        false
    }

    /// The kernels to take these ones' place where a gradient is taken: every operation of theirs has a right backward.
    fn differentiable(&self) -> Arc<dyn Kernels> {
        Arc::new(Plain)
    }
}

/// Checks that spans lie in their sources, which have this many rows each, and are as many keys as the segments look on.
pub(crate) fn check_spans(segments: &Segments, sources: &[Tensor]) -> Result<()> {
    let rows = sources.iter().map(|source| source.dim(0)).collect::<Result<Vec<_>>>()?;
    let inside = |span: &Span| rows.get(span.source).is_some_and(|rows| span.start + span.len <= *rows);
    for segment in segments {
        let count: usize = segment.keys.iter().map(|span| span.len).sum();
        if count != segment.key_count() || !segment.keys.iter().all(inside) {
            candle_core::bail!("{segment:?} does not fit sources of {rows:?} rows");
        }
    }
    Ok(())
}

/// The fastest kernels for a device.
///
/// # Errors
/// The environment names instructions that the processor does not have.
pub fn fastest(device: &Device) -> std::result::Result<Arc<dyn Kernels>, LoadError> {
    if !device.is_cpu() {
        return Ok(Arc::new(Plain));
    }
    instructions().map(|_| Arc::new(Cpu::new()) as _)
}

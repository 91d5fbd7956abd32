//! From a checkpoint's tensors to the weights a decoder runs on.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use patchbay_checkpoint::{Progress, ProgressEvent, Weights};

use crate::attention::Attention;
use crate::block::Block;
use crate::error::LoadError;
use crate::experts::{Experts, Shared};
use crate::kernels::Scoring;
use crate::mlp::{FeedForward, Mlp};
use crate::parameters::{Linear, Norm};
use crate::rope::{Rotary, RotarySpec};
use crate::router::Router;
use crate::spec::{
    AttentionSpec, CorrectionSpec, FeedForward as FeedForwardSpec, LayerSpec, Layout, LearnedPositions, LinearSpec,
    MlpSpec, MoeSpec, NormSpec, RouterSpec, Rows, SharedSpec, Spec, Stack,
};

/// Every weight of a model.
#[derive(Debug)]
pub(crate) struct ModelWeights {
    /// `[vocab, hidden]`.
    pub(crate) embedding: Tensor,
    /// `[rows, hidden]`.
    pub(crate) positions: Option<Tensor>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) embedding_norm: Option<Norm>,
    pub(crate) final_norm: Option<Norm>,
    pub(crate) head: Linear,
    /// Numbers in the tensors that were read.
    pub(crate) parameters: u64,
}

/// Reads a model's tensors one after the other.
pub(crate) struct Loader<'a> {
    weights: &'a Weights,
    spec: &'a Spec,
    device: &'a Device,
    dtype: DType,
    progress: Progress<'a>,
    /// Fused tensors of the block at work, which several projections take their part of.
    fused: HashMap<String, Tensor>,
    /// One for each kind of rotation in the model.
    rotations: Vec<Arc<Rotary>>,
    parameters: u64,
}

type Result<T> = std::result::Result<T, LoadError>;

impl<'a> Loader<'a> {
    pub(crate) fn new(
        weights: &'a Weights,
        spec: &'a Spec,
        device: &'a Device,
        dtype: DType,
        progress: Progress<'a>,
    ) -> Self {
        let (fused, rotations) = (HashMap::new(), Vec::new());
        Self { weights, spec, device, dtype, progress, fused, rotations, parameters: 0 }
    }

    pub(crate) fn load(mut self) -> Result<ModelWeights> {
        let Spec { hidden, vocab, ref embedding, ref layers, ref final_norm, ref head, .. } = *self.spec;
        let width = embedding.projection.as_ref().map_or(hidden, |projection| projection.input);
        let stored = self.tensor(&embedding.weight, &[vocab, width])?;
        let positions = embedding.positions.as_ref();
        let positions = positions.map(|LearnedPositions { weight, rows, .. }| self.tensor(weight, &[*rows, hidden]));
        let positions = positions.transpose()?;
        let embedding_norm = self.opt_norm(embedding.norm.as_ref())?;
        let blocks = layers.iter().map(|layer| self.block(layer)).collect::<Result<Vec<_>>>()?;
        let final_norm = self.opt_norm(final_norm.as_ref())?;
        let width = head.projection.as_ref().map_or(hidden, LinearSpec::output);
        let tied = head.weight == embedding.weight;
        let weight = if tied { stored.clone() } else { self.tensor(&head.weight, &[vocab, width])? };
        // Projections between the tables and the stream become part of the tables.
        let weight = match &head.projection {
            Some(projection) => weight.matmul(&self.linear(projection)?.weight)?,
            None => weight,
        };
        let table = match &embedding.projection {
            Some(projection) => stored.matmul(&self.linear(projection)?.weight.t()?)?,
            None => stored,
        };
        let bias = head.bias.as_ref().map(|name| self.tensor(name, &[vocab])).transpose()?;
        let (head, parameters) = (Linear { weight, bias }, self.parameters);
        Ok(ModelWeights { embedding: table, embedding_norm, positions, blocks, final_norm, head, parameters })
    }

    fn block(&mut self, spec: &LayerSpec) -> Result<Block> {
        let block = Block {
            residual: spec.residual,
            attn_norm: self.opt_norm(spec.attn_norm.as_ref())?,
            attention: self.attention(&spec.attention)?,
            attn_post_norm: self.opt_norm(spec.attn_post_norm.as_ref())?,
            mlp_norm: self.opt_norm(spec.mlp_norm.as_ref())?,
            mlp: self.feed_forward(&spec.mlp)?,
            mlp_post_norm: self.opt_norm(spec.mlp_post_norm.as_ref())?,
            multiplier: spec.multiplier,
        };
        self.fused.clear();
        Ok(block)
    }

    fn attention(&mut self, spec: &AttentionSpec) -> Result<Attention> {
        Ok(Attention {
            heads: spec.heads,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
            q: self.linear(&spec.q)?,
            k: self.linear(&spec.k)?,
            v: self.linear(&spec.v)?,
            o: self.linear(&spec.o)?,
            clip: spec.clip,
            q_norm: self.opt_norm(spec.q_norm.as_ref())?,
            k_norm: self.opt_norm(spec.k_norm.as_ref())?,
            norm_after_rotation: spec.norm_after_rotation,
            rotary: spec.rotary.as_ref().map(|rotary| self.rotary(rotary)),
            scoring: Scoring {
                scale: spec.scale as f32,
                soft_cap: spec.soft_cap.map(|cap| cap as f32),
                alibi: spec.alibi.clone(),
                window: spec.window,
            },
        })
    }

    fn feed_forward(&mut self, spec: &FeedForwardSpec) -> Result<FeedForward> {
        match spec {
            FeedForwardSpec::Mlp(mlp) => self.mlp(mlp).map(FeedForward::Mlp),
            FeedForwardSpec::Experts(experts) => self.experts(experts).map(FeedForward::Experts),
        }
    }

    fn experts(&mut self, spec: &MoeSpec) -> Result<Experts> {
        let router = self.router(&spec.router)?;
        let experts = spec.experts.iter().map(|expert| self.mlp(expert)).collect::<Result<_>>()?;
        let shared = match &spec.shared {
            Some(SharedSpec { mlp, gate }) => {
                let gate = gate.as_ref().map(|gate| self.linear(gate)).transpose()?;
                Some(Shared { mlp: self.mlp(mlp)?, gate })
            }
            None => None,
        };
        Ok(Experts { router, experts, shared })
    }

    fn router(&mut self, spec: &RouterSpec) -> Result<Router> {
        let correction = match &spec.correction {
            Some(CorrectionSpec { weight, shape }) => Some(self.tensor_as(weight, shape, DType::F32)?.flatten_all()?),
            None => None,
        };
        Ok(Router {
            projection: self.linear(&spec.projection)?,
            scores: spec.scores,
            correction,
            groups: spec.groups,
            chosen: spec.chosen,
            normalised: spec.normalised,
            scale: spec.scale,
        })
    }

    fn mlp(&mut self, spec: &MlpSpec) -> Result<Mlp> {
        Ok(Mlp {
            activation: spec.activation,
            gate: spec.gate.as_ref().map(|gate| self.linear(gate)).transpose()?,
            up: self.linear(&spec.up)?,
            down: self.linear(&spec.down)?,
        })
    }

    fn rotary(&mut self, spec: &RotarySpec) -> Arc<Rotary> {
        if let Some(known) = self.rotations.iter().find(|known| known.spec == *spec) {
            return known.clone();
        }
        let rotary = Rotary::new(spec.clone(), self.device, self.dtype);
        self.rotations.push(rotary.clone());
        rotary
    }

    fn opt_norm(&mut self, spec: Option<&NormSpec>) -> Result<Option<Norm>> {
        spec.map(|spec| self.norm(spec)).transpose()
    }

    fn norm(&mut self, spec: &NormSpec) -> Result<Norm> {
        let shape = spec.stored_shape();
        let weight = match spec.weights.as_slice() {
            [] => Tensor::ones(shape, self.dtype, self.device)?,
            [weight] => self.tensor(weight, &shape)?,
            weights => {
                let weights = weights.iter().map(|weight| self.tensor(weight, &shape)).collect::<Result<Vec<_>>>()?;
                Tensor::stack(&weights, 0)?
            }
        };
        let weight = if spec.weight_offset == 0.0 { weight } else { (weight + spec.weight_offset)? };
        let bias = spec.bias.as_ref().map(|name| self.tensor(name, &[spec.width])).transpose()?;
        Ok(Norm { kind: spec.kind, eps: spec.eps as f32, weight, bias })
    }

    fn linear(&mut self, spec: &LinearSpec) -> Result<Linear> {
        let total = spec.rows.total;
        let weight = match spec.layout {
            Layout::OutIn => self.shared(&spec.weight, &[total, spec.input], spec)?,
            Layout::InOut => self.shared(&spec.weight, &[spec.input, total], spec)?.t()?,
        };
        let weight = take(&weight, spec.rows)?;
        let bias = match &spec.bias {
            Some(name) => Some(take(&self.shared(name, &[total], spec)?, spec.rows)?),
            None => None,
        };
        Ok(Linear { weight, bias })
    }

    /// A tensor of this shape, of which several projections may take a part; that of one projection where they are stacked.
    fn shared(&mut self, name: &str, shape: &[usize], spec: &LinearSpec) -> Result<Tensor> {
        let Some(Stack { count, index }) = spec.stack else {
            let whole = spec.rows == Rows::all(spec.rows.total);
            return if whole { self.tensor(name, shape) } else { self.kept(name, shape) };
        };
        Ok(self.kept(name, &[&[count], shape].concat())?.get(index)?)
    }

    /// A tensor that the block needs again.
    fn kept(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        if let Some(known) = self.fused.get(name) {
            return Ok(known.clone());
        }
        let tensor = self.tensor(name, shape)?;
        self.fused.insert(name.to_owned(), tensor.clone());
        Ok(tensor)
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.tensor_as(name, shape, self.dtype)
    }

    fn tensor_as(&mut self, name: &str, shape: &[usize], dtype: DType) -> Result<Tensor> {
        // Checkpoints of the bare model, without its head, lack the prefix.
        let short = name.strip_prefix(self.spec.base_prefix).filter(|short| self.weights.contains(short));
        let name = if self.weights.contains(name) { name } else { short.unwrap_or(name) };
        let tensor = self.weights.get(name, shape, dtype, self.device)?;
        self.parameters += tensor.elem_count() as u64;
        (self.progress)(ProgressEvent {
            stage: "weights",
            what: name.to_owned(),
            done: self.parameters * self.dtype.size_in_bytes() as u64,
            total: self.weights.parameters() * self.dtype.size_in_bytes() as u64,
        });
        Ok(tensor)
    }
}

/// The rows of a stored `[total, …]` that belong to one projection, contiguous.
fn take(stored: &Tensor, rows: Rows) -> candle_core::Result<Tensor> {
    if rows == Rows::all(rows.total) {
        return stored.contiguous();
    }
    let rest = &stored.dims()[1..];
    let grouped = [&[rows.total / rows.group, rows.group], rest].concat();
    let taken = [&[rows.count()], rest].concat();
    stored.contiguous()?.reshape(grouped)?.narrow(1, rows.start, rows.len)?.contiguous()?.reshape(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fused_orders_are_taken_apart() {
        let stored = Tensor::arange(0u32, 12, &Device::Cpu).unwrap();
        let read = |rows| take(&stored, rows).unwrap().to_vec1::<u32>().unwrap();
        assert_eq!(read(Rows::run(12, 4, 4)), [4, 5, 6, 7]);
        // Two heads of size 2, each with its query, key and value.
        let key = Rows { total: 12, group: 6, start: 2, len: 2 };
        assert_eq!(read(key), [2, 3, 8, 9]);
        let matrix = stored.reshape((2, 6)).unwrap().t().unwrap();
        let rows = take(&matrix, Rows::run(6, 1, 2)).unwrap();
        assert_eq!(rows.to_vec2::<u32>().unwrap(), [[1, 7], [2, 8]]);
        assert!(rows.is_contiguous());
    }
}

//! From a checkpoint's tensors to the weights a decoder runs on.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use patchbay_checkpoint::{Part, Progress, ProgressEvent, Weights};

use crate::attention::{Attention, Latent};
use crate::block::Block;
use crate::error::LoadError;
use crate::experts::{Experts, Shared};
use crate::kernels::Scoring;
use crate::matrix::{Form, Matrix};
use crate::mlp::{FeedForward, Mlp};
use crate::panels::{PANEL, Panels};
use crate::parameters::{Linear, Norm};
use crate::rope::{Rotary, RotarySpec};
use crate::router::Router;
use crate::spec::{
    Activation, ActivationSpec, AttentionSpec, CorrectionSpec, FeedForward as FeedForwardSpec, LatentSpec, LayerSpec,
    Layout, LearnedPositions, LinearSpec, MlpSpec, MoeSpec, NormSpec, RouterSpec, Rows, SharedSpec, Spec, Xielu,
    XieluSpec,
};

/// Numbers that are read at once.
const SLAB: usize = 1 << 22;

/// Every weight of a model.
#[derive(Debug)]
pub(crate) struct ModelWeights {
    /// `[vocab, hidden]`.
    pub(crate) embedding: Matrix,
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
    /// How matrices are kept.
    form: Form,
    /// The type of all else.
    dtype: DType,
    progress: Progress<'a>,
    /// Fused tensors of a format that is only read whole, while several projections take their part of them.
    fused: HashMap<String, Tensor>,
    /// One for each kind of rotation in the model.
    rotations: Vec<Arc<Rotary>>,
    parameters: u64,
    /// Numbers in all tensors that the model asks for.
    total: u64,
}

type Result<T> = std::result::Result<T, LoadError>;

impl<'a> Loader<'a> {
    pub(crate) fn new(
        weights: &'a Weights,
        spec: &'a Spec,
        device: &'a Device,
        form: Form,
        progress: Progress<'a>,
    ) -> Self {
        let (fused, rotations, dtype) = (HashMap::new(), Vec::new(), form.activations());
        let total = crate::part::parameters(spec, weights);
        Self { weights, spec, device, form, dtype, progress, fused, rotations, parameters: 0, total }
    }

    pub(crate) fn load(mut self) -> Result<ModelWeights> {
        let Spec { hidden, vocab, ref embedding, ref layers, ref final_norm, ref head, .. } = *self.spec;
        let width = embedding.projection.as_ref().map_or(hidden, |projection| projection.input);
        let own = head.own.as_deref().filter(|own| self.find(own).is_some());
        let there = self.find(&embedding.weight).is_some();
        let stored = self.table(own.filter(|_| !there).unwrap_or(&embedding.weight), [vocab, width])?;
        let positions = embedding.positions.as_ref();
        let positions = positions.map(|LearnedPositions { weight, rows, .. }| self.tensor(weight, &[*rows, hidden]));
        let positions = positions.transpose()?;
        let embedding_norm = self.opt_norm(embedding.norm.as_ref())?;
        let blocks = layers.iter().map(|layer| self.block(layer)).collect::<Result<Vec<_>>>()?;
        let final_norm = self.opt_norm(final_norm.as_ref())?;
        let width = head.projection.as_ref().map_or(hidden, LinearSpec::output);
        let tied = head.weight == embedding.weight;
        let weight = match own.filter(|_| there) {
            Some(own) => self.unless_same(own, &stored)?,
            None if tied => stored.clone(),
            None => self.table(&head.weight, [vocab, width])?,
        };
        // Projections between the tables and the stream become part of the tables.
        let weight = match &head.projection {
            Some(projection) => {
                let projection = self.linear(projection)?.weight.tensor()?;
                self.matrix(weight.tensor()?.matmul(&projection)?)?
            }
            None => weight,
        };
        let table = match &embedding.projection {
            Some(projection) => {
                let projection = self.linear(projection)?.weight.tensor()?;
                self.matrix(stored.tensor()?.matmul(&projection.t()?)?)?
            }
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
        let sinks = spec.sinks.as_ref().map(|name| self.tensor(name, &[spec.heads])).transpose()?;
        Ok(Attention {
            heads: spec.heads,
            kv_heads: spec.kv_heads,
            value_dim: spec.value_dim,
            q_latent: self.latent(spec.q_latent.as_ref())?,
            kv_latent: self.latent(spec.kv_latent.as_ref())?,
            q: self.linear(&spec.q)?,
            k: self.linear(&spec.k)?,
            v: self.linear(&spec.v)?,
            o: self.linear(&spec.o)?,
            clip: spec.clip,
            q_norm: self.opt_norm(spec.q_norm.as_ref())?,
            k_norm: self.opt_norm(spec.k_norm.as_ref())?,
            norm_after_rotation: spec.norm_after_rotation,
            rotary: spec.rotary.as_ref().map(|rotary| self.rotary(rotary)),
            position_scale: spec.position_scale,
            scoring: Scoring {
                scale: spec.scale as f32,
                soft_cap: spec.soft_cap.map(|cap| cap as f32),
                alibi: spec.alibi.clone(),
                window: spec.window,
                chunk: spec.chunk,
                sinks: sinks.as_ref().map(numbers).transpose()?,
            },
            sinks,
        })
    }

    fn latent(&mut self, spec: Option<&LatentSpec>) -> Result<Option<Latent>> {
        let Some(LatentSpec { down, norm }) = spec else { return Ok(None) };
        Ok(Some(Latent { down: self.linear(down)?, norm: self.norm(norm)? }))
    }

    fn feed_forward(&mut self, spec: &FeedForwardSpec) -> Result<FeedForward> {
        // What attention had fused is not held beside the MLP.
        self.fused.clear();
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
        Ok(Experts { router, experts, shared, weighed: spec.weighed })
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
        let (activation, learned) = match &spec.activation {
            ActivationSpec::Fixed(activation) => (*activation, Vec::new()),
            ActivationSpec::Xielu(xielu) => self.xielu(xielu)?,
        };
        Ok(Mlp {
            activation,
            learned,
            gate: spec.gate.as_ref().map(|gate| self.linear(gate)).transpose()?,
            up: self.linear(&spec.up)?,
            down: self.linear(&spec.down)?,
        })
    }

    fn xielu(&mut self, spec: &XieluSpec) -> Result<(Activation, Vec<(&'static str, Tensor)>)> {
        let parts = [("alpha_p", &spec.alpha_p), ("alpha_n", &spec.alpha_n), ("beta", &spec.beta), ("eps", &spec.eps)];
        let (mut learned, mut found) = (Vec::new(), [None; 4]);
        for (number, (part, name)) in found.iter_mut().zip(parts) {
            // The slope and the bound are no parameters: older files lack them.
            let stored = self.find(name);
            if matches!(part, "beta" | "eps") && stored.is_none() {
                continue;
            }
            let shape = stored
                .and_then(|stored| self.weights.shape(&stored))
                .filter(|shape| shape.is_empty())
                .map_or(vec![1], <[usize]>::to_vec);
            let tensor = self.tensor(name, &shape)?;
            *number = numbers(&tensor.flatten_all()?)?.first().copied();
            learned.push((part, tensor));
        }
        let [positive, negative, beta, eps] = found;
        let xielu = Xielu::from_stored(positive.unwrap_or_default(), negative.unwrap_or_default(), beta, eps);
        Ok((Activation::Xielu(xielu), learned))
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
        let shape = match spec.layout {
            Layout::OutIn => [spec.rows.total, spec.input],
            Layout::InOut => [spec.input, spec.rows.total],
        };
        let weight = match self.slabs(spec, &shape)? {
            Some(matrix) => matrix,
            None => {
                let part = self.part(&spec.weight, &shape, spec)?;
                self.matrix(part)?
            }
        };
        let bias = spec.bias.as_ref().map(|name| self.part(name, &[spec.rows.total], spec)).transpose()?;
        Ok(Linear { weight, bias })
    }

    /// A tensor that may be the same as one that is there already, which is kept then.
    fn unless_same(&mut self, name: &str, known: &Matrix) -> Result<Matrix> {
        let (rows, columns) = known.dims2()?;
        let found = self.table(name, [rows, columns])?;
        if !found.same(known)? {
            return Ok(found);
        }
        self.parameters -= (rows * columns) as u64;
        Ok(known.clone())
    }

    /// A tensor `[rows, columns]` as the kernels read it.
    fn table(&mut self, name: &str, shape: [usize; 2]) -> Result<Matrix> {
        let [output, input] = shape;
        let whole = LinearSpec { weight: name.to_owned(), ..LinearSpec::plain(name, input, output, false) };
        match self.slabs(&whole, &shape)? {
            Some(matrix) => Ok(matrix),
            None => {
                let tensor = self.tensor(name, &shape)?;
                self.matrix(tensor)
            }
        }
    }

    /// A matrix as the device's kernels read it.
    fn matrix(&self, tensor: Tensor) -> Result<Matrix> {
        match self.form {
            Form::Plain(_) => Ok(tensor.into()),
            Form::Panels(precision) => Ok(Panels::of(&tensor, precision)?.into()),
        }
    }

    /// A projection in panels, read a slab of rows at a time, so that nothing is held twice. Nothing where panels are not what is
    /// wanted, the format has no parts, or the rows are not one run.
    fn slabs(&mut self, spec: &LinearSpec, shape: &[usize; 2]) -> Result<Option<Matrix>> {
        let (rows, place) = (spec.rows, self.stored_name(&spec.weight));
        let Form::Panels(precision) = self.form else { return Ok(None) };
        if rows.group != rows.total {
            return Ok(None);
        }
        let (stored, part) = stored_part(shape, spec);
        let mut panels = Panels::zeros(rows.len, spec.input, precision)?;
        let slab = (SLAB / spec.input.max(1)).next_multiple_of(PANEL).max(PANEL);
        for first in (0..rows.len).step_by(slab) {
            let part = part.clone().rows(rows.group, rows.start + first, slab.min(rows.len - first));
            let Some(tensor) = self.weights.get_part(&place, &stored, &part, DType::F32, self.device)? else {
                return Ok(None);
            };
            panels.fill(first, &tensor)?;
            self.count(&place, &tensor);
        }
        Ok(Some(panels.into()))
    }

    /// A projection's own part of a tensor that may hold several, stacked, fused or transposed; `shape` is that of one of the
    /// stack. Only this part is held, unless the format has no parts: then all of it until the last projection has its own.
    fn part(&mut self, name: &str, shape: &[usize], spec: &LinearSpec) -> Result<Tensor> {
        let LinearSpec { rows, .. } = *spec;
        let (stored, part) = stored_part(shape, spec);
        let part = if rows == Rows::all(rows.total) { part } else { part.rows(rows.group, rows.start, rows.len) };
        let place = self.stored_name(name);
        if let Some(tensor) = self.weights.get_part(&place, &stored, &part, self.dtype, self.device)? {
            self.count(&place, &tensor);
            return Ok(tensor);
        }
        let whole = if part == Part::of(&stored) { self.tensor(name, &stored)? } else { self.kept(name, &stored)? };
        let one = match spec.stack {
            None => whole,
            Some(stack) => whole.reshape(apart(shape, spec))?.get(stack.index)?,
        };
        Ok(take(&if is_transposed(shape, spec) { one.t()? } else { one }, rows)?)
    }

    /// A tensor that is needed again.
    fn kept(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        if let Some(known) = self.fused.get(name) {
            return Ok(known.clone());
        }
        let tensor = self.tensor(name, shape)?;
        self.fused.insert(name.to_owned(), tensor.clone());
        Ok(tensor)
    }

    /// Under which name the checkpoint has a tensor of the spec, if it does.
    fn find(&self, name: &str) -> Option<String> {
        self.spec.stored_names(name).into_iter().find(|stored| self.weights.contains(stored))
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.tensor_as(name, shape, self.dtype)
    }

    fn tensor_as(&mut self, name: &str, shape: &[usize], dtype: DType) -> Result<Tensor> {
        let name = self.stored_name(name);
        let tensor = self.weights.get(&name, shape, dtype, self.device)?;
        self.count(&name, &tensor);
        Ok(tensor)
    }

    /// The name in the file; the first of those that it may have where the file has none.
    fn stored_name(&self, name: &str) -> String {
        let first = || self.spec.stored_names(name).into_iter().next().unwrap_or_default();
        self.find(name).unwrap_or_else(first)
    }

    fn count(&mut self, name: &str, tensor: &Tensor) {
        self.parameters += tensor.elem_count() as u64;
        let bytes = |numbers: u64| match self.form {
            Form::Plain(dtype) => numbers * dtype.size_in_bytes() as u64,
            Form::Panels(precision) => precision.bytes(numbers),
        };
        let done = bytes(self.parameters);
        // What the specification asks for is what is read, but for rows of a fused tensor that no projection has.
        let total = bytes(self.total).max(done);
        (self.progress)(ProgressEvent { stage: "weights", what: name.to_owned(), done, total });
    }
}

/// The shape of the tensor that has a projection's part, and which part of it is the projection's before its rows are taken; `shape`
/// is that of one of the stack.
fn stored_part(shape: &[usize], spec: &LinearSpec) -> (Vec<usize>, Part) {
    let stored = spec.stack.map_or_else(|| shape.to_vec(), |stack| stack.stored(shape));
    let part = Part::of(&apart(shape, spec));
    let part = spec.stack.map_or(part.clone(), |stack| part.index(stack.index));
    (stored, if is_transposed(shape, spec) { part.transposed() } else { part })
}

/// The same shape, where a stack that is joined with the axis after it is read as one that is not.
fn apart(shape: &[usize], spec: &LinearSpec) -> Vec<usize> {
    spec.stack.iter().map(|stack| stack.count).chain(shape.iter().copied()).collect()
}

fn is_transposed(shape: &[usize], spec: &LinearSpec) -> bool {
    spec.layout == Layout::InOut && shape.len() == 2
}

/// A vector's numbers.
fn numbers(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.to_dtype(DType::F32)?.to_vec1()
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

//! The decoder: embedding, blocks, unembedding.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, bail};
use patchbay_checkpoint::{Checkpoint, Progress};
use patchbay_graph::module::Module;
use patchbay_graph::{Site, Tree};

use crate::arch::describe;
use crate::attention::{linear, normed};
use crate::error::LoadError;
use crate::kernels::{Kernels, Plain, fastest};
use crate::load::{Loader, ModelWeights};
use crate::matrix::Form;
use crate::memory::NoMemory;
use crate::names::Weight;
use crate::outputs::Outputs;
use crate::precision::Precision;
use crate::rope::{RotaryScaling, RotarySpec};
use crate::run::Run;
use crate::segments::Segments;
use crate::spec::{Alibi, AlibiOrigin, Spec};
use crate::tap::{LayerTap, NoTap, Tap, offer};

/// Where a model's weights shall lie, and as what.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The device that holds them and computes.
    pub device: Device,
    /// What the matrices are kept as.
    pub precision: Precision,
    /// Whether to compute with candle's operations on matrices as they lie in other devices' memory, also on the processor: slow,
    /// and what the fast kernels are held against.
    pub plain: bool,
}

impl Default for LoadOptions {
    /// Float32 on the processor.
    fn default() -> Self {
        Self { device: Device::Cpu, precision: Precision::F32, plain: false }
    }
}

/// A decoder-only language model whose every site can be read and written while it runs.
///
/// Cloning shares the weights.
#[derive(Clone, Debug)]
pub struct Decoder {
    spec: Arc<Spec>,
    tree: Arc<Tree>,
    weights: Arc<ModelWeights>,
    kernels: Arc<dyn Kernels>,
    warnings: Arc<[String]>,
    device: Device,
    precision: Precision,
    dtype: DType,
}

impl Decoder {
    /// Reads a model's weights, with the fastest kernels there are for the device and the type.
    ///
    /// # Errors
    /// [`LoadError`] where the architecture is unknown, a setting is impossible, or a tensor is missing or of the
    /// wrong shape, or where the device has no such precision.
    pub fn load(
        checkpoint: &Checkpoint,
        options: &LoadOptions,
        progress: Progress<'_>,
    ) -> std::result::Result<Self, LoadError> {
        let spec = describe(&checkpoint.config)?;
        let LoadOptions { device, precision, plain } = options.clone();
        let kernels: Arc<dyn Kernels> = if plain { Arc::new(Plain) } else { fastest(&device)? };
        let form = if kernels.reads_panels() { Form::Panels(precision) } else { Form::plain(precision)? };
        let (weights, dtype) = (&checkpoint.weights, form.activations());
        let weights = Loader::new(weights, &spec, &device, form, progress).load()?;
        let warnings: Arc<[String]> = crate::part::left_out(&spec, &checkpoint.weights).into_iter().collect();
        warnings.iter().for_each(|warning| tracing::warn!(model_type = spec.model_type, "{warning}"));
        tracing::info!(
            model_type = spec.model_type,
            parameters = weights.parameters,
            precision = precision.name(),
            kernels = kernels.name(),
            "loaded"
        );
        let mut tree = Tree { fused: kernels.fused(), ..spec.tree() };
        let shape = |(name, weight): (String, Weight<'_>)| Ok((name, weight.dims()?));
        tree.weights = weights.named().into_iter().map(shape).collect::<Result<_>>()?;
        let tree = Arc::new(tree);
        Ok(Self { spec: Arc::new(spec), tree, weights: Arc::new(weights), kernels, warnings, device, precision, dtype })
    }

    /// The same model with other kernels.
    pub fn with_kernels(&self, kernels: Arc<dyn Kernels>) -> Self {
        Self { kernels, ..self.clone() }
    }

    /// The same model made of operations that all have a right backward.
    pub fn differentiable(&self) -> Self {
        self.with_kernels(self.kernels.differentiable())
    }

    /// The sites and their shapes.
    pub fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// What the architecture is.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// What a user of the model has to know about how it was loaded: each a sentence.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The device that holds the weights.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What the matrices are kept as.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The float type of activations.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// How many numbers the weights are.
    pub fn parameters(&self) -> u64 {
        self.weights.parameters
    }

    /// How much memory the weights take, in bytes; vectors are counted as if they were kept as matrices are.
    pub fn bytes(&self) -> u64 {
        self.precision.bytes(self.weights.parameters)
    }

    /// Token ids to the residual stream into block 0, `[T, D]`. Offers `embed_tokens.output`, before positions.
    ///
    /// # Errors
    /// Where an id is outside the vocabulary, a position outside the context, or the segments do not cover the ids.
    pub fn embed(&self, ids: &[u32], segments: &Segments, tap: &mut dyn Tap) -> Result<Tensor> {
        if ids.len() != segments.tokens() {
            bail!("{} token ids were given for segments of {} tokens", ids.len(), segments.tokens());
        }
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.spec.vocab) {
            bail!("token id {id} is outside the vocabulary, whose ids are 0 to {}", self.spec.vocab - 1);
        }
        let x = self.weights.embedding.select(ids)?;
        let x = self.spec.embedding.scale.map_or(Ok(x.clone()), |scale| x * scale)?;
        let x = offer(tap, Site::EmbedTokens, x)?;
        let x = normed(&*self.kernels, x, self.weights.embedding_norm.as_ref())?;
        let (Some(learned), Some(table)) = (&self.spec.embedding.positions, &self.weights.positions) else {
            return Ok(x);
        };
        let positions: Vec<_> = segments.positions().map(|position| position + learned.offset).collect();
        if let Some(position) = positions.iter().find(|position| **position >= learned.rows) {
            let (last, offset) = (learned.rows - learned.offset, learned.offset);
            bail!("position {} is outside the model's context of {last} tokens", position - offset);
        }
        let positions: Vec<_> = positions.into_iter().map(|position| position as u32).collect();
        x + table.index_select(&Tensor::new(positions, &self.device)?, 0)?
    }

    /// One block: `x: [T, D]` to `[T, D]` of the rows that go on. Offers `layers.i.input` to `layers.i.output`; from
    /// `self_attn.q` on, keys and values aside, the sites have the rows that go on alone.
    ///
    /// # Errors
    /// Where there is no such block, a shape does not fit, the tap fails or memory runs out.
    pub fn block(&self, layer: usize, x: Tensor, run: &mut Run<'_>, tap: &mut dyn Tap) -> Result<Tensor> {
        let Some(block) = self.weights.blocks.get(layer) else {
            bail!("there is no layer {layer}: this model has layers 0 to {}", self.weights.blocks.len() - 1);
        };
        block.forward(&*self.kernels, x, run, &mut LayerTap { layer, tap })
    }

    /// The residual stream of any N tokens, `[N, D]`, to those logits that are asked for. Offers `ln_final.input`,
    /// `ln_final.output`, `lm_head.output` and `logits`, and stops after the last of them that the tap wants.
    ///
    /// # Errors
    /// Where a shape does not fit, there is no such row or token id, the tap fails or memory runs out.
    pub fn unembed(&self, x: Tensor, outputs: Outputs<'_>, tap: &mut dyn Tap) -> Result<()> {
        let wanted_from = |tap: &dyn Tap, first| {
            [Site::LnFinalOutput, Site::LmHead, Site::Logits].into_iter().any(|site| site >= first && tap.wants(site))
        };
        let x = offer(tap, Site::LnFinalInput, x)?;
        if !wanted_from(tap, Site::LnFinalOutput) {
            return Ok(());
        }
        let x = offer(tap, Site::LnFinalOutput, normed(&*self.kernels, x, self.weights.final_norm.as_ref())?)?;
        if !wanted_from(tap, Site::LmHead) {
            return Ok(());
        }
        let x = outputs.rows.map_or(Ok(x.clone()), |rows| x.index_select(&Tensor::new(rows, &self.device)?, 0))?;
        let head = &self.weights.head;
        let head = outputs.ids.map_or(Ok(head.clone()), |ids| head.outputs(ids))?;
        let raw = offer(tap, Site::LmHead, linear(&*self.kernels, &x, &head)?)?;
        if wanted_from(tap, Site::Logits) {
            offer(tap, Site::Logits, self.transform(raw)?)?;
        }
        Ok(())
    }

    /// `lm_head(ln_final(x))` of any `x: [.., D]`: `[.., V]`. With `transform`, the model's soft cap or scale too.
    ///
    /// # Errors
    /// Where the last axis is not D, or memory runs out.
    pub fn project_on_vocab(&self, x: &Tensor, transform: bool) -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        let Some(width) = shape.last_mut().filter(|width| **width == self.spec.hidden) else {
            bail!("the last axis must be the hidden size, {}, but the shape is {:?}", self.spec.hidden, x.shape());
        };
        *width = self.spec.vocab;
        let x = x.reshape(((), self.spec.hidden))?;
        let x = normed(&*self.kernels, x, self.weights.final_norm.as_ref())?;
        let raw = linear(&*self.kernels, &x, &self.weights.head)?.reshape(shape)?;
        if transform { self.transform(raw) } else { Ok(raw) }
    }

    /// A module applied to the tokens of whole sequences, packed: `x: [T, D]`, or ids `[T]` for the embedding. Gives `[T, D]`,
    /// or `[T, V]` for the unembedding. Offers nothing.
    ///
    /// # Errors
    /// Where the model has no such module, a shape does not fit, an id is outside of the vocabulary, or memory runs out.
    pub fn call(&self, module: Module, x: &Tensor, segments: &Segments) -> Result<Tensor> {
        let (kernels, mut memory) = (&*self.kernels, NoMemory);
        let run = &mut Run::whole(segments, &mut memory);
        let block = |layer: usize| match self.weights.blocks.get(layer) {
            Some(block) => Ok(block),
            None => bail!("there is no layer {layer}"),
        };
        match module {
            Module::EmbedTokens => self.lookup(x),
            Module::Layer(layer) => self.block(layer, x.clone(), run, &mut NoTap),
            Module::SelfAttn(layer) => {
                let tap = &mut LayerTap { layer, tap: &mut NoTap };
                block(layer)?.attention.forward(kernels, x, run, tap)
            }
            Module::Mlp(layer) => block(layer)?.mlp.forward(kernels, x, &mut LayerTap { layer, tap: &mut NoTap }),
            Module::Norm(layer, place) => match block(layer)?.norm(place) {
                Some(norm) => kernels.norm(x, norm),
                None => bail!("layer {layer} has no {}", place.name()),
            },
            Module::LnFinal => normed(kernels, x.clone(), self.weights.final_norm.as_ref()),
            Module::LmHead => linear(kernels, x, &self.weights.head),
        }
    }

    /// The embeddings of ids `[T]`, scaled as the model scales them.
    fn lookup(&self, ids: &Tensor) -> Result<Tensor> {
        let ids: Vec<i64> = ids.to_dtype(DType::I64)?.to_vec1()?;
        if let Some(id) = ids.iter().find(|id| !(0..self.spec.vocab as i64).contains(id)) {
            bail!("token id {id} is outside the vocabulary, whose ids are 0 to {}", self.spec.vocab - 1);
        }
        let x = self.weights.embedding.select(&ids.into_iter().map(|id| id as u32).collect::<Vec<_>>())?;
        self.spec.embedding.scale.map_or(Ok(x.clone()), |scale| x * scale)
    }

    /// A weight by its standardized name, as [`Tree::weights`] lists them; projections are `[out, in]`. It is in memory of its
    /// own where the kernels read another form of it.
    ///
    /// # Errors
    /// Where memory runs out.
    pub fn weight(&self, name: &str) -> Result<Option<Tensor>> {
        let found = self.weights.named().into_iter().find(|(known, _)| known == name);
        found.map(|(_, weight)| weight.tensor()).transpose()
    }

    /// Everything, from ids to logits, offering every site.
    ///
    /// # Errors
    /// Those of [`embed`](Self::embed), [`block`](Self::block) and [`unembed`](Self::unembed).
    pub fn forward(&self, ids: &[u32], segments: &Segments, tap: &mut dyn Tap) -> Result<()> {
        let mut x = self.embed(ids, segments, tap)?;
        for layer in 0..self.weights.blocks.len() {
            x = self.block(layer, x, &mut Run::whole(segments, &mut NoMemory), tap)?;
        }
        self.unembed(x, Outputs::default(), tap)
    }

    /// Whether the keys of a sequence of `before` tokens are still right when it has `after`. They are not where a rotation
    /// depends on the length, as dynamic and long ones do beyond their first context.
    pub fn keys_stay(&self, before: usize, after: usize) -> bool {
        let mut rotations = self.spec.layers.iter().filter_map(|layer| layer.attention.rotary.as_ref());
        rotations.all(|rotary| rotary.frequencies(before) == rotary.frequencies(after))
    }

    /// Whether a sequence of `before` tokens is computed again from its start where it grows to `after`, as transformers does it.
    pub fn begins_again(&self, before: usize, after: usize) -> bool {
        let mut rotations = self.spec.layers.iter().filter_map(|layer| layer.attention.rotary.as_ref());
        rotations.any(|rotary| match rotary.scaling {
            RotaryScaling::LongRope { original_context, again, .. } => {
                again && before <= original_context && original_context < after
            }
            _ => false,
        })
    }

    /// Whether the values of a sequence's first tokens depend, by rounding at least, on how many tokens come after them: where
    /// a rotation is chosen by the length, and where ALiBi counts positions from the last token.
    pub fn depends_on_length(&self) -> bool {
        let from_last = |alibi: &Alibi| alibi.origin == AlibiOrigin::Last;
        let chosen = |rotary: &RotarySpec| rotary.scaling.depends_on_length();
        let mut attentions = self.spec.layers.iter().map(|layer| &layer.attention);
        attentions.any(|spec| spec.alibi.as_ref().is_some_and(from_last) || spec.rotary.as_ref().is_some_and(chosen))
    }

    fn transform(&self, raw: Tensor) -> Result<Tensor> {
        let transform = self.spec.head.transform;
        let scaled = transform.scale.map_or(Ok(raw.clone()), |scale| raw * scale)?;
        transform.soft_cap.map_or(Ok(scaled.clone()), |cap| (scaled / cap)?.tanh()? * cap)
    }
}

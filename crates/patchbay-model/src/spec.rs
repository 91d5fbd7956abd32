//! What an architecture is, as pure data.
//!
//! Every decoder that patchbay runs is the same block with other settings. A [`Spec`] is those settings, complete: the
//! sizes, where the norms stand and of which kind they are, how positions enter, how attention and MLP are laid out,
//! and under which name each weight lies in the checkpoint. A file in `arch` turns a `config.json` into a
//! [`Spec`]; nothing after it knows the architecture's name any more.
//!
//! Sizes are in elements; names are the checkpoint's own, in full.

use patchbay_graph::module::NormPlace;
use patchbay_graph::{LayerTree, Tree};

use crate::rope::RotarySpec;

mod activation;
mod attention;
mod experts;
mod latent;
mod parts;
mod shapes;
mod stored;

pub use activation::{Activation, ActivationSpec, Xielu, XieluSpec};
pub use attention::PositionScale;
pub use experts::{
    CorrectionSpec, FeedForward, GroupScore, Groups, MoeSpec, RouterSpec, Scores, SharedSpec, Weighed, WeightNorm,
};
pub use latent::LatentSpec;
pub use stored::Part;

/// A whole model.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The architecture's name, as `config.json` has it.
    pub model_type: String,
    /// Width of the residual stream (D).
    pub hidden: usize,
    /// Size of the vocabulary (V).
    pub vocab: usize,
    /// The longest sequence, in tokens.
    pub context: usize,
    /// First part of most weights' names (`"model."`), which checkpoints saved without the language-model head lack.
    pub base_prefix: &'static str,
    /// Where the decoder lies in a checkpoint that holds more than it.
    pub part: Option<Part>,
    /// From token ids to the residual stream.
    pub embedding: EmbeddingSpec,
    /// The blocks, in order.
    pub layers: Vec<LayerSpec>,
    /// The norm before the unembedding.
    pub final_norm: Option<NormSpec>,
    /// From the residual stream to logits.
    pub head: HeadSpec,
}

/// From token ids to the residual stream.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingSpec {
    /// Name of the `[vocab, hidden]` table; `[vocab, input of the projection]` where there is one.
    pub weight: String,
    /// From the table's width to the residual stream's, where they differ. Part of `embed_tokens.output`, and of the
    /// weight `embed_tokens`.
    pub projection: Option<LinearSpec>,
    /// Factor on every embedding, part of `embed_tokens.output` (Gemma: √hidden).
    pub scale: Option<f64>,
    /// A norm on the embeddings, after `embed_tokens.output` (BLOOM).
    pub norm: Option<NormSpec>,
    /// Learned positions, added to the embeddings.
    pub positions: Option<LearnedPositions>,
}

/// A table of learned absolute positions.
#[derive(Clone, Debug, PartialEq)]
pub struct LearnedPositions {
    /// Name of the `[rows, hidden]` table.
    pub weight: String,
    /// Number of its rows.
    pub rows: usize,
    /// The row of a sequence's first token.
    pub offset: usize,
}

/// One block.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerSpec {
    /// Whether the MLP reads the stream that attention has added to, or runs beside attention.
    pub residual: Residual,
    /// Norm before attention.
    pub attn_norm: Option<NormSpec>,
    /// Attention.
    pub attention: AttentionSpec,
    /// Norm on attention's output, before it is added.
    pub attn_post_norm: Option<NormSpec>,
    /// Norm before the MLP. Where there is none and the block is parallel, the MLP shares attention's.
    pub mlp_norm: Option<NormSpec>,
    /// The MLP, or the experts in its place.
    pub mlp: FeedForward,
    /// Norm on the MLP's output, before it is added.
    pub mlp_post_norm: Option<NormSpec>,
    /// Factor on what attention and MLP add to the stream, after their norms (Granite).
    pub multiplier: Option<f64>,
}

/// How attention and MLP stand to one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residual {
    /// First attention, then the MLP, each adding to the stream.
    Sequential,
    /// Both read the block's input, and both are added to it.
    Parallel,
}

/// Kind of a norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `x / sqrt(mean(x²) + eps) · w` (Zhang & Sennrich 2019).
    Rms,
    /// `(x - mean(x)) / sqrt(var(x) + eps) · w + b` (Ba et al. 2016).
    Layer,
}

/// A norm over the last axis, or over each of its `groups`.
#[derive(Clone, Debug, PartialEq)]
pub struct NormSpec {
    /// Its kind.
    pub kind: NormKind,
    /// What keeps the root away from zero.
    pub eps: f64,
    /// How many numbers are normed together.
    pub width: usize,
    /// Heads, where each has a weight of its own and one tensor has them all.
    pub groups: Option<usize>,
    /// Names of the stored weights: one of `[width]` (`[groups, width]` where there are groups), or one of
    /// `[width]` for each head. None where every weight is 1.
    pub weights: Vec<String>,
    /// Added to the stored weight (1 in Gemma, whose files hold `w - 1`).
    pub weight_offset: f64,
    /// Name of the `[width]` bias.
    pub bias: Option<String>,
}

/// Attention.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionSpec {
    /// Query heads (H).
    pub heads: usize,
    /// Key/value heads (K); divides H.
    pub kv_heads: usize,
    /// Size of a query or key head (d).
    pub head_dim: usize,
    /// Size of a value head; d in most models.
    pub value_dim: usize,
    /// What queries are projected from, where that is not attention's input (DeepSeek 2).
    pub q_latent: Option<LatentSpec>,
    /// What keys and values are projected from, where that is not attention's input (DeepSeek 2).
    pub kv_latent: Option<LatentSpec>,
    /// Query projection, `hidden → H·d`.
    pub q: LinearSpec,
    /// Key projection, `hidden → K·d`; less what all key heads share of a latent.
    pub k: LinearSpec,
    /// Value projection, `hidden → K·value_dim`.
    pub v: LinearSpec,
    /// Output projection, `H·value_dim → hidden`.
    pub o: LinearSpec,
    /// Bound on the absolute value of queries, keys and values, after their projections and norms (OLMo, MPT).
    pub clip: Option<f64>,
    /// Norm on each query head, or on all of them at once where it is that wide.
    pub q_norm: Option<NormSpec>,
    /// Norm on each key head, or on all of them at once where it is that wide.
    pub k_norm: Option<NormSpec>,
    /// Whether these norms come after the rotation, and so are a part of `q_rot` and `k_rot` (HunYuan).
    pub norm_after_rotation: bool,
    /// Rotation of queries and keys by their position.
    pub rotary: Option<RotarySpec>,
    /// Factor on each token's rotated queries, a part of `q_rot` (Llama 4, Ministral 3).
    pub position_scale: Option<PositionScale>,
    /// Factor on the scores.
    pub scale: f64,
    /// `cap · tanh(score / cap)`, after the factor.
    pub soft_cap: Option<f64>,
    /// A bias on the scores that grows with a key's position (ALiBi).
    pub alibi: Option<Alibi>,
    /// How many tokens back a query sees, itself included; all where nothing stands here.
    pub window: Option<usize>,
    /// Positions in a chunk, where a query sees the keys of its own chunk alone (Llama 4).
    pub chunk: Option<usize>,
    /// Name of the `[heads]` tensor with a logit of each head that takes part in the softmax and belongs to no key, so
    /// that a query's probabilities add up to less than 1 (gpt-oss).
    pub sinks: Option<String>,
}

/// Attention with linear biases (Press et al. 2021): each score gains its head's slope times its key's position.
#[derive(Clone, Debug, PartialEq)]
pub struct Alibi {
    /// A slope for each query head.
    pub slopes: Vec<f32>,
    /// Where positions are counted from; it moves a query's scores together and leaves its probabilities.
    pub origin: AlibiOrigin,
    /// Whether slopes, positions and their products are rounded to bfloat16 (Falcon).
    pub rounded: bool,
    /// Factor on the products (Falcon).
    pub factor: f32,
}

/// Where the positions of [`Alibi`] are counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlibiOrigin {
    /// The first token is 0 (BLOOM).
    First,
    /// The last token is 0, those before it are negative (MPT).
    Last,
}

/// The MLP.
#[derive(Clone, Debug, PartialEq)]
pub struct MlpSpec {
    /// Width between the projections (F).
    pub width: usize,
    /// What is applied to the gate, or to the up projection where there is no gate.
    pub activation: ActivationSpec,
    /// Gate projection, `hidden → F`, in a gated MLP.
    pub gate: Option<LinearSpec>,
    /// Up projection, `hidden → F`.
    pub up: LinearSpec,
    /// Down projection, `F → hidden`.
    pub down: LinearSpec,
}

/// From the residual stream to logits.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadSpec {
    /// Name of the `[vocab, hidden]` weight; the embedding's own where the two are tied.
    pub weight: String,
    /// Where the two are tied, the name under which a checkpoint may hold a weight of the head's own all the same: as in
    /// transformers it is taken where it differs from the embedding's, and stands in for that one where it is missing.
    pub own: Option<String>,
    /// From the residual stream's width to the weight's, where they differ. Part of `lm_head`.
    pub projection: Option<LinearSpec>,
    /// Name of the `[vocab]` bias.
    pub bias: Option<String>,
    /// What makes `logits` of `lm_head.output`.
    pub transform: LogitTransform,
}

/// What makes `logits` of `lm_head.output`, in the order in which it is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LogitTransform {
    /// A factor on the logits.
    pub scale: Option<f64>,
    /// `cap · tanh(x / cap)`.
    pub soft_cap: Option<f64>,
}

/// `y = x Wᵀ + b`.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearSpec {
    /// Number of inputs.
    pub input: usize,
    /// Name of the stored weight.
    pub weight: String,
    /// Name of the stored bias, whose only axis is the weight's output axis.
    pub bias: Option<String>,
    /// Which axis of the stored weight is which.
    pub layout: Layout,
    /// Which of the stored outputs belong to this projection.
    pub rows: Rows,
    /// Where the stored weight, and the bias, are those of several projections on one more axis before the others.
    pub stack: Option<Stack>,
}

/// One projection's place among several that are stored on one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stack {
    /// How many there are.
    pub count: usize,
    /// Which one it is.
    pub index: usize,
    /// Whether this axis and the next one are stored as one (DBRX).
    pub joined: bool,
}

impl Stack {
    /// The shape that is stored of projections that have this shape each.
    pub fn stored(&self, shape: &[usize]) -> Vec<usize> {
        match shape {
            [first, rest @ ..] if self.joined => [&[self.count * first], rest].concat(),
            _ => [&[self.count], shape].concat(),
        }
    }
}

/// Which axis of a stored weight is which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[out, in]`, as `torch.nn.Linear` stores it.
    OutIn,
    /// `[in, out]`, as GPT-2's `Conv1D` stores it.
    InOut,
}

/// The part of a stored weight's outputs that one projection takes: of every `group` outputs, `len` from `start` on.
///
/// This covers the orders of fused projections: `[q; k; v]` is one group (GPT-2, Phi-3), `[q k v]` for each head is a
/// group a head (GPT-NeoX, BLOOM), and several query heads before their key and value is a group a key/value head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// All outputs of the stored weight.
    pub total: usize,
    /// Outputs in a group; divides `total`.
    pub group: usize,
    /// First one taken of each group.
    pub start: usize,
    /// How many are taken of each group.
    pub len: usize,
}

impl Rows {
    /// All outputs.
    pub const fn all(total: usize) -> Self {
        Self { total, group: total, start: 0, len: total }
    }

    /// A run of the outputs.
    pub const fn run(total: usize, start: usize, len: usize) -> Self {
        Self { total, group: total, start, len }
    }

    /// How many outputs are taken in all.
    pub const fn count(&self) -> usize {
        self.total / self.group * self.len
    }
}

impl Spec {
    /// The standardized tree of a model of this kind, its weights and kernels aside: they are known once it is loaded.
    pub fn tree(&self) -> Tree {
        let layers = self.layers.iter().map(LayerSpec::tree).collect();
        Tree {
            hidden: self.hidden,
            vocab: self.vocab,
            context: self.context,
            fused: true,
            layers,
            weights: Default::default(),
        }
    }
}

impl LayerSpec {
    fn tree(&self) -> LayerTree {
        let (mlp, experts) = match &self.mlp {
            FeedForward::Mlp(mlp) => (Some(mlp.width), None),
            FeedForward::Experts(experts) => (None, Some(experts.tree())),
        };
        LayerTree {
            heads: self.attention.heads,
            kv_heads: self.attention.kv_heads,
            head_dim: self.attention.head_dim,
            value_dim: self.attention.value_dim,
            mlp,
            gate: self.mlp.mlps().all(|mlp| mlp.gate.is_some()),
            experts,
            window: self.attention.window,
            chunk: self.attention.chunk,
            sequential: self.residual == Residual::Sequential,
            norms: self.norms(),
        }
    }

    fn norms(&self) -> Vec<NormPlace> {
        let norms = [&self.attn_norm, &self.attn_post_norm, &self.mlp_norm, &self.mlp_post_norm];
        NormPlace::ALL.into_iter().zip(norms).filter(|(_, norm)| norm.is_some()).map(|(place, _)| place).collect()
    }
}

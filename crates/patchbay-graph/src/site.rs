//! The named places of the standardized decoder at which a value can be read and written.

use std::fmt;

/// One place in the forward pass of any model, ordered as the forward pass visits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// Token embeddings, before positions.
    EmbedTokens,
    /// A place inside block `.0`.
    Layer(usize, LayerSite),
    /// The residual stream after the last block.
    LnFinalInput,
    /// The final norm's output.
    LnFinalOutput,
    /// The unembedding's raw output.
    LmHead,
    /// The model's output, after its soft cap or scale.
    Logits,
}

/// One place inside a block, ordered as the forward pass visits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayerSite {
    /// The residual stream into the block.
    Input,
    /// What the attention module receives (after the norm).
    AttnInput,
    /// Query projection, before rotation; after bias and q norm.
    Q,
    /// Key projection, before rotation; after bias and k norm.
    K,
    /// Value projection.
    V,
    /// Queries as they enter the scores.
    QRot,
    /// Keys as they enter the scores.
    KRot,
    /// Scaled and masked attention scores, before the softmax.
    Scores,
    /// Attention probabilities.
    Probs,
    /// Each head's mix of values, before the output projection.
    Z,
    /// Each head's share of the attention output.
    Heads,
    /// The attention module's own output, before any post-norm.
    AttnOutput,
    /// What attention adds to the residual stream.
    AttnAdd,
    /// The residual stream between attention and MLP.
    ResidMid,
    /// What the MLP receives (after the norm).
    MlpInput,
    /// Router logits of a mixture of experts.
    RouterLogits,
    /// Router probabilities of a mixture of experts.
    RouterProbs,
    /// The gate projection, before the activation.
    Gate,
    /// The up projection (a plain MLP's pre-activation).
    Up,
    /// What enters the down projection.
    Neurons,
    /// The MLP's own output, before any post-norm.
    MlpOutput,
    /// What the MLP adds to the residual stream.
    MlpAdd,
    /// The residual stream out of the block.
    Output,
}

/// What one axis of a site's value counts. The first axis is always [`Axis::Rows`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Axis {
    /// Rows of the input (B).
    Rows,
    /// Tokens of a row (S); for attention matrices the asking token.
    Tokens,
    /// Tokens of a row that are looked at (the last S of B H S S).
    Keys,
    /// Anything whose size the model fixes: heads, channels, experts, vocabulary.
    Fixed(usize),
}

/// How the packed value of a site lies in memory. Tokens of all rows are packed without padding: T in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// `[T, width]`.
    Channels {
        /// Size of the last axis.
        width: usize,
    },
    /// `[T, heads, dim]`, shown to the user as `[B, heads, S, dim]`.
    Heads {
        /// Number of heads.
        heads: usize,
        /// Size of one head.
        dim: usize,
    },
    /// One after the other the `[heads, S, S]` matrices of each row, flat.
    Pairs {
        /// Number of heads.
        heads: usize,
    },
}

impl Packing {
    /// The axes as the user sees them.
    pub fn axes(self) -> Vec<Axis> {
        match self {
            Self::Channels { width } => vec![Axis::Rows, Axis::Tokens, Axis::Fixed(width)],
            Self::Heads { heads, dim } => {
                vec![Axis::Rows, Axis::Fixed(heads), Axis::Tokens, Axis::Fixed(dim)]
            }
            Self::Pairs { heads } => vec![Axis::Rows, Axis::Fixed(heads), Axis::Tokens, Axis::Keys],
        }
    }
}

impl LayerSite {
    /// Every site of a block, in the order of the forward pass.
    pub const ALL: [Self; 23] = [
        Self::Input,
        Self::AttnInput,
        Self::Q,
        Self::K,
        Self::V,
        Self::QRot,
        Self::KRot,
        Self::Scores,
        Self::Probs,
        Self::Z,
        Self::Heads,
        Self::AttnOutput,
        Self::AttnAdd,
        Self::ResidMid,
        Self::MlpInput,
        Self::RouterLogits,
        Self::RouterProbs,
        Self::Gate,
        Self::Up,
        Self::Neurons,
        Self::MlpOutput,
        Self::MlpAdd,
        Self::Output,
    ];

    /// The name below `layers.i.`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::AttnInput => "self_attn.input",
            Self::Q => "self_attn.q",
            Self::K => "self_attn.k",
            Self::V => "self_attn.v",
            Self::QRot => "self_attn.q_rot",
            Self::KRot => "self_attn.k_rot",
            Self::Scores => "self_attn.scores",
            Self::Probs => "self_attn.probs",
            Self::Z => "self_attn.z",
            Self::Heads => "self_attn.heads",
            Self::AttnOutput => "self_attn.output",
            Self::AttnAdd => "attn_add",
            Self::ResidMid => "resid_mid",
            Self::MlpInput => "mlp.input",
            Self::RouterLogits => "mlp.router.logits",
            Self::RouterProbs => "mlp.router.probs",
            Self::Gate => "mlp.gate",
            Self::Up => "mlp.up",
            Self::Neurons => "mlp.neurons",
            Self::MlpOutput => "mlp.output",
            Self::MlpAdd => "mlp_add",
            Self::Output => "output",
        }
    }

    /// The site with this name below `layers.i.`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|site| site.name() == name)
    }

    /// What the site holds, in a few words.
    pub fn about(self) -> &'static str {
        match self {
            Self::Input => "the residual stream into the block",
            Self::AttnInput => "what the attention module receives (after the norm)",
            Self::Q => "query projection, before rotation",
            Self::K => "key projection, before rotation",
            Self::V => "value projection",
            Self::QRot => "queries as they enter the scores",
            Self::KRot => "keys as they enter the scores",
            Self::Scores => "scaled and masked scores, before the softmax",
            Self::Probs => "attention probabilities",
            Self::Z => "each head's mix of values, before the output projection",
            Self::Heads => "each head's share of the attention output",
            Self::AttnOutput => "the attention module's own output",
            Self::AttnAdd => "what attention adds to the residual stream",
            Self::ResidMid => "the residual stream between attention and MLP",
            Self::MlpInput => "what the MLP receives (after the norm)",
            Self::RouterLogits => "router logits",
            Self::RouterProbs => "router probabilities",
            Self::Gate => "the gate projection, before the activation",
            Self::Up => "the up projection",
            Self::Neurons => "what enters the down projection",
            Self::MlpOutput => "the MLP's own output",
            Self::MlpAdd => "what the MLP adds to the residual stream",
            Self::Output => "the residual stream out of the block",
        }
    }
}

impl Site {
    /// The sites outside of the blocks, in the order of the forward pass.
    pub const OUTER: [Self; 5] =
        [Self::EmbedTokens, Self::LnFinalInput, Self::LnFinalOutput, Self::LmHead, Self::Logits];

    /// The block that the site lies in.
    pub fn layer(self) -> Option<usize> {
        match self {
            Self::Layer(layer, _) => Some(layer),
            _ => None,
        }
    }

    /// What the site holds, in a few words.
    pub fn about(self) -> &'static str {
        match self {
            Self::EmbedTokens => "token embeddings, before positions",
            Self::Layer(_, site) => site.about(),
            Self::LnFinalInput => "the residual stream after the last block",
            Self::LnFinalOutput => "the final norm's output",
            Self::LmHead => "the unembedding's raw output",
            Self::Logits => "the model's output, after its soft cap or scale",
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmbedTokens => f.write_str("embed_tokens.output"),
            Self::Layer(layer, site) => write!(f, "layers.{layer}.{}", site.name()),
            Self::LnFinalInput => f.write_str("ln_final.input"),
            Self::LnFinalOutput => f.write_str("ln_final.output"),
            Self::LmHead => f.write_str("lm_head.output"),
            Self::Logits => f.write_str("logits"),
        }
    }
}

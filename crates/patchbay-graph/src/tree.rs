//! The standardized module tree of one model: which sites it has, and their shapes.

use serde::{Deserialize, Serialize};

use crate::module::NormPlace;
use crate::site::{LayerSite, Packing, Site};
use crate::weights::Weights;

/// Sizes of one model, as far as a graph has to know them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Width of the residual stream (D).
    pub hidden: usize,
    /// Size of the vocabulary, which is the width of the logits (V).
    pub vocab: usize,
    /// The longest sequence the model takes, in tokens.
    pub context: usize,
    /// Whether attention never makes its whole matrices where nobody looks at them, which decides what a block takes.
    pub fused: bool,
    /// The blocks, in order.
    pub layers: Vec<LayerTree>,
    /// Shape of every weight, by its standardized name: `lm_head`, `layers.5.self_attn.o_proj`, `ln_final.bias`. Those of
    /// projections are `[out, in]`.
    pub weights: Weights,
}

/// Sizes of one block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerTree {
    /// Attention heads (H).
    pub heads: usize,
    /// Key/value heads (K).
    pub kv_heads: usize,
    /// Size of a query or key head (d).
    pub head_dim: usize,
    /// Size of a value head; `head_dim` in most models.
    pub value_dim: usize,
    /// Width of the MLP (F), absent where the MLP is a mixture of experts.
    pub mlp: Option<usize>,
    /// Whether the MLP, or each expert, has a gate projection beside the up projection.
    pub gate: bool,
    /// The experts, where the MLP is a mixture of them.
    pub experts: Option<Experts>,
    /// How many tokens back a query sees, itself included; all where nothing stands here.
    pub window: Option<usize>,
    /// Positions in a chunk, where a query sees the keys of its own chunk alone.
    pub chunk: Option<usize>,
    /// Whether the MLP follows attention (true) or runs beside it (false).
    pub sequential: bool,
    /// The norms it has, in the order of the forward pass.
    pub norms: Vec<NormPlace>,
}

/// Sizes of a mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Experts {
    /// How many experts there are (E).
    pub count: usize,
    /// How many of them a token goes through, unless a write decides otherwise.
    pub chosen: usize,
    /// Width of each.
    pub width: usize,
    /// Width of the one that every token goes through besides, if there is one.
    pub shared: Option<usize>,
}

impl Tree {
    /// How a site's packed value lies in memory, or nothing where this model has no such site.
    pub fn packing(&self, site: Site) -> Option<Packing> {
        let channels = |width| Some(Packing::Channels { width });
        match site {
            Site::EmbedTokens | Site::LnFinalInput | Site::LnFinalOutput => channels(self.hidden),
            Site::LmHead | Site::Logits => channels(self.vocab),
            Site::Layer(layer, site) => self.layers.get(layer)?.packing(site, self.hidden),
        }
    }

    /// Every site of the model, in the order of the forward pass.
    pub fn sites(&self) -> impl Iterator<Item = Site> + '_ {
        let blocks = (0..self.layers.len())
            .flat_map(|layer| LayerSite::ALL.into_iter().map(move |site| Site::Layer(layer, site)));
        std::iter::once(Site::EmbedTokens)
            .chain(blocks)
            .chain([Site::LnFinalInput, Site::LnFinalOutput, Site::LmHead, Site::Logits])
            .filter(|site| self.packing(*site).is_some())
    }
}

impl LayerTree {
    fn packing(&self, site: LayerSite, hidden: usize) -> Option<Packing> {
        use LayerSite as S;
        let Self { heads, kv_heads, head_dim, value_dim, .. } = *self;
        match site {
            S::Q | S::QRot => Some(Packing::Heads { heads, dim: head_dim }),
            S::K | S::KRot => Some(Packing::Heads { heads: kv_heads, dim: head_dim }),
            S::V => Some(Packing::Heads { heads: kv_heads, dim: value_dim }),
            S::Scores | S::Probs => Some(Packing::Pairs { heads }),
            S::Z => Some(Packing::Heads { heads, dim: value_dim }),
            S::Heads => Some(Packing::Heads { heads, dim: hidden }),
            S::ResidMid => self.sequential.then_some(Packing::Channels { width: hidden }),
            S::RouterLogits | S::RouterProbs => self.experts.map(|experts| Packing::Channels { width: experts.count }),
            S::Gate => self.mlp.filter(|_| self.gate).map(|width| Packing::Channels { width }),
            S::Up | S::Neurons => self.mlp.map(|width| Packing::Channels { width }),
            S::Input
            | S::AttnInput
            | S::AttnOutput
            | S::AttnAdd
            | S::MlpInput
            | S::MlpOutput
            | S::MlpAdd
            | S::Output => Some(Packing::Channels { width: hidden }),
        }
    }
}

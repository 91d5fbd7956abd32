//! Modules of a model that can be applied to a value: `layers.5.mlp`, `ln_final`, `lm_head`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::dtype::DType;
use crate::path::find_layer;
use crate::problem::{Code, Problem, Result};
use crate::shape::Shape;
use crate::tree::Tree;

/// A module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Module {
    /// Token ids to embeddings, before positions.
    EmbedTokens,
    /// A block: the residual stream in, the residual stream out.
    Layer(usize),
    /// The attention of a block, from after its norm to before any post-norm.
    SelfAttn(usize),
    /// The MLP of a block, from after its norm to before any post-norm.
    Mlp(usize),
    /// A norm of a block.
    Norm(usize, NormPlace),
    /// The final norm.
    LnFinal,
    /// The unembedding.
    LmHead,
}

/// Where a norm stands in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormPlace {
    /// Before attention.
    AttnNorm,
    /// On attention's output, before it is added.
    AttnPostNorm,
    /// Before the MLP.
    MlpNorm,
    /// On the MLP's output, before it is added.
    MlpPostNorm,
}

impl NormPlace {
    /// Every place, in the order of the forward pass.
    pub const ALL: [Self; 4] = [Self::AttnNorm, Self::AttnPostNorm, Self::MlpNorm, Self::MlpPostNorm];

    /// The name below `layers.i.`.
    pub fn name(self) -> &'static str {
        match self {
            Self::AttnNorm => "attn_norm",
            Self::AttnPostNorm => "attn_post_norm",
            Self::MlpNorm => "mlp_norm",
            Self::MlpPostNorm => "mlp_post_norm",
        }
    }
}

impl Module {
    /// The module that a name stands for in a model.
    ///
    /// # Errors
    /// No such module, or no such layer.
    pub fn find(name: &str, tree: &Tree) -> Result<Self> {
        let outer = [Self::EmbedTokens, Self::LnFinal, Self::LmHead];
        if let Some(module) = outer.into_iter().find(|module| module.to_string() == name) {
            return Ok(module);
        }
        let Some((layer, below)) = split_layer(name) else { return Err(unknown(name, tree, 0)) };
        let layer = find_layer(tree, layer)?;
        let norms = tree.layers[layer].norms.iter().map(|place| Self::Norm(layer, *place));
        let inner = [Self::Layer(layer), Self::SelfAttn(layer), Self::Mlp(layer)].into_iter().chain(norms);
        let wanted = format!("layers.{layer}{below}");
        inner.into_iter().find(|module| module.to_string() == wanted).ok_or_else(|| unknown(name, tree, layer))
    }

    /// Shape and type of what it gives for a value.
    ///
    /// # Errors
    /// A value that it does not take.
    pub fn infer(self, shape: &Shape, dtype: DType, tree: &Tree) -> Result<(Shape, DType)> {
        let refuse = |wants: String| {
            let detail = format!("`{self}` wants {wants}; found {dtype} of shape {shape}");
            Err(Problem::new(Code::ShapeMismatch, detail))
        };
        let mut out = shape.clone();
        if self == Self::EmbedTokens {
            if dtype.is_float() || dtype == DType::Bool {
                return refuse("token ids, which are whole numbers".to_owned());
            }
            out.dims.push(tree.hidden);
            return Ok((out, DType::F32));
        }
        let rank = shape.rank();
        let hidden = shape.dims.last() == Some(&tree.hidden) && dtype.is_float() && !shape.is_ragged(rank - 1);
        if !hidden {
            return refuse(format!("hidden states, {} wide", tree.hidden));
        }
        match self {
            Self::Layer(_) | Self::SelfAttn(_) => {
                if rank < 2 || !tokens_are_ragged_alone(shape) {
                    return refuse(format!("whole sequences, [rows, tokens, {}]", tree.hidden));
                }
                let tokens = shape.dims[rank - 2];
                if tokens > tree.context {
                    return refuse(format!("at most {} tokens", tree.context));
                }
            }
            Self::LmHead => out.dims[rank - 1] = tree.vocab,
            _ => {}
        }
        Ok((out, DType::F32))
    }
}

/// Whether rows may differ in length, and nothing else does: attention runs along the last axis but one.
fn tokens_are_ragged_alone(shape: &Shape) -> bool {
    shape.ragged.as_ref().is_none_or(|ragged| ragged.axes.iter().all(|(axis, _)| *axis == shape.rank() - 2))
}

/// The layer of `layers.5.mlp` or `layers[5].mlp`, and what stands after it.
fn split_layer(name: &str) -> Option<(i64, &str)> {
    let rest = name.strip_prefix("layers")?;
    let (layer, below) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => {
            let rest = rest.strip_prefix('.')?;
            rest.split_at(rest.find('.').unwrap_or(rest.len()))
        }
    };
    Some((layer.trim().parse().ok()?, below))
}

fn unknown(name: &str, tree: &Tree, layer: usize) -> Problem {
    let norms = tree.layers.get(layer).map_or(&[][..], |layer| &layer.norms);
    let inner = ["", ".self_attn", ".mlp"].map(str::to_owned).into_iter();
    let inner = inner.chain(norms.iter().map(|place| format!(".{}", place.name())));
    let names: Vec<String> = ["embed_tokens", "ln_final", "lm_head"]
        .map(str::to_owned)
        .into_iter()
        .chain(inner.map(|below| format!("layers.{layer}{below}")))
        .collect();
    Problem::new(Code::UnknownSite, format!("there is no module `{name}`"))
        .suggest(name, names.iter().map(String::as_str))
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmbedTokens => f.write_str("embed_tokens"),
            Self::Layer(layer) => write!(f, "layers.{layer}"),
            Self::SelfAttn(layer) => write!(f, "layers.{layer}.self_attn"),
            Self::Mlp(layer) => write!(f, "layers.{layer}.mlp"),
            Self::Norm(layer, place) => write!(f, "layers.{layer}.{}", place.name()),
            Self::LnFinal => f.write_str("ln_final"),
            Self::LmHead => f.write_str("lm_head"),
        }
    }
}

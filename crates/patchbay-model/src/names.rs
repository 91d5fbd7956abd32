//! The standardized names of a model's weights.

use candle_core::{Result, Tensor};
use patchbay_graph::module::NormPlace;

use crate::attention::{Attention, Latent};
use crate::block::Block;
use crate::experts::{Experts, Shared};
use crate::load::ModelWeights;
use crate::matrix::Matrix;
use crate::mlp::{FeedForward, Mlp};
use crate::parameters::{Linear, Norm};

/// A weight with a name.
#[derive(Clone, Copy)]
pub(crate) enum Weight<'a> {
    Tensor(&'a Tensor),
    Matrix(&'a Matrix),
}

impl Weight<'_> {
    pub(crate) fn dims(self) -> Result<Vec<usize>> {
        match self {
            Self::Tensor(tensor) => Ok(tensor.dims().to_vec()),
            Self::Matrix(matrix) => matrix.dims2().map(|(rows, columns)| vec![rows, columns]),
        }
    }

    /// Its numbers; those of a matrix that is not plain are laid out anew.
    pub(crate) fn tensor(self) -> Result<Tensor> {
        match self {
            Self::Tensor(tensor) => Ok(tensor.clone()),
            Self::Matrix(matrix) => matrix.tensor(),
        }
    }
}

/// Weights with their names.
type Named<'a> = Vec<(String, Weight<'a>)>;

impl ModelWeights {
    /// Every weight with its standardized name. What a checkpoint keeps otherwise (transposed, fused, less 1) is here as
    /// `y = x Wᵀ + b` and the norms use it.
    pub(crate) fn named(&self) -> Named<'_> {
        let mut named = vec![("embed_tokens".to_owned(), Weight::Matrix(&self.embedding))];
        named.extend(self.positions.iter().map(|table| ("embed_positions".to_owned(), Weight::Tensor(table))));
        for (layer, block) in self.blocks.iter().enumerate() {
            let names = block_weights(block).into_iter();
            named.extend(names.map(|(name, weight)| (format!("layers.{layer}.{name}"), weight)));
        }
        self.embedding_norm.iter().for_each(|found| norm(&mut named, "embed_norm", found));
        self.final_norm.iter().for_each(|found| norm(&mut named, "ln_final", found));
        linear(&mut named, "lm_head", &self.head);
        named
    }
}

fn block_weights(block: &Block) -> Named<'_> {
    let mut named = Vec::new();
    let Block { attention, mlp, .. } = block;
    for place in NormPlace::ALL {
        block.norm(place).into_iter().for_each(|found| norm(&mut named, place.name(), found));
    }
    attention_weights(&mut named, attention);
    named.extend(attention.sinks.iter().map(|sinks| ("self_attn.sinks".to_owned(), Weight::Tensor(sinks))));
    match mlp {
        FeedForward::Mlp(mlp) => mlp_weights(&mut named, "mlp", mlp),
        FeedForward::Experts(experts) => expert_weights(&mut named, experts),
    }
    named
}

fn attention_weights<'a>(named: &mut Named<'a>, attention: &'a Attention) {
    // a projection of a latent is the second of two
    let mut projections = |latent: &'a Option<Latent>, name: &str, second: &[(&str, &'a Linear)]| {
        if let Some(Latent { down, norm: found }) = latent {
            linear(named, &format!("self_attn.{name}_a_proj"), down);
            norm(named, &format!("self_attn.{name}_a_norm"), found);
        }
        let part = if latent.is_some() { "_b" } else { "" };
        second.iter().for_each(|(name, found)| linear(named, &format!("self_attn.{name}{part}_proj"), found));
    };
    projections(&attention.q_latent, "q", &[("q", &attention.q)]);
    projections(&attention.kv_latent, "kv", &[("k", &attention.k), ("v", &attention.v)]);
    linear(named, "self_attn.o_proj", &attention.o);
    attention.q_norm.iter().for_each(|found| norm(named, "self_attn.q_norm", found));
    attention.k_norm.iter().for_each(|found| norm(named, "self_attn.k_norm", found));
}

fn expert_weights<'a>(named: &mut Named<'a>, Experts { router, experts, shared, .. }: &'a Experts) {
    linear(named, "mlp.router", &router.projection);
    named.extend(
        router.correction.iter().map(|correction| ("mlp.router.correction".to_owned(), Weight::Tensor(correction))),
    );
    for (number, expert) in experts.iter().enumerate() {
        mlp_weights(named, &format!("mlp.experts.{number}"), expert);
    }
    if let Some(Shared { mlp, gate }) = shared {
        mlp_weights(named, "mlp.shared_expert", mlp);
        gate.iter().for_each(|gate| linear(named, "mlp.shared_expert_gate", gate));
    }
}

fn mlp_weights<'a>(named: &mut Named<'a>, name: &str, mlp: &'a Mlp) {
    mlp.gate.iter().for_each(|gate| linear(named, &format!("{name}.gate_proj"), gate));
    linear(named, &format!("{name}.up_proj"), &mlp.up);
    linear(named, &format!("{name}.down_proj"), &mlp.down);
    named.extend(mlp.learned.iter().map(|(part, number)| (format!("{name}.act_fn.{part}"), Weight::Tensor(number))));
}

fn linear<'a>(named: &mut Named<'a>, name: &str, weights: &'a Linear) {
    with_bias(named, name, Weight::Matrix(&weights.weight), weights.bias.as_ref());
}

fn norm<'a>(named: &mut Named<'a>, name: &str, weights: &'a Norm) {
    with_bias(named, name, Weight::Tensor(&weights.weight), weights.bias.as_ref());
}

fn with_bias<'a>(named: &mut Named<'a>, name: &str, weight: Weight<'a>, bias: Option<&'a Tensor>) {
    named.push((name.to_owned(), weight));
    named.extend(bias.map(|bias| (format!("{name}.bias"), Weight::Tensor(bias))));
}

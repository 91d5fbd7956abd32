//! Weights of a model as values: `weights.lm_head`, `weights.layers.5.self_attn.o_proj`, `weights.layers.5.W_O[3]`.
//!
//! Every weight has one standardized name, whatever the checkpoint calls it ([`Tree::weights`]), and the shape that
//! `torch.nn.Linear` gives it, `[out, in]`. The names of the interpretability literature are views of the same: `W_Q W_K W_V`
//! are `[heads, D, d]`, `W_O` is `[heads, d, D]`, `W_in` and `W_gate` are `[D, F]`, `W_out` is `[F, D]`, `W_E` is `[V, D]`
//! and `W_U` is `[D, V]`, so that a row vector stands on their left.

use crate::path::{Layers, SitePath, find_layer};
use crate::problem::{Code, Problem, Result};
use crate::tree::Tree;

/// A weight, and how it is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Weight {
    /// Its standardized name.
    pub name: String,
    /// How it is looked at.
    pub view: View,
}

/// How a weight is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum View {
    /// As it is.
    Whole,
    /// `[out, in]` as `[in, out]`.
    Transposed,
    /// `[heads · d, D]` as `[heads, D, d]`, and a bias `[heads · d]` as `[heads, d]`.
    HeadsOut(usize),
    /// `[D, heads · d]` as `[heads, d, D]`.
    HeadsIn(usize),
}

/// Views of a block's weights: name, the weight, which heads it has, if any.
const BLOCK_VIEWS: [(&str, &str, Heads); 14] = [
    ("W_Q", "self_attn.q_proj", Heads::Query),
    ("W_K", "self_attn.k_proj", Heads::KeyValue),
    ("W_V", "self_attn.v_proj", Heads::KeyValue),
    ("W_O", "self_attn.o_proj", Heads::Output),
    ("W_gate", "mlp.gate_proj", Heads::None),
    ("W_in", "mlp.up_proj", Heads::None),
    ("W_out", "mlp.down_proj", Heads::None),
    ("b_Q", "self_attn.q_proj.bias", Heads::Query),
    ("b_K", "self_attn.k_proj.bias", Heads::KeyValue),
    ("b_V", "self_attn.v_proj.bias", Heads::KeyValue),
    ("b_O", "self_attn.o_proj.bias", Heads::Bias),
    ("b_gate", "mlp.gate_proj.bias", Heads::Bias),
    ("b_in", "mlp.up_proj.bias", Heads::Bias),
    ("b_out", "mlp.down_proj.bias", Heads::Bias),
];

/// Views of the other weights.
const OUTER_VIEWS: [(&str, &str, View); 3] = [
    ("W_E", "embed_tokens", View::Whole),
    ("W_U", "lm_head", View::Transposed),
    ("W_pos", "embed_positions", View::Whole),
];

#[derive(Clone, Copy)]
enum Heads {
    Query,
    KeyValue,
    Output,
    Bias,
    None,
}

impl View {
    /// The shape of a weight of this shape when it is looked at so.
    pub fn shape(self, stored: &[usize]) -> Vec<usize> {
        match (self, stored) {
            (Self::Transposed, [out, input]) => vec![*input, *out],
            (Self::HeadsOut(heads), [out, input]) => vec![heads, *input, out / heads],
            (Self::HeadsOut(heads), [out]) => vec![heads, out / heads],
            (Self::HeadsIn(heads), [out, input]) => vec![heads, input / heads, *out],
            (_, stored) => stored.to_vec(),
        }
    }
}

impl Weight {
    /// Its shape.
    pub fn shape(&self, tree: &Tree) -> Vec<usize> {
        self.view.shape(tree.weights.get(&self.name).map_or(&[], Vec::as_slice))
    }
}

/// The weights that a name below `weights.` stands for, and whether they are to be stacked.
///
/// # Errors
/// No such weight, no such layer.
pub fn find_weights(path: &SitePath, tree: &Tree) -> Result<(Vec<Weight>, bool)> {
    let name = path.name.strip_suffix(".weight").unwrap_or(&path.name);
    let numbers: Vec<i64> = match &path.layers {
        None => return Ok((vec![find_outer(name, tree)?], false)),
        Some(Layers::One(layer)) => vec![*layer],
        Some(Layers::Many(layers)) => layers.clone(),
        Some(Layers::All) => (0..tree.layers.len() as i64).collect(),
    };
    if numbers.is_empty() {
        return Err(Problem::new(Code::UnknownSite, "the list of layers is empty").hint("`layers.*` is all of them"));
    }
    let weights =
        numbers.iter().map(|layer| find_inner(name, find_layer(tree, *layer)?, tree)).collect::<Result<_>>()?;
    Ok((weights, !matches!(path.layers, Some(Layers::One(_)))))
}

fn find_outer(name: &str, tree: &Tree) -> Result<Weight> {
    let view = OUTER_VIEWS.iter().find(|(view, stored, _)| *view == name && tree.weights.contains_key(*stored));
    if let Some((_, stored, view)) = view {
        return Ok(Weight { name: (*stored).to_owned(), view: *view });
    }
    if tree.weights.contains_key(name) {
        return Ok(Weight { name: name.to_owned(), view: View::Whole });
    }
    let views = OUTER_VIEWS.iter().filter(|(_, stored, _)| tree.weights.contains_key(*stored)).map(|(view, ..)| *view);
    let stored = tree.weights.keys().map(String::as_str).filter(|name| !name.starts_with("layers."));
    let names: Vec<String> = stored.chain(views).map(|name| format!("weights.{name}")).collect();
    Err(unknown(&format!("weights.{name}"), &names))
}

fn find_inner(name: &str, layer: usize, tree: &Tree) -> Result<Weight> {
    let stored = |name: &str| format!("layers.{layer}.{name}");
    let short = name.strip_prefix("self_attn.").or_else(|| name.strip_prefix("mlp.")).unwrap_or(name);
    let view =
        BLOCK_VIEWS.iter().find(|(view, weight, _)| *view == short && tree.weights.contains_key(&stored(weight)));
    if let Some((_, weight, heads)) = view {
        let sizes = &tree.layers[layer];
        let view = match heads {
            Heads::Query => View::HeadsOut(sizes.heads),
            Heads::KeyValue => View::HeadsOut(sizes.kv_heads),
            Heads::Output => View::HeadsIn(sizes.heads),
            Heads::Bias => View::Whole,
            Heads::None => View::Transposed,
        };
        return Ok(Weight { name: stored(weight), view });
    }
    if tree.weights.contains_key(&stored(name)) {
        return Ok(Weight { name: stored(name), view: View::Whole });
    }
    let prefix = stored("");
    let views = BLOCK_VIEWS.iter().filter(|(_, weight, _)| tree.weights.contains_key(&stored(weight)));
    let names: Vec<String> = tree
        .weights
        .keys()
        .filter(|name| name.starts_with(&prefix) && !is_another_experts(name))
        .cloned()
        .chain(views.map(|(view, ..)| stored(view)))
        .map(|name| format!("weights.{name}"))
        .collect();
    Err(unknown(&format!("weights.layers.{layer}.{name}"), &names))
}

/// Whether a weight is that of an expert other than the first. There may be hundreds, all with the same weights.
fn is_another_experts(name: &str) -> bool {
    name.split_once(".mlp.experts.").is_some_and(|(_, expert)| !expert.starts_with("0."))
}

fn unknown(name: &str, names: &[String]) -> Problem {
    let problem = Problem::new(Code::UnknownSite, format!("this model has no weight `{name}`"));
    problem
        .hint(format!("it has {}", crate::problem::list(&names.iter().map(String::as_str).collect::<Vec<_>>())))
        .suggest(
            name,
            names.iter().map(String::as_str).filter(|other| strsim::normalized_damerau_levenshtein(name, other) > 0.5),
        )
}

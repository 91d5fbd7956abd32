//! A small model, two ways of giving it inputs, and a store of two tensors.
#![allow(dead_code, reason = "no test file needs all of it")]

use std::collections::BTreeMap;

use patchbay_graph::module::NormPlace;
use patchbay_graph::{
    Code, Context, DType, Input, InputRow, LayerTree, Limits, Plan, Problem, Request, Store, TokenRow, TokenRows, Tree,
    check,
};
use serde_json::{Value, json};

/// Four layers, eight wide, two heads, a vocabulary of eleven.
pub(crate) fn tree() -> Tree {
    Sizes { layers: 4, hidden: 8, heads: 2, kv_heads: 1, mlp: 12, vocab: 11 }.tree()
}

/// The sizes of a model of LLaMA's form.
pub(crate) struct Sizes {
    pub(crate) layers: usize,
    pub(crate) hidden: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) mlp: usize,
    pub(crate) vocab: usize,
}

impl Sizes {
    pub(crate) fn tree(&self) -> Tree {
        let head_dim = self.hidden / self.heads;
        let layer = LayerTree {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim,
            value_dim: head_dim,
            mlp: Some(self.mlp),
            gate: true,
            experts: None,
            window: None,
            chunk: None,
            sequential: true,
            norms: vec![NormPlace::AttnNorm, NormPlace::MlpNorm],
        };
        let layers = vec![layer; self.layers];
        Tree {
            hidden: self.hidden,
            vocab: self.vocab,
            context: 64,
            fused: true,
            layers,
            weights: self.weights().into(),
        }
    }

    /// Every weight of the model, and its shape.
    fn weights(&self) -> BTreeMap<String, Vec<usize>> {
        let Self { hidden, mlp, vocab, .. } = *self;
        let keys = hidden / self.heads * self.kv_heads;
        let outer: [(&str, &[usize]); 3] =
            [("embed_tokens", &[vocab, hidden]), ("lm_head", &[vocab, hidden]), ("ln_final", &[hidden])];
        let inner: [(&str, &[usize]); 9] = [
            ("attn_norm", &[hidden]),
            ("mlp_norm", &[hidden]),
            ("self_attn.q_proj", &[hidden, hidden]),
            ("self_attn.k_proj", &[keys, hidden]),
            ("self_attn.v_proj", &[keys, hidden]),
            ("self_attn.o_proj", &[hidden, hidden]),
            ("mlp.gate_proj", &[mlp, hidden]),
            ("mlp.up_proj", &[mlp, hidden]),
            ("mlp.down_proj", &[hidden, mlp]),
        ];
        let layer = |layer: usize| inner.map(|(name, shape)| (format!("layers.{layer}.{name}"), shape.to_vec()));
        let outer = outer.map(|(name, shape)| (name.to_owned(), shape.to_vec()));
        outer.into_iter().chain((0..self.layers).flat_map(layer)).collect()
    }
}

/// `@joy`, eight wide, and `@pair.a`.
pub(crate) struct Shelf;

impl Store for Shelf {
    fn describe(&self, name: &str, key: Option<&str>) -> Result<(DType, Vec<usize>), Problem> {
        match (name, key) {
            ("joy", None) | ("pair", Some("a")) => Ok((DType::F32, vec![8])),
            _ => Err(Problem::new(Code::UnknownTensor, format!("there is no tensor `@{name}`")).suggest(name, ["joy"])),
        }
    }
}

/// A text whose tokens are its words, each with the space before it.
pub(crate) fn words(text: &str) -> TokenRow {
    let mut ends: Vec<usize> = text.match_indices(' ').map(|(at, _)| at).filter(|at| *at > 0).collect();
    ends.push(text.len());
    TokenRow { text: text.into(), ends, ..TokenRow::default() }
}

pub(crate) fn tokenize(input: &Input) -> TokenRows {
    let row = |row: &InputRow| match row {
        InputRow::Text { text, .. } => words(text),
        InputRow::Ids(ids) => TokenRow { text: String::new(), ends: vec![0; ids.len()], ..TokenRow::default() },
        InputRow::Messages(_) => words("a conversation"),
    };
    TokenRows { name: input.name.clone(), rows: input.rows.iter().map(row).collect() }
}

/// Parses and checks a body within limits.
pub(crate) fn plan_within(body: &Value, limits: &Limits) -> Result<Plan, Problem> {
    let request = Request::parse(body)?;
    let inputs: Vec<TokenRows> = request.inputs.iter().map(tokenize).collect();
    check(&request, &Context { tree: &tree(), inputs: &inputs, store: &Shelf, limits })
}

/// Parses and checks a body.
pub(crate) fn plan_body(body: &Value) -> Result<Plan, Problem> {
    plan_within(body, &Limits::default())
}

/// A graph on one row of three tokens.
pub(crate) fn plan(graph: Value) -> Result<Plan, Problem> {
    plan_body(&json!({"input": "The capital is", "graph": graph}))
}

/// A graph on two inputs of three tokens each.
pub(crate) fn plan_pair(graph: Value) -> Result<Plan, Problem> {
    plan_body(&json!({"inputs": {"clean": "The capital is", "corrupt": "A capital was"}, "graph": graph}))
}

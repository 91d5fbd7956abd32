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
    let layer = LayerTree {
        heads: 2,
        kv_heads: 1,
        head_dim: 4,
        value_dim: 4,
        mlp: Some(12),
        gate: true,
        experts: None,
        window: None,
        sequential: true,
        norms: vec![NormPlace::AttnNorm, NormPlace::MlpNorm],
    };
    Tree { hidden: 8, vocab: 11, context: 64, layers: vec![layer; 4], weights: weights() }
}

/// Every weight of the model, and its shape.
fn weights() -> BTreeMap<String, Vec<usize>> {
    let outer: [(&str, &[usize]); 3] = [("embed_tokens", &[11, 8]), ("lm_head", &[11, 8]), ("ln_final", &[8])];
    let inner: [(&str, &[usize]); 9] = [
        ("attn_norm", &[8]),
        ("mlp_norm", &[8]),
        ("self_attn.q_proj", &[8, 8]),
        ("self_attn.k_proj", &[4, 8]),
        ("self_attn.v_proj", &[4, 8]),
        ("self_attn.o_proj", &[8, 8]),
        ("mlp.gate_proj", &[12, 8]),
        ("mlp.up_proj", &[12, 8]),
        ("mlp.down_proj", &[8, 12]),
    ];
    let layer = |layer: usize| inner.map(|(name, shape)| (format!("layers.{layer}.{name}"), shape.to_vec()));
    outer.map(|(name, shape)| (name.to_owned(), shape.to_vec())).into_iter().chain((0..4).flat_map(layer)).collect()
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
    TokenRow { text: text.into(), ends }
}

fn tokenize(input: &Input) -> TokenRows {
    let row = |row: &InputRow| match row {
        InputRow::Text { text, .. } => words(text),
        InputRow::Ids(ids) => TokenRow { text: String::new(), ends: vec![0; ids.len()] },
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

//! What a plan takes: operations, bytes, layers.

use super::made::arguments;
use crate::ops::{Attrs, Given};
use crate::plan::{Cost, Pass, PassInput, Plan, Source, Value};
use crate::site::{LayerSite, Site};
use crate::tree::{LayerTree, Tree};

/// Bytes of one activation.
const F32: u64 = 4;

/// Prices a plan. Matrix products count two operations a multiply-add; inside of blocks, what is done once an
/// element is left out.
pub(super) fn cost(plan: &Plan, tree: &Tree) -> Cost {
    let mut cost = Cost::default();
    let mut running = 0;
    for pass in &plan.passes {
        for input in &pass.inputs {
            cost.flops += flops(plan, tree, input);
        }
        cost.layers_run += layers_run(plan, pass, tree);
        running = running.max(pass.inputs.iter().map(|input| working_bytes(plan, tree, input)).sum());
    }
    for value in &plan.values {
        match &value.source {
            Source::Project { of, .. } => {
                let rows = plan.values[*of].shape.elements().unwrap_or(0) / tree.hidden.max(1);
                cost.flops += 2.0 * rows as f64 * tree.hidden as f64 * tree.vocab as f64;
            }
            Source::Op { spec, args, params, attrs, .. } => {
                let args = arguments(&plan.values, args, params);
                let given = Given { spec, args: &args, attrs: Attrs(attrs) };
                let (flops, scratch) = spec.cost(&given, &value.shape);
                cost.flops += flops;
                running = running.max(scratch);
            }
            _ => {}
        }
    }
    let bytes = |id: usize| plan.values[id].bytes();
    let returned = plan.results.iter().map(|result| match result.top_tokens {
        None => bytes(result.value),
        Some(k) => bytes(result.value) / tree.vocab.max(1) as u64 * k as u64 * 3,
    });
    cost.result_bytes = returned.fold(0, u64::saturating_add);
    let values = plan.values.iter().map(Value::bytes).fold(0, u64::saturating_add);
    cost.peak_bytes = values.saturating_add(running);
    cost
}

/// How many blocks an input runs through, from the first on.
pub(super) fn layers_reached(input: &PassInput, tree: &Tree) -> usize {
    match input.until {
        Site::EmbedTokens => 0,
        Site::Layer(layer, LayerSite::Input) => layer,
        Site::Layer(layer, _) => layer + 1,
        _ => tree.layers.len(),
    }
}

/// Blocks that at least one input runs.
fn layers_run(plan: &Plan, pass: &Pass, tree: &Tree) -> usize {
    let runs = |input: &PassInput, layer: usize| {
        layer < layers_reached(input, tree) && plan.skip_at(input.input, layer).is_none()
    };
    (0..tree.layers.len()).filter(|layer| pass.inputs.iter().any(|input| runs(input, *layer))).count()
}

fn flops(plan: &Plan, tree: &Tree, input: &PassInput) -> f64 {
    let lengths = &plan.inputs[input.input].lengths;
    let tokens: usize = lengths.iter().sum();
    let pairs: usize = lengths.iter().map(|n| n * n).sum();
    let layers = (0..layers_reached(input, tree)).filter(|layer| plan.skip_at(input.input, *layer).is_none());
    let blocks: f64 =
        layers.map(|layer| layer_flops(&tree.layers[layer], tree.hidden, tokens as f64, pairs as f64)).sum();
    let looked_at: usize = input.final_tokens.iter().map(Vec::len).sum();
    let unembed =
        if input.until >= Site::LmHead { 2.0 * (looked_at * tree.hidden) as f64 * tree.vocab as f64 } else { 0.0 };
    blocks + unembed
}

fn layer_flops(layer: &LayerTree, hidden: usize, tokens: f64, pairs: f64) -> f64 {
    let attention =
        layer.heads * (layer.head_dim + layer.value_dim) + layer.kv_heads * (layer.head_dim + layer.value_dim);
    let mlp = layer.mlp.unwrap_or(0) * if layer.gate { 3 } else { 2 };
    let scores = layer.heads * (layer.head_dim + layer.value_dim);
    2.0 * tokens * (hidden * (attention + mlp)) as f64 + 2.0 * pairs * scores as f64
}

/// Bytes of the activations of one block and of the logits.
fn working_bytes(plan: &Plan, tree: &Tree, input: &PassInput) -> u64 {
    let lengths = &plan.inputs[input.input].lengths;
    let tokens = lengths.iter().sum::<usize>() as u64;
    let pairs = lengths.iter().map(|n| n * n).sum::<usize>() as u64;
    let block = tree.layers.iter().map(|layer| {
        let heads = (layer.heads + 2 * layer.kv_heads) * layer.head_dim.max(layer.value_dim);
        let channels = 4 * tree.hidden + heads + 3 * layer.mlp.unwrap_or(0);
        tokens * channels as u64 + 2 * pairs * layer.heads as u64
    });
    let looked_at: usize = input.final_tokens.iter().map(Vec::len).sum();
    let logits = if input.until >= Site::LmHead { 2 * (looked_at * tree.vocab) as u64 } else { 0 };
    F32 * block.max().unwrap_or(0).max(logits)
}

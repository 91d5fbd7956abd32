//! What a trace would do, without doing it.

use patchbay_graph::{Plan, Tree};
use serde::Serialize;
use utoipa::ToSchema;

use super::tensor::{Lengths, lengths};
use super::tokens::InputTokens;
use super::trace::as_map;

/// What a trace would return, how it would run and what it would cost.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ValidateResponse {
    /// The model.
    pub model: String,
    /// The results, in the order of the graph.
    #[serde(serialize_with = "as_map")]
    #[schema(value_type = std::collections::BTreeMap<String, PlannedResult>)]
    pub results: Vec<(String, PlannedResult)>,
    /// The tokens of every input.
    #[serde(serialize_with = "as_map")]
    #[schema(value_type = std::collections::BTreeMap<String, InputTokens>)]
    pub inputs: Vec<(String, InputTokens)>,
    /// How it would run.
    pub plan: PlanSummary,
    /// What it would cost.
    pub cost: CostSummary,
}

/// Type and shape of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({"dtype": "f32", "shape": [1, 576]}))]
pub struct PlannedResult {
    /// Type of the elements; absent for tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub dtype: Option<&'static str>,
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    /// True lengths of the rows by axis, where they differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<std::collections::BTreeMap<String, Vec<usize>>>)]
    pub lengths: Option<Lengths>,
    /// How many of the likeliest tokens at each place, for tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_tokens: Option<usize>,
}

/// How a trace would run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({"passes": 1, "layers_run": 6, "layer_count": 30}))]
pub struct PlanSummary {
    /// Walks through the layers.
    pub passes: usize,
    /// Blocks run, over all passes.
    pub layers_run: usize,
    /// Blocks of the model.
    pub layer_count: usize,
}

/// What a trace would cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
#[schema(example = json!({"flops": 2.1e8, "peak_bytes": 92160, "result_bytes": 2304}))]
pub struct CostSummary {
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes held at the worst moment, weights left out.
    pub peak_bytes: u64,
    /// Bytes of all results.
    pub result_bytes: u64,
}

impl ValidateResponse {
    /// What `plan` would do on the model of `tree`.
    pub fn new(model: String, inputs: Vec<(String, InputTokens)>, plan: &Plan, tree: &Tree) -> Self {
        let result = |returned: &patchbay_graph::plan::Returned| {
            let value = &plan.values[returned.value];
            let mut shape = value.shape.dims.clone();
            if returned.top_tokens.is_some() {
                shape.pop();
            }
            let dtype = returned.top_tokens.is_none().then(|| value.dtype.name());
            let planned =
                PlannedResult { dtype, shape, lengths: lengths(&value.shape), top_tokens: returned.top_tokens };
            (returned.name.clone(), planned)
        };
        let cost = plan.cost;
        Self {
            model,
            results: plan.results.iter().map(result).collect(),
            inputs,
            plan: PlanSummary {
                passes: plan.passes.len(),
                layers_run: cost.layers_run,
                layer_count: tree.layers.len(),
            },
            cost: CostSummary { flops: cost.flops, peak_bytes: cost.peak_bytes, result_bytes: cost.result_bytes },
        }
    }
}

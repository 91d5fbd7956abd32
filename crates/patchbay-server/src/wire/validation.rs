//! What a trace would do, without doing it.

use patchbay_graph::plan::Cost;
use patchbay_graph::{Parts, Plan, Saved, SweepPlan, Tree};
use serde::Serialize;
use utoipa::ToSchema;

use super::planned::PlanSummary;
use super::result::as_map;
use super::tensor::{Lengths, lengths};
use super::tokens::InputTokens;

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
    /// Doubts about the model, and what of its edits would touch nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
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

/// What a trace would cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
#[schema(example = json!({"flops": 2.6e8, "peak_bytes": 167424, "result_bytes": 23040}))]
pub struct CostSummary {
    /// Floating-point operations: two a multiply-add in products, and what `docs/ops.md` says of each operation.
    pub flops: f64,
    /// Bytes held at the worst moment, results included; the model's weights and the caller's stored tensors are not.
    pub peak_bytes: u64,
    /// How many of them are prompts' keys that are left for those that begin alike, where there is room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_bytes: Option<u64>,
    /// Bytes of all results' elements, 12 a token of `top_tokens`. JSON writes them longer; base64 takes 4 for 3.
    pub result_bytes: u64,
}

impl PlannedResult {
    fn named(saved: &Saved) -> (String, Self) {
        let Saved { name, shape, dtype, top_tokens, .. } = saved;
        let mut sizes = shape.dims.clone();
        if top_tokens.is_some() {
            sizes.pop();
        }
        let dtype = top_tokens.is_none().then(|| dtype.name());
        (name.clone(), Self { dtype, shape: sizes, lengths: lengths(shape), top_tokens: *top_tokens })
    }
}

impl CostSummary {
    fn new(cost: &Cost) -> Self {
        let (flops, peak_bytes, result_bytes) = (cost.flops, cost.peak_bytes, cost.result_bytes);
        Self { flops, peak_bytes, prefix_bytes: None, result_bytes }
    }
}

impl ValidateResponse {
    /// The same of a trace that leaves so many bytes of prompts' keys.
    #[must_use]
    pub fn leaving(mut self, prefix_bytes: u64) -> Self {
        self.cost.peak_bytes = self.cost.peak_bytes.saturating_add(prefix_bytes);
        self.cost.prefix_bytes = (prefix_bytes > 0).then_some(prefix_bytes);
        self
    }

    /// What a sweep would do on the model of `tree`: `plan` is of all its cells.
    pub fn of_sweep(model: String, inputs: Vec<(String, InputTokens)>, plan: &SweepPlan, tree: &Tree) -> Self {
        let results = plan.results.iter().map(|swept| PlannedResult::named(&swept.saved)).collect();
        let (cost, plan) = (CostSummary::new(&plan.cost), PlanSummary::of_sweep(plan, tree));
        Self { model, results, inputs, plan, cost, warnings: Vec::new() }
    }

    /// What a trace would do on the model of `tree` whose rows run in parts.
    pub fn of_parts(model: String, inputs: Vec<(String, InputTokens)>, parts: &Parts, tree: &Tree) -> Self {
        let results = parts.results.iter().map(|joined| PlannedResult::named(&joined.saved)).collect();
        let (cost, plan) = (CostSummary::new(&parts.cost), PlanSummary::of_parts(parts, tree));
        Self { model, results, inputs, plan, cost, warnings: Vec::new() }
    }

    /// What `plan` would do on the model of `tree`.
    pub fn new(model: String, inputs: Vec<(String, InputTokens)>, plan: &Plan, tree: &Tree) -> Self {
        let results = plan.returned().map(|(_, saved)| PlannedResult::named(&saved)).collect();
        let (cost, plan) = (CostSummary::new(&plan.cost), PlanSummary::new(plan, tree));
        Self { model, results, inputs, plan, cost, warnings: Vec::new() }
    }
}

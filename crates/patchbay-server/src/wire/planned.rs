//! How a trace would run.

use std::collections::BTreeMap;

use patchbay_graph::plan::{Cost, Pass, PassInput};
use patchbay_graph::{Parts, Plan, SweepPlan, Tree};
use serde::Serialize;
use utoipa::ToSchema;

/// How many walks are told one by one.
const MOST_WALKS: usize = 64;

/// How a trace would run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({"passes": 1, "layers_run": 6, "layer_count": 30,
    "walks": [{"input": {"until": "layers.5.output", "layers": [[0, 5]], "logits": 0}}],
    "dead": {"layers": [[6, 29]], "logits": {"input": 5}}}))]
pub struct PlanSummary {
    /// Cells of a sweep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cells: Option<usize>,
    /// Parts that the rows run in, where all of them together would hold too much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<usize>,
    /// Walks through the layers.
    pub passes: usize,
    /// Blocks run, over all passes.
    pub layers_run: usize,
    /// Blocks of the model.
    pub layer_count: usize,
    /// Every pass, the first 64 at most: what each input that takes part does in it. Absent for a sweep, whose cells differ, and
    /// for parts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub walks: Vec<BTreeMap<String, WalkSummary>>,
    /// What never runs. Absent for a sweep and for parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead: Option<Dead>,
}

/// Runs of layers: the first and the last of each.
type Runs = Vec<[usize; 2]>;

/// What an input does in a pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WalkSummary {
    /// The last site it reaches.
    pub until: String,
    /// The layers that run for it: first and last of every run of them.
    #[schema(value_type = Vec<Vec<usize>>)]
    pub layers: Runs,
    /// Tokens of all rows for which the unembedding (`lm_head`) is computed.
    pub logits: usize,
    /// Of how many tokens of the vocabulary; absent where it is all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<usize>,
}

/// What no result needs, and therefore never runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Dead {
    /// Layers that run for no input: first and last of every run of them.
    #[schema(value_type = Vec<Vec<usize>>)]
    pub layers: Runs,
    /// For each input how many tokens are never unembedded; inputs without such tokens are left out.
    pub logits: BTreeMap<String, usize>,
}

impl PlanSummary {
    /// How `plan` would run on the model of `tree`.
    pub(crate) fn new(plan: &Plan, tree: &Tree) -> Self {
        let walk = |pass: &Pass| {
            let summary = |input: &PassInput| {
                let layers = runs(plan.layers_of(input, tree));
                let logits = input.unembedded.iter().map(Vec::len).sum();
                let of = pass.vocab.as_ref().map(|ids| ids.len());
                let name = plan.inputs[input.input].name.clone();
                (name, WalkSummary { until: input.until.to_string(), layers, logits, of })
            };
            pass.inputs.iter().map(summary).collect()
        };
        Self {
            cells: None,
            parts: None,
            passes: plan.passes.len(),
            layers_run: plan.cost.layers_run,
            layer_count: tree.layers.len(),
            walks: plan.passes.iter().take(MOST_WALKS).map(walk).collect(),
            dead: Some(Dead::new(plan, tree)),
        }
    }

    /// How the cells of a sweep would run.
    pub(crate) fn of_sweep(plan: &SweepPlan, tree: &Tree) -> Self {
        Self { cells: Some(plan.cells), ..Self::of_several(plan.passes, &plan.cost, tree) }
    }

    /// How the parts of a trace would run.
    pub(crate) fn of_parts(parts: &Parts, tree: &Tree) -> Self {
        Self { parts: Some(parts.rows.len()), ..Self::of_several(parts.passes, &parts.cost, tree) }
    }

    fn of_several(passes: usize, cost: &Cost, tree: &Tree) -> Self {
        let (layers_run, layer_count) = (cost.layers_run, tree.layers.len());
        Self { cells: None, parts: None, passes, layers_run, layer_count, walks: Vec::new(), dead: None }
    }
}

impl Dead {
    fn new(plan: &Plan, tree: &Tree) -> Self {
        let mut ran = vec![false; tree.layers.len()];
        let rows =
            |input: &patchbay_graph::PlanInput| input.lengths.iter().map(|length| vec![false; *length]).collect();
        let mut looked_at: Vec<Vec<Vec<bool>>> = plan.inputs.iter().map(rows).collect();
        for pass in &plan.passes {
            for input in &pass.inputs {
                plan.layers_of(input, tree).for_each(|layer| ran[layer] = true);
                for (row, tokens) in input.unembedded.iter().enumerate() {
                    tokens.iter().for_each(|token| looked_at[input.input][row][*token] = true);
                }
            }
        }
        let logits = plan.inputs.iter().zip(&looked_at).filter_map(|(input, rows)| {
            let dead = rows.iter().flatten().filter(|looked_at| !**looked_at).count();
            (dead > 0).then(|| (input.name.clone(), dead))
        });
        Self { layers: runs((0..ran.len()).filter(|layer| !ran[*layer])), logits: logits.collect() }
    }
}

/// Ascending numbers as runs of neighbours.
fn runs(numbers: impl Iterator<Item = usize>) -> Runs {
    let mut runs = Runs::new();
    for number in numbers {
        match runs.last_mut() {
            Some([_, last]) if *last + 1 == number => *last = number,
            _ => runs.push([number, number]),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_run() {
        assert_eq!(runs([0, 1, 2, 5, 7, 8].into_iter()), [[0, 2], [5, 5], [7, 8]]);
        assert!(runs(std::iter::empty()).is_empty());
    }
}

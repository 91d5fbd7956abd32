//! The plan of each step of a generation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use patchbay_graph::plan::Cost;
use patchbay_graph::problem::Result;
use patchbay_graph::{Context, Generation, LayerSite, Limits, Packing, Plan, Problem, Site, Store, Tree};

use crate::collect::Collector;

/// What a generation is checked against, as long as it runs.
#[derive(Clone)]
pub struct Ground {
    /// The model's tree.
    pub tree: Arc<Tree>,
    /// The caller's tensors.
    pub store: Arc<dyn Store + Send + Sync>,
    /// What is allowed.
    pub limits: Limits,
}

/// Gives each step its plan: the same for many, unless the graph looks at attention matrices, which grow.
#[derive(Clone)]
pub struct Planner {
    generation: Generation,
    ground: Ground,
    /// Plans by the step from which on they hold.
    plans: BTreeMap<usize, Arc<Plan>>,
    grows: bool,
    new_tokens: usize,
}

impl Planner {
    /// Checks a generation of so many new tokens.
    ///
    /// # Errors
    /// Everything that its graph can get wrong at any step.
    pub fn new(generation: Generation, ground: Ground, new_tokens: usize) -> Result<Self> {
        let grows = generation.grows(&ground.tree);
        let mut planner = Self { generation, ground, plans: BTreeMap::new(), grows, new_tokens };
        let last = new_tokens.saturating_sub(1);
        let mut steps = planner.generation.changes(&planner.context())?;
        if grows {
            steps.extend([2.min(last), last]);
        }
        for step in steps {
            let plan = planner.generation.check(step, &planner.context())?;
            planner.plans.insert(step, Arc::new(plan));
        }
        Collector::check(planner.plans.values().map(|plan| &**plan), &planner.ground.tree)?;
        planner.check_results()?;
        Ok(planner)
    }

    fn context(&self) -> Context<'_> {
        let Ground { tree, store, limits } = &self.ground;
        Context { tree, inputs: &[], store: &**store, limits }
    }

    /// What all steps save has to be within the limit together.
    fn check_results(&self) -> Result<()> {
        let (found, limit) = (self.cost().result_bytes, self.ground.limits.max_result_bytes);
        match found > limit {
            false => Ok(()),
            true => {
                let detail = format!("the results of all steps would take {found} bytes, the limit is {limit}");
                let problem = Problem::new(patchbay_graph::Code::TooLarge, detail).at("/graph");
                Err(problem.hint(
                    "save less, at fewer `steps`, or ask for fewer tokens; the server's setting is `max_result_bytes`",
                ))
            }
        }
    }

    /// The plan of a step.
    ///
    /// # Errors
    /// What can be wrong at this step alone, as its matrices have a size of their own.
    pub fn plan(&self, step: usize) -> Result<Arc<Plan>> {
        let known = self.plans.range(..=step).next_back();
        match known {
            Some((begin, plan)) if !self.grows || *begin == step => Ok(Arc::clone(plan)),
            _ => self.generation.check(step, &self.context()).map(Arc::new),
        }
    }

    /// The plan of a step at which some rows are computed again from their start; nothing where the graph does something, which would
    /// have to be done to them again.
    ///
    /// # Errors
    /// More than the server's limits allow.
    pub fn plan_again(&self, step: usize, again: &[bool]) -> Result<Option<Arc<Plan>>> {
        match self.generation.is_plain() {
            true => self.generation.check_again(step, again, &self.context()).map(|plan| Some(Arc::new(plan))),
            false => Ok(None),
        }
    }

    /// The plans that are known to come.
    pub fn plans(&self) -> impl Iterator<Item = &Plan> {
        self.plans.values().map(|plan| &**plan)
    }

    /// What is to be kept in the caller's store: its name, where it stands, and the bytes of all steps.
    pub fn kept(&self) -> BTreeMap<&str, (&str, u64)> {
        let mut kept: BTreeMap<&str, (&str, u64)> = BTreeMap::new();
        for (plan, steps) in self.spans() {
            for (name, value) in &plan.kept {
                let value = &plan.values[*value];
                kept.entry(name).or_insert((&value.at, 0)).1 += value.bytes().saturating_mul(steps as u64);
            }
        }
        kept
    }

    /// Plans, and for how many steps each holds.
    fn spans(&self) -> impl Iterator<Item = (&Plan, usize)> {
        let ends = self.plans.keys().skip(1).copied().chain([self.new_tokens]);
        self.plans.iter().zip(ends).map(|((begin, plan), end)| (&**plan, end.saturating_sub(*begin)))
    }

    /// The nodes that write, each with the first step at which it does and where it stands.
    pub fn writes(&self) -> BTreeMap<usize, (usize, &str)> {
        let mut first = BTreeMap::new();
        for (step, plan) in &self.plans {
            let writes = plan.writes.iter().map(|write| (write.node, &*write.at));
            for (node, at) in writes.chain(plan.skips.iter().map(|skip| (skip.node, &*skip.at))) {
                first.entry(node).or_insert((*step, at));
            }
        }
        first
    }

    /// Blocks that do not run.
    pub fn skipped(&self) -> BTreeSet<usize> {
        self.plans().flat_map(|plan| &plan.skips).flat_map(|skip| skip.first..=skip.last).collect()
    }

    /// Nodes of edits that touch nothing at any step.
    pub fn idle(&self) -> Vec<usize> {
        let mut plans = self.plans();
        let Some(first) = plans.next() else { return Vec::new() };
        let rest: Vec<&Plan> = plans.collect();
        first.idle.iter().copied().filter(|node| rest.iter().all(|plan| plan.idle.contains(node))).collect()
    }

    /// What all steps cost together: operations and results add up, memory is that of the worst one.
    pub fn cost(&self) -> Cost {
        let mut sum = Cost::default();
        for (plan, steps) in self.spans() {
            let logits = plan.results.iter().find(|result| result.name == patchbay_graph::NEXT_LOGITS);
            let logits = logits.map_or(0, |result| plan.values[result.value].bytes());
            sum.flops += plan.cost.flops * steps as f64;
            sum.peak_bytes = sum.peak_bytes.max(plan.cost.peak_bytes);
            sum.result_bytes += plan.cost.result_bytes.saturating_sub(logits).saturating_mul(steps as u64);
            sum.layers_run += plan.cost.layers_run * steps;
            sum.token_layers += plan.cost.token_layers * steps;
        }
        sum
    }
}

impl std::fmt::Debug for Planner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Planner").field("steps", &self.plans.keys()).field("grows", &self.grows).finish_non_exhaustive()
    }
}

/// Bytes of the keys and values of a sequence of so many tokens, of numbers of `size` bytes each.
pub fn history_bytes(tree: &Tree, tokens: usize, size: usize) -> u64 {
    let width = |layer: usize, site: LayerSite| match tree.packing(Site::Layer(layer, site)) {
        Some(Packing::Heads { heads, dim }) => heads * dim,
        Some(Packing::Channels { width }) => width,
        _ => 0,
    };
    let widths = (0..tree.layers.len()).map(|layer| width(layer, LayerSite::K) + width(layer, LayerSite::V));
    // room grows to the next power of two
    (widths.sum::<usize>() * size) as u64 * tokens.next_power_of_two() as u64
}

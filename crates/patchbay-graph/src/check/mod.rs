//! From a graph as it came to a plan: everything that can be wrong is found here, before anything runs.
//!
//! `build` walks through the nodes and notes every write and access to a site, `values` gives every value a number, a shape
//! and a type, `gradients` finds the
//! ways that derivatives take, `schedule` puts what happens into passes (each a `walk` through the layers), `vocab` finds which logits
//! they need, and `cost` prices them.

mod apart;
mod build;
mod cost;
mod gradients;
mod made;
mod order;
mod parts;
mod prompt;
mod saved;
mod schedule;
mod sites;
mod step;
mod sweep;
mod texts;
mod values;
mod vocab;
mod walk;
mod window;

pub use parts::{Joined, Parts, check_parts};
pub use prompt::{PROMPT_LOGPROBS, PROMPT_TOP, score_prompt};
pub use saved::Saved;
pub use step::{Generation, NEXT_LOGITS};
pub use sweep::{SweepPlan, Swept, cell, check_sweep, check_sweep_while};

use std::borrow::Cow;

use crate::context::{Context, TokenRow, TokenRows};
use crate::node::Node;
use crate::plan::{Cost, Plan, PlanInput};
use crate::problem::{Code, Problem, Result};
use crate::request::Request;
use crate::template::NameSet;

/// Checks a request against a model, the tokenized inputs and the caller's tensors.
///
/// # Errors
/// Everything that a graph can get wrong, with its place and, where it helps, a way to mend it.
pub fn check(request: &Request, context: &Context<'_>) -> Result<Plan> {
    let checked = step::in_trace(request).and_then(|acting| check_marked(request, &acting, context, &|_| 0));
    checked.map(|(plan, _)| plan).map_err(|problem| request.placed(problem))
}

/// Checks the nodes of a request that act. The places that `named` knows stand for axes of a sweep; finds which of them every
/// value depends on.
fn check_marked(
    request: &Request,
    acting: &[usize],
    context: &Context<'_>,
    named: &dyn Fn(&str) -> NameSet,
) -> Result<(Plan, Vec<NameSet>)> {
    check_sizes(request, context)?;
    let graph = acting_nodes(request, acting);
    texts::check(&graph, context)?;
    let mut built = build::Builder::new(context).build(&graph)?;
    built.number(acting);
    schedule::forget_unseen(&mut built, request.edits.len());
    let idle = schedule::idle(&built, request);
    gradients::check(&built)?;
    let scheduled = schedule::schedule(&built, context)?;
    let planned =
        |input: &TokenRows| PlanInput { name: input.name.clone(), lengths: input.lengths(), past: input.past() };
    let inputs: Vec<PlanInput> = context.inputs.iter().map(planned).collect();
    let mut plan = Plan {
        inputs,
        values: built.values,
        writes: built.writes,
        skips: built.skips,
        gradients: built.gradients,
        prologue: scheduled.prologue,
        passes: scheduled.passes,
        results: built.results,
        kept: built.kept,
        idle,
        cost: Cost::default(),
    };
    vocab::narrow(&mut plan, context.tree.vocab);
    let axes = sweep::dependences(&plan, named);
    plan.cost = cost::cost(&plan, context.tree);
    check_cost(&plan.cost, context)?;
    Ok((plan, axes))
}

/// The nodes that act.
fn acting_nodes<'a>(request: &'a Request, acting: &[usize]) -> Cow<'a, [Node]> {
    match acting.len() == request.graph.len() {
        true => Cow::Borrowed(&request.graph),
        false => acting.iter().map(|number| request.graph[*number].clone()).collect(),
    }
}

fn check_sizes(request: &Request, context: &Context<'_>) -> Result<()> {
    let limits = context.limits;
    let too_many = |what: &str, found: usize, limit: usize, name: &str, at: &str| match found > limit {
        false => Ok(()),
        true => Err(Problem::new(Code::TooLarge, format!("{found} {what}, the limit is {limit}"))
            .hint(format!("the server's setting is `{name}`"))
            .at(at)),
    };
    let rows = context.inputs.iter().map(|input| input.rows.len()).sum();
    let tokens = context.inputs.iter().flat_map(|input| &input.rows).map(TokenRow::len).sum();
    too_many("nodes", order::count(&request.graph), limits.max_nodes, "max_nodes", "/graph")?;
    too_many("rows", rows, limits.max_rows, "max_rows", "")?;
    too_many("tokens", tokens, limits.max_tokens, "max_tokens", "")?;
    for (number, input) in context.inputs.iter().enumerate() {
        let at = |row: usize| request.inputs.get(number).map_or(String::new(), |input| input.place(row));
        for (i, row) in input.rows.iter().enumerate() {
            if row.is_empty() {
                let problem = Problem::new(Code::Malformed, format!("row {i} has no token")).at(at(i));
                return Err(problem.hint("a row has at least one token"));
            }
            if row.keys() > context.tree.context {
                let detail = format!("row {i} has {} tokens, this model takes {}", row.keys(), context.tree.context);
                return Err(Problem::new(Code::TooLarge, detail).hint("cut the row").at(at(i)));
            }
        }
    }
    Ok(())
}

fn check_cost(cost: &Cost, context: &Context<'_>) -> Result<()> {
    let limits = context.limits;
    let refuse = |what: &str, found: u64, limit: u64, name: &str| match found > limit {
        false => Ok(()),
        true => Err(Problem::new(Code::TooLarge, format!("{what} would take {found} bytes, the limit is {limit}"))
            .hint(format!("save less, for example with an index such as `[:, -1]`; the server's setting is `{name}`"))
            .at("/graph")),
    };
    refuse("the results", cost.result_bytes, limits.max_result_bytes, "max_result_bytes")?;
    refuse("this request", cost.peak_bytes, limits.max_peak_bytes, "max_peak_bytes")
}

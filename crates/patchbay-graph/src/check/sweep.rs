//! Checks every cell of a sweep, and finds which axes each result depends on.

use std::cell::RefCell;
use std::collections::HashMap;

use super::saved::{Saved, held};
use super::{check_marked, order};
use crate::context::{Context, TokenRow};
use crate::plan::{Cost, Event, Plan, Skip, Source, Value, ValueId};
use crate::problem::{Code, Problem, Result};
use crate::request::Request;
use crate::site::{LayerSite, Site};
use crate::sweep::Sweep;
use crate::template::NameSet;

/// Nodes of each cell, where a sweep has as many cells as it may.
const NODES_A_CELL: usize = 32;

/// How much may be looked at to check all cells: what is written in each, its values and steps, and the rows of each access.
const MAX_WORK: usize = 1 << 26;

/// Bytes that a receipt takes until the answer is sent: itself, its names, and the cell's places.
const RECEIPT_BYTES: u64 = 512;

/// What it took to check one cell, what was written there left out.
fn work_of(plan: &Plan, context: &Context<'_>) -> usize {
    let steps: usize = plan.passes.iter().map(|pass| 1 + pass.steps.len()).sum();
    let rows: usize = context.inputs.iter().map(|input| input.rows.len()).sum();
    let tokens: usize = context.inputs.iter().flat_map(|input| &input.rows).map(TokenRow::len).sum();
    let literal = |value: &Value| match &value.source {
        Source::Literal(literal) => literal.data.len(),
        _ => 0,
    };
    let written: usize = plan.values.iter().map(literal).sum();
    (8 + rows + tokens / 8).saturating_mul(plan.values.len() + steps).saturating_add(16 * written)
}

/// A sweep all of whose cells can run.
#[derive(Clone, Debug)]
pub struct SweepPlan {
    /// Number of cells.
    pub cells: usize,
    /// What is returned, in the order of the graph.
    pub results: Vec<Swept>,
    /// What is kept in the caller's store.
    pub kept: Vec<Swept>,
    /// Walks through the layers, over all cells.
    pub passes: usize,
    /// Nodes of edits that touch nothing in any cell.
    pub idle: Vec<usize>,
    /// What it costs: operations of all cells, bytes at the worst moment, bytes of all results.
    pub cost: Cost,
}

/// A value of a sweep that is returned or kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Swept {
    /// What it is, with the axes that it depends on in front of its own.
    pub saved: Saved,
    /// Those axes, by their numbers, ascending.
    pub axes: Vec<usize>,
}

/// The graph of one cell.
///
/// # Errors
/// Whatever is wrong with it, and in which cell.
pub fn cell(request: &Request, sweep: &Sweep, cell: usize) -> Result<Request> {
    Ok(request.of_cell(sweep.nodes(cell)?))
}

/// Checks every cell.
///
/// # Errors
/// What is wrong with the first cell that cannot run, results that differ between cells in more than their numbers, and sweeps
/// beyond the limits.
pub fn check_sweep(request: &Request, sweep: &Sweep, context: &Context<'_>) -> Result<SweepPlan> {
    check_sweep_while(&|| true, request, sweep, context)
}

/// Checks every cell, as long as somebody waits for it: a large sweep takes seconds.
///
/// # Errors
/// As [`check_sweep`], and where nobody waits any more.
pub fn check_sweep_while(
    wanted: &dyn Fn() -> bool,
    request: &Request,
    sweep: &Sweep,
    context: &Context<'_>,
) -> Result<SweepPlan> {
    check_cells(wanted, request, sweep, context).map_err(|problem| request.placed(problem))
}

fn check_cells(
    wanted: &dyn Fn() -> bool,
    request: &Request,
    sweep: &Sweep,
    context: &Context<'_>,
) -> Result<SweepPlan> {
    super::step::in_trace(request)?;
    let limit = context.limits.max_cells;
    let cells = sweep.cells().filter(|cells| *cells <= limit).ok_or_else(|| {
        let sizes: Vec<String> = sweep.axes.iter().map(|axis| axis.len().to_string()).collect();
        let detail = format!("the sweep has {} cells, the limit is {limit}", sizes.join(" × "));
        Problem::new(Code::TooLarge, detail).hint("the server's setting is `max_cells`").at("/sweep")
    })?;
    let nodes = order::count(&request.graph);
    if cells.saturating_mul(nodes) > limit.saturating_mul(NODES_A_CELL) {
        let detail = format!("the sweep has {cells} cells of {nodes} nodes, more than {limit} of {NODES_A_CELL}");
        return Err(Problem::new(Code::TooLarge, detail).hint("the server's setting is `max_cells`").at("/sweep"));
    }
    let mut found: Option<Found> = None;
    let mut one = request.of_cell(Vec::new());
    let mut work = 0usize;
    for number in 0..cells {
        if !wanted() {
            return Err(Problem::new(Code::TooLarge, "nobody waits for this sweep any more").at("/sweep"));
        }
        let (graph, weight) = sweep.weighed_nodes(number)?;
        one.graph.truncate(one.edits.len());
        one.graph.extend(graph);
        let acting = super::step::in_trace(&one)?;
        let checked = check_marked(&one, &acting, context, &|pointer| sweep.named_below(pointer));
        let (plan, axes) = checked.map_err(|problem| sweep.in_cell(problem, number))?;
        work = work.saturating_add(weight).saturating_add(work_of(&plan, context));
        // as a rule the cells are like the first
        if work > MAX_WORK || number == 0 && work.saturating_mul(cells) > MAX_WORK {
            let detail = format!("checking the {cells} cells of this sweep would take too long");
            return Err(Problem::new(Code::TooLarge, detail)
                .hint("send it in parts, with fewer cells or rows")
                .at("/sweep"));
        }
        match &mut found {
            None => found = Some(Found::new(plan, &axes)),
            Some(found) => found.add(&plan, &axes).map_err(|problem| sweep.in_cell(problem, number))?,
        }
    }
    let found = found.ok_or_else(|| Problem::new(Code::TooLarge, "a sweep has at least one cell"))?;
    found.finish(sweep, cells, context)
}

/// What the cells have in common.
struct Found {
    first: Plan,
    axes: Vec<NameSet>,
    passes: usize,
    receipts: u64,
    cost: Cost,
}

impl Found {
    fn new(plan: Plan, axes: &[NameSet]) -> Self {
        let axes = saved(&plan).map(|value| axes[value]).collect();
        Self { passes: plan.passes.len(), receipts: writes(&plan), cost: plan.cost, first: plan, axes }
    }

    /// Holds another cell against the first.
    fn add(&mut self, plan: &Plan, axes: &[NameSet]) -> Result<()> {
        let names = |plan: &Plan| -> Vec<String> {
            let kept = plan.kept.iter().map(|(name, _)| format!("@{name}"));
            plan.results.iter().map(|result| result.name.clone()).chain(kept).collect()
        };
        if names(plan) != names(&self.first) || saved(plan).count() != self.axes.len() {
            let problem = Problem::new(Code::DuplicateResult, "the results have other names than in the first cell");
            return Err(problem
                .hint("results gain the axes that they depend on; their names stay the same")
                .at("/graph"));
        }
        for ((set, value), first) in self.axes.iter_mut().zip(saved(plan)).zip(saved(&self.first)) {
            *set |= axes[value];
            let (found, expected) = (&plan.values[value], &self.first.values[first]);
            if (&found.shape, found.dtype) != (&expected.shape, expected.dtype) {
                let detail = format!(
                    "this is {} of shape {}, and {} of shape {} in the first cell",
                    found.dtype, found.shape, expected.dtype, expected.shape
                );
                let problem = Problem::new(Code::ShapeMismatch, detail).at(&found.at);
                return Err(problem.hint("what is saved in a sweep has one shape in all cells"));
            }
        }
        self.first.idle.retain(|node| plan.idle.contains(node));
        self.passes += plan.passes.len();
        self.receipts += writes(plan);
        self.cost.and(&plan.cost);
        Ok(())
    }

    fn finish(self, sweep: &Sweep, cells: usize, context: &Context<'_>) -> Result<SweepPlan> {
        let Self { first, axes, passes, receipts, mut cost } = self;
        let mut sets = axes.into_iter();
        let mut swept = |(_, mut saved): (ValueId, Saved)| {
            let set = sets.next().unwrap_or_default();
            let axes: Vec<usize> = (0..sweep.axes.len()).filter(|axis| set & (1 << axis) != 0).collect();
            saved.shape.dims.splice(0..0, axes.iter().map(|axis| sweep.axes[*axis].len()));
            if let Some(ragged) = &mut saved.shape.ragged {
                ragged.rows += axes.len();
                ragged.axes.iter_mut().for_each(|(axis, _)| *axis += axes.len());
            }
            Swept { saved, axes }
        };
        let results: Vec<Swept> = first.returned().map(&mut swept).collect();
        let kept: Vec<Swept> = first.stored().map(&mut swept).collect();
        cost.result_bytes = results.iter().map(|swept| swept.saved.bytes()).fold(0, u64::saturating_add);
        // results leave memory cell by cell
        let waiting = held(results.iter().map(|swept| &swept.saved), kept.iter().map(|swept| &swept.saved));
        let waiting = waiting.saturating_add(receipts.saturating_mul(RECEIPT_BYTES));
        cost.peak_bytes = cost.peak_bytes.saturating_add(waiting);
        super::check_cost(&cost, context)?;
        Ok(SweepPlan { cells, results, kept, passes, idle: first.idle, cost })
    }
}

/// How many receipts a cell gives.
fn writes(plan: &Plan) -> u64 {
    let steps = plan.passes.iter().flat_map(|pass| &pass.steps);
    steps.filter(|step| matches!(step.event, Event::Write(_))).count() as u64
}

/// The values that are returned and kept.
fn saved(plan: &Plan) -> impl Iterator<Item = usize> {
    plan.results.iter().map(|result| result.value).chain(plan.kept.iter().map(|(_, value)| *value))
}

/// The axes that every value depends on: those named where it stands, those of what it is made of, and for what is read from a
/// pass those of every write before it.
pub(super) fn dependences(plan: &Plan, named: &dyn Fn(&str) -> NameSet) -> Vec<NameSet> {
    // many values and steps may stand at one place
    let known: RefCell<HashMap<&str, NameSet>> = RefCell::default();
    let named = |at| *known.borrow_mut().entry(at).or_insert_with(|| named(at));
    let mut sets: Vec<NameSet> = plan.values.iter().map(|value| named(&value.at)).collect();
    let make = |sets: &mut Vec<NameSet>, id: ValueId| {
        sets[id] = plan.values[id].args().iter().fold(sets[id], |set, arg| set | sets[*arg]);
    };
    plan.prologue.iter().for_each(|id| make(&mut sets, *id));
    for pass in &plan.passes {
        let mut streams: Vec<NameSet> = vec![0; plan.inputs.len()];
        let mut skips: Vec<&Skip> = plan.skips.iter().collect();
        for step in &pass.steps {
            skips.retain(|skip| {
                let later = Site::Layer(skip.first, LayerSite::Output) > step.site;
                if !later {
                    streams[skip.input] |= named(&skip.at) | skip.with.map_or(0, |with| sets[with]);
                }
                later
            });
            match step.event {
                Event::Compute(id) => make(&mut sets, id),
                Event::Read(id) => {
                    if let Source::Read(read) = &plan.values[id].source {
                        sets[id] |= streams[read.input];
                    }
                }
                Event::Write(write) => {
                    let write = &plan.writes[write];
                    streams[write.input] |= named(&write.at) | sets[write.value];
                }
                Event::Grad { .. } => {}
            }
        }
        let gradients = pass.gradients.iter().flat_map(|gradient| &plan.gradients[*gradient].wrt);
        gradients.for_each(|wrt| make(&mut sets, wrt.value));
        pass.after.iter().for_each(|id| make(&mut sets, *id));
    }
    sets
}

//! Whether the rows of a graph's inputs have nothing to do with each other, and where they are in what is made of them.
//!
//! A forward pass takes no two rows together; a graph may. Here the axis of rows is followed from the sites through everything that
//! is made of them: to where it is summed over, and through what is linear in that. Where it is lost, the rows are taken together.

use std::ops::Range;
use std::sync::Arc;

use super::made::arguments;
use crate::module::Module;
use crate::ops::{Attrs, Given, Join, join};
use crate::plan::{Plan, Read, Source, Value, ValueId, Write};
use crate::problem::{Code, Problem, Result};
use crate::selection::Selection;
use crate::shape::{Ragged, Shape};

/// A graph whose rows have nothing to do with each other.
pub(super) struct Apart {
    /// How many rows there are.
    pub(super) rows: usize,
    /// The inputs that have so many; the others are the same for each of them.
    pub(super) inputs: Vec<bool>,
    /// How each value is put together of those that some of the rows give.
    joins: Vec<Join>,
}

impl Apart {
    /// Of a plan.
    ///
    /// # Errors
    /// There is one row, or rows are taken together: with the place.
    pub(super) fn new(plan: &Plan) -> Result<Self> {
        let rows = plan.inputs.iter().map(|input| input.lengths.len()).max().unwrap_or(0);
        if rows < 2 {
            return Err(together("there is one row", ""));
        }
        let inputs = plan.inputs.iter().map(|input| input.lengths.len() == rows).collect();
        let mut apart = Self { rows, inputs, joins: Vec::with_capacity(plan.values.len()) };
        for value in &plan.values {
            let join = apart.join_in(plan, value)?;
            apart.joins.push(join);
        }
        for write in &plan.writes {
            apart.written(plan, write)?;
        }
        for result in plan.results.iter().filter(|result| result.top_tokens.is_some()) {
            let value = &plan.values[result.value];
            let join = apart.joins[result.value];
            if join.is_folded() || join.axis().is_some_and(|axis| axis + 1 == value.shape.rank()) {
                return Err(together("its likeliest are those of all rows", &value.at));
            }
        }
        for skip in &plan.skips {
            if let Some(with) = skip.with {
                apart.put(plan, &skip.at, skip.input, (0, 3), with)?;
            }
        }
        Ok(apart)
    }

    /// How a value is put together of those that some of the rows give.
    pub(super) fn join(&self, id: ValueId) -> Join {
        self.joins[id]
    }

    /// Holds the plan of some of the rows against the plan of all.
    ///
    /// # Errors
    /// They are not the same but for the rows.
    pub(super) fn check_part(&self, whole: &Plan, part: &Plan, rows: &Range<usize>) -> Result<()> {
        let same = whole.values.len() == part.values.len() && whole.passes.len() == part.passes.len();
        if !same {
            return Err(together("fewer rows give another plan", "/graph"));
        }
        let mut pairs = whole.values.iter().zip(&part.values).zip(&self.joins);
        let fits = |((whole, part), join): &((&Value, &Value), &Join)| {
            whole.dtype == part.dtype && part.shape == part_of(&whole.shape, join.axis(), rows)
        };
        match pairs.find(|pair| !fits(pair)) {
            Some(((whole, _), _)) => Err(together("its shape is not that of the rows put together", &whole.at)),
            None => Ok(()),
        }
    }

    fn join_in(&self, plan: &Plan, value: &Value) -> Result<Join> {
        let of = |id: &ValueId| self.joins[*id];
        let args: Vec<Join> = value.args().iter().map(of).collect();
        let folded = args.iter().any(|join| join.is_folded());
        let rank = value.shape.rank();
        let found = match &value.source {
            Source::Read(Read { input, selection, .. }) => self.of_site(value, *input, selection)?,
            Source::Grad { gradient, wrt, .. } => {
                let wrt = &plan.gradients[*gradient].wrt[*wrt];
                match (args[0], self.of_site(value, wrt.input, &wrt.selection)?) {
                    (Join::Sum, along @ Some(Join::Along(_))) => along,
                    (of, Some(Join::Same)) => Some(of),
                    (Join::Mean, _) => return Err(together(OF_MEAN, &value.at)),
                    _ => None,
                }
            }
            _ if args.iter().all(|join| *join == Join::Same) => Some(Join::Same),
            Source::Op { spec, args: ids, params, attrs, .. } => {
                let ids = arguments(&plan.values, ids, params);
                join(&Given { spec, args: &ids, attrs: Attrs(attrs) }, &args, &value.shape)
            }
            Source::Index { .. } | Source::Stack(_) if folded => Join::of_all(&args),
            Source::Index { selection, .. } => match args[0].axis() {
                Some(axis) if !selection.has_all(axis) => return Err(together(BY_NUMBER, &value.at)),
                axis => axis.and_then(|axis| selection.place_of(axis).ok()).map(Join::Along),
            },
            Source::Stack(_) => {
                args[0].axis().filter(|_| args.iter().all(|join| *join == args[0])).map(|axis| Join::Along(axis + 1))
            }
            // a row is no sequence of tokens, and no vector
            Source::Call { module: Module::Layer(_) | Module::SelfAttn(_), .. } => {
                args[0].axis().filter(|axis| axis + 2 < rank).map(Join::Along)
            }
            Source::Call { .. } | Source::Project { .. } => {
                args[0].axis().filter(|axis| axis + 1 < rank).map(Join::Along)
            }
            _ => None,
        };
        found.ok_or_else(|| together("it takes the rows together", &value.at))
    }

    /// What is read at a site of an input.
    fn of_site(&self, value: &Value, input: usize, selection: &Selection) -> Result<Option<Join>> {
        match self.inputs[input] {
            true if !selection.has_all(0) => Err(together(BY_NUMBER, &value.at)),
            true => Ok(selection.row_out().map(Join::Along)),
            false => Ok(Some(Join::Same)),
        }
    }

    /// Each row of what is written goes to its own row.
    fn written(&self, plan: &Plan, write: &Write) -> Result<()> {
        let Write { at, input, selection, value, .. } = write;
        if self.inputs[*input] && !selection.has_all(0) {
            return Err(together("it writes some of the rows by their numbers", at));
        }
        let place = (selection.row_out().unwrap_or(0), selection.shape().rank());
        self.put(plan, at, *input, place, *value)
    }

    /// A value that is put where, of so many axes, this one is that of the input's rows.
    fn put(&self, plan: &Plan, at: &str, input: usize, (rows, rank): (usize, usize), value: ValueId) -> Result<()> {
        let shape = &plan.values[value].shape;
        let fits = match (self.inputs[input], self.joins[value]) {
            (_, Join::Sum | Join::Mean) => return Err(together("what is written is made of all rows", at)),
            (false, join) => join == Join::Same,
            (true, Join::Along(axis)) => axis + rank == rows + shape.rank(),
            (true, Join::Same) => (rows + shape.rank()).checked_sub(rank).is_none_or(|axis| shape.dims[axis] == 1),
        };
        match fits {
            true => Ok(()),
            false => Err(together("what is written has rows of its own, which are not those of the input", at)),
        }
    }
}

/// Why the gradient of a mean over the rows is that of all of them.
const OF_MEAN: &str =
    "each row's gradient of a mean depends on how many rows there are, which that of a `sum` does not";

/// Why rows that are named are taken together: parts have other numbers.
const BY_NUMBER: &str = "it takes some of the rows by their numbers";

/// The shape of some rows of a value.
fn part_of(shape: &Shape, axis: Option<usize>, rows: &Range<usize>) -> Shape {
    let Some(axis) = axis else { return shape.clone() };
    let mut dims = shape.dims.clone();
    dims[axis] = rows.len();
    let mut ragged = Vec::new();
    for (tokens, lengths) in shape.ragged.iter().flat_map(|ragged| &ragged.axes) {
        let lengths: Arc<[usize]> = lengths[rows.clone()].into();
        dims[*tokens] = lengths.iter().copied().max().unwrap_or(0);
        if lengths.iter().any(|length| *length != lengths[0]) {
            ragged.push((*tokens, lengths));
        }
    }
    let ragged = (!ragged.is_empty()).then_some(Ragged { rows: axis, axes: ragged });
    Shape { dims, ragged }
}

fn together(why: &str, at: &str) -> Problem {
    Problem::new(Code::TooLarge, why).at(at)
}

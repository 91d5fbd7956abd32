//! Whether the rows of a graph's inputs have nothing to do with each other, and where they are in what is made of them.
//!
//! A forward pass takes no two rows together; a graph may. Here the axis of rows is followed from the sites through everything that
//! is made of them. Where it is lost, the rows are taken together.

use std::ops::Range;
use std::sync::Arc;

use super::made::arguments;
use crate::module::Module;
use crate::ops::{Attrs, Given, along};
use crate::plan::{Plan, Read, Source, Value, ValueId, Write};
use crate::problem::{Code, Problem, Result};
use crate::shape::{Ragged, Shape};

/// A graph whose rows have nothing to do with each other.
pub(super) struct Apart {
    /// How many rows there are.
    pub(super) rows: usize,
    /// The inputs that have so many; the others are the same for each of them.
    pub(super) inputs: Vec<bool>,
    /// The axis of rows of each value; none where it is the same for each of them.
    axes: Vec<Option<usize>>,
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
        if let Some(gradient) = plan.gradients.first() {
            return Err(together("a gradient is that of one number, which all rows have a part in", &gradient.at));
        }
        let inputs = plan.inputs.iter().map(|input| input.lengths.len() == rows).collect();
        let mut apart = Self { rows, inputs, axes: Vec::with_capacity(plan.values.len()) };
        for value in &plan.values {
            let axis = apart.axis_in(plan, value)?;
            apart.axes.push(axis);
        }
        for write in &plan.writes {
            apart.written(plan, write)?;
        }
        for result in plan.results.iter().filter(|result| result.top_tokens.is_some()) {
            let value = &plan.values[result.value];
            if apart.axes[result.value].is_some_and(|axis| axis + 1 == value.shape.rank()) {
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

    /// The axis of rows of a value.
    pub(super) fn axis(&self, id: ValueId) -> Option<usize> {
        self.axes[id]
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
        let mut pairs = whole.values.iter().zip(&part.values).zip(&self.axes);
        let fits = |((whole, part), axis): &((&Value, &Value), &Option<usize>)| {
            whole.dtype == part.dtype && part.shape == part_of(&whole.shape, **axis, rows)
        };
        match pairs.find(|pair| !fits(pair)) {
            Some(((whole, _), _)) => Err(together("its shape is not that of the rows put together", &whole.at)),
            None => Ok(()),
        }
    }

    fn axis_in(&self, plan: &Plan, value: &Value) -> Result<Option<usize>> {
        let lost = |why: &str| together(why, &value.at);
        let of = |id: &ValueId| self.axes[*id];
        if let Source::Read(Read { input, selection, .. }) = &value.source {
            return match self.inputs[*input] {
                true if !selection.has_all(0) => Err(lost(BY_NUMBER)),
                true => Ok(selection.row_out()),
                false => Ok(None),
            };
        }
        let Some(axis) = value.args().iter().find_map(of) else { return Ok(None) };
        let rank = value.shape.rank();
        let found = match &value.source {
            Source::Index { selection, .. } if !selection.has_all(axis) => return Err(lost(BY_NUMBER)),
            Source::Index { selection, .. } => selection.place_of(axis).ok(),
            Source::Stack(parts) => parts.iter().all(|part| of(part) == Some(axis)).then_some(axis + 1),
            Source::Call { module: Module::Layer(_) | Module::SelfAttn(_), .. } => (axis + 2 < rank).then_some(axis),
            Source::Call { .. } | Source::Project { .. } => (axis + 1 < rank).then_some(axis),
            Source::Op { spec, args, params, attrs, .. } => {
                let axes: Vec<Option<usize>> = args.iter().map(of).collect();
                let args = arguments(&plan.values, args, params);
                along(&Given { spec, args: &args, attrs: Attrs(attrs) }, &axes, &value.shape)
            }
            _ => None,
        };
        found.map(Some).ok_or_else(|| lost("it takes the rows together"))
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
        let fits = match (self.inputs[input], self.axes[value]) {
            (false, axis) => axis.is_none(),
            (true, Some(axis)) => axis + rank == rows + shape.rank(),
            (true, None) => (rows + shape.rank()).checked_sub(rank).is_none_or(|axis| shape.dims[axis] == 1),
        };
        match fits {
            true => Ok(()),
            false => Err(together("what is written has rows of its own, which are not those of the input", at)),
        }
    }
}

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

//! Requests that hold too much at once, in parts: some rows each.

use std::collections::VecDeque;
use std::ops::Range;

use super::apart::Apart;
use super::saved::{Saved, held};
use crate::context::{Context, Limits, TokenRows};
use crate::ops::Join;
use crate::plan::{Cost, Plan};
use crate::problem::{Code, Problem, Result};
use crate::request::Request;

/// A request whose rows run in parts, one after the other or beside each other.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The rows of each part.
    pub rows: Vec<Range<usize>>,
    /// The inputs whose rows they are; the others are the same in each part.
    pub inputs: Vec<bool>,
    /// What is returned, in the order of the graph.
    pub results: Vec<Joined>,
    /// What is kept in the caller's store.
    pub kept: Vec<Joined>,
    /// Walks through the layers, over all parts.
    pub passes: usize,
    /// Nodes of edits that touch nothing.
    pub idle: Vec<usize>,
    /// What it costs: operations of all parts, bytes at the worst moment, bytes of all results.
    pub cost: Cost,
}

/// A value that is returned or kept, put together from those of the parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Joined {
    /// What it is for all rows.
    pub saved: Saved,
    /// How those of the parts are joined.
    pub join: Join,
}

/// Finds parts of a request none of which holds more than `most` bytes with what waits for the others, as long as somebody waits for
/// it; half of that where they can, so that others have room.
///
/// # Errors
/// Whatever is wrong with the request; what takes its rows together, at its place; a row that holds too much alone.
pub fn check_parts(wanted: &dyn Fn() -> bool, request: &Request, context: &Context<'_>, most: u64) -> Result<Parts> {
    let limits = Limits { max_peak_bytes: u64::MAX, ..context.limits.clone() };
    let check = |inputs: &[TokenRows]| super::check(request, &Context { inputs, limits: &limits, ..*context });
    let whole = check(context.inputs)?;
    let apart = Apart::new(&whole).map_err(|problem| request.placed(problem))?;
    let joined = |(id, saved)| Joined { join: apart.join(id), saved };
    let results: Vec<Joined> = whole.returned().map(joined).collect();
    let kept: Vec<Joined> = whole.stored().map(joined).collect();
    // what is summed up stays, too
    let (folded, gone): (Vec<&Joined>, Vec<&Joined>) = results.iter().partition(|result| result.join.is_folded());
    let stay = folded.into_iter().chain(&kept).map(|joined| &joined.saved);
    let waiting = held(gone.into_iter().map(|result| &result.saved), stay);
    let room = most.saturating_sub(waiting);
    let mut cost = Cost { result_bytes: whole.cost.result_bytes, ..Cost::default() };
    let (mut rows, mut passes) = (Vec::new(), 0);
    let mut open = evenly(apart.rows, whole.cost.peak_bytes.div_ceil((room / 2).max(1)));
    while let Some(range) = open.pop_front() {
        if !wanted() {
            return Err(Problem::new(Code::TooLarge, "nobody waits for this request any more").at("/graph"));
        }
        let part = check(&inputs_of(context.inputs, &apart.inputs, &range))?;
        apart.check_part(&whole, &part, &range).map_err(|problem| request.placed(problem))?;
        let peak = part.cost.peak_bytes;
        if peak > room / 2 && range.len() > 1 {
            let middle = range.start + range.len() / 2;
            open.push_front(middle..range.end);
            open.push_front(range.start..middle);
            continue;
        }
        if peak > room {
            let detail = format!("row {} alone would hold {peak} bytes, beside {waiting} of results", range.start);
            return Err(Problem::new(Code::TooLarge, detail).at("/graph"));
        }
        cost.and(&part.cost);
        passes += part.passes.len();
        rows.push(range);
    }
    cost.peak_bytes = cost.peak_bytes.saturating_add(waiting);
    Ok(Parts { rows, inputs: apart.inputs, results, kept, passes, idle: whole.idle, cost })
}

/// Rows in about so many parts.
fn evenly(rows: usize, parts: u64) -> VecDeque<Range<usize>> {
    let size = rows.div_ceil(usize::try_from(parts).unwrap_or(rows).clamp(1, rows));
    (0..rows).step_by(size).map(|start| start..rows.min(start + size)).collect()
}

/// Some of the rows of an input, or all of them where they are not those that come in parts.
fn some<T: Clone>(all: &[T], apart: bool, rows: &Range<usize>) -> Vec<T> {
    if apart { &all[rows.clone()] } else { all }.to_vec()
}

/// The inputs of some of the rows.
fn inputs_of(inputs: &[TokenRows], apart: &[bool], rows: &Range<usize>) -> Vec<TokenRows> {
    let of = |(input, apart): (&TokenRows, &bool)| TokenRows {
        name: input.name.clone(),
        rows: some(&input.rows, *apart, rows),
    };
    inputs.iter().zip(apart).map(of).collect()
}

impl Parts {
    /// The plan of a part.
    ///
    /// # Errors
    /// None that [`check_parts`] did not find.
    pub fn plan(&self, part: usize, request: &Request, context: &Context<'_>) -> Result<Plan> {
        let inputs = inputs_of(context.inputs, &self.inputs, &self.rows[part]);
        super::check(request, &Context { inputs: &inputs, ..*context })
    }

    /// The token ids of a part, of those of all rows.
    pub fn ids(&self, part: usize, ids: &[Vec<Vec<u32>>]) -> Vec<Vec<Vec<u32>>> {
        ids.iter().zip(&self.inputs).map(|(ids, apart)| some(ids, *apart, &self.rows[part])).collect()
    }
}

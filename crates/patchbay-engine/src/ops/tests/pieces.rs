//! What an operation makes of the pieces of its arguments are the pieces of what it makes of the whole, where it is said to.

use std::cell::Cell;
use std::ops::Range;

use candle_core::Tensor;
use patchbay_graph::Shape;
use patchbay_graph::ops::{Arg, Attrs, Given, Join, join};
use patchbay_graph::plan::{Plan, Source};
use serde_json::{Value, json};

use super::random::{RandomCall, counted, shelf};
use super::{Shelf, elements, plan, run};

/// Operations that take no pieces of anything, or of which none is asked.
const WHOLE: [&str; 9] = ["cross_entropy", "kl_div", "repeat", "zeros", "ones", "full", "eye", "arange", "randn"];

/// What is made by the operation of a plan that has one: its value, and the values that it takes.
fn made(plan: &Plan) -> Option<(usize, &[usize])> {
    let id = plan.results[0].value;
    match &plan.values[id].source {
        Source::Op { args, .. } => Some((id, args)),
        _ => None,
    }
}

/// How the result is put together, for arguments that come in pieces along these axes.
fn planned_join(plan: &Plan, axes: &[Option<usize>]) -> Option<Join> {
    let value = &plan.values[plan.results[0].value];
    let Source::Op { spec, args, params, attrs, .. } = &value.source else { return None };
    let arg = |(id, name): (&usize, &&'static str)| {
        let value = &plan.values[*id];
        Arg { name, shape: &value.shape, dtype: value.dtype, weak: value.weak, literal: None }
    };
    let args: Vec<Arg<'_>> = args.iter().zip(params).map(arg).collect();
    let joins: Vec<Join> = axes.iter().map(|axis| axis.map_or(Join::Same, Join::Along)).collect();
    join(&Given { spec, args: &args, attrs: Attrs(attrs) }, &joins, &value.shape)
}

/// All ways to have the arguments in `count` pieces, or whole.
fn ways(shapes: &[&Shape], stored: &[Option<String>], count: usize) -> Vec<Vec<Option<usize>>> {
    let mut ways = vec![Vec::new()];
    for (shape, name) in shapes.iter().zip(stored) {
        let axes = (0..shape.rank()).filter(|axis| name.is_some() && shape.dims[*axis] == count).map(Some);
        let choices: Vec<Option<usize>> = axes.chain([None]).collect();
        ways = ways.iter().flat_map(|way| choices.iter().map(|choice| [&way[..], &[*choice]].concat())).collect();
    }
    ways.retain(|way| way.iter().any(Option::is_some));
    ways
}

/// What is made of some pieces. Nothing where sizes that are written down are not those of a piece.
fn made_of(graph: &Value, some: &Shelf) -> Result<Option<Tensor>, String> {
    let Ok(part) = plan(graph, some) else { return Ok(None) };
    let Some((id, _)) = made(&part) else { return Ok(None) };
    let made = run(&part, some).map_err(|error| error.to_string())?;
    Ok(Some(made[id].clone()))
}

/// The same arguments with some of them in a piece.
fn piece_of(whole: &Shelf, axis: impl Fn(&str) -> Option<usize>, piece: &Range<usize>) -> Shelf {
    let mut some = Shelf::default();
    for (name, (dtype, tensor)) in &whole.0 {
        let narrowed = axis(name).map(|axis| tensor.narrow(axis, piece.start, piece.len()).unwrap());
        some.put(name, *dtype, narrowed.map_or_else(|| tensor.clone(), |tensor| tensor.force_contiguous().unwrap()));
    }
    some
}

fn same(found: &[f64], expected: &[f64]) -> bool {
    let same = |(a, b): (&f64, &f64)| a == b || (a - b).abs() < 1e-6 * (1.0 + b.abs()) || a.is_nan() && b.is_nan();
    found.len() == expected.len() && found.iter().zip(expected).all(same)
}

/// Holds every way against the pieces: how often pieces lay beside each other, and how often they were summed up.
fn check(call: &RandomCall) -> Result<[usize; 2], String> {
    let whole = shelf(call);
    let mut node = call.node.clone();
    node["id"] = json!("n");
    let graph = json!([node, {"op": "save", "value": "$n", "as": "own"}]);
    let Ok(found) = plan(&graph, &whole) else { return Ok([0; 2]) };
    let (Some((id, args)), Ok(values)) = (made(&found), run(&found, &whole)) else { return Ok([0; 2]) };
    let shapes: Vec<&Shape> = args.iter().map(|arg| &found.values[*arg].shape).collect();
    let stored = args.iter().map(|arg| match &found.values[*arg].source {
        Source::Stored { name, .. } => Some(name.clone()),
        _ => None,
    });
    let stored: Vec<Option<String>> = stored.collect();
    let mut held = [0; 2];
    for (way, count) in [2, 3].into_iter().flat_map(|n| ways(&shapes, &stored, n).into_iter().map(move |way| (way, n)))
    {
        let Some(join) = planned_join(&found, &way) else { continue };
        let axis =
            |name: &str| stored.iter().position(|stored| stored.as_deref() == Some(name)).and_then(|arg| way[arg]);
        let mut sums = vec![0.0; values[id].elem_count()];
        let mut missing = false;
        for piece in [0..1, 1..count] {
            let some = piece_of(&whole, axis, &piece);
            let made = made_of(&graph, &some).map_err(|error| format!("{call:?} in pieces {way:?}: {error}"))?;
            let Some(made) = made else {
                missing = true;
                continue;
            };
            let Some(axis) = join.axis() else {
                let share = if join == Join::Mean { piece.len() as f64 / count as f64 } else { 1.0 };
                missing |= made.dims() != values[id].dims();
                sums.iter_mut().zip(elements(&made)).for_each(|(sum, part)| *sum += share * part);
                continue;
            };
            let expected = values[id].narrow(axis, piece.start, piece.len()).and_then(|t| t.contiguous());
            let expected = expected.map_err(|_| format!("{call:?}: axis {axis} of {:?}", values[id].dims()))?;
            if expected.dims() == made.dims() && made.elem_count() > 0 {
                if !same(&elements(&made), &elements(&expected)) {
                    return Err(format!("{call:?}: pieces {way:?} do not lie along axis {axis}"));
                }
                held[0] += 1;
            }
        }
        if join.is_folded() && !missing && !sums.is_empty() {
            if !same(&sums, &elements(&values[id])) {
                return Err(format!("{call:?}: pieces {way:?} do not come to the whole as {join:?}"));
            }
            held[1] += 1;
        }
    }
    Ok(held)
}

#[test]
fn pieces_are_pieces_of_the_whole() {
    let folded = Cell::new(0);
    let held = counted(|_, call| {
        let [beside, summed] = check(call)?;
        folded.set(folded.get() + summed);
        Ok(beside + summed)
    });
    let rare: Vec<_> = held.iter().filter(|(name, count)| **count < 4 && !WHOLE.contains(name)).collect();
    assert!(rare.is_empty(), "hardly ever in pieces: {rare:?}");
    eprintln!("{} were summed up", folded.get());
    assert!(folded.get() > 50, "{} were summed up", folded.get());
}

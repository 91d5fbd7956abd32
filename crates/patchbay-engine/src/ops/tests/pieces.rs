//! What an operation makes of the pieces of its arguments are the pieces of what it makes of the whole, where it is said to.

use patchbay_graph::Shape;
use patchbay_graph::ops::{Arg, Attrs, Given, along};
use patchbay_graph::plan::{Plan, Source};
use serde_json::json;

use super::random::{RandomCall, counted, shelf};
use super::{Shelf, elements, plan, run};

/// Operations that take no pieces of anything, or of which none is asked.
const WHOLE: [&str; 10] =
    ["cross_entropy", "kl_div", "repeat", "zeros", "ones", "full", "eye", "arange", "randn", "dot"];

/// What is made by the operation of a plan that has one: its value, and the values that it takes.
fn made(plan: &Plan) -> Option<(usize, &[usize])> {
    let id = plan.results[0].value;
    match &plan.values[id].source {
        Source::Op { args, .. } => Some((id, args)),
        _ => None,
    }
}

/// The axis of the result along which pieces lie, for arguments that come in pieces along these axes.
fn planned_along(plan: &Plan, axes: &[Option<usize>]) -> Option<usize> {
    let value = &plan.values[plan.results[0].value];
    let Source::Op { spec, args, params, attrs, .. } = &value.source else { return None };
    let arg = |(id, name): (&usize, &&'static str)| {
        let value = &plan.values[*id];
        Arg { name, shape: &value.shape, dtype: value.dtype, weak: value.weak, literal: None }
    };
    let args: Vec<Arg<'_>> = args.iter().zip(params).map(arg).collect();
    along(&Given { spec, args: &args, attrs: Attrs(attrs) }, axes, &value.shape)
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

/// Holds every way against the pieces; how many there were.
fn check(call: &RandomCall) -> Result<usize, String> {
    let whole = shelf(call);
    let mut node = call.node.clone();
    node["id"] = json!("n");
    let graph = json!([node, {"op": "save", "value": "$n", "as": "own"}]);
    let Ok(found) = plan(&graph, &whole) else { return Ok(0) };
    let (Some((id, args)), Ok(values)) = (made(&found), run(&found, &whole)) else { return Ok(0) };
    let shapes: Vec<&Shape> = args.iter().map(|arg| &found.values[*arg].shape).collect();
    let stored = args.iter().map(|arg| match &found.values[*arg].source {
        Source::Stored { name, .. } => Some(name.clone()),
        _ => None,
    });
    let stored: Vec<Option<String>> = stored.collect();
    let mut held = 0;
    for (way, count) in [2, 3].into_iter().flat_map(|n| ways(&shapes, &stored, n).into_iter().map(move |way| (way, n)))
    {
        let Some(axis) = planned_along(&found, &way) else { continue };
        for piece in [0..1, 1..count] {
            let mut some = Shelf::default();
            for (name, (dtype, tensor)) in &whole.0 {
                let axis = stored.iter().position(|stored| stored.as_ref() == Some(name)).and_then(|arg| way[arg]);
                let tensor = match axis {
                    Some(axis) => tensor.narrow(axis, piece.start, piece.len()).and_then(|t| t.contiguous()).unwrap(),
                    None => tensor.clone(),
                };
                some.put(name, *dtype, tensor);
            }
            let expected = values[id].narrow(axis, piece.start, piece.len()).and_then(|t| t.contiguous());
            let expected = expected.map_err(|_| format!("{call:?}: axis {axis} of {:?}", values[id].dims()))?;
            // sizes that are written down may not be those of a piece
            let Ok(part) = plan(&graph, &some) else { continue };
            let Some((id, _)) = made(&part).filter(|(id, _)| part.values[*id].shape.dims == expected.dims()) else {
                continue;
            };
            let made = run(&part, &some).map_err(|error| format!("{call:?} in pieces {way:?}: {error}"))?;
            if expected.elem_count() == 0 {
                continue;
            }
            let same = |(a, b): (&f64, &f64)| a == b || (a - b).abs() < 1e-6 || a.is_nan() && b.is_nan();
            if !elements(&made[id]).iter().zip(&elements(&expected)).all(same) {
                return Err(format!("{call:?}: pieces {way:?} do not lie along axis {axis}"));
            }
            held += 1;
        }
    }
    Ok(held)
}

#[test]
fn pieces_are_pieces_of_the_whole() {
    let held = counted(|_, call| check(call));
    let rare: Vec<_> = held.iter().filter(|(name, count)| **count < 4 && !WHOLE.contains(name)).collect();
    assert!(rare.is_empty(), "hardly ever in pieces: {rare:?}");
}

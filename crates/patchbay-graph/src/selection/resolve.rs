//! Gives every axis of a source the item of the index that is meant for it.

use std::sync::Arc;

use super::pick::{Pick, Place};
use super::{Extent, Extents, FindText, Out};
use crate::index::{Coord, Index, Item};
use crate::problem::{Code, Problem, Result};

/// How many places one index may list.
const MAX_PLACES: usize = 1 << 16;
/// How many quoted texts one index may list: each is looked for in every row.
const MAX_TEXTS: usize = 64;

/// What every axis of the source is read at, and the axes of the result.
pub(super) struct Resolved {
    pub(super) picks: Vec<Pick>,
    pub(super) outs: Vec<Out>,
    pub(super) joint: usize,
}

/// Gives every axis its pick, and orders the axes of the result as NumPy does.
pub(super) fn resolve(index: &Index, source: &Extents, find: Option<FindText<'_>>) -> Result<Resolved> {
    let rank = source.axes.len();
    check_lists(index)?;
    let given = index.0.iter().filter(|item| !matches!(item, Item::Ellipsis | Item::NewAxis)).count();
    if given > rank {
        let detail = format!("index {index} has {given} items for the {rank} axes of shape {}", source.dims());
        return Err(Problem::new(Code::BadIndex, detail).hint(format!("leave out {}", given - rank)));
    }
    let any_list = index.0.iter().any(|item| matches!(item, Item::List(_)));
    let joint = joint_length(index)?;
    let mut picks = Vec::with_capacity(rank);
    let mut outs = Vec::new();
    let mut joints = Vec::new();
    let items = index.0.iter().chain(std::iter::once(&Item::Ellipsis));
    let mut whole_left = rank - given;
    for (number, item) in items.enumerate() {
        let axis = picks.len();
        let place = |coord: &Coord| resolve_coord(coord, axis, source, find);
        match item {
            Item::Ellipsis => {
                for axis in axis..axis + whole_left {
                    picks.push(Pick::ALL);
                    outs.push(Out::Axis(axis));
                }
                whole_left = 0;
            }
            Item::NewAxis => outs.push(Out::New),
            Item::Span { start, stop, step } => {
                picks.push(Pick::Span { start: *start, stop: *stop, step: *step });
                outs.push(Out::Axis(axis));
            }
            Item::Each(coords) => {
                picks.push(Pick::Each(coords.iter().map(place).collect::<Result<_>>()?));
                outs.push(Out::Axis(axis));
            }
            Item::At(coord) => {
                picks.push(Pick::Joint([place(coord)?].into()));
                if any_list {
                    joints.push(number);
                    outs.push(Out::Joint);
                }
            }
            Item::List(coords) => {
                picks.push(Pick::Joint(coords.iter().map(place).collect::<Result<_>>()?));
                joints.push(number);
                outs.push(Out::Joint);
            }
        }
    }
    Ok(Resolved { picks, outs: place_joint(outs, &joints), joint })
}

/// Joint places have one axis: where they stood if their items, whose numbers these are, stood side by side, else in front.
fn place_joint(outs: Vec<Out>, items: &[usize]) -> Vec<Out> {
    let Some(first) = outs.iter().position(|out| *out == Out::Joint) else { return outs };
    let side_by_side = items.windows(2).all(|pair| pair[1] == pair[0] + 1);
    let mut placed: Vec<Out> = outs.into_iter().filter(|out| *out != Out::Joint).collect();
    placed.insert(if side_by_side { first } else { 0 }, Out::Joint);
    placed
}

fn joint_length(index: &Index) -> Result<usize> {
    let mut joint = 1;
    for item in &index.0 {
        let Item::List(coords) = item else { continue };
        match (joint, coords.len()) {
            (_, 1) => {}
            (1, n) => joint = n,
            (a, b) if a == b => {}
            (a, b) => {
                let detail = format!("index {index} pairs a list of {a} places with one of {b}");
                return Err(Problem::new(Code::BadIndex, detail).hint("lists in one index are paired, as in NumPy"));
            }
        }
    }
    Ok(joint)
}

fn resolve_coord(coord: &Coord, axis: usize, source: &Extents, find: Option<FindText<'_>>) -> Result<Place> {
    let text = match coord {
        Coord::Int(place) => return Ok(Place::Int(*place)),
        Coord::Text(text) => text,
        Coord::Found(found) => return Ok(Place::Found(Arc::clone(found))),
    };
    match (find, &source.axes[axis]) {
        (Some(find), Extent::Tokens(lengths)) => {
            let found = (0..lengths.len()).map(|row| find(row, text)).collect();
            Ok(Place::Text { text: text.as_str().into(), found })
        }
        _ => {
            let detail = format!("the text {coord} stands on axis {axis}, which does not count tokens of an input");
            Err(Problem::new(Code::BadIndex, detail).hint("a quoted text may stand on the token axis of a site"))
        }
    }
}

/// Lists are bounded, so that an index is resolved in bounded time.
fn check_lists(index: &Index) -> Result<()> {
    let places = index.0.iter().map(|item| item.coords().len()).sum();
    let found = [(places, MAX_PLACES, "places"), (index.texts(), MAX_TEXTS, "quoted texts")];
    match found.into_iter().find(|(found, most, _)| found > most) {
        None => Ok(()),
        Some((found, most, what)) => {
            let detail = format!("an index lists {found} {what}, the most it may list is {most}");
            Err(Problem::new(Code::TooLarge, detail).hint("take a slice, or several nodes"))
        }
    }
}

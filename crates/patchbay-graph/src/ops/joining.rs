//! Operations that put tensors together, and take them apart.

use super::promote::promote;
use super::reduce::even_axis;
use super::shaping::{MOST_PARTS, moved, new_axis};
use super::{
    Arg, Attr, Given, Kind, Op, OpSpec, Outputs, Param, Typed, bad, misfit, need, one, optional, ragged, row, tensor,
};
use crate::problem::{Code, Problem, Result};
use crate::shape::Ragged;

const JOIN: &[Param] = &[need("tensors", Kind::Tensors), optional("dim", Kind::Axis, "0")];

pub(super) const OPS: &[OpSpec] = &[
    row(Op::Cat, "cat", JOIN, cat, "tensors one after the other along an axis"),
    row(Op::Stack, "stack", JOIN, stack, "tensors of one shape along a new axis"),
    OpSpec {
        outputs: Outputs::Numbered,
        ..row(
            Op::Split,
            "split",
            &[tensor("input"), need("split_size_or_sections", Kind::Sections), optional("dim", Kind::Axis, "0")],
            split,
            "parts of an axis, all of one size (the last may be smaller) or of the sizes listed",
        )
    },
];

fn cat(given: &Given<'_>) -> Result<Vec<Typed>> {
    // PyTorch passes over vectors of nothing
    let is_nothing = |arg: &&Arg<'_>| arg.shape.dims == [0];
    let parts: Vec<&Arg<'_>> = match given.args.iter().all(|arg| is_nothing(&arg)) {
        true => given.args.iter().collect(),
        false => given.args.iter().filter(|arg| !is_nothing(arg)).collect(),
    };
    let first = parts[0].shape;
    if let Some(scalar) = given.args.iter().position(|arg| arg.shape.rank() == 0) {
        return Err(misfit(format!("tensor {scalar} is a single number and has no axis to join along"))
            .hint("`stack` joins along a new axis"));
    }
    let axis = first.axis(given.attrs.int("dim").unwrap_or(0))?;
    let mut shape = first.clone();
    for (number, arg) in parts.iter().enumerate().skip(1) {
        let other = arg.shape;
        let fits =
            other.rank() == first.rank() && (0..first.rank()).all(|a| a == axis || other.dims[a] == first.dims[a]);
        if !fits {
            return Err(misfit(format!("tensor {number} has shape {other}, the first {first}"))
                .hint(format!("they may differ on axis {axis} only")));
        }
        let total = shape.dims[axis].checked_add(other.dims[axis]);
        shape.dims[axis] = total.ok_or_else(|| Problem::new(Code::TooLarge, "more elements than can be counted"))?;
    }
    shape.ragged = joined_rows(given, &parts, axis)?;
    one(shape, promote(given.args))
}

/// The ragged axes of tensors laid one after the other.
fn joined_rows(given: &Given<'_>, parts: &[&Arg<'_>], axis: usize) -> Result<Option<Ragged>> {
    let shapes = || parts.iter().map(|arg| arg.shape);
    let Some(found) = shapes().find_map(|shape| shape.ragged.as_ref()) else { return Ok(None) };
    if found.lengths(axis).is_some() {
        return Err(ragged(given.spec.name));
    }
    if found.rows != axis {
        let same = shapes().all(|shape| shape.ragged.as_ref() == Some(found));
        return if same { Ok(Some(found.clone())) } else { Err(ragged(given.spec.name)) };
    }
    let mut axes = Vec::new();
    for (at, _) in &found.axes {
        let mut all = Vec::new();
        for shape in shapes() {
            match &shape.ragged {
                None => all.extend(std::iter::repeat_n(shape.dims[*at], shape.dims[axis])),
                Some(other) if other.rows == axis && other.axes.len() == found.axes.len() => match other.lengths(*at) {
                    Some(lengths) => all.extend(lengths.iter().copied()),
                    None => return Err(ragged(given.spec.name)),
                },
                Some(_) => return Err(ragged(given.spec.name)),
            }
        }
        axes.push((*at, all.into()));
    }
    Ok(Some(Ragged { rows: axis, axes }))
}

fn stack(given: &Given<'_>) -> Result<Vec<Typed>> {
    let first = given.first()?.shape;
    if let Some(number) = given.args.iter().position(|arg| arg.shape != first) {
        return Err(misfit(format!("tensor {number} has shape {}, the first {first}", given.args[number].shape))
            .hint("stacked tensors have one shape"));
    }
    let at = new_axis(given, first, 0)?;
    let mut dims = first.dims.clone();
    dims.insert(at, given.args.len());
    let shape = moved(first, dims, |axis| Some(axis + usize::from(axis >= at)))?;
    one(shape, promote(given.args))
}

fn split(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?;
    let axis = input.shape.axis(given.attrs.int("dim").unwrap_or(0))?;
    even_axis(given, input.shape, axis)?;
    let size = input.shape.dims[axis];
    let sections = match given.attrs.get("split_size_or_sections") {
        Some(Attr::Int(each)) => {
            let each = usize::try_from(*each)
                .ok()
                .filter(|each| *each > 0 || size == 0)
                .ok_or_else(|| bad(format!("an axis of {size} places cannot be split into parts of {each}")))?;
            let parts = if each == 0 { 1 } else { size.div_ceil(each).max(1) };
            if parts > MOST_PARTS {
                return Err(Problem::new(Code::TooLarge, format!("{parts} parts; there may be {MOST_PARTS}")));
            }
            (0..parts).map(|part| each.min(size - part * each)).collect()
        }
        _ => {
            let listed = given.attrs.ints("split_size_or_sections").unwrap_or(&[]);
            if listed.len() > MOST_PARTS {
                return Err(Problem::new(Code::TooLarge, format!("{} parts; there may be {MOST_PARTS}", listed.len())));
            }
            let listed = listed.iter().map(|int| usize::try_from(*int).ok()).collect::<Option<Vec<_>>>();
            let listed = listed.ok_or_else(|| bad("sections are 0 or more"))?;
            let total = listed.iter().try_fold(0usize, |sum, part| sum.checked_add(*part));
            if total != Some(size) || listed.is_empty() {
                return Err(misfit(format!("sections {listed:?} do not add up to the {size} places of axis {axis}")));
            }
            listed
        }
    };
    let part = |size: usize| {
        let mut shape = input.shape.clone();
        shape.dims[axis] = size;
        (shape, input.dtype)
    };
    Ok(sections.into_iter().map(part).collect())
}

//! Operations that take and put elements by number.
//!
//! Numbers that stand in the request are held against the sizes here. Others are only known when the operation runs: one
//! that is out of range then fails the request. Negative ones are out of range, as in PyTorch.

use super::reduce::even_axis;
use super::{Arg, Given, Gradient, Kind, Op, OpSpec, Typed, misfit, need, one, ragged, row, tensor};
use crate::dtype::DType;
use crate::problem::{Code, Problem, Result};
use crate::shape::Shape;

pub(super) const OPS: &[OpSpec] = &[
    row(
        Op::IndexSelect,
        "index_select",
        &[tensor("input"), need("dim", Kind::Axis), tensor("index")],
        index_select,
        "the slices of an axis that a vector of indices names",
    ),
    row(
        Op::Gather,
        "gather",
        &[tensor("input"), need("dim", Kind::Axis), tensor("index")],
        gather,
        "elements at the places that `index`, of the result's shape, gives along an axis",
    ),
    row(
        Op::ScatterAdd,
        "scatter_add",
        &[tensor("input"), need("dim", Kind::Axis), tensor("index"), tensor("src")],
        scatter_add,
        "input, with the elements of `src` added at the places that `index` gives along an axis",
    ),
    row(
        Op::OneHot,
        "one_hot",
        &[tensor("input"), need("num_classes", Kind::Int)],
        one_hot,
        "1 at each class along a new last axis, 0 elsewhere; a class that is out of range fails the request",
    )
    .gradient(Gradient::None),
];

/// An index holds whole numbers, and those that are known are below `size`.
fn check(index: &Arg<'_>, size: usize) -> Result<()> {
    if !matches!(index.dtype, DType::U32 | DType::I64) {
        return Err(Problem::new(Code::DtypeMismatch, format!("indices are whole numbers, found {}", index.dtype))
            .hint("`cast` them to i64")
            .under(index.name));
    }
    let Some(literal) = index.literal else { return Ok(()) };
    match literal.data.iter().find(|x| !(0.0..size as f64).contains(*x)) {
        None => Ok(()),
        Some(found) => {
            let problem = Problem::new(Code::IndexOutOfRange, format!("index {found} of an axis of {size} places"));
            Err(match size {
                0 => problem.hint("there are none"),
                _ => problem.hint(format!("places go from 0 to {}", size - 1)),
            }
            .under(index.name))
        }
    }
}

fn index_select(given: &Given<'_>) -> Result<Vec<Typed>> {
    let (input, index) = (given.need("input")?, given.need("index")?);
    if index.shape.rank() > 1 {
        let detail = format!("`index` is a list of numbers, found shape {}", index.shape);
        return Err(misfit(detail).hint("`gather` takes indices of any shape"));
    }
    let count = index.shape.elements().unwrap_or(0);
    let Some(axis) = given.attrs.axis_or("dim", input.shape, 0)? else {
        check(index, 1)?;
        return match count {
            1 => one(input.shape.clone(), input.dtype),
            _ => Err(misfit("a single number has one place").hint("`index` has one element")),
        };
    };
    even_axis(given, input.shape, axis)?;
    check(index, input.shape.dims[axis])?;
    let mut shape = input.shape.clone();
    shape.dims[axis] = count;
    one(shape, input.dtype)
}

/// The axis, where the input has one.
fn placed(given: &Given<'_>, input: &Arg<'_>, index: &Arg<'_>) -> Result<Option<usize>> {
    let axis = given.attrs.axis_or("dim", input.shape, 0)?;
    let rank = |shape: &Shape| shape.rank().max(1);
    if rank(input.shape) != rank(index.shape) {
        return Err(misfit(format!("the input has shape {}, the index {}", input.shape, index.shape))
            .hint("they have the same number of axes"));
    }
    check(index, axis.map_or(1, |axis| input.shape.dims[axis]))?;
    if input.shape.ragged != index.shape.ragged {
        return Err(ragged(given.spec.name));
    }
    if let Some(axis) = axis {
        even_axis(given, input.shape, axis)?;
    }
    Ok(axis)
}

fn gather(given: &Given<'_>) -> Result<Vec<Typed>> {
    let (input, index) = (given.need("input")?, given.need("index")?);
    let axis = placed(given, input, index)?;
    for (at, size) in index.shape.dims.iter().enumerate() {
        let there = input.shape.dims.get(at).copied().unwrap_or(1);
        if Some(at) != axis && axis.is_some() && *size > there {
            return Err(misfit(format!("the index has shape {}, the input {}", index.shape, input.shape))
                .hint(format!("on axis {at} the index has at most {there} places")));
        }
    }
    one(index.shape.clone(), input.dtype)
}

fn scatter_add(given: &Given<'_>) -> Result<Vec<Typed>> {
    let (input, index, src) = (given.need("input")?, given.need("index")?, given.need("src")?);
    let axis = placed(given, input, index)?;
    if src.dtype != input.dtype {
        let detail = format!("the input is {}, `src` is {}", input.dtype, src.dtype);
        return Err(Problem::new(Code::DtypeMismatch, detail).hint("`cast` one to the other's type"));
    }
    if src.shape.rank().max(1) != index.shape.rank().max(1) || src.shape.ragged != index.shape.ragged {
        return Err(misfit(format!("`src` has shape {}, the index {}", src.shape, index.shape)));
    }
    for (at, size) in index.shape.dims.iter().enumerate() {
        let place = |shape: &Shape| shape.dims.get(at).copied().unwrap_or(1);
        if *size > place(src.shape) || Some(at) != axis && *size > place(input.shape) {
            let detail = format!("input {}, index {} and `src` {}", input.shape, index.shape, src.shape);
            return Err(misfit(detail).hint("the index is nowhere larger than `src`, nor than the input off the axis"));
        }
    }
    one(input.shape.clone(), input.dtype)
}

fn one_hot(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?;
    let classes = given.attrs.int("num_classes").unwrap_or(0);
    let classes = usize::try_from(classes).ok().filter(|classes| *classes > 0).ok_or_else(|| {
        super::bad(format!("`num_classes` is {classes}"))
            .hint("say how many there are: shapes are known before anything runs")
    })?;
    check(input, classes)?;
    let mut shape = input.shape.clone();
    shape.dims.push(classes);
    one(shape, DType::I64)
}

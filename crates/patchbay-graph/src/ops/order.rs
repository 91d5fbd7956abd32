//! Operations that put elements in order.
//!
//! Indices along a ragged axis are logical: 0 is a row's first real token.

use super::elementwise::joint;
use super::reduce::{folded, not_empty, reduced};
use super::{Given, Gradient, Kind, Op, OpSpec, Param, Typed, Work, bad, need, one, optional, ragged, row, tensor};
use crate::dtype::DType;
use crate::problem::{Code, Problem, Result};
use crate::shape::Shape;

const BOTH: &[&str] = &["values", "indices"];
const KEEPDIM: Param = optional("keepdim", Kind::Flag, "false");
const EXTREME: &[Param] =
    &[tensor("input"), optional("dim", Kind::Axis, "None"), KEEPDIM, optional("other", Kind::Tensor, "None")];
const EXTREME_FORMS: &[&[&str]] = &[&["input", "dim", "keepdim"], &["input", "other"]];
const PLACE: &[Param] = &[tensor("input"), optional("dim", Kind::Axis, "None"), KEEPDIM];

pub(super) const OPS: &[OpSpec] = &[
    row(
        Op::Max,
        "max",
        EXTREME,
        extreme,
        "largest of all (the gradient spreads evenly over equal ones); with `dim` the largest along an axis and its index \
         (the first of equal ones); with `other` as `maximum`",
    )
    .forms(EXTREME_FORMS)
    .outputs(BOTH)
    .work(Work::Input(1.0)),
    row(Op::Min, "min", EXTREME, extreme, "smallest, as `max`")
        .forms(EXTREME_FORMS)
        .outputs(BOTH)
        .work(Work::Input(1.0)),
    row(Op::Argmax, "argmax", PLACE, place, "index of the largest along an axis, or of all laid flat; the first of equal ones")
        .gradient(Gradient::None)
        .work(Work::Input(1.0)),
    row(Op::Argmin, "argmin", PLACE, place, "index of the smallest, as `argmax`")
        .gradient(Gradient::None)
        .work(Work::Input(1.0)),
    row(
        Op::Topk,
        "topk",
        &[
            tensor("input"),
            need("k", Kind::Int),
            optional("dim", Kind::Axis, "-1"),
            optional("largest", Kind::Flag, "true"),
            optional("sorted", Kind::Flag, "true"),
        ],
        topk,
        "the k largest along an axis, best first, and their indices; of equal ones the first",
    )
    .outputs(BOTH)
    .work(Work::Sort),
    row(
        Op::Sort,
        "sort",
        &[
            tensor("input"),
            optional("dim", Kind::Axis, "-1"),
            optional("descending", Kind::Flag, "false"),
            optional("stable", Kind::Flag, "true"),
        ],
        sort,
        "the elements along an axis in order, and their indices; always stable",
    )
    .outputs(BOTH)
    .work(Work::Sort),
];

fn extreme(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?;
    if given.find("other").is_some() {
        if given.attrs.get("dim").is_some() {
            return Err(bad("`dim` and `other` do not go together").hint("leave one out"));
        }
        return joint(given).map(|typed| vec![typed]);
    }
    if given.attrs.get("dim").is_none() {
        if given.attrs.get("keepdim").is_some() {
            return Err(Problem::new(Code::MissingField, "`keepdim` needs `dim`").hint(given.spec.signature()));
        }
        not_empty(given, &(0..input.shape.rank()).collect::<Vec<_>>())?;
        return one(reduced(input.shape, &(0..input.shape.rank()).collect::<Vec<_>>(), false)?, input.dtype);
    }
    not_empty(given, &given.attrs.axes(input.shape)?)?;
    let shape = folded(given, input.shape)?;
    Ok(vec![(shape.clone(), input.dtype), (shape, DType::I64)])
}

fn place(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?;
    given.not_bool(input)?;
    not_empty(given, &given.attrs.axes(input.shape)?)?;
    if given.attrs.get("dim").is_none() && input.shape.ragged.is_some() {
        return Err(ragged(given.spec.name));
    }
    one(folded(given, input.shape)?, DType::I64)
}

fn topk(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?;
    given.not_bool(input)?;
    let k = given.attrs.int("k").unwrap_or(0);
    let axis = given.attrs.axis_or("dim", input.shape, -1)?;
    let Some(axis) = axis else {
        return match k {
            1 => Ok(vec![(input.shape.clone(), input.dtype), (input.shape.clone(), DType::I64)]),
            _ => Err(beyond(k, 1)),
        };
    };
    let lengths = input.shape.ragged.as_ref().and_then(|ragged| ragged.lengths(axis));
    let size = lengths.and_then(|lengths| lengths.iter().min().copied()).unwrap_or(input.shape.dims[axis]);
    let k = usize::try_from(k).ok().filter(|k| *k <= size).ok_or_else(|| beyond(k, size))?;
    let mut shape = input.shape.clone();
    shape.dims[axis] = k;
    if let Some(ragged) = &mut shape.ragged {
        if ragged.rows == axis {
            return Err(super::ragged(given.spec.name));
        }
        ragged.axes.retain(|(at, _)| *at != axis);
    }
    shape.ragged = shape.ragged.filter(|ragged| !ragged.axes.is_empty());
    Ok(vec![(shape.clone(), input.dtype), (shape, DType::I64)])
}

fn beyond(k: i64, size: usize) -> Problem {
    Problem::new(Code::IndexOutOfRange, format!("`k` is {k}, the axis has {size} places"))
        .hint(format!("take 0 to {size}"))
}

fn sort(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?;
    let axis = given.attrs.axis_or("dim", input.shape, -1)?;
    let rows = |shape: &Shape| shape.ragged.as_ref().map(|ragged| ragged.rows);
    if axis.is_some() && axis == rows(input.shape) {
        return Err(ragged(given.spec.name));
    }
    Ok(vec![(input.shape.clone(), input.dtype), (input.shape.clone(), DType::I64)])
}

//! Operations that fold axes, or run along one.
//!
//! Along a ragged axis only real tokens count: padding adds nothing to a sum, and is not among what is looked at.

use super::{
    Arg, Given, Kind, Op, OpSpec, Param, Typed, Work, bad, keyword, misfit, need, one, optional, ragged, row, tensor,
};
use crate::dtype::DType;
use crate::problem::{Problem, Result};
use crate::shape::{Ragged, Shape};

const KEEPDIM: Param = optional("keepdim", Kind::Flag, "false");
const DTYPE: Param = keyword("dtype", Kind::Type, "None");
const REDUCE: &[Param] = &[tensor("input"), optional("dim", Kind::Axes, "None"), KEEPDIM, DTYPE];
const ALONG: &[Param] = &[tensor("input"), need("dim", Kind::Axis), DTYPE];
const SPREAD: &[Param] = &[
    tensor("input"),
    optional("dim", Kind::Axes, "None"),
    optional("unbiased", Kind::Flag, "true"),
    KEEPDIM,
    keyword("correction", Kind::Number, "1"),
];
const SPREAD_FORMS: &[&[&str]] = &[&["input", "dim", "unbiased", "keepdim"], &["input", "unbiased"]];

pub(super) const OPS: &[OpSpec] = &[
    row(Op::Sum, "sum", REDUCE, sum, "sum over axes, or over all").work(Work::Input(1.0)),
    row(Op::Mean, "mean", REDUCE, mean, "mean over axes, or over all").work(Work::Input(1.0)),
    row(Op::Var, "var", SPREAD, mean, "variance over axes, or over all: squares divided by n − correction")
        .forms(SPREAD_FORMS)
        .work(Work::Input(4.0)),
    row(Op::Std, "std", SPREAD, mean, "standard deviation over axes, or over all; NaN for a single number")
        .forms(SPREAD_FORMS)
        .work(Work::Input(4.0)),
    row(
        Op::Norm,
        "norm",
        &[tensor("input"), optional("p", Kind::Order, "2"), optional("dim", Kind::Axes, "None"), KEEPDIM],
        norm,
        "vector norm over axes, or over all; `p` may be \"Infinity\"; its slope at 0 is 0",
    )
    .work(Work::Input(2.0)),
    row(
        Op::Prod,
        "prod",
        &[tensor("input"), optional("dim", Kind::Axis, "None"), KEEPDIM, DTYPE],
        sum,
        "product along an axis, or of all",
    )
    .work(Work::Input(1.0)),
    row(Op::Cumsum, "cumsum", ALONG, cumsum, "sums of the elements up to each, along an axis"),
    row(Op::Softmax, "softmax", ALONG, along, "exp(input) / sum of exp(input) along an axis").work(Work::Output(6.0)),
    row(Op::LogSoftmax, "log_softmax", ALONG, along, "logarithm of softmax").work(Work::Output(6.0)),
    row(
        Op::Logsumexp,
        "logsumexp",
        &[tensor("input"), need("dim", Kind::Axes), KEEPDIM],
        logsumexp,
        "logarithm of the sum of exp(input) over axes",
    )
    .work(Work::Input(6.0)),
];

fn sum(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?;
    one(folded(given, input.shape)?, added(given, input.dtype))
}

fn mean(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?;
    if given.attrs.get("unbiased").is_some() && given.attrs.get("correction").is_some() {
        return Err(bad("`unbiased` and `correction` say the same").hint("leave one out"));
    }
    if given.attrs.number("correction").is_some_and(|correction| !correction.is_finite()) {
        return Err(bad("`correction` is a finite number"));
    }
    one(folded(given, input.shape)?, float(given, input)?)
}

/// The type that `dtype` says; without it that of sums: whole numbers add up in i64.
fn added(given: &Given<'_>, dtype: DType) -> DType {
    given.attrs.dtype("dtype").unwrap_or(if dtype.is_float() { dtype } else { DType::I64 })
}

/// The type that `dtype` says, without it that of the argument: a float.
fn float(given: &Given<'_>, input: &Arg<'_>) -> Result<DType> {
    given.float(&Arg { dtype: given.attrs.dtype("dtype").unwrap_or(input.dtype), ..input.clone() })
}

fn norm(given: &Given<'_>) -> Result<Vec<Typed>> {
    let p = given.attrs.number("p").unwrap_or(2.0);
    if p.is_nan() {
        return Err(bad("`p` is a number or infinite"));
    }
    let input = given.first()?;
    if p < 0.0 || p == f64::INFINITY {
        not_empty(given, &given.attrs.axes(input.shape)?)?;
    }
    mean(given)
}

fn logsumexp(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?;
    one(folded(given, input.shape)?, input.dtype.to_float())
}

fn along(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?;
    given.attrs.axis_or("dim", input.shape, -1)?;
    one(input.shape.clone(), float(given, input)?)
}

fn cumsum(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?;
    let axis = given.attrs.axis_or("dim", input.shape, -1)?;
    if axis.is_some_and(|axis| input.shape.ragged.as_ref().is_some_and(|ragged| ragged.rows == axis)) {
        return Err(over_rows());
    }
    one(input.shape.clone(), added(given, input.dtype))
}

/// The shape without the axes of `dim`, or with size 1 there.
pub(super) fn folded(given: &Given<'_>, shape: &Shape) -> Result<Shape> {
    reduced(shape, &given.attrs.axes(shape)?, given.attrs.flag("keepdim"))
}

/// Something is taken out of what lies along the axes, so that there must be something in every row.
pub(super) fn not_empty(given: &Given<'_>, axes: &[usize]) -> Result<()> {
    let shape = given.first()?.shape;
    let empty_row = |axis: usize| {
        shape.ragged.as_ref().and_then(|ragged| ragged.lengths(axis)).is_some_and(|lengths| lengths.contains(&0))
    };
    match axes.iter().find(|axis| shape.dims[**axis] == 0 || empty_row(**axis)) {
        None => Ok(()),
        Some(axis) => Err(misfit(format!("`{}` of nothing: axis {axis} of {shape} is empty", given.spec.name))),
    }
}

fn over_rows() -> Problem {
    misfit("rows that differ in length cannot be added up over rows").hint("reduce or index the token axis first")
}

/// The shape without these axes, or with size 1 there.
///
/// # Errors
/// Rows that differ in length would be folded, and not their tokens.
pub(super) fn reduced(shape: &Shape, axes: &[usize], keep: bool) -> Result<Shape> {
    let mut dims = Vec::new();
    let mut moved = vec![None; shape.rank()];
    for (axis, dim) in shape.dims.iter().enumerate() {
        let gone = axes.contains(&axis);
        if !gone || keep {
            moved[axis] = (!gone).then_some(dims.len());
            dims.push(if gone { 1 } else { *dim });
        }
    }
    let Some(ragged) = &shape.ragged else { return Ok(Shape::dense(dims)) };
    let kept = ragged.axes.iter().filter_map(|(axis, lengths)| Some((moved[*axis]?, lengths.clone())));
    let axes: Vec<_> = kept.collect();
    match (axes.is_empty(), moved[ragged.rows]) {
        (true, _) => Ok(Shape::dense(dims)),
        (false, Some(rows)) => Ok(Shape { dims, ragged: Some(Ragged { rows, axes }) }),
        (false, None) => Err(over_rows()),
    }
}

/// An axis along which rows do not differ, and which is not that of rows that do.
pub(super) fn even_axis(given: &Given<'_>, shape: &Shape, axis: usize) -> Result<()> {
    match &shape.ragged {
        Some(found) if found.rows == axis || found.lengths(axis).is_some() => Err(ragged(given.spec.name)),
        _ => Ok(()),
    }
}

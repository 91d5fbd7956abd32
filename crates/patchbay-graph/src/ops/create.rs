//! Tensors out of nothing, and tensors of another type.

use super::{
    Given, Gradient, INPUT, Kind, Op, OpSpec, Param, Typed, Work, bad, keyword, need, one, optional, row, tensor,
};
use crate::dtype::DType;
use crate::problem::{Code, Problem, Result};
use crate::shape::{MAX_RANK, Shape};

const DTYPE: Param = keyword("dtype", Kind::Type, "None");
const SIZE: &[Param] = &[need("size", Kind::Ints), DTYPE];

pub(super) const OPS: &[OpSpec] = &[
    row(Op::Zeros, "zeros", SIZE, filled, "a tensor of zeros, f32 if not said otherwise").gradient(Gradient::None),
    row(Op::Ones, "ones", SIZE, filled, "a tensor of ones, f32 if not said otherwise").gradient(Gradient::None),
    row(
        Op::Full,
        "full",
        &[need("size", Kind::Ints), need("fill_value", Kind::Scalar), DTYPE],
        filled,
        "a tensor of one value, of the value's type if not said otherwise",
    )
    .gradient(Gradient::None),
    row(
        Op::Eye,
        "eye",
        &[need("n", Kind::Int), optional("m", Kind::Int, "None"), DTYPE],
        eye,
        "ones on the diagonal, zeros elsewhere, f32 if not said otherwise",
    )
    .gradient(Gradient::None),
    row(
        Op::Arange,
        "arange",
        &[need("end", Kind::Number), keyword("start", Kind::Number, "0"), keyword("step", Kind::Number, "1"), DTYPE],
        arange,
        "numbers from start to end, end left out; whole where all three are",
    )
    .forms(&[&["end"], &["start", "end"], &["start", "end", "step"]])
    .gradient(Gradient::None),
    row(
        Op::Randn,
        "randn",
        &[need("size", Kind::Ints), Param { name: "seed", kind: Kind::Int, default: None, keyword: true }, DTYPE],
        randn,
        "normal random numbers, the same for the same seed on every machine",
    )
    .gradient(Gradient::None)
    .work(Work::Output(20.0)),
    row(Op::Cast, "cast", &[tensor("input"), need("dtype", Kind::Type)], cast, "input as another type"),
    row(Op::Clone, "clone", INPUT, unchanged, "input: a name for a site or another value").work(Work::View),
    row(Op::Detach, "detach", INPUT, unchanged, "input, through which no gradient flows")
        .gradient(Gradient::Zero)
        .work(Work::View),
];

/// Sizes as they were given.
///
/// # Errors
/// A negative one, or too many.
pub(super) fn sizes(ints: &[i64]) -> Result<Vec<usize>> {
    if ints.len() > MAX_RANK {
        let detail = format!("a tensor of {} axes; it may have {MAX_RANK}", ints.len());
        return Err(Problem::new(Code::TooLarge, detail));
    }
    let size =
        |int: &i64| usize::try_from(*int).map_err(|_| bad(format!("{int} is no size")).hint("sizes are 0 or more"));
    ints.iter().map(size).collect()
}

fn filled(given: &Given<'_>) -> Result<Vec<Typed>> {
    let shape = Shape::dense(sizes(given.attrs.ints("size").unwrap_or(&[]))?);
    let own = given.attrs.number_type("fill_value").unwrap_or(DType::F32);
    let dtype = given.attrs.dtype("dtype").unwrap_or(own);
    let value = given.attrs.number("fill_value").unwrap_or(0.0);
    if !dtype.is_float() && !value.is_finite() {
        return Err(Problem::new(Code::DtypeMismatch, format!("{dtype} cannot hold {value}")));
    }
    one(shape, dtype)
}

fn eye(given: &Given<'_>) -> Result<Vec<Typed>> {
    let n = given.attrs.int("n").unwrap_or(0);
    let shape = Shape::dense(sizes(&[n, given.attrs.int("m").unwrap_or(n)])?);
    one(shape, given.attrs.dtype("dtype").unwrap_or(DType::F32))
}

fn randn(given: &Given<'_>) -> Result<Vec<Typed>> {
    let shape = Shape::dense(sizes(given.attrs.ints("size").unwrap_or(&[]))?);
    match given.attrs.dtype("dtype").unwrap_or(DType::F32) {
        dtype if dtype.is_float() => one(shape, dtype),
        dtype => Err(Problem::new(Code::DtypeMismatch, format!("random numbers are floats, `dtype` is {dtype}"))),
    }
}

fn arange(given: &Given<'_>) -> Result<Vec<Typed>> {
    let number = |name: &str, default: f64| given.attrs.number(name).unwrap_or(default);
    let (start, end, step) = (number("start", 0.0), number("end", 0.0), number("step", 1.0));
    if ![start, end, step].iter().all(|x| x.is_finite()) {
        return Err(bad("`start`, `end` and `step` are finite"));
    }
    let steps = (end - start) / step;
    if step == 0.0 || steps < 0.0 {
        let detail = format!("no steps of {step} lead from {start} to {end}");
        return Err(bad(detail).hint("`step` has the sign of `end` − `start`, and is not 0"));
    }
    let count = steps.ceil();
    if !(0.0..MOST).contains(&count) {
        return Err(Problem::new(Code::TooLarge, format!("{count} numbers from {start} to {end}")));
    }
    let whole = ["start", "end", "step"].iter().all(|name| given.attrs.number_type(name) != Some(DType::F32));
    let dtype = given.attrs.dtype("dtype").unwrap_or(if whole { DType::I64 } else { DType::F32 });
    if dtype == DType::Bool {
        return Err(Problem::new(Code::DtypeMismatch, "`arange` makes numbers, `dtype` is bool"));
    }
    one(Shape::dense([count as usize]), dtype)
}

/// Numbers of an `arange`, at most: beyond that f64 cannot count them.
const MOST: f64 = (1u64 << 53) as f64;

fn cast(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?;
    one(input.shape.clone(), given.attrs.dtype("dtype").unwrap_or(input.dtype))
}

fn unchanged(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?;
    one(input.shape.clone(), input.dtype)
}

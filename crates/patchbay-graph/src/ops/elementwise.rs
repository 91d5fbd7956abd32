//! Operations that work element by element.

use super::promote::promote;
use super::{Given, Gradient, INPUT, Kind, Op, OpSpec, PAIR, Typed, Work, bad, keyword, one, optional, row, tensor};
use crate::dtype::DType;
use crate::problem::{Code, Problem, Result};
use crate::shape::Shape;

const SCALED: &[super::Param] = &[tensor("input"), tensor("other"), keyword("alpha", Kind::Number, "1")];

pub(super) const OPS: &[OpSpec] = &[
    row(Op::Add, "add", SCALED, scaled, "input + alpha · other"),
    row(Op::Sub, "sub", SCALED, sub, "input − alpha · other"),
    row(Op::Mul, "mul", PAIR, broadcast, "input · other"),
    row(
        Op::Div,
        "div",
        &[tensor("input"), tensor("other"), optional("rounding_mode", Kind::Word(&["floor", "trunc"]), "None")],
        div,
        "input / other, rounded as `rounding_mode` says; whole numbers become f32 where it says nothing",
    ),
    row(Op::Pow, "pow", &[tensor("input"), tensor("exponent")], pow, "input to the power of exponent")
        .work(Work::Output(10.0)),
    row(Op::Maximum, "maximum", PAIR, broadcast, "the larger of the two; NaN where one is NaN"),
    row(Op::Minimum, "minimum", PAIR, broadcast, "the smaller of the two; NaN where one is NaN"),
    row(Op::Neg, "neg", INPUT, same_not_bool, "−input"),
    row(Op::Abs, "abs", INPUT, same_not_bool, "absolute value"),
    row(Op::Sqrt, "sqrt", INPUT, same_float, "square root"),
    row(Op::Rsqrt, "rsqrt", INPUT, same_float, "1 / square root").work(Work::Output(2.0)),
    row(Op::Exp, "exp", INPUT, same_float, "e to the power of input").work(Work::Output(4.0)),
    row(Op::Log, "log", INPUT, same_float, "natural logarithm").work(Work::Output(4.0)),
    row(Op::Sin, "sin", INPUT, same_float, "sine of radians").work(Work::Output(4.0)),
    row(Op::Cos, "cos", INPUT, same_float, "cosine of radians").work(Work::Output(4.0)),
    row(Op::Tanh, "tanh", INPUT, same_float, "hyperbolic tangent").work(Work::Output(6.0)),
    row(Op::Sigmoid, "sigmoid", INPUT, same_float, "1 / (1 + exp(−input))").work(Work::Output(6.0)),
    row(Op::Relu, "relu", INPUT, same_not_bool, "max(input, 0); its slope at 0 is 0"),
    row(
        Op::Gelu,
        "gelu",
        &[tensor("input"), optional("approximate", Kind::Word(&["none", "tanh"]), "none")],
        same_only_float,
        "input · Φ(input); `tanh` approximates Φ",
    )
    .work(Work::Output(10.0)),
    row(Op::Silu, "silu", INPUT, same_only_float, "input · sigmoid(input)").work(Work::Output(7.0)),
    row(Op::Floor, "floor", INPUT, same_not_bool, "largest whole number not above").gradient(Gradient::Zero),
    row(Op::Ceil, "ceil", INPUT, same_not_bool, "smallest whole number not below").gradient(Gradient::Zero),
    row(
        Op::Round,
        "round",
        &[tensor("input"), keyword("decimals", Kind::Int, "0")],
        round,
        "nearest number of `decimals` places, halves to even",
    )
    .gradient(Gradient::Zero),
    row(Op::Sign, "sign", INPUT, same, "−1, 0 or 1").gradient(Gradient::Zero),
    row(
        Op::Clamp,
        "clamp",
        &[tensor("input"), optional("min", Kind::Tensor, "None"), optional("max", Kind::Tensor, "None")],
        clamp,
        "input held between min and max, which may be tensors",
    )
    .work(Work::Output(2.0)),
];

/// The shape of all arguments, broadcast, and their type, promoted.
pub(super) fn joint(given: &Given<'_>) -> Result<Typed> {
    let first = given.first()?.shape.clone();
    let shape = given.args[1..].iter().try_fold(first, |shape: Shape, arg| shape.broadcast(arg.shape))?;
    Ok((shape, promote(given.args)))
}

fn broadcast(given: &Given<'_>) -> Result<Vec<Typed>> {
    joint(given).map(|typed| vec![typed])
}

fn scaled(given: &Given<'_>) -> Result<Vec<Typed>> {
    let (shape, dtype) = joint(given)?;
    if given.attrs.number_type("alpha") == Some(DType::F32) && !dtype.is_float() {
        return Err(bad(format!("`alpha` is a whole number where the values are {dtype}")));
    }
    one(shape, dtype)
}

fn sub(given: &Given<'_>) -> Result<Vec<Typed>> {
    for arg in given.args.iter().filter(|arg| !arg.weak || arg.dtype == DType::Bool) {
        given.not_bool(arg)?;
    }
    scaled(given)
}

fn div(given: &Given<'_>) -> Result<Vec<Typed>> {
    let (shape, dtype) = joint(given)?;
    let Some(mode) = given.attrs.word("rounding_mode") else { return one(shape, dtype.to_float()) };
    if dtype == DType::Bool {
        return Err(Problem::new(Code::DtypeMismatch, format!("`div` with rounding mode {mode} does not take bool")));
    }
    let divisor = given.need("other")?;
    if !dtype.is_float() && divisor.literal.is_some_and(|literal| literal.data.contains(&0.0)) {
        return Err(bad("whole numbers are divided by 0").hint("divide floats, or leave out `rounding_mode`"));
    }
    one(shape, dtype)
}

fn pow(given: &Given<'_>) -> Result<Vec<Typed>> {
    let (shape, dtype) = joint(given)?;
    if dtype == DType::Bool {
        return Err(Problem::new(Code::DtypeMismatch, "`pow` does not take bool alone").hint("`cast` it to i64"));
    }
    let exponent = given.need("exponent")?;
    let negative = |literal: &crate::literal::Literal| literal.weak && literal.data.iter().any(|x| *x < 0.0);
    if !dtype.is_float() && exponent.literal.is_some_and(negative) {
        return Err(bad("a whole number to a negative power is none").hint("write floats, such as 2.0"));
    }
    one(shape, dtype)
}

fn clamp(given: &Given<'_>) -> Result<Vec<Typed>> {
    if given.args.len() < 2 {
        let problem = Problem::new(Code::MissingField, "`clamp` needs `min` or `max`");
        return Err(problem.hint(given.spec.signature()));
    }
    let (shape, dtype) = joint(given)?;
    if dtype == DType::Bool {
        given.not_bool(given.first()?)?;
    }
    let input = given.first()?;
    if given.args.iter().any(|arg| arg.weak) && shape != *input.shape {
        return Err(bad("plain bounds hold a tensor of its own shape"));
    }
    one(shape, dtype)
}

fn round(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?;
    let decimals = given.attrs.int("decimals").unwrap_or(0);
    if !(-300..=300).contains(&decimals) {
        return Err(bad(format!("`decimals` is {decimals}")).hint("take -300 to 300"));
    }
    if decimals != 0 {
        given.float(input)?;
    }
    one(input.shape.clone(), given.not_bool(input)?)
}

fn same(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?;
    one(input.shape.clone(), input.dtype)
}

fn same_not_bool(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?;
    one(input.shape.clone(), given.not_bool(input)?)
}

fn same_float(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?;
    one(input.shape.clone(), input.dtype.to_float())
}

fn same_only_float(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?;
    one(input.shape.clone(), given.float(input)?)
}

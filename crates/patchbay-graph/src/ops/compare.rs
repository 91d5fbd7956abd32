//! Comparisons, logic, and choices that depend on them.

use super::elementwise::joint;
use super::promote::promote;
use super::{Arg, Given, Gradient, INPUT, Op, OpSpec, PAIR, Typed, misfit, one, row, tensor};
use crate::dtype::DType;
use crate::problem::{Code, Problem, Result};

pub(super) const OPS: &[OpSpec] = &[
    row(Op::Eq, "eq", PAIR, truth, "whether they are equal").gradient(Gradient::None),
    row(Op::Ne, "ne", PAIR, truth, "whether they differ").gradient(Gradient::None),
    row(Op::Lt, "lt", PAIR, truth, "whether input is less than other").gradient(Gradient::None),
    row(Op::Le, "le", PAIR, truth, "whether input is at most other").gradient(Gradient::None),
    row(Op::Gt, "gt", PAIR, truth, "whether input is greater than other").gradient(Gradient::None),
    row(Op::Ge, "ge", PAIR, truth, "whether input is at least other").gradient(Gradient::None),
    row(Op::LogicalAnd, "logical_and", PAIR, truth, "whether both are other than 0").gradient(Gradient::None),
    row(Op::LogicalOr, "logical_or", PAIR, truth, "whether one is other than 0").gradient(Gradient::None),
    row(Op::LogicalNot, "logical_not", INPUT, truth, "whether it is 0").gradient(Gradient::None),
    row(
        Op::Where,
        "where",
        &[tensor("condition"), tensor("input"), tensor("other")],
        choose,
        "input where the condition is true, other where it is not",
    ),
    row(
        Op::MaskedFill,
        "masked_fill",
        &[tensor("input"), tensor("mask"), tensor("value")],
        masked_fill,
        "input with `value`, a single number, where the mask is true",
    ),
];

fn truth(given: &Given<'_>) -> Result<Vec<Typed>> {
    one(joint(given)?.0, DType::Bool)
}

fn mask(given: &Given<'_>, arg: &Arg<'_>) -> Result<()> {
    match arg.dtype {
        DType::Bool => Ok(()),
        dtype => {
            let detail = format!("`{}` of `{}` is true or false, found {dtype}", arg.name, given.spec.name);
            Err(Problem::new(Code::DtypeMismatch, detail)
                .hint("compare it, for example with `ne`, or `cast` it to bool")
                .under(arg.name))
        }
    }
}

fn choose(given: &Given<'_>) -> Result<Vec<Typed>> {
    mask(given, given.need("condition")?)?;
    let (input, other) = (given.need("input")?, given.need("other")?);
    one(joint(given)?.0, promote([input, other]))
}

fn masked_fill(given: &Given<'_>) -> Result<Vec<Typed>> {
    mask(given, given.need("mask")?)?;
    let (input, value) = (given.need("input")?, given.need("value")?);
    if value.shape.rank() > 0 {
        let detail = format!("`value` of `masked_fill` is a single number, found shape {}", value.shape);
        return Err(misfit(detail).hint("`where` takes tensors").under(value.name));
    }
    if value.dtype.is_float() && !input.dtype.is_float() {
        let detail = format!("{} cannot hold a value of type {}", input.dtype, value.dtype);
        return Err(Problem::new(Code::DtypeMismatch, detail)
            .hint("fill with a whole number, or `cast` the input")
            .under(value.name));
    }
    one(joint(given)?.0, input.dtype)
}

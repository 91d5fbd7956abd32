//! Products: every one of them is a contraction in the sense of `einsum`.

use super::einsum::{Product, equation};
use super::promote::promote;
use super::{Given, Kind, Op, OpSpec, Typed, Work, misfit, need, one, row, tensor};
use crate::dtype::DType;
use crate::problem::{Code, Problem, Result};

pub(super) const OPS: &[OpSpec] = &[
    row(Op::Matmul, "matmul", super::PAIR, multiply, "matrix product; leading axes broadcast, vectors as in PyTorch")
        .work(Work::Product),
    row(
        Op::Einsum,
        "einsum",
        &[need("equation", Kind::Text), need("operands", Kind::Tensors)],
        multiply,
        "sum of products over the labels that the output of the equation does not have",
    )
    .work(Work::Product),
    row(Op::Dot, "dot", &[tensor("input"), tensor("tensor")], multiply, "sum of the products of two vectors")
        .work(Work::Product),
    row(
        Op::Outer,
        "outer",
        &[tensor("input"), tensor("vec2")],
        outer,
        "product of each element with each of another vector",
    )
    .work(Work::Product),
];

/// The contraction that a product is.
///
/// # Errors
/// Shapes that do not fit together, an equation that is none.
pub fn product(given: &Given<'_>) -> Result<Product> {
    let shapes: Vec<_> = given.args.iter().map(|arg| arg.shape).collect();
    let (operands, output) = labels(given)?;
    let broadcasts = matches!(given.spec.op, Op::Einsum | Op::Matmul);
    if !broadcasts && shapes[0].ragged.is_some() {
        return Err(super::ragged(given.spec.name));
    }
    Product::new(operands, output, &shapes, broadcasts)
}

/// Labels of the operands' axes and of the output's.
pub(super) fn labels(given: &Given<'_>) -> Result<(Vec<Vec<usize>>, Vec<usize>)> {
    match given.spec.op {
        Op::Matmul => matmul_labels(given),
        Op::Einsum => {
            let ranks: Vec<usize> = given.args.iter().map(|arg| arg.shape.rank()).collect();
            equation(given.attrs.word("equation").unwrap_or(""), &ranks)
        }
        op => {
            let both = op == Op::Dot;
            if let Some(arg) = given.args.iter().find(|arg| arg.shape.rank() != 1) {
                let detail = format!("`{}` takes vectors, found shape {}", given.spec.name, arg.shape);
                return Err(misfit(detail).hint("`matmul` and `einsum` take more axes"));
            }
            let second = if both { 0 } else { 1 };
            Ok((vec![vec![0], vec![second]], if both { vec![] } else { vec![0, 1] }))
        }
    }
}

/// Labels of operands and output: batch axes from the last backwards, then rows, columns, and what is summed over.
fn matmul_labels(given: &Given<'_>) -> Result<(Vec<Vec<usize>>, Vec<usize>)> {
    let (a, b) = (given.need("input")?.shape, given.need("other")?.shape);
    if a.rank() == 0 || b.rank() == 0 {
        return Err(misfit("`matmul` takes no single numbers").hint("`mul` multiplies by a number"));
    }
    let (inner, left) = (a.dims[a.rank() - 1], b.dims[b.rank().saturating_sub(2)]);
    if inner != left {
        return Err(misfit(format!("shapes {a} and {b} do not fit together: {inner} columns, {left} rows"))
            .hint("the last axis of the first must be as long as the last but one of the second; see `transpose`"));
    }
    const SUMMED: usize = 0;
    const ROWS: usize = 1;
    const COLUMNS: usize = 2;
    let batch = |rank: usize| (0..rank.saturating_sub(2)).rev().map(|back| 3 + back);
    let first = batch(a.rank()).chain((a.rank() > 1).then_some(ROWS)).chain([SUMMED]).collect();
    let second = batch(b.rank()).chain([SUMMED]).chain((b.rank() > 1).then_some(COLUMNS)).collect();
    let output = batch(a.rank().max(b.rank()))
        .chain((a.rank() > 1).then_some(ROWS))
        .chain((b.rank() > 1).then_some(COLUMNS))
        .collect();
    Ok((vec![first, second], output))
}

fn multiply(given: &Given<'_>) -> Result<Vec<Typed>> {
    let first = given.first()?;
    if let Some(other) = given.args.iter().find(|arg| arg.dtype != first.dtype) {
        let detail = format!("`{}` wants one type, found {} and {}", given.spec.name, first.dtype, other.dtype);
        return Err(Problem::new(Code::DtypeMismatch, detail)
            .hint("write floats, such as 1.0, or `cast` one to the other's type"));
    }
    if first.dtype == DType::Bool {
        given.not_bool(first)?;
    }
    one(product(given)?.shape()?, first.dtype)
}

fn outer(given: &Given<'_>) -> Result<Vec<Typed>> {
    one(product(given)?.shape()?, promote(given.args))
}

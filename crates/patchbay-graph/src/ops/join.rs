//! How a value is put together of those that pieces of something give.

use super::along::{along, contracted};
use super::{Given, Op};
use crate::dtype::DType;
use crate::shape::Shape;

/// How a value is put together of those that pieces give, each of which is made of some rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// It is the same for every piece.
    Same,
    /// The pieces' lie beside each other along this axis.
    Along(usize),
    /// It is the sum of the pieces'.
    Sum,
    /// It is the mean of the pieces', each of which counts as often as it has rows.
    Mean,
}

impl Join {
    /// The axis of rows.
    pub fn axis(self) -> Option<usize> {
        match self {
            Self::Along(axis) => Some(axis),
            _ => None,
        }
    }

    /// Whether there are no rows in it any more, but something of each of them.
    pub fn is_folded(self) -> bool {
        matches!(self, Self::Sum | Self::Mean)
    }

    /// That of what is linear in all of these together, where some are folded: a mean may have something added that is the same for
    /// every piece.
    pub(crate) fn of_all(joins: &[Self]) -> Option<Self> {
        let folded = joins.iter().copied().find(|join| join.is_folded())?;
        let fits = |join: &Self| *join == folded || (folded, *join) == (Self::Mean, Self::Same);
        joins.iter().all(fits).then_some(folded)
    }
}

/// How the result of an operation is put together, for arguments that are so; nothing where it has to have the whole of one.
pub fn join(given: &Given<'_>, joins: &[Join], out: &Shape) -> Option<Join> {
    if joins.iter().all(|join| *join == Join::Same) {
        return Some(Join::Same);
    }
    if joins.iter().any(|join| join.is_folded()) {
        return of_folded(given.spec.op, joins).filter(|_| is_wide(given));
    }
    let axes: Vec<Option<usize>> = joins.iter().map(|join| join.axis()).collect();
    along(given, &axes, out).map(Join::Along).or_else(|| folded(given, &axes).filter(|_| is_wide(given)))
}

/// Whether numbers have room for sums: pieces' sums are not rounded, and do not run over, before they are added.
fn is_wide(given: &Given<'_>) -> bool {
    let wide = |dtype: DType| matches!(dtype, DType::F32 | DType::I64);
    let made = given.attrs.dtype("dtype");
    made.map_or_else(|| given.args.iter().all(|arg| wide(arg.dtype) || arg.dtype == DType::Bool), wide)
}

/// An operation that folds the axis of rows.
fn folded(given: &Given<'_>, axes: &[Option<usize>]) -> Option<Join> {
    let alone = axes[0].is_some() && axes[1..].iter().all(Option::is_none);
    match given.spec.op {
        Op::Sum if alone => Some(Join::Sum),
        // where rows differ in length, they count differently
        Op::Mean if alone && given.args[0].shape.ragged.is_none() => Some(Join::Mean),
        Op::Matmul | Op::Einsum | Op::Dot => (contracted(given, axes) == Some(None)).then_some(Join::Sum),
        _ => None,
    }
}

/// An operation that is linear in what is folded.
fn of_folded(op: Op, joins: &[Join]) -> Option<Join> {
    let one = || {
        let mut others = joins.iter().copied().filter(|join| *join != Join::Same);
        others.next().filter(|_| others.next().is_none())
    };
    match op {
        Op::Add | Op::Sub | Op::Stack | Op::Cat => Join::of_all(joins),
        Op::Mul | Op::Matmul | Op::Einsum | Op::Dot | Op::Outer => one(),
        Op::Neg | Op::Clone | Op::Sum | Op::Mean | Op::Cumsum => one(),
        Op::Reshape | Op::Transpose | Op::Permute | Op::Squeeze | Op::Unsqueeze | Op::Expand | Op::Flip => one(),
        _ => None,
    }
}

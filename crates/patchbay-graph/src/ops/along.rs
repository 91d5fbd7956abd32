//! Which operations can be made piece by piece along an axis.
//!
//! Where some arguments come in pieces along an axis of theirs, and the others are the same for every piece, an operation may give
//! of each piece the piece of what it gives of the whole; or it takes the pieces together. What is not known to do the first is
//! held to do the second.

use std::collections::BTreeSet;

use super::linear::labels;
use super::shaping::new_axis;
use super::{Arg, Given, Op};
use crate::shape::Shape;

/// The axis of the result along which its pieces lie, for arguments whose pieces lie along these axes of theirs (nothing stands for
/// one that is the same for every piece); nothing where pieces are taken together.
pub(super) fn along(given: &Given<'_>, axes: &[Option<usize>], out: &Shape) -> Option<usize> {
    let Pieces { first, axis, alone } = Pieces::new(given, axes)?;
    let (shape, rank, attrs) = (first.shape, first.shape.rank(), given.attrs);
    let named = |default: i64| shape.axis(attrs.int("dim").unwrap_or(default)).ok();
    let listed =
        |name: &str| -> Option<Vec<usize>> { attrs.ints(name)?.iter().map(|dim| shape.axis(*dim).ok()).collect() };
    let beside = |other: usize| (other != axis).then_some(axis);
    let alike = axes.iter().all(|other| *other == Some(axis));
    match given.spec.op {
        Op::Max | Op::Min if given.find("other").is_some() => broadcast(given, axes, out.rank()),
        Op::Sum | Op::Mean | Op::Var | Op::Std | Op::Norm | Op::Prod | Op::Logsumexp if alone => folded(given, axis),
        Op::Max | Op::Min | Op::Argmax | Op::Argmin if alone => folded(given, axis),
        Op::Cumsum | Op::Softmax | Op::LogSoftmax | Op::Topk | Op::Sort if alone => beside(named(-1)?),
        Op::Split | Op::IndexSelect if alone => beside(named(0)?),
        Op::Flip if alone => (!listed("dims")?.contains(&axis)).then_some(axis),
        Op::Tril | Op::Triu if alone => (axis + 2 < rank).then_some(axis),
        Op::OneHot if alone => Some(axis),
        Op::Gather | Op::ScatterAdd | Op::Cat if alike => beside(named(0)?),
        Op::Stack if alike => Some(axis + usize::from(new_axis(given, shape, 0).ok()? <= axis)),
        Op::Unsqueeze if alone => Some(axis + usize::from(new_axis(given, shape, 0).ok()? <= axis)),
        Op::Squeeze if alone => {
            let gone: BTreeSet<usize> = listed("dim")?.into_iter().filter(|dim| shape.dims[*dim] == 1).collect();
            (!gone.contains(&axis)).then(|| axis - gone.range(..axis).count())
        }
        Op::Transpose if alone => {
            let dim = |name: &str| shape.axis(attrs.int(name)?).ok();
            let (one, other) = (dim("dim0")?, dim("dim1")?);
            Some(match axis {
                axis if axis == one => other,
                axis if axis == other => one,
                axis => axis,
            })
        }
        Op::Permute if alone => listed("dims")?.into_iter().position(|dim| dim == axis),
        Op::Expand if alone => {
            let at = axis + out.rank() - rank;
            (attrs.ints("size")?.get(at) == Some(&-1)).then_some(at)
        }
        Op::Reshape if alone => {
            // the rows stay rows, however many they are
            let open = axis == 0 && attrs.ints("shape")?.first() == Some(&-1);
            (open && out.dims.first() == shape.dims.first()).then_some(0)
        }
        Op::CosineSimilarity => {
            let rank = out.rank() + 1;
            let at = broadcast(given, axes, rank)?;
            let dim = Shape::dense(vec![1; rank]).axis(attrs.int("dim").unwrap_or(1)).ok()?;
            (dim != at).then(|| at - usize::from(dim < at))
        }
        Op::Matmul | Op::Einsum | Op::Dot | Op::Outer => contracted(given, axes)?,
        op if op.is_place_by_place() => broadcast(given, axes, out.rank()),
        _ => None,
    }
}

/// Arguments that come in pieces.
struct Pieces<'a> {
    /// The first of them, and its axis.
    first: &'a Arg<'a>,
    axis: usize,
    /// Whether it is the first argument, and no other one comes in pieces.
    alone: bool,
}

impl<'a> Pieces<'a> {
    fn new(given: &Given<'a>, axes: &[Option<usize>]) -> Option<Self> {
        let number = axes.iter().position(Option::is_some)?;
        let alone = number == 0 && axes[1..].iter().all(Option::is_none);
        Some(Self { first: given.args.get(number)?, axis: axes[number]?, alone })
    }
}

impl Op {
    /// Whether each place of the result is made of the same place of the arguments, broadcast against each other.
    #[rustfmt::skip]
    pub(crate) fn is_place_by_place(self) -> bool {
        use Op::*;
        matches!(
            self,
            Add | Sub | Mul | Div | Pow | Maximum | Minimum
            | Neg | Abs | Sqrt | Rsqrt | Exp | Log | Sin | Cos | Tanh | Sigmoid | Relu | Gelu | Silu
            | Floor | Ceil | Round | Sign | Clamp | Cast | Clone | Detach
            | Eq | Ne | Lt | Le | Gt | Ge | LogicalAnd | LogicalOr | LogicalNot | Where | MaskedFill
        )
    }
}

/// Arguments that are aligned at their last axes: pieces meet pieces, and what is the same for all of them has no places there.
fn broadcast(given: &Given<'_>, axes: &[Option<usize>], rank: usize) -> Option<usize> {
    let aligned = |(arg, axis): (&Arg<'_>, &Option<usize>)| Some((*axis)? + rank.checked_sub(arg.shape.rank())?);
    let at = given.args.iter().zip(axes).find_map(aligned)?;
    let fits = |(arg, axis): (&Arg<'_>, &Option<usize>)| match axis {
        Some(_) => aligned((arg, axis)) == Some(at),
        None => (at + arg.shape.rank()).checked_sub(rank).is_none_or(|axis| arg.shape.dims[axis] == 1),
    };
    given.args.iter().zip(axes).all(fits).then_some(at)
}

/// The first argument, some of whose axes are folded.
fn folded(given: &Given<'_>, axis: usize) -> Option<usize> {
    let folded = given.attrs.axes(given.first().ok()?.shape).ok()?;
    let before = folded.iter().filter(|folded| **folded < axis).count();
    let gone = if given.attrs.flag("keepdim") { 0 } else { before };
    (!folded.contains(&axis)).then(|| axis - gone)
}

/// A product whose pieces have one label: where the output has it, if it is not summed over; nothing where they have others.
pub(super) fn contracted(given: &Given<'_>, axes: &[Option<usize>]) -> Option<Option<usize>> {
    let (operands, output) = labels(given).ok()?;
    let label = operands.iter().zip(axes).find_map(|(labels, axis)| labels.get((*axis)?).copied())?;
    let fits = |((labels, axis), arg): ((&Vec<usize>, &Option<usize>), &Arg<'_>)| {
        let with: Vec<usize> = (0..labels.len()).filter(|axis| labels[*axis] == label).collect();
        match axis {
            Some(axis) => with == [*axis],
            None => with.iter().all(|axis| arg.shape.dims[*axis] == 1),
        }
    };
    let all = operands.iter().zip(axes).zip(given.args).all(fits);
    all.then(|| output.iter().position(|found| *found == label))
}

//! Operations that lay elements out anew.
//!
//! A ragged axis may move, and gets neighbours, but stays whole: what would put padding among real tokens is refused.

use std::sync::Arc;

use super::create::sizes;
use super::{Given, Kind, Op, OpSpec, Param, Typed, Work, bad, misfit, need, one, optional, ragged, row, tensor};
use crate::problem::{Code, Problem, Result};
use crate::shape::{MAX_RANK, Ragged, Shape};

const DIAGONAL: &[Param] = &[tensor("input"), optional("diagonal", Kind::Int, "0")];

pub(super) const OPS: &[OpSpec] = &[
    row(
        Op::Reshape,
        "reshape",
        &[tensor("input"), need("shape", Kind::Ints)],
        reshape,
        "the same elements in another shape; one size may be −1",
    )
    .work(Work::View),
    row(
        Op::Transpose,
        "transpose",
        &[tensor("input"), need("dim0", Kind::Axis), need("dim1", Kind::Axis)],
        transpose,
        "two axes change places",
    )
    .work(Work::View),
    row(Op::Permute, "permute", &[tensor("input"), need("dims", Kind::Ints)], permute, "axes in another order")
        .work(Work::View),
    row(
        Op::Squeeze,
        "squeeze",
        &[tensor("input"), optional("dim", Kind::Axes, "None")],
        squeeze,
        "without the axes of size 1, or without those of `dim` which have that size",
    )
    .work(Work::View),
    row(
        Op::Unsqueeze,
        "unsqueeze",
        &[tensor("input"), need("dim", Kind::Axis)],
        unsqueeze,
        "with a new axis of size 1",
    )
    .work(Work::View),
    row(
        Op::Expand,
        "expand",
        &[tensor("input"), need("size", Kind::Ints)],
        expand,
        "axes of size 1 repeated to `size`; −1 leaves an axis as it is",
    )
    .work(Work::View),
    row(
        Op::Repeat,
        "repeat",
        &[tensor("input"), need("repeats", Kind::Ints)],
        repeat,
        "the tensor so many times along each axis, new ones in front",
    ),
    row(Op::Flip, "flip", &[tensor("input"), need("dims", Kind::Ints)], flip, "axes in reverse order"),
    row(Op::Tril, "tril", DIAGONAL, triangle, "the lower triangle of the last two axes, zeros above"),
    row(Op::Triu, "triu", DIAGONAL, triangle, "the upper triangle of the last two axes, zeros below"),
];

/// How often `repeat` takes rows that differ in length, and how many parts `split` makes, at most.
pub(super) const MOST_PARTS: usize = 1 << 16;

/// The ragged axes after every axis moved to the place that `to` says.
pub(super) fn moved(shape: &Shape, dims: Vec<usize>, to: impl Fn(usize) -> Option<usize>) -> Result<Shape> {
    let Some(found) = &shape.ragged else { return Ok(Shape::dense(dims)) };
    let lost =
        || misfit("rows that differ in length stay rows").hint("index the token axis first, for example `[:, -1]`");
    let rows = to(found.rows).ok_or_else(lost)?;
    let axis = |(axis, lengths): &(usize, Arc<[usize]>)| Some((to(*axis)?, Arc::clone(lengths)));
    let mut axes = found.axes.iter().map(axis).collect::<Option<Vec<_>>>().ok_or_else(lost)?;
    axes.sort_unstable_by_key(|(axis, _)| *axis);
    Ok(Shape { dims, ragged: Some(Ragged { rows, axes }) })
}

fn same_type(given: &Given<'_>, shape: Shape) -> Result<Vec<Typed>> {
    one(shape, given.first()?.dtype)
}

fn reshape(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?.shape;
    let wanted = given.attrs.ints("shape").unwrap_or(&[]);
    let wrong = || {
        misfit(format!("{} elements of shape {input} cannot have the shape {wanted:?}", input.elements().unwrap_or(0)))
    };
    let hole = wanted.iter().position(|size| *size == -1);
    let mut dims = sizes(&wanted.iter().map(|size| if *size == -1 { 1 } else { *size }).collect::<Vec<_>>())?;
    if wanted.iter().filter(|size| **size == -1).count() > 1 {
        return Err(bad(format!("{wanted:?} leaves more than one size open")).hint("one size may be -1"));
    }
    let count = input.elements().ok_or_else(wrong)?;
    let given_count = Shape::dense(dims.clone()).elements().ok_or_else(wrong)?;
    if let Some(hole) = hole {
        let size = count.checked_div(given_count);
        dims[hole] = size.ok_or_else(|| wrong().hint("beside a size of 0 none can be left open"))?;
    }
    if Shape::dense(dims.clone()).elements() != Some(count) {
        return Err(wrong());
    }
    // a ragged axis keeps its size and what lies before it
    let before = |dims: &[usize], axis: usize| dims[..axis].iter().product::<usize>();
    let place = |axis: usize| {
        (0..dims.len()).find(|to| dims[*to] == input.dims[axis] && before(&dims, *to) == before(&input.dims, axis))
    };
    let shape = moved(input, dims.clone(), place)?;
    same_type(given, shape)
}

fn transpose(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?.shape;
    let ends = [given.attrs.axis_or("dim0", input, 0)?, given.attrs.axis_or("dim1", input, 0)?];
    let [Some(a), Some(b)] = ends else { return same_type(given, input.clone()) };
    let mut dims = input.dims.clone();
    dims.swap(a, b);
    let to = |axis| {
        Some(if axis == a {
            b
        } else if axis == b {
            a
        } else {
            axis
        })
    };
    same_type(given, moved(input, dims, to)?)
}

fn permute(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?.shape;
    let wanted = given.attrs.ints("dims").unwrap_or(&[]);
    if wanted.len() != input.rank() {
        return Err(bad(format!("`dims` has {} axes, the tensor {}", wanted.len(), input.rank())));
    }
    let order = wanted.iter().map(|axis| input.axis(*axis)).collect::<Result<Vec<_>>>()?;
    let to = |axis| order.iter().position(|from| *from == axis);
    if (0..order.len()).any(|axis| to(axis).is_none()) {
        return Err(bad(format!("{wanted:?} does not name every axis once")));
    }
    let dims = order.iter().map(|axis| input.dims[*axis]).collect();
    same_type(given, moved(input, dims, to)?)
}

fn squeeze(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?.shape;
    let axes = match given.attrs.ints("dim") {
        // an empty list names no axes here
        Some([]) => Vec::new(),
        _ => given.attrs.axes(input)?,
    };
    let token = |axis: usize| input.ragged.as_ref().is_some_and(|ragged| ragged.rows == axis) || input.is_ragged(axis);
    let kept: Vec<usize> =
        (0..input.rank()).filter(|axis| !axes.contains(axis) || input.dims[*axis] != 1 || token(*axis)).collect();
    let dims = kept.iter().map(|axis| input.dims[*axis]).collect();
    same_type(given, moved(input, dims, |axis| kept.iter().position(|from| *from == axis))?)
}

/// A place between the axes, counted from the end where it is negative.
pub(super) fn new_axis(given: &Given<'_>, shape: &Shape, default: i64) -> Result<usize> {
    let axis = given.attrs.int("dim").unwrap_or(default);
    let rank = shape.rank() as i64;
    let found = if axis < 0 { axis.saturating_add(rank + 1) } else { axis };
    match (0..=rank).contains(&found) {
        true => Ok(found as usize),
        false => Err(Problem::new(Code::IndexOutOfRange, format!("a new axis {axis} of a tensor of shape {shape}"))
            .hint(format!("new axes go from {} to {rank}", -rank - 1))),
    }
}

fn unsqueeze(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?.shape;
    let at = new_axis(given, input, 0)?;
    let mut dims = input.dims.clone();
    dims.insert(at, 1);
    same_type(given, moved(input, dims, |axis| Some(axis + usize::from(axis >= at)))?)
}

fn expand(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?.shape;
    let wanted = given.attrs.ints("size").unwrap_or(&[]);
    let Some(new) = wanted.len().checked_sub(input.rank()).filter(|_| wanted.len() <= MAX_RANK) else {
        return Err(misfit(format!("a tensor of shape {input} cannot be expanded to {wanted:?}"))
            .hint("there is a size for every axis, new ones in front"));
    };
    let mut dims = Vec::with_capacity(wanted.len());
    for (at, size) in wanted.iter().enumerate() {
        let old = at.checked_sub(new).map(|axis| input.dims[axis]);
        let found = match (old, usize::try_from(*size).ok()) {
            (Some(old), None) if *size == -1 => Some(old),
            (Some(old), Some(size)) => (old == size || old == 1).then_some(size),
            (None, size) => size,
            _ => None,
        };
        dims.push(found.ok_or_else(|| {
            misfit(format!("a tensor of shape {input} cannot be expanded to {wanted:?}"))
                .hint("sizes other than 1 stay as they are; -1 leaves an axis alone")
        })?);
    }
    same_type(given, moved(input, dims, |axis| Some(axis + new))?)
}

fn repeat(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?.shape;
    let times = sizes(given.attrs.ints("repeats").unwrap_or(&[]))?;
    let Some(new) = times.len().checked_sub(input.rank()) else {
        let detail = format!("{} repeats for a tensor of {} axes", times.len(), input.rank());
        return Err(bad(detail).hint("there is a number for every axis, new ones in front"));
    };
    let mut dims = times.clone();
    for (axis, size) in input.dims.iter().enumerate() {
        dims[axis + new] = times[axis + new]
            .checked_mul(*size)
            .ok_or_else(|| Problem::new(Code::TooLarge, format!("{size} elements, {} times", times[axis + new])))?;
    }
    let mut shape = moved(input, dims, |axis| Some(axis + new))?;
    if let Some(found) = &mut shape.ragged {
        if times[found.rows] == 0 || found.axes.iter().any(|(axis, _)| times[*axis] != 1) {
            return Err(ragged(given.spec.name));
        }
        // refused by its size before the lengths are written out, if it is large
        let rows = times[found.rows];
        if rows > MOST_PARTS {
            return Err(Problem::new(Code::TooLarge, format!("rows {rows} times")));
        }
        found.axes.iter_mut().for_each(|(_, lengths)| *lengths = lengths.repeat(rows).into());
    }
    same_type(given, shape)
}

fn flip(given: &Given<'_>) -> Result<Vec<Typed>> {
    let input = given.first()?.shape;
    let wanted = given.attrs.ints("dims").unwrap_or(&[]);
    let mut shape = input.clone();
    let mut seen = vec![false; input.rank()];
    for axis in wanted {
        let axis = input.axis(*axis)?;
        if std::mem::replace(&mut seen[axis], true) {
            return Err(bad(format!("{wanted:?} names one axis twice")));
        }
        let Some(found) = &mut shape.ragged else { continue };
        if found.lengths(axis).is_some() {
            return Err(ragged(given.spec.name));
        }
        if found.rows == axis {
            found.axes.iter_mut().for_each(|(_, lengths)| *lengths = lengths.iter().rev().copied().collect());
        }
    }
    same_type(given, shape)
}

fn triangle(given: &Given<'_>) -> Result<Vec<Typed>> {
    let shape = given.first()?.shape;
    if shape.rank() < 2 {
        return Err(misfit(format!("`{}` wants two axes or more, found shape {shape}", given.spec.name)));
    }
    // left padding moves rows and columns alike where both are ragged
    let ends = [shape.rank() - 2, shape.rank() - 1];
    if let Some(found) = &shape.ragged
        && (found.lengths(ends[0]) != found.lengths(ends[1]) || ends.contains(&found.rows))
    {
        return Err(ragged(given.spec.name));
    }
    same_type(given, shape.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::ops::{Arg, Attr, Attrs};

    fn shape_of(name: &str, shape: &Shape, attrs: &[(&'static str, Attr)]) -> Result<Shape> {
        let args = [Arg { name: "input", shape, dtype: DType::F32, weak: false, literal: None }];
        let spec = OpSpec::find(name).unwrap();
        spec.infer(&Given { spec, args: &args, attrs: Attrs(attrs) }).map(|outs| outs[0].0.clone())
    }

    fn rows() -> Shape {
        let axes = vec![(2, Arc::from([2, 3]))];
        Shape { dims: vec![2, 4, 3, 8], ragged: Some(Ragged { rows: 0, axes }) }
    }

    #[test]
    fn ragged_axes_move_along() {
        let to = |ints: &[i64]| shape_of("reshape", &rows(), &[("shape", Attr::Ints(ints.to_vec()))]);
        assert_eq!(to(&[2, 2, 2, 3, -1]).unwrap().to_string(), "[2, 2, 2, 2..3, 8]");
        assert_eq!(to(&[2, 4, 3, 2, 4]).unwrap().to_string(), "[2, 4, 2..3, 2, 4]");
        assert!(to(&[2, 12, 8]).is_err() && to(&[2, 4, 24]).is_err() && to(&[8, 3, 8]).is_err());
        let order = |dims: &[i64]| shape_of("permute", &rows(), &[("dims", Attr::Ints(dims.to_vec()))]);
        assert_eq!(order(&[2, 3, 0, 1]).unwrap().to_string(), "[2..3, 8, 2, 4]");
        let flip = |axis| shape_of("flip", &rows(), &[("dims", Attr::Ints(vec![axis]))]);
        assert_eq!(flip(0).unwrap().ragged.unwrap().axes[0].1[..], [3, 2]);
        assert!(flip(2).is_err() && flip(-1).is_ok());
    }
}

//! What operations hold on the way.

use super::{Given, Op, linear};
use crate::dtype::DType;
use crate::shape::Shape;

/// From so many elements on a sum of floats is added up in double precision.
pub const LONG_SUM: usize = 1 << 14;

/// Bytes that an operation on `given` holds beside its arguments and its result, as the executor runs it.
pub(super) fn scratch(given: &Given<'_>, out: &Shape) -> u64 {
    let elements = |shape: &Shape| shape.elements().unwrap_or(usize::MAX) as u64;
    let strong = given.args.iter().filter(|arg| !arg.weak);
    let sizes = |wanted: fn(DType) -> bool| {
        strong.clone().filter(|arg| wanted(arg.dtype)).map(|arg| elements(arg.shape)).fold(0, u64::saturating_add)
    };
    // halves are computed as f32
    let halves = sizes(|dtype| matches!(dtype, DType::F16 | DType::Bf16));
    let converted = if halves > 0 { 4 * halves.saturating_add(elements(out)) } else { 0 };
    let double = double(given);
    let whole = given.args.first().is_some_and(|arg| !arg.dtype.is_float() && arg.dtype != DType::Bool);
    let input = given.args.first().map_or(0, |arg| elements(arg.shape));
    let way = match (given.spec.op, whole) {
        (Op::Matmul | Op::Einsum | Op::Dot | Op::Outer, _) => {
            let held = linear::product(given).map_or(0, |product| product.scratch());
            let wide = if whole { 8 * sizes(|_| true) } else { 0 };
            (held * if whole || double { 8 } else { 4 }).saturating_add(wide)
        }
        (_, true) => whole_numbers(given, input.max(elements(out))),
        _ => {
            let (of_out, of_input) = floats(given);
            let each = elements(out).saturating_mul(of_out).saturating_add(input.saturating_mul(of_input));
            each.saturating_mul(if double { 2 } else { 1 })
        }
    };
    way.saturating_add(converted)
}

/// Whole numbers are computed on the host; those that only say where something is are not among them.
fn whole_numbers(given: &Given<'_>, elements: u64) -> u64 {
    let moved = matches!(
        given.spec.op,
        Op::Reshape | Op::Squeeze | Op::Unsqueeze | Op::Transpose | Op::Permute | Op::Expand | Op::Split | Op::Detach
    );
    match given.spec.op {
        Op::OneHot => 0,
        _ if moved => 0,
        _ => elements.saturating_mul(8),
    }
}

/// Bytes for each element of the result, and for each of the first argument, where floats are computed in f32.
#[rustfmt::skip]
fn floats(given: &Given<'_>) -> (u64, u64) {
    let has = |name: &str| given.attrs.get(name).is_some();
    let pair = given.args.get(1).is_some_and(|arg| arg.name == "other");
    let (long, all) = (long_sum(given), !has("dim"));
    let ragged = given.args.first().is_some_and(|arg| arg.shape.ragged.is_some());
    // padding is replaced by what does not count
    let filled = if ragged { 4 } else { 0 };
    match given.spec.op {
        Op::Add | Op::Sub if has("alpha") => (4, 0),
        Op::Div => match given.attrs.word("rounding_mode") {
            None => (0, 0),
            Some("floor") => (20, 0),
            Some(_) => (13, 0),
        },
        Op::Pow if given.args.get(1).is_some_and(|arg| arg.shape.rank() > 0) => (20, 0),
        Op::Rsqrt | Op::LogicalNot => (4, 0),
        Op::Relu | Op::Clamp | Op::Maximum | Op::Minimum | Op::LogicalAnd | Op::LogicalOr => (5, 0),
        Op::Gelu => (8, 0),
        Op::Sigmoid | Op::Silu => (12, 0),
        Op::Round => (13, 0),
        Op::Sum | Op::Mean => (0, if long { 8 } else { 0 }),
        Op::Var => (0, if long { 16 } else { 12 }),
        Op::Std | Op::Norm => (0, if long { 16 } else { 8 }),
        Op::Prod => (0, 16 + filled),
        Op::Cumsum => (12, 0),
        // a kernel of its own does single precision along the last axis
        Op::Softmax if !double(given) && along_last(given) => (0, filled),
        Op::Softmax => (4, filled),
        Op::LogSoftmax => (8, filled),
        Op::Logsumexp => (0, 8 + filled),
        Op::Max | Op::Min if pair => (5, 0),
        Op::Max | Op::Min | Op::Argmax | Op::Argmin => (0, if all { 8 } else { 4 }),
        Op::Topk | Op::Sort => (0, 12),
        Op::CosineSimilarity | Op::CrossEntropy => (0, 12),
        Op::KlDiv => if given.attrs.word("reduction") == Some("none") { (9, 0) } else { (0, 13) },
        Op::Tril | Op::Triu => (5, 0),
        Op::Cast => if given.attrs.dtype("dtype").is_some_and(DType::is_float) { (0, 0) } else { (8, 0) },
        Op::Gather | Op::ScatterAdd | Op::Randn => (8, 0),
        // whole ones are made as they are
        Op::Arange => match given.spec.infer(given).as_deref() {
            Ok([(_, dtype), ..]) if !dtype.is_float() => (0, 0),
            _ => (8, 0),
        },
        Op::Eye => (1, 0),
        _ => (0, 0),
    }
}

/// Whether anything is computed in double precision.
fn double(given: &Given<'_>) -> bool {
    given.args.iter().any(|arg| !arg.weak && arg.dtype == DType::F64)
}

/// Whether an operation goes along the last axis of its first argument.
fn along_last(given: &Given<'_>) -> bool {
    let Some(arg) = given.args.first() else { return false };
    let axis = given.attrs.axis_or("dim", arg.shape, -1).ok().flatten();
    axis.is_some_and(|axis| axis + 1 == arg.shape.rank())
}

/// Whether so much is added up at once that it is done in double precision.
fn long_sum(given: &Given<'_>) -> bool {
    let Some(arg) = given.args.first() else { return false };
    let axes = given.attrs.axes(arg.shape).unwrap_or_default();
    axes.iter().map(|axis| arg.shape.dims[*axis]).fold(1, usize::saturating_mul) > LONG_SUM
}

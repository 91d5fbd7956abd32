//! How far values are from each other.

use super::elementwise::joint;
use super::promote::promote;
use super::reduce::{even_axis, reduced};
use super::{Arg, Given, Kind, Op, OpSpec, Typed, Work, bad, keyword, misfit, one, optional, row, tensor};
use crate::dtype::DType;
use crate::problem::{Code, Problem, Result};
use crate::shape::Shape;

const REDUCTION: Kind = Kind::Word(&["mean", "sum", "none"]);

pub(super) const OPS: &[OpSpec] = &[
    row(
        Op::CosineSimilarity,
        "cosine_similarity",
        &[tensor("x1"), tensor("x2"), optional("dim", Kind::Axis, "1"), optional("eps", Kind::Number, "1e-8")],
        cosine_similarity,
        "cosine of the angle between vectors along an axis",
    )
    .work(Work::Input(6.0)),
    row(
        Op::CrossEntropy,
        "cross_entropy",
        &[
            tensor("input"),
            tensor("target"),
            keyword("weight", Kind::Tensor, "None"),
            keyword("ignore_index", Kind::Int, "-100"),
            keyword("reduction", REDUCTION, "mean"),
            keyword("label_smoothing", Kind::Number, "0.0"),
        ],
        cross_entropy,
        "−log softmax(input) at the classes of `target`, or weighted by its probabilities; classes lie on axis 1, or on the \
         only one",
    )
    .work(Work::Input(8.0)),
    row(
        Op::KlDiv,
        "kl_div",
        &[
            tensor("input"),
            tensor("target"),
            keyword("reduction", Kind::Word(&["mean", "batchmean", "sum", "none"]), "mean"),
            keyword("log_target", Kind::Flag, "false"),
        ],
        kl_div,
        "target · (log target − input): the input is a log probability, the target too where `log_target` says so",
    )
    .work(Work::Input(6.0)),
];

fn cosine_similarity(given: &Given<'_>) -> Result<Vec<Typed>> {
    let (shape, dtype) = joint(given)?;
    if !dtype.is_float() {
        given.float(given.first()?)?;
    }
    let axis = given.attrs.axis_or("dim", &shape, 1)?;
    one(reduced(&shape, axis.as_slice(), false)?, dtype)
}

/// The axis of classes, and whether the target gives a probability for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassAxis {
    /// The axis.
    pub axis: usize,
    /// Whether the target has the shape of the input.
    pub probabilities: bool,
}

impl ClassAxis {
    /// Finds it.
    ///
    /// # Errors
    /// The target has neither the shape of the input nor that without the classes.
    pub fn of(input: &Shape, target: &Shape, target_type: DType) -> Result<Self> {
        let axis = usize::from(input.rank() > 1);
        let wrong = || {
            misfit(format!("the target has shape {target}, the input {input}"))
                .hint("the target has a class for every place, or a probability for every element of the input")
        };
        if input.rank() == 0 {
            return Err(wrong());
        }
        if target.dims == input.dims && target_type.is_float() {
            return Ok(Self { axis, probabilities: true });
        }
        let mut places = input.dims.clone();
        places.remove(axis);
        if target.dims != places {
            return Err(wrong());
        }
        match target_type {
            DType::U8 | DType::U32 | DType::I64 => Ok(Self { axis, probabilities: false }),
            found => Err(Problem::new(Code::DtypeMismatch, format!("classes are whole numbers, found {found}"))
                .hint("`cast` the target to i64")),
        }
    }
}

fn cross_entropy(given: &Given<'_>) -> Result<Vec<Typed>> {
    let (input, target) = (given.need("input")?, given.need("target")?);
    let dtype = given.float(input)?;
    if let Some(arg) = [input, target].into_iter().find(|arg| arg.shape.ragged.is_some()) {
        let detail = format!("rows of `{}` differ in length: {}", arg.name, arg.shape);
        return Err(misfit(detail).hint("index the token axis first, for example `[:, -1]`"));
    }
    let classes = ClassAxis::of(input.shape, target.shape, target.dtype)?;
    let smoothing = given.attrs.number("label_smoothing").unwrap_or(0.0);
    if !(0.0..=1.0).contains(&smoothing) {
        return Err(bad(format!("`label_smoothing` is {smoothing}")).hint("take 0.0 to 1.0"));
    }
    let count = input.shape.dims[classes.axis];
    if let Some(weight) = given.find("weight")
        && (weight.shape.dims != [count] || weight.dtype != dtype)
    {
        let detail = format!("`weight` has {} of shape {}", weight.dtype, weight.shape);
        return Err(misfit(detail).hint(format!("one {dtype} for each of the {count} classes")));
    }
    if classes.probabilities && target.dtype != dtype {
        let detail = format!("the input is {dtype}, the probabilities are {}", target.dtype);
        return Err(Problem::new(Code::DtypeMismatch, detail).hint("`cast` one to the other's type"));
    }
    if classes.probabilities && given.attrs.get("ignore_index").is_some() {
        return Err(bad("`ignore_index` needs a target of classes").hint("leave it out"));
    }
    check_classes(given, target, count, classes)?;
    match given.attrs.word("reduction") {
        Some("none") => one(reduced(input.shape, &[classes.axis], false)?, dtype),
        _ => one(Shape::default(), dtype),
    }
}

fn check_classes(given: &Given<'_>, target: &Arg<'_>, count: usize, classes: ClassAxis) -> Result<()> {
    let ignored = given.attrs.int("ignore_index").unwrap_or(-100) as f64;
    let Some(literal) = target.literal.filter(|_| !classes.probabilities) else { return Ok(()) };
    match literal.data.iter().find(|x| **x != ignored && !(0.0..count as f64).contains(*x)) {
        None => Ok(()),
        Some(found) => Err(Problem::new(Code::IndexOutOfRange, format!("class {found} of {count}"))
            .hint(format!("classes go from 0 to {}", count.saturating_sub(1)))
            .under(target.name)),
    }
}

fn kl_div(given: &Given<'_>) -> Result<Vec<Typed>> {
    let (input, target) = (given.need("input")?, given.need("target")?);
    given.float(input)?;
    given.float(target)?;
    let (shape, dtype) = (joint(given)?.0, promote([input, target]));
    match given.attrs.word("reduction") {
        Some("none") => one(shape, dtype),
        Some("batchmean") if input.shape.rank() == 0 => {
            Err(misfit("`batchmean` divides by the size of the first axis, and there is none"))
        }
        Some("batchmean") if shape.ragged.is_some() => {
            even_axis(given, &shape, 0)?;
            one(Shape::default(), dtype)
        }
        _ => one(Shape::default(), dtype),
    }
}

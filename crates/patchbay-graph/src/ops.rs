//! The table of tensor operations: PyTorch's names and arguments, and the rule for the shape and type of each.
//!
//! Adding an operation is one row of [`OPS`] and one arm in the executor.

use crate::dtype::DType;
use crate::problem::{Code, Problem, Result};
use crate::shape::Shape;

/// A tensor operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are PyTorch's; OPS says what each does")]
pub enum Op {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Maximum,
    Minimum,
    Neg,
    Abs,
    Sqrt,
    Rsqrt,
    Exp,
    Log,
    Sin,
    Cos,
    Tanh,
    Sigmoid,
    Relu,
    Gelu,
    Silu,
    Floor,
    Round,
    Sign,
    Clamp,
    Sum,
    Mean,
    Softmax,
}

/// One row of the table.
#[derive(Debug)]
pub struct OpSpec {
    /// The operation.
    pub op: Op,
    /// PyTorch's name.
    pub name: &'static str,
    /// Its arguments, in PyTorch's order.
    pub params: &'static [Param],
    /// How shape and type follow from the arguments.
    pub rule: Rule,
    /// What it computes.
    pub about: &'static str,
}

/// One argument of an operation.
#[derive(Debug)]
pub struct Param {
    /// PyTorch's name.
    pub name: &'static str,
    /// What may stand there.
    pub kind: Kind,
    /// Whether it may be left out.
    pub optional: bool,
}

/// What an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value of the graph.
    Tensor,
    /// An axis, or several.
    Axes,
    /// One axis.
    Axis,
    /// A plain number.
    Number,
    /// True or false.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// An argument as it was given.
#[derive(Clone, Debug, PartialEq)]
pub enum Attr {
    /// One axis or several, as written.
    Axes(Vec<i64>),
    /// A plain number.
    Number(f64),
    /// True or false.
    Flag(bool),
    /// A word.
    Word(String),
}

/// How shape and type of the result follow from the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Arguments broadcast; types promote.
    Broadcast,
    /// Arguments broadcast; types promote, and integers become f32.
    BroadcastFloat,
    /// Shape and type of the first argument.
    Same,
    /// Shape of the first argument; integers become f32.
    SameFloat,
    /// Axes `dim` are summed up; booleans become i64.
    Reduce,
    /// Axes `dim` are averaged; the values must be floats.
    ReduceFloat,
    /// Shape of the first argument, along one axis; integers are refused as PyTorch refuses them.
    Along,
}

const fn tensor(name: &'static str) -> Param {
    Param { name, kind: Kind::Tensor, optional: false }
}

const fn optional(name: &'static str, kind: Kind) -> Param {
    Param { name, kind, optional: true }
}

const INPUT: &[Param] = &[tensor("input")];
const PAIR: &[Param] = &[tensor("input"), tensor("other")];
const SCALED: &[Param] = &[tensor("input"), tensor("other"), optional("alpha", Kind::Number)];
const REDUCE: &[Param] = &[tensor("input"), optional("dim", Kind::Axes), optional("keepdim", Kind::Flag)];

const fn row(op: Op, name: &'static str, params: &'static [Param], rule: Rule, about: &'static str) -> OpSpec {
    OpSpec { op, name, params, rule, about }
}

/// Every operation, in the order of [`Op`].
pub const OPS: &[OpSpec] = &[
    row(Op::Add, "add", SCALED, Rule::Broadcast, "input + alpha · other"),
    row(Op::Sub, "sub", SCALED, Rule::Broadcast, "input − alpha · other"),
    row(Op::Mul, "mul", PAIR, Rule::Broadcast, "input · other"),
    row(
        Op::Div,
        "div",
        &[tensor("input"), tensor("other"), optional("rounding_mode", Kind::Word(&["floor", "trunc"]))],
        Rule::BroadcastFloat,
        "input / other, rounded as `rounding_mode` says",
    ),
    row(Op::Pow, "pow", &[tensor("input"), tensor("exponent")], Rule::Broadcast, "input to the power of exponent"),
    row(Op::Maximum, "maximum", PAIR, Rule::Broadcast, "the larger of the two"),
    row(Op::Minimum, "minimum", PAIR, Rule::Broadcast, "the smaller of the two"),
    row(Op::Neg, "neg", INPUT, Rule::Same, "−input"),
    row(Op::Abs, "abs", INPUT, Rule::Same, "absolute value"),
    row(Op::Sqrt, "sqrt", INPUT, Rule::SameFloat, "square root"),
    row(Op::Rsqrt, "rsqrt", INPUT, Rule::SameFloat, "1 / square root"),
    row(Op::Exp, "exp", INPUT, Rule::SameFloat, "e to the power of input"),
    row(Op::Log, "log", INPUT, Rule::SameFloat, "natural logarithm"),
    row(Op::Sin, "sin", INPUT, Rule::SameFloat, "sine of radians"),
    row(Op::Cos, "cos", INPUT, Rule::SameFloat, "cosine of radians"),
    row(Op::Tanh, "tanh", INPUT, Rule::SameFloat, "hyperbolic tangent"),
    row(Op::Sigmoid, "sigmoid", INPUT, Rule::SameFloat, "1 / (1 + exp(−input))"),
    row(Op::Relu, "relu", INPUT, Rule::Same, "max(input, 0)"),
    row(
        Op::Gelu,
        "gelu",
        &[tensor("input"), optional("approximate", Kind::Word(&["none", "tanh"]))],
        Rule::Along,
        "input · Φ(input); `tanh` approximates Φ",
    ),
    row(Op::Silu, "silu", INPUT, Rule::Along, "input · sigmoid(input)"),
    row(Op::Floor, "floor", INPUT, Rule::Same, "largest whole number not above"),
    row(Op::Round, "round", INPUT, Rule::Same, "nearest whole number, halves to even"),
    row(Op::Sign, "sign", INPUT, Rule::Same, "−1, 0 or 1"),
    row(
        Op::Clamp,
        "clamp",
        &[tensor("input"), optional("min", Kind::Number), optional("max", Kind::Number)],
        Rule::Same,
        "input held between min and max",
    ),
    row(Op::Sum, "sum", REDUCE, Rule::Reduce, "sum over axes, or over all"),
    row(Op::Mean, "mean", REDUCE, Rule::ReduceFloat, "mean over axes, or over all"),
    row(
        Op::Softmax,
        "softmax",
        &[tensor("input"), Param { name: "dim", kind: Kind::Axis, optional: false }],
        Rule::Along,
        "exp(input) / sum of exp(input) along an axis",
    ),
];

impl OpSpec {
    /// The operation with this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        OPS.iter().find(|spec| spec.name == name)
    }

    /// The row of an operation.
    pub fn of(op: Op) -> &'static Self {
        &OPS[op as usize]
    }

    /// Whether a gradient passes through it.
    pub fn has_derivative(&self) -> bool {
        !matches!(self.op, Op::Floor | Op::Round | Op::Sign)
    }

    /// The parameter with this name.
    pub fn param(&self, name: &str) -> Option<&'static Param> {
        self.params.iter().find(|param| param.name == name)
    }
}

/// An argument of a node as the rules see it: shape and type, and whether it is a plain number.
#[derive(Clone, Debug)]
pub struct ArgShape<'a> {
    /// Its shape.
    pub shape: &'a Shape,
    /// Its type.
    pub dtype: DType,
    /// A plain number takes the type of what it is combined with.
    pub weak: bool,
}

/// The axes that an operation works along: those given, or all.
pub fn axes(attr: Option<&Attr>, shape: &Shape) -> Result<Vec<usize>> {
    let Some(Attr::Axes(given)) = attr else { return Ok((0..shape.rank()).collect()) };
    let mut axes = given.iter().map(|axis| shape.axis(*axis)).collect::<Result<Vec<_>>>()?;
    axes.sort_unstable();
    if axes.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Problem::new(Code::BadArgument, format!("axes {given:?} name one axis twice")).under("dim"));
    }
    // PyTorch takes an empty list of axes for all of them
    if axes.is_empty() { Ok((0..shape.rank()).collect()) } else { Ok(axes) }
}

/// Shape and type of the result.
///
/// # Errors
/// Shapes that do not broadcast, types that the operation does not take, axes that are not there.
pub fn infer(spec: &OpSpec, args: &[ArgShape<'_>], attr: &dyn Fn(&str) -> Option<Attr>) -> Result<(Shape, DType)> {
    let first = &args[0];
    let floats = |dtype: DType| match dtype.is_float() {
        true => Ok(dtype),
        false => Err(Problem::new(Code::DtypeMismatch, format!("`{}` wants floats, found {dtype}", spec.name))
            .hint("write floats, such as 1.0, or multiply by 1.0")),
    };
    match spec.rule {
        Rule::Broadcast | Rule::BroadcastFloat => {
            let shape = args[1..].iter().try_fold(first.shape.clone(), |shape, arg| shape.broadcast(arg.shape))?;
            let dtype = promote(args);
            Ok((shape, if spec.rule == Rule::BroadcastFloat { dtype.to_float() } else { dtype }))
        }
        Rule::Same => Ok((first.shape.clone(), first.dtype)),
        Rule::SameFloat => Ok((first.shape.clone(), first.dtype.to_float())),
        Rule::Along => {
            if let Some(Attr::Axes(axes)) = attr("dim") {
                axes.iter().try_for_each(|axis| first.shape.axis(*axis).map(|_| ()))?;
            }
            Ok((first.shape.clone(), floats(first.dtype)?))
        }
        Rule::Reduce | Rule::ReduceFloat => {
            let dtype = match (spec.rule, first.dtype) {
                (Rule::ReduceFloat, dtype) => floats(dtype)?,
                (_, dtype) if dtype.is_float() => dtype,
                _ => DType::I64,
            };
            let axes = axes(attr("dim").as_ref(), first.shape)?;
            Ok((reduced(first.shape, &axes, attr("keepdim") == Some(Attr::Flag(true)))?, dtype))
        }
    }
}

/// Type of an operation on all of the arguments, as PyTorch promotes: a plain number only counts where it is of a higher kind.
fn promote(args: &[ArgShape<'_>]) -> DType {
    let strong = args.iter().filter(|arg| !arg.weak).map(|arg| arg.dtype).reduce(DType::promote);
    let weak = args.iter().filter(|arg| arg.weak).map(|arg| arg.dtype).reduce(DType::promote);
    match (strong, weak) {
        (Some(strong), Some(weak)) if weak.is_float() => strong.to_float(),
        (Some(DType::Bool), Some(weak)) => weak,
        (Some(dtype), _) | (None, Some(dtype)) => dtype,
        (None, None) => DType::F32,
    }
}

/// The shape without these axes, or with size 1 there.
fn reduced(shape: &Shape, axes: &[usize], keep: bool) -> Result<Shape> {
    let mut out = Shape { dims: Vec::new(), ragged: shape.ragged.clone() };
    let mut moved = vec![None; shape.rank()];
    for (axis, dim) in shape.dims.iter().enumerate() {
        let gone = axes.contains(&axis);
        if !gone || keep {
            moved[axis] = (!gone).then_some(out.dims.len());
            out.dims.push(if gone { 1 } else { *dim });
        }
    }
    if let Some(ragged) = &mut out.ragged {
        ragged.axes.retain_mut(|(axis, _)| moved[*axis].map(|to| *axis = to).is_some());
        match moved[ragged.rows] {
            _ if ragged.axes.is_empty() => out.ragged = None,
            Some(rows) => ragged.rows = rows,
            None => {
                let problem =
                    Problem::new(Code::ShapeMismatch, "rows that differ in length cannot be added up over rows");
                return Err(problem.hint("reduce or index the token axis first"));
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_required_arguments_come_first() {
        for (i, spec) in OPS.iter().enumerate() {
            assert_eq!(OpSpec::of(spec.op).op, spec.op, "rows stand in the order of the enum");
            assert!(OPS[..i].iter().all(|other| other.name != spec.name && other.op != spec.op), "{}", spec.name);
            let first_optional = spec.params.iter().position(|param| param.optional).unwrap_or(spec.params.len());
            assert!(spec.params[first_optional..].iter().all(|param| param.optional), "{}", spec.name);
        }
    }

    #[test]
    fn plain_numbers_take_the_type_of_the_tensor() {
        let (scalar, vector) = (Shape::default(), Shape::dense([3]));
        let arg = |shape, dtype, weak| ArgShape { shape, dtype, weak };
        let dtype = |a, b| infer(OpSpec::find("mul").unwrap(), &[a, b], &|_| None).unwrap().1;
        assert_eq!(dtype(arg(&vector, DType::Bf16, false), arg(&scalar, DType::F32, true)), DType::Bf16);
        assert_eq!(dtype(arg(&vector, DType::I64, false), arg(&scalar, DType::F32, true)), DType::F32);
        assert_eq!(dtype(arg(&vector, DType::I64, false), arg(&vector, DType::F16, false)), DType::F16);
    }
}

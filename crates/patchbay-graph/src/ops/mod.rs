//! The table of tensor operations: PyTorch's names and arguments, and the rule for the shape and type of each.
//!
//! Adding an operation is one row of a family's table here, with its name in [`Op`], and one function in the executor. A row
//! says what the arguments are ([`Param`]), how shape and type of each output follow from them ([`Rule`]), whether it has a
//! derivative ([`Gradient`]) and what it costs ([`Work`]); [`reference()`] writes the table as a page.

mod along;
mod args;
mod compare;
mod create;
pub mod einsum;
mod elementwise;
mod index;
mod join;
mod joining;
mod linear;
mod loss;
mod order;
mod promote;
mod reduce;
mod reference;
mod scratch;
mod shaping;
mod work;

pub use args::{Arg, Attr, Attrs, Given, axes};
pub use join::{Join, join};
pub use linear::product;
pub use loss::ClassAxis;
pub use reference::reference;
pub use scratch::LONG_SUM;
pub use work::Work;

use crate::dtype::DType;
use crate::problem::{Code, Problem, Result, list};
use crate::shape::Shape;

/// A tensor operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are PyTorch's; the tables say what each does")]
#[rustfmt::skip]
pub enum Op {
    Add, Sub, Mul, Div, Pow, Maximum, Minimum,
    Neg, Abs, Sqrt, Rsqrt, Exp, Log, Sin, Cos, Tanh, Sigmoid, Relu, Gelu, Silu, Floor, Ceil, Round, Sign, Clamp,
    Sum, Mean, Var, Std, Norm, Prod, Cumsum, Softmax, LogSoftmax, Logsumexp,
    Max, Min, Argmax, Argmin, Topk, Sort,
    Matmul, Einsum, Dot, Outer,
    CosineSimilarity, CrossEntropy, KlDiv,
    Eq, Ne, Lt, Le, Gt, Ge, LogicalAnd, LogicalOr, LogicalNot, Where, MaskedFill,
    Reshape, Transpose, Permute, Squeeze, Unsqueeze, Expand, Repeat, Flip, Cat, Stack, Split, Tril, Triu,
    IndexSelect, Gather, ScatterAdd, OneHot,
    Zeros, Ones, Full, Eye, Arange, Randn, Cast, Clone, Detach,
}

/// One row of a table.
#[derive(Debug)]
pub struct OpSpec {
    /// The operation.
    pub op: Op,
    /// PyTorch's name.
    pub name: &'static str,
    /// Its arguments, in PyTorch's order.
    pub params: &'static [Param],
    /// Which parameters positional arguments fill, where PyTorch has several ways; otherwise all that are not
    /// [keywords](Param::keyword).
    pub forms: &'static [&'static [&'static str]],
    /// Names of its outputs, where there may be several.
    pub outputs: Outputs,
    /// How shape and type of the outputs follow from the arguments.
    pub rule: Rule,
    /// Whether gradients flow through it.
    pub gradient: Gradient,
    /// What it costs.
    pub work: Work,
    /// What it computes.
    pub about: &'static str,
}

/// How shape and type of each output follow from the arguments.
///
/// # Errors
/// Shapes and types that the operation does not take, axes and indices that are not there.
pub type Rule = fn(&Given<'_>) -> Result<Vec<Typed>>;

/// Shape and type of an output.
pub type Typed = (Shape, DType);

/// One argument of an operation.
#[derive(Debug)]
pub struct Param {
    /// PyTorch's name.
    pub name: &'static str,
    /// What may stand there.
    pub kind: Kind,
    /// What it is where it is left out; nothing where it must be given.
    pub default: Option<&'static str>,
    /// Whether it is given by name only.
    pub keyword: bool,
}

/// What an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value of the graph.
    Tensor,
    /// Several values of the graph.
    Tensors,
    /// An axis, or several.
    Axes,
    /// One axis.
    Axis,
    /// A whole number.
    Int,
    /// Whole numbers, in a list or one after the other.
    Ints,
    /// A whole number or a list of them, which mean different things.
    Sections,
    /// A plain number.
    Number,
    /// The order of a norm: a plain number, or `"fro"` for 2.
    Order,
    /// A plain number, or true or false.
    Scalar,
    /// True or false.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// The name of a type.
    Type,
    /// A text.
    Text,
}

/// How many outputs an operation has, and what they are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// One.
    One,
    /// As many as the rule says, these at most.
    Named(&'static [&'static str]),
    /// Any number, called 0, 1 and so on.
    Numbered,
}

/// Whether gradients flow through an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gradient {
    /// They do.
    Right,
    /// Its derivative is zero wherever there is one.
    Zero,
    /// It has no derivative: its values are whole numbers or truth values.
    None,
}

const fn tensor(name: &'static str) -> Param {
    Param { name, kind: Kind::Tensor, default: None, keyword: false }
}

const fn need(name: &'static str, kind: Kind) -> Param {
    Param { name, kind, default: None, keyword: false }
}

const fn optional(name: &'static str, kind: Kind, default: &'static str) -> Param {
    Param { name, kind, default: Some(default), keyword: false }
}

const fn keyword(name: &'static str, kind: Kind, default: &'static str) -> Param {
    Param { name, kind, default: Some(default), keyword: true }
}

/// A row of a table: one output, differentiable, a price for each element of the result.
const fn row(op: Op, name: &'static str, params: &'static [Param], rule: Rule, about: &'static str) -> OpSpec {
    let (forms, outputs, gradient, work) = (&[] as &[_], Outputs::One, Gradient::Right, Work::Output(1.0));
    OpSpec { op, name, params, forms, outputs, rule, gradient, work, about }
}

const INPUT: &[Param] = &[tensor("input")];
const PAIR: &[Param] = &[tensor("input"), tensor("other")];

/// Every operation, by family.
pub const FAMILIES: &[(&str, &[OpSpec])] = &[
    ("Elementwise", elementwise::OPS),
    ("Comparison and choice", compare::OPS),
    ("Reduction", reduce::OPS),
    ("Order", order::OPS),
    ("Products", linear::OPS),
    ("Distances and losses", loss::OPS),
    ("Shape", shaping::OPS),
    ("Joining and splitting", joining::OPS),
    ("Indexing", index::OPS),
    ("Making and casting", create::OPS),
];

/// Every operation.
pub fn all() -> impl Iterator<Item = &'static OpSpec> + Clone {
    FAMILIES.iter().flat_map(|(_, specs)| specs.iter())
}

impl OpSpec {
    /// The operation with this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        all().find(|spec| spec.name == name)
    }

    /// The row of an operation.
    ///
    /// # Panics
    /// Where a table lacks the row; a test sees to it that none does.
    pub fn of(op: Op) -> &'static Self {
        match all().find(|spec| spec.op == op) {
            Some(spec) => spec,
            None => unreachable!("{op:?} has no row"),
        }
    }

    /// Whether gradients flow through it.
    pub fn has_derivative(&self) -> bool {
        self.gradient == Gradient::Right
    }

    /// The parameter with this name, or with another name that PyTorch and NumPy have for it.
    pub fn param(&self, name: &str) -> Option<&'static Param> {
        self.params.iter().find(|param| param.name == name || param.alias() == Some(name))
    }

    /// Shape and type of every output.
    ///
    /// # Errors
    /// Whatever the [rule](Rule) refuses.
    pub fn infer(&self, given: &Given<'_>) -> Result<Vec<Typed>> {
        (self.rule)(given)
    }

    /// Floating-point operations for one output, and bytes held on the way beside arguments and result.
    pub fn cost(&self, given: &Given<'_>, out: &Shape) -> (f64, u64) {
        (self.work.of(given, out), scratch::scratch(given, out))
    }

    /// The number of the output that `out` names, of the `count` that there are.
    ///
    /// # Errors
    /// There is no such output.
    pub fn output(&self, out: &str, count: usize) -> Result<usize> {
        let (names, count) = match self.outputs {
            Outputs::Numbered => (&[][..], count),
            Outputs::Named(names) if count > 1 => (names, names.len()),
            _ => (&[][..], 0),
        };
        if let Some(found) = names.iter().position(|name| *name == out) {
            return Ok(found);
        }
        // by number, as in Python's tuples
        if let Some(found) = out.parse().ok().filter(|number| *number < count) {
            return Ok(found);
        }
        let problem = Problem::new(Code::BadArgument, format!("this `{}` has no output `{out}`", self.name));
        Err(match (names, count) {
            ([], 0) => problem.hint("it has one output: leave the name out"),
            ([], count) => problem.hint(format!("its outputs are `0` to `{}`", count - 1)),
            (names, _) => problem.hint(format!("its outputs are {}", list(names))),
        })
    }

    /// The operation as PyTorch's documentation writes it: `softmax(input, dim)`.
    pub fn signature(&self) -> String {
        let show = |param: &Param| match param.default {
            None => param.name.to_owned(),
            Some(default) => format!("{}={default}", param.name),
        };
        let mut params: Vec<String> = self.params.iter().filter(|param| !param.keyword).map(show).collect();
        let keywords: Vec<String> = self.params.iter().filter(|param| param.keyword).map(show).collect();
        if !keywords.is_empty() {
            params.push("*".into());
            params.extend(keywords);
        }
        format!("{}({})", self.name, params.join(", "))
    }

    const fn forms(mut self, forms: &'static [&'static [&'static str]]) -> Self {
        self.forms = forms;
        self
    }

    const fn outputs(mut self, names: &'static [&'static str]) -> Self {
        self.outputs = Outputs::Named(names);
        self
    }

    const fn gradient(mut self, gradient: Gradient) -> Self {
        self.gradient = gradient;
        self
    }

    const fn work(mut self, work: Work) -> Self {
        self.work = work;
        self
    }
}

impl Param {
    /// NumPy's name for it, which PyTorch takes too.
    pub fn alias(&self) -> Option<&'static str> {
        match self.name {
            "dim" => Some("axis"),
            "keepdim" => Some("keepdims"),
            _ => None,
        }
    }
}

/// One output.
fn one(shape: Shape, dtype: DType) -> Result<Vec<Typed>> {
    Ok(vec![(shape, dtype)])
}

/// A shape that the operation does not take.
fn misfit(detail: impl Into<String>) -> Problem {
    Problem::new(Code::ShapeMismatch, detail)
}

/// An argument that the operation does not take.
fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(Code::BadArgument, detail)
}

/// An operation that has no meaning along rows that differ in length.
fn ragged(name: &str) -> Problem {
    misfit(format!("`{name}` has no meaning across rows that differ in length"))
        .hint("index the token axis first, for example `[:, -1]`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_one_row() {
        for (i, spec) in all().enumerate() {
            assert_eq!(OpSpec::of(spec.op).name, spec.name);
            assert!(all().take(i).all(|other| other.name != spec.name && other.op != spec.op), "{}", spec.name);
        }
        // the last of the enum, whose number is the count of those before it
        assert_eq!(all().count(), Op::Detach as usize + 1);
    }

    #[test]
    fn parameters_are_in_order_and_forms_name_them() {
        for spec in all() {
            for form in spec.forms {
                assert!(form.iter().all(|name| spec.params.iter().any(|param| param.name == *name)), "{}", spec.name);
            }
            let optional = |param: &Param| param.default.is_some();
            let positional: Vec<&Param> = spec.params.iter().filter(|param| !param.keyword).collect();
            let first = positional.iter().position(|param| optional(param)).unwrap_or(positional.len());
            assert!(positional[first..].iter().all(|param| optional(param)), "{}", spec.name);
            assert!(spec.params.iter().all(|param| !["op", "id", "args", "out"].contains(&param.name)));
        }
    }
}

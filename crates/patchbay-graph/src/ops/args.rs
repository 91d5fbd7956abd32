//! The arguments of an operation as its rule sees them.

use super::{OpSpec, bad};
use crate::dtype::DType;
use crate::literal::Literal;
use crate::problem::{Code, Problem, Result};
use crate::shape::Shape;

/// An argument that is no value of the graph, as it was given.
#[derive(Clone, Debug, PartialEq)]
pub enum Attr {
    /// One axis or several, as written.
    Axes(Vec<i64>),
    /// A whole number.
    Int(i64),
    /// A list of whole numbers.
    Ints(Vec<i64>),
    /// A plain number.
    Number(f64),
    /// True or false.
    Flag(bool),
    /// A word.
    Word(String),
    /// A type.
    Type(DType),
    /// A text.
    Text(String),
}

/// Every argument that is no value of the graph, by the name of its parameter.
#[derive(Clone, Copy, Debug)]
pub struct Attrs<'a>(pub &'a [(&'static str, Attr)]);

impl<'a> Attrs<'a> {
    /// The argument of this name, if it was given.
    pub fn get(&self, name: &str) -> Option<&'a Attr> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, attr)| attr)
    }

    /// A whole number.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.get(name) {
            Some(Attr::Int(int)) => Some(*int),
            Some(Attr::Axes(axes)) if axes.len() == 1 => Some(axes[0]),
            _ => None,
        }
    }

    /// A list of whole numbers; one alone is a list of one.
    pub fn ints(&self, name: &str) -> Option<&'a [i64]> {
        match self.get(name) {
            Some(Attr::Ints(ints) | Attr::Axes(ints)) => Some(ints),
            Some(Attr::Int(int)) => Some(std::slice::from_ref(int)),
            _ => None,
        }
    }

    /// A plain number.
    pub fn number(&self, name: &str) -> Option<f64> {
        match self.get(name) {
            Some(Attr::Number(number)) => Some(*number),
            Some(Attr::Int(int)) => Some(*int as f64),
            Some(Attr::Flag(flag)) => Some(f64::from(u8::from(*flag))),
            _ => None,
        }
    }

    /// The type that PyTorch gives a plain number.
    pub fn number_type(&self, name: &str) -> Option<DType> {
        match self.get(name) {
            Some(Attr::Number(_)) => Some(DType::F32),
            Some(Attr::Int(_)) => Some(DType::I64),
            Some(Attr::Flag(_)) => Some(DType::Bool),
            _ => None,
        }
    }

    /// True or false; false where it was not given.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name) == Some(&Attr::Flag(true))
    }

    /// True or false; true where it was not given.
    pub fn flag_or_true(&self, name: &str) -> bool {
        self.get(name) != Some(&Attr::Flag(false))
    }

    /// A word or a text.
    pub fn word(&self, name: &str) -> Option<&'a str> {
        match self.get(name) {
            Some(Attr::Word(word) | Attr::Text(word)) => Some(word),
            _ => None,
        }
    }

    /// A type.
    pub fn dtype(&self, name: &str) -> Option<DType> {
        match self.get(name) {
            Some(Attr::Type(dtype)) => Some(*dtype),
            _ => None,
        }
    }

    /// The axis that `name` gives, `default` where it does not. A single number has the axes 0 and -1, as in PyTorch, and
    /// no place in its shape.
    ///
    /// # Errors
    /// There is no such axis.
    pub fn axis_or(&self, name: &str, shape: &Shape, default: i64) -> Result<Option<usize>> {
        find_axis(self.int(name).unwrap_or(default), shape)
    }

    /// The axes that `dim` gives in ascending order, or all.
    ///
    /// # Errors
    /// There is no such axis, or one is named twice.
    pub fn axes(&self, shape: &Shape) -> Result<Vec<usize>> {
        axes(self.get("dim"), shape)
    }

    /// Divisor of `var` and `std`, as a number to take from the count.
    pub fn correction(&self) -> f64 {
        match (self.number("correction"), self.get("unbiased")) {
            (Some(correction), _) => correction,
            (None, Some(Attr::Flag(false))) => 0.0,
            _ => 1.0,
        }
    }
}

fn find_axis(axis: i64, shape: &Shape) -> Result<Option<usize>> {
    match shape.rank() {
        0 if axis == 0 || axis == -1 => Ok(None),
        _ => shape.axis(axis).map(Some),
    }
}

/// The axes that an operation works along: those given, in ascending order, or all.
///
/// # Errors
/// There is no such axis, or one is named twice.
pub fn axes(attr: Option<&Attr>, shape: &Shape) -> Result<Vec<usize>> {
    let Some(Attr::Axes(given)) = attr else { return Ok((0..shape.rank()).collect()) };
    if given.len() > shape.rank().max(1) {
        return Err(bad(format!("{} axes are given, the tensor has {}", given.len(), shape.rank())));
    }
    let found = given.iter().map(|axis| find_axis(*axis, shape)).collect::<Result<Vec<_>>>()?;
    let mut axes: Vec<usize> = found.into_iter().flatten().collect();
    axes.sort_unstable();
    if axes.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(bad(format!("axes {given:?} name one axis twice")));
    }
    // PyTorch takes an empty list of axes for all of them
    if axes.is_empty() { Ok((0..shape.rank()).collect()) } else { Ok(axes) }
}

/// A value among the arguments: shape and type, and whether it is a plain number.
#[derive(Clone, Debug)]
pub struct Arg<'a> {
    /// The parameter that it fills.
    pub name: &'static str,
    /// Its shape.
    pub shape: &'a Shape,
    /// Its type.
    pub dtype: DType,
    /// A plain number takes the type of what it is combined with.
    pub weak: bool,
    /// Its elements, where they stand in the request.
    pub literal: Option<&'a Literal>,
}

/// Everything that an operation was given.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// The operation.
    pub spec: &'static OpSpec,
    /// The values, in the order of the parameters.
    pub args: &'a [Arg<'a>],
    /// The other arguments.
    pub attrs: Attrs<'a>,
}

impl<'a> Given<'a> {
    /// The value that fills a parameter.
    pub fn find(&self, name: &str) -> Option<&'a Arg<'a>> {
        self.args.iter().find(|arg| arg.name == name)
    }

    /// The value that fills a parameter which must be there.
    ///
    /// # Errors
    /// It is not there.
    pub fn need(&self, name: &str) -> Result<&'a Arg<'a>> {
        self.find(name).ok_or_else(|| Problem::new(Code::MissingField, format!("`{}` needs `{name}`", self.spec.name)))
    }

    /// The first value.
    ///
    /// # Errors
    /// There is none.
    pub fn first(&self) -> Result<&'a Arg<'a>> {
        self.args.first().ok_or_else(|| Problem::new(Code::MissingField, format!("`{}` needs a value", self.spec.name)))
    }

    /// The type that all values have together.
    pub fn promoted(&self) -> DType {
        super::promote::promote(self.args)
    }

    /// The type of a value that must be a float.
    ///
    /// # Errors
    /// It is none.
    pub fn float(&self, arg: &Arg<'_>) -> Result<DType> {
        match arg.dtype.is_float() {
            true => Ok(arg.dtype),
            false => Err(Problem::new(
                Code::DtypeMismatch,
                format!("`{}` wants floats, found {}", self.spec.name, arg.dtype),
            )
            .hint("write floats, such as 1.0, or multiply by 1.0")),
        }
    }

    /// The type of a value that must not be true or false.
    ///
    /// # Errors
    /// It is.
    pub fn not_bool(&self, arg: &Arg<'_>) -> Result<DType> {
        match arg.dtype {
            DType::Bool => Err(Problem::new(
                Code::DtypeMismatch,
                format!("`{}` does not take bool, as in PyTorch", self.spec.name),
            )
            .hint("`cast` it, for example to i64")),
            dtype => Ok(dtype),
        }
    }
}

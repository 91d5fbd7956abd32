//! Operands: everything that can stand where a value is wanted.

use serde_json::{Value, json};

use crate::dtype::DType;
use crate::index::Index;
use crate::literal::{Literal, non_finite};
use crate::node::Node;
use crate::path::SitePath;
use crate::problem::{Code, Problem, Result};

/// How deep nodes may be written into each other.
pub const MAX_DEPTH: usize = 64;

/// A value as the request names it, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// JSON pointer to it.
    pub at: String,
    /// What it is.
    pub kind: OperandKind,
}

/// The forms of an operand.
#[derive(Clone, Debug, PartialEq)]
pub enum OperandKind {
    /// A number or a tensor written out.
    Literal(Literal),
    /// `"$id"` or `"$id.part"`: the value of a node, or another of its outputs.
    Node {
        /// The node's id.
        id: String,
        /// Which of its outputs, the one that it stands for if not said.
        part: Option<String>,
        /// What to take of it.
        index: Option<Index>,
    },
    /// `"@name"` or `"@name.key"`: a tensor of the caller's store.
    Stored {
        /// Name in the store.
        name: String,
        /// Which of several tensors.
        key: Option<String>,
        /// What to take of it.
        index: Option<Index>,
    },
    /// `"layers.5.output"`: the value of a site.
    Site(SiteOperand),
    /// `"weights.lm_head"`: a weight of the model.
    Weight {
        /// Its name, without `weights.`.
        path: SitePath,
        /// What to take of it.
        index: Option<Index>,
    },
    /// A node written in place.
    Inline(Box<Node>),
}

/// A site, of one of the inputs, and what to take of it.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteOperand {
    /// The input, needed only where there are several.
    pub input: Option<String>,
    /// The site's name.
    pub path: SitePath,
    /// What to take of it.
    pub index: Option<Index>,
}

impl Operand {
    /// Parses the operand that stands at `at`, inside of `depth` others.
    ///
    /// # Errors
    /// Whatever is wrong with its form; pointers start at the operand.
    pub fn parse(value: &Value, at: &str, depth: usize) -> Result<Self> {
        let kind = match value {
            Value::String(text) => match non_finite(text) {
                Some(number) => OperandKind::Literal(Literal::number(number, DType::F32)),
                None => parse_string(text)?,
            },
            Value::Object(object) if object.contains_key("op") => {
                if depth >= MAX_DEPTH {
                    let detail = format!("nodes are written into each other more than {MAX_DEPTH} deep");
                    return Err(
                        Problem::new(Code::TooLarge, detail).hint("make inner nodes nodes of the list, with an `id`")
                    );
                }
                OperandKind::Inline(Box::new(Node::parse(object, at, depth + 1)?))
            }
            Value::Object(object) => OperandKind::Literal(Literal::from_object(object)?),
            Value::Null => {
                let detail = "null is not a value";
                return Err(Problem::new(Code::BadArgument, detail).hint(FORMS));
            }
            value => OperandKind::Literal(Literal::from_json(value)?),
        };
        Ok(Self { at: at.into(), kind })
    }

    /// The JSON that parses to this operand.
    pub fn to_json(&self) -> Value {
        let indexed = |name: String, index: &Option<Index>| match index {
            Some(index) => json!(format!("{name}{index}")),
            None => json!(name),
        };
        match &self.kind {
            OperandKind::Literal(literal) => literal.to_json(),
            OperandKind::Node { id, part: None, index } => indexed(format!("${id}"), index),
            OperandKind::Node { id, part: Some(part), index } => indexed(format!("${id}.{part}"), index),
            OperandKind::Stored { name, key: None, index } => indexed(format!("@{name}"), index),
            OperandKind::Stored { name, key: Some(key), index } => indexed(format!("@{name}.{key}"), index),
            OperandKind::Site(site) => json!(site.to_string()),
            OperandKind::Weight { path, index } => indexed(format!("{WEIGHTS}{path}"), index),
            OperandKind::Inline(node) => node.to_json(),
        }
    }
}

/// What the names of weights begin with.
const WEIGHTS: &str = "weights.";

const FORMS: &str = "a value is a number, a list of numbers, \"$id\", \"@name\", a site such as \"layers.5.output[:, -1]\", \
                     or a node written in place";

fn parse_string(text: &str) -> Result<OperandKind> {
    match text.as_bytes().first() {
        Some(b'$') => {
            let (id, index) = split_index(&text[1..])?;
            let (id, part) = split_key(id);
            named(text, id, "node")?;
            Ok(OperandKind::Node { id: id.into(), part: part.map(Into::into), index })
        }
        Some(b'@') => {
            let (name, index) = split_index(&text[1..])?;
            let (name, key) = split_key(name);
            named(text, name, "tensor")?;
            Ok(OperandKind::Stored { name: name.into(), key: key.map(Into::into), index })
        }
        Some(_) if text.starts_with(WEIGHTS) => {
            let (path, rest) = SitePath::parse(&text[WEIGHTS.len()..])?;
            let index = if rest.is_empty() { None } else { Some(Index::parse(rest)?) };
            Ok(OperandKind::Weight { path, index })
        }
        Some(_) => SiteOperand::parse(text).map(OperandKind::Site),
        None => Err(Problem::new(Code::BadArgument, "an empty string is not a value").hint(FORMS)),
    }
}

/// `name` and `key` of `name.key`; a key may have dots of its own, a name may not.
pub fn split_key(name: &str) -> (&str, Option<&str>) {
    name.split_once('.').map_or((name, None), |(name, key)| (name, Some(key)))
}

fn split_index(text: &str) -> Result<(&str, Option<Index>)> {
    match text.find('[') {
        Some(bracket) => Ok((&text[..bracket], Some(Index::parse(&text[bracket..])?))),
        None => Ok((text, None)),
    }
}

fn named(text: &str, name: &str, what: &str) -> Result<()> {
    match name.is_empty() {
        true => Err(Problem::new(Code::BadArgument, format!("`{text}` names no {what}")).hint(FORMS)),
        false => Ok(()),
    }
}

impl SiteOperand {
    /// Parses `input/site[index]`, where the input and the index may be absent.
    pub fn parse(text: &str) -> Result<Self> {
        let before_index = &text[..text.find('[').unwrap_or(text.len())];
        let (input, rest) = match before_index.find('/') {
            Some(slash) => (Some(text[..slash].to_owned()), &text[slash + 1..]),
            None => (None, text),
        };
        let (path, rest) = SitePath::parse(rest)?;
        let index = match rest.is_empty() {
            true => None,
            false => Some(Index::parse(rest)?),
        };
        Ok(Self { input, path, index })
    }
}

impl std::fmt::Display for SiteOperand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(input) = &self.input {
            write!(f, "{input}/")?;
        }
        write!(f, "{}", self.path)?;
        self.index.as_ref().map_or(Ok(()), |index| write!(f, "{index}"))
    }
}

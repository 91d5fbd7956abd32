//! Reads nodes.

use serde_json::{Map, Value};

use super::{Action, Node, Steer};
use crate::fields::{Fields, wrong};
use crate::index::{Coord, Index, Item};
use crate::operand::{Operand, SiteOperand};
use crate::ops::{self, OpSpec};
use crate::problem::{Code, Problem, Result};
use crate::steps::Steps;

const STRUCTURAL: [&str; 8] = ["save", "set", "steer", "skip", "call", "project_on_vocab", "grad", "top_tokens"];

impl Node {
    /// Parses the node that stands at `at`, inside of `depth` others.
    ///
    /// # Errors
    /// Whatever is wrong with its form; pointers start at the node.
    pub fn parse(object: &Map<String, Value>, at: &str, depth: usize) -> Result<Self> {
        Parser { at, depth }.node(object)
    }
}

pub(super) struct Parser<'a> {
    at: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn node(&self, object: &Map<String, Value>) -> Result<Node> {
        let op = object.get("op").ok_or_else(|| Problem::new(Code::MissingField, "a node needs the field `op`"))?;
        let op = op.as_str().ok_or_else(|| wrong("op", "the name of an operation", op))?;
        let what = format!("`{op}`");
        let mut fields = Fields::new(&what, object);
        fields.get("op");
        let id = fields.text("id")?.map(String::from);
        if let Some(id) = id.as_deref().filter(|id| id.is_empty() || id.contains(['[', '$', '@', '.'])) {
            let problem = Problem::new(Code::BadArgument, format!("`{id}` cannot be an id")).under("id");
            return Err(problem.hint("an id is not empty and has no `[`, `.`, `$` or `@`"));
        }
        let action = match op {
            "save" => self.save(&mut fields)?,
            "set" => self.set(&mut fields)?,
            "steer" => self.steer(&mut fields)?,
            "skip" => self.skip(&mut fields)?,
            "project_on_vocab" => self.project(&mut fields)?,
            "top_tokens" => self.top_tokens(&mut fields)?,
            "call" => self.call(&mut fields)?,
            "grad" => self.grad(&mut fields)?,
            _ => match OpSpec::find(op) {
                Some(spec) => self.tensor_op(spec, &mut fields)?,
                None => {
                    let names = STRUCTURAL.into_iter().chain(ops::all().map(|spec| spec.name));
                    let problem = Problem::new(Code::UnknownOp, format!("there is no operation `{op}`"));
                    return Err(problem.suggest(op, names).under("op"));
                }
            },
        };
        let steps = fields.get("steps").map(Steps::parse).transpose()?;
        if steps.is_some() && self.depth > 0 {
            let problem = Problem::new(Code::BadArgument, "a node written in place acts when the one around it does");
            return Err(problem.hint("give `steps` to the node of the list").under("steps"));
        }
        fields.finish()?;
        Ok(Node { at: self.at.into(), id, steps, action })
    }

    pub(super) fn operand(&self, value: &Value, name: &str) -> Result<Operand> {
        let below = format!("/{name}");
        Operand::parse(value, &format!("{}{below}", self.at), self.depth).map_err(|problem| problem.below(&below))
    }

    fn save<'a>(&self, fields: &mut Fields<'a>) -> Result<Action> {
        let value = self.operand(fields.need("value")?, "value")?;
        let name = fields.text("as")?.map(String::from);
        let to = match fields.text("to")? {
            None => None,
            Some(to) => match to.strip_prefix('@').filter(|name| !name.is_empty() && !name.contains(['.', '['])) {
                Some(name) => Some(name.to_owned()),
                None => {
                    let detail = format!("`to` names a tensor of the store, such as \"@joy\", found {to:?}");
                    return Err(Problem::new(Code::BadArgument, detail).under("to"));
                }
            },
        };
        if name.is_none() && to.is_none() {
            let problem = Problem::new(Code::MissingField, "`save` needs `as`, the name of the result");
            return Err(problem.hint("or `to`, to keep it on the server"));
        }
        Ok(Action::Save { value, name, to })
    }

    fn set<'a>(&self, fields: &mut Fields<'a>) -> Result<Action> {
        let target = fields.need("target")?;
        let text =
            target.as_str().ok_or_else(|| wrong("target", "a site, such as \"layers.5.output[:, -1]\"", target))?;
        if text.starts_with(['$', '@']) {
            let problem = Problem::new(Code::BadArgument, format!("`{text}` cannot be written: values are immutable"));
            return Err(problem.hint("`target` is a site").under("target"));
        }
        let target = SiteOperand::parse(text).map_err(|problem| problem.under("target"))?;
        Ok(Action::Set { target, value: self.operand(fields.need("value")?, "value")? })
    }

    fn steer<'a>(&self, fields: &mut Fields<'a>) -> Result<Action> {
        let layers = integers("layers", fields.need("layers")?)?;
        if layers.is_empty() {
            return Err(Problem::new(Code::EmptyWrite, "`steer` with no layers touches nothing").under("layers"));
        }
        Ok(Action::Steer(Box::new(Steer {
            layers,
            vector: self.operand(fields.need("vector")?, "vector")?,
            factor: fields.get("factor").map(|value| self.operand(value, "factor")).transpose()?,
            tokens: fields.get("tokens").map(|value| places("tokens", value)).transpose()?,
            rows: fields.get("rows").map(|value| places("rows", value)).transpose()?,
            input: fields.text("input")?.map(String::from),
            site: fields.text("site")?.map(String::from),
        })))
    }

    fn skip<'a>(&self, fields: &mut Fields<'a>) -> Result<Action> {
        let given = fields.need("layers")?;
        let layers = match integers("layers", given)?[..] {
            [layer] if !given.is_array() => (layer, layer),
            [first, last] => (first, last),
            _ => return Err(wrong("layers", "one layer, or [first, last] inclusive", given)),
        };
        let with = fields.get("with").map(|value| self.operand(value, "with")).transpose()?;
        Ok(Action::Skip { layers, with, input: fields.text("input")?.map(String::from) })
    }

    /// The only argument of a module.
    fn only_arg<'a>(&self, fields: &mut Fields<'a>) -> Result<Operand> {
        let args = fields.need("args")?;
        match args.as_array().map(Vec::as_slice) {
            Some([value]) => self.operand(value, "args/0"),
            Some(_) => Err(wrong("args", "one value", args)),
            None => self.operand(args, "args"),
        }
    }

    fn call<'a>(&self, fields: &mut Fields<'a>) -> Result<Action> {
        let module = fields.need("module")?;
        let name = module.as_str().ok_or_else(|| wrong("module", "a module, such as \"layers.5.mlp\"", module))?;
        Ok(Action::Call { module: name.into(), value: self.only_arg(fields)? })
    }

    fn grad<'a>(&self, fields: &mut Fields<'a>) -> Result<Action> {
        let of = self.operand(fields.need("of")?, "of")?;
        let given = fields.need("wrt")?;
        let site = |value: &Value| match value.as_str().filter(|text| !text.starts_with(['$', '@'])) {
            Some(text) => SiteOperand::parse(text),
            None => Err(wrong("wrt", "a site, such as \"layers.5.output\", or a list of sites", value).at("")),
        };
        let wrt = match given {
            Value::Array(items) if items.is_empty() => return Err(wrong("wrt", "a site, or several", given)),
            Value::Array(items) => {
                let site = |(i, item)| site(item).map_err(|problem| problem.under(i).under("wrt"));
                items.iter().enumerate().map(site).collect::<Result<_>>()?
            }
            one => vec![site(one).map_err(|problem| problem.under("wrt"))?],
        };
        Ok(Action::Grad { of, wrt, listed: given.is_array() })
    }

    fn project<'a>(&self, fields: &mut Fields<'a>) -> Result<Action> {
        let value = self.only_arg(fields)?;
        Ok(Action::Project { value, output_transform: fields.flag("output_transform")?.unwrap_or(false) })
    }

    fn top_tokens<'a>(&self, fields: &mut Fields<'a>) -> Result<Action> {
        let value = self.operand(fields.need("value")?, "value")?;
        let k = fields.count("k")?.unwrap_or(5);
        let name = fields.need("as")?;
        let name = name.as_str().ok_or_else(|| wrong("as", "a string", name))?;
        Ok(Action::TopTokens { value, k, name: name.into() })
    }
}

/// One whole number or a list of them.
pub(super) fn integers(name: &str, value: &Value) -> Result<Vec<i64>> {
    let found = match value {
        Value::Array(items) => items.iter().map(Value::as_i64).collect(),
        value => value.as_i64().map(|value| vec![value]),
    };
    found.ok_or_else(|| wrong(name, "a whole number or a list of them", value))
}

/// Places on one axis: a number, a list of numbers and texts, or what could stand between the brackets of an index.
fn places(name: &str, value: &Value) -> Result<Item> {
    let forms = "a number, a list, or a string such as \"2:5\" or \"' France'\"";
    match value {
        Value::Number(_) => integers(name, value).map(|at| Item::Each(at.into_iter().map(Coord::Int).collect())),
        Value::Array(items) => {
            let coord = |item: &Value| match item {
                Value::String(text) => Some(Coord::Text(text.clone())),
                item => item.as_i64().map(Coord::Int),
            };
            let coords: Option<Vec<Coord>> = items.iter().map(coord).collect();
            coords.map(Item::Each).ok_or_else(|| wrong(name, forms, value))
        }
        Value::String(text) => {
            let mut index = Index::parse(&format!("[{text}]")).map_err(|problem| problem.under(name))?;
            match (index.0.pop(), index.0.is_empty()) {
                (Some(Item::At(at)), true) => Ok(Item::Each(vec![at])),
                (Some(Item::List(list)), true) => Ok(Item::Each(list)),
                (Some(item @ Item::Span { .. }), true) => Ok(item),
                _ => Err(wrong(name, forms, value)),
            }
        }
        _ => Err(wrong(name, forms, value)),
    }
}

//! Reads the arguments of tensor operations: by position, as PyTorch orders them, and by name.

use serde_json::Value;

use super::Action;
use super::parse::{Parser, integers};
use crate::dtype::DType;
use crate::fields::{Fields, wrong};
use crate::literal::non_finite;
use crate::operand::Operand;
use crate::ops::{Attr, Kind, OpSpec, Outputs, Param};
use crate::problem::{Code, Problem, Result};

/// What is known of an operation's arguments so far.
struct Found {
    spec: &'static OpSpec,
    args: Vec<(&'static str, Operand)>,
    attrs: Vec<(&'static str, Attr)>,
}

impl Parser<'_> {
    /// Positional arguments fill the parameters in order; fields fill them by name.
    pub(super) fn tensor_op<'a>(&self, spec: &'static OpSpec, fields: &mut Fields<'a>) -> Result<Action> {
        let positional = match fields.get("args") {
            None => &[][..],
            Some(Value::Array(args)) => args.as_slice(),
            Some(value) => return Err(wrong("args", "a list of values", value)),
        };
        let form = form(spec, positional);
        let mut found = Found { spec, args: Vec::new(), attrs: Vec::new() };
        self.positional(&mut found, &form, positional)?;
        for param in spec.params {
            let by_alias = param.alias().and_then(|alias| Some((alias, fields.get(alias)?)));
            let by_name = fields.get(param.name).map(|value| (param.name, value));
            if let (Some((name, _)), true) = (by_alias.or(by_name), by_name.is_some() && by_alias.is_some()) {
                return Err(twice(param, "by both of its names").under(name));
            }
            if let Some((name, value)) = by_name.or(by_alias) {
                if found.has(param) {
                    return Err(twice(param, "in `args` and by its name").under(name));
                }
                self.named(&mut found, param, name, value)?;
            }
            if param.default.is_none() && !found.has(param) {
                let detail = format!("`{}` needs `{}`", spec.name, param.name);
                return Err(Problem::new(Code::MissingField, detail).hint(spec.signature()));
            }
        }
        let out = fields.get("out").map(|value| out(spec, value)).transpose()?;
        let Found { mut args, mut attrs, .. } = found;
        let place = |name: &str| spec.params.iter().position(|param| param.name == name);
        args.sort_by_key(|(name, _)| place(name));
        attrs.sort_by_key(|(name, _)| place(name));
        Ok(Action::Op { spec, args, attrs, out })
    }

    fn positional(&self, found: &mut Found, form: &[&'static Param], values: &[Value]) -> Result<()> {
        let mut at = 0;
        for (i, param) in form.iter().enumerate() {
            let Some(value) = values.get(at) else { return Ok(()) };
            let last = i + 1 == form.len();
            match param.kind {
                Kind::Ints if last && !value.is_array() => {
                    found.attrs.push((param.name, Attr::Ints(one_by_one(param, values, at)?)));
                    return Ok(());
                }
                Kind::Tensors => match listed(value, &values[at + 1..], &form[i + 1..]) {
                    Some(list) => self.tensors(found, param, list, &format!("args/{at}"), 0)?,
                    None => return self.tensors(found, param, values, "args", at),
                },
                _ => self.one(found, param, value, &format!("args/{at}"))?,
            }
            at += 1;
        }
        if at < values.len() {
            let detail =
                format!("`{}` takes {} arguments by position, found {}", found.spec.name, form.len(), values.len());
            return Err(Problem::new(Code::BadArgument, detail).hint(found.spec.signature()).under(at).under("args"));
        }
        Ok(())
    }

    fn named(&self, found: &mut Found, param: &'static Param, name: &str, value: &Value) -> Result<()> {
        match (param.kind, value) {
            (Kind::Tensors, Value::Array(list)) => self.tensors(found, param, list, name, 0),
            (Kind::Tensors, _) => Err(wrong(name, "a list of values", value)),
            _ => self.one(found, param, value, name),
        }
    }

    /// The values of a list, from the one numbered `first` on.
    fn tensors(
        &self,
        found: &mut Found,
        param: &'static Param,
        list: &[Value],
        place: &str,
        first: usize,
    ) -> Result<()> {
        if list.len() <= first {
            let detail = format!("`{}` needs at least one value in `{}`", found.spec.name, param.name);
            return Err(Problem::new(Code::MissingField, detail).at(format!("/{place}")));
        }
        for (i, value) in list.iter().enumerate().skip(first) {
            found.args.push((param.name, self.operand(value, &format!("{place}/{i}"))?));
        }
        Ok(())
    }

    fn one(&self, found: &mut Found, param: &'static Param, value: &Value, place: &str) -> Result<()> {
        match param.kind {
            // PyTorch's None stands for an argument that was left out
            _ if value.is_null() && param.default.is_some() => {}
            Kind::Tensor => found.args.push((param.name, self.operand(value, place)?)),
            _ => {
                let attr = attr(param, value).map_err(|problem| problem.at(format!("/{place}")))?;
                found.attrs.push((param.name, attr));
            }
        }
        Ok(())
    }
}

impl Found {
    fn has(&self, param: &Param) -> bool {
        self.args.iter().any(|(name, _)| *name == param.name) || self.attrs.iter().any(|(name, _)| *name == param.name)
    }
}

fn twice(param: &Param, how: &str) -> Problem {
    Problem::new(Code::BadArgument, format!("`{}` is given twice: {how}", param.name))
}

/// The parameters that positional arguments fill: of several ways, the first that these values fit.
fn form(spec: &'static OpSpec, values: &[Value]) -> Vec<&'static Param> {
    let named = |form: &&[&str]| -> Vec<&'static Param> { form.iter().filter_map(|name| spec.param(name)).collect() };
    let all_fit = |form: &Vec<&'static Param>| {
        values.len() <= form.len() && values.iter().zip(form).all(|(value, param)| fits(param, value))
    };
    let forms: Vec<Vec<&'static Param>> = spec.forms.iter().map(named).collect();
    match forms.iter().find(|form| all_fit(form)).or(forms.first()) {
        Some(form) => form.clone(),
        None => spec.params.iter().filter(|param| !param.keyword).collect(),
    }
}

fn fits(param: &Param, value: &Value) -> bool {
    match param.kind {
        Kind::Tensor | Kind::Tensors => true,
        _ => value.is_null() || attr(param, value).is_ok(),
    }
}

/// The values of the list that stands for several operands, if it is one: what is no list of plain numbers, or what arguments
/// follow that fit the parameters after it. Where no parameters follow, a list of plain numbers is an operand itself.
fn listed<'a>(value: &'a Value, rest: &[Value], params: &[&'static Param]) -> Option<&'a [Value]> {
    let list = value.as_array()?;
    let rest_fits = rest.len() <= params.len() && rest.iter().zip(params).all(|(value, param)| fits(param, value));
    let named = |item: &Value| match item {
        Value::String(text) => non_finite(text).is_none(),
        item => item.is_object(),
    };
    ((rest_fits && !params.is_empty()) || list.iter().any(named)).then_some(list)
}

/// Whole numbers that follow each other as arguments.
fn one_by_one(param: &Param, values: &[Value], from: usize) -> Result<Vec<i64>> {
    let int = |(i, value): (usize, &Value)| {
        value
            .as_i64()
            .ok_or_else(|| wrong(param.name, "whole numbers or a list of them", value).at(format!("/args/{i}")))
    };
    values.iter().enumerate().skip(from).map(int).collect()
}

/// The output that a node stands for.
fn out(spec: &OpSpec, value: &Value) -> Result<String> {
    let out = match value {
        Value::String(out) => out.clone(),
        value => value
            .as_u64()
            .map(|out| out.to_string())
            .ok_or_else(|| wrong("out", "the name or number of an output", value))?,
    };
    let problem = || Problem::new(Code::BadArgument, format!("`{}` has no output `{out}`", spec.name)).under("out");
    match spec.outputs {
        Outputs::Named(names)
            if !names.contains(&out.as_str()) && out.parse().is_ok_and(|out: usize| out < names.len()) =>
        {
            Ok(out)
        }
        Outputs::Named(names) if !names.contains(&out.as_str()) => Err(problem().suggest(&out, names.iter().copied())),
        Outputs::Numbered if out.parse::<u32>().is_err() => Err(problem().hint("its outputs are numbered from 0")),
        Outputs::One => Err(problem().hint("it has one: leave `out` out")),
        _ => Ok(out),
    }
}

fn attr(param: &Param, value: &Value) -> Result<Attr> {
    let need = |found: Option<Attr>, expected: &str| found.ok_or_else(|| wrong(param.name, expected, value));
    let int = || value.as_i64().map(Attr::Int);
    match param.kind {
        Kind::Axes => integers(param.name, value).map(Attr::Axes),
        Kind::Axis => need(value.as_i64().map(|axis| Attr::Axes(vec![axis])), "the number of an axis"),
        Kind::Int => need(int(), "a whole number"),
        Kind::Ints => integers(param.name, value).map(Attr::Ints),
        Kind::Sections => match int() {
            Some(int) => Ok(int),
            None => integers(param.name, value).map(Attr::Ints),
        },
        Kind::Number => need(number(value), "a number"),
        Kind::Order if value.as_str() == Some("fro") => Ok(Attr::Word("fro".into())),
        Kind::Order => need(number(value), "a number, \"Infinity\" or \"fro\""),
        Kind::Scalar => need(value.as_bool().map(Attr::Flag).or_else(|| number(value)), "a number, true or false"),
        Kind::Flag => need(value.as_bool().map(Attr::Flag), "true or false"),
        Kind::Word(words) => {
            let word = value.as_str().filter(|word| words.contains(word));
            need(word.map(|word| Attr::Word(word.into())), &format!("one of {}", words.join(", ")))
        }
        Kind::Type => match value.as_str().map(|name| (name, DType::from_name(name))) {
            Some((_, Some(dtype))) => Ok(Attr::Type(dtype)),
            Some((name, None)) => {
                let problem = Problem::new(Code::DtypeMismatch, format!("there is no dtype `{name}`"));
                Err(problem.suggest(name, DType::ALL.map(DType::name)))
            }
            None => Err(wrong(param.name, "the name of a type, such as \"f32\"", value)),
        },
        Kind::Text => need(value.as_str().map(|text| Attr::Text(text.into())), "a text"),
        Kind::Tensor | Kind::Tensors => Err(wrong(param.name, "a value", value)),
    }
}

/// A plain number, which may be infinite or none.
fn number(value: &Value) -> Option<Attr> {
    match value {
        Value::String(text) => non_finite(text).map(Attr::Number),
        value => value.as_i64().map(Attr::Int).or_else(|| value.as_f64().map(Attr::Number)),
    }
}

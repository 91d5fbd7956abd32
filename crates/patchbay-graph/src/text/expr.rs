//! Values: what can stand on the right of `=`, between the brackets of a call, behind a field's name.

use serde_json::Value;
use winnow::Parser;
use winnow::combinator::{not, opt, peek, terminated};
use winnow::stream::Stream;

use super::scan::{
    Input, Parsed, accept, ahead, expected, fault, follows, here, name, number, quoted, space, too_deep, within, word,
};
use super::words::{COMPARISON, MAX_NESTED, MINUS, POWER, Role, SIGNS, Sign, constant, positional, role, role_at};
use crate::problem::{Code, Problem};

/// A value as it was written.
#[derive(Clone, Debug)]
pub(super) struct Expr<'a> {
    /// Where problems with it are shown, in bytes: its first character, or its sign.
    pub(super) at: usize,
    /// How deep lists and objects stand in each other.
    pub(super) height: usize,
    /// What it is.
    pub(super) kind: Kind<'a>,
}

/// The forms of a value; a node is an object with the field `op`.
#[derive(Clone, Debug)]
pub(super) enum Kind<'a> {
    /// What is the same in JSON.
    Json(Value),
    /// A name without quotes, which may be the name of a node.
    Name(&'a str),
    /// A list that is not the same in JSON.
    List(Vec<Expr<'a>>),
    /// An object.
    Object(Vec<Field<'a>>),
}

/// A field of an object.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    /// Where its name stands.
    pub(super) at: usize,
    /// Its name.
    pub(super) name: String,
    /// What it holds.
    pub(super) value: Expr<'a>,
}

const FORMS: &str = "a value is a number, a list, `$id`, `@name`, a site such as `layers.5.output[:, -1]`, \
                     or a call such as `softmax(x, dim=-1)`";

impl<'a> Expr<'a> {
    /// What is the same in JSON.
    pub(super) fn json(at: usize, value: impl Into<Value>) -> Self {
        Self { at, height: 0, kind: Kind::Json(value.into()) }
    }

    /// A list.
    fn list(at: usize, items: Vec<Self>) -> Parsed<Self> {
        let height = grown(at, items.iter().map(|item| item.height))?;
        if !items.iter().all(|item| matches!(item.kind, Kind::Json(_))) {
            return Ok(Self { at, height, kind: Kind::List(items) });
        }
        let json = |item: Self| match item.kind {
            Kind::Json(value) => Some(value),
            _ => None,
        };
        Ok(Self { at, height, kind: Kind::Json(items.into_iter().filter_map(json).collect()) })
    }

    /// An object.
    pub(super) fn object(at: usize, fields: Vec<Field<'a>>) -> Parsed<Self> {
        let height = grown(at, fields.iter().map(|field| field.value.height))?;
        Ok(Self { at, height, kind: Kind::Object(fields) })
    }

    /// A node with these arguments.
    pub(super) fn node(at: usize, op: &str, args: Vec<Self>) -> Parsed<Self> {
        let args = Self::list(at, args)?;
        Self::object(at, vec![Field::new(at, "op", Self::json(at, op)), Field::new(at, "args", args)])
    }
}

impl<'a> Field<'a> {
    /// A field.
    pub(super) fn new(at: usize, name: &str, value: Expr<'a>) -> Self {
        Self { at, name: name.into(), value }
    }

    /// A field of an operation: where a word is wanted, a name is no more than that.
    pub(super) fn of(op: &str, at: usize, name: &str, value: Expr<'a>) -> Self {
        Self::new(at, name, verbatim(value, role(op, name)))
    }
}

/// The value, where a name stands for itself if a word is wanted.
fn verbatim(value: Expr<'_>, role: Role) -> Expr<'_> {
    match value.kind {
        Kind::Name(name) if role == Role::Word => Expr::json(value.at, name),
        _ => value,
    }
}

fn grown(at: usize, heights: impl Iterator<Item = usize>) -> Parsed<usize> {
    match heights.max().unwrap_or(0) + 1 {
        height if height > MAX_NESTED => Err(too_deep(at)),
        height => Ok(height),
    }
}

/// A value. Signs wait on a stack of their own until what follows binds no tighter, so that long chains cost no recursion.
pub(super) fn expr<'a>(input: &mut Input<'a>) -> Parsed<Expr<'a>> {
    let (mut values, mut signs) = (Vec::new(), Vec::<(usize, &Sign)>::new());
    loop {
        space(input)?;
        let at = here(input);
        if signs.len() >= MAX_NESTED {
            return Err(too_deep(at));
        }
        if accept(input, MINUS.sign) {
            signs.push((at, &MINUS));
            continue;
        }
        values.push(operand(input)?);
        space(input)?;
        let at = here(input);
        let found = SIGNS.iter().find(|sign| accept(input, sign.sign));
        while let Some((at, sign)) = signs.pop_if(|(_, sign)| found.is_none_or(|next| binds_first(sign, next))) {
            apply(at, sign, &mut values)?;
        }
        let Some(sign) = found else { break };
        if sign.power == COMPARISON && signs.last().is_some_and(|(_, sign)| sign.power == COMPARISON) {
            let problem = Problem::new(Code::Malformed, "comparisons do not chain");
            return Err(fault(at, problem.hint("put one of them in brackets")));
        }
        signs.push((at, sign));
    }
    values.pop().ok_or_else(|| fault(here(input), expected(input, "a value")))
}

/// Whether a sign takes the value between it and the next sign.
fn binds_first(sign: &Sign, next: &Sign) -> bool {
    sign.power > next.power || sign.power == next.power && ![POWER, COMPARISON].contains(&next.power)
}

/// Puts a sign on the last values.
fn apply<'a>(at: usize, sign: &Sign, values: &mut Vec<Expr<'a>>) -> Parsed<()> {
    let Some(right) = values.pop() else { return Ok(()) };
    let made = if sign.op == MINUS.op {
        match negative(&right) {
            Some(number) => Expr::json(at, number),
            None => Expr::node(at, sign.op, vec![right])?,
        }
    } else {
        let left = values.pop();
        Expr::node(at, sign.op, left.into_iter().chain([right]).collect())?
    };
    values.push(made);
    Ok(())
}

/// The number behind a minus, which belongs to it.
fn negative(value: &Expr<'_>) -> Option<Value> {
    match &value.kind {
        Kind::Json(Value::Number(number)) => serde_json::from_str(&format!("-{number}")).ok(),
        Kind::Json(Value::String(text)) if text == "Infinity" => Some("-Infinity".into()),
        _ => None,
    }
}

fn operand<'a>(input: &mut Input<'a>) -> Parsed<Expr<'a>> {
    let at = here(input);
    match ahead(input).chars().next() {
        Some('0'..='9') => number(input).map(|number| Expr::json(at, Value::Number(number))),
        Some('"' | '\'') => quoted(input).map(|text| Expr::json(at, text)),
        Some('(') => {
            input.next_slice(1);
            within(input, at, ")", expr)
        }
        Some('[') => {
            input.next_slice(1);
            let items = within(input, at, "]", |input| items(input, "]"))?;
            Expr::list(at, items)
        }
        _ => match opt(name).parse_next(input)? {
            Some(name) => named(input, at, name),
            None if accept(input, "{") => {
                let fields = within(input, at, "}", fields)?;
                Expr::object(at, fields)
            }
            None => Err(fault(at, expected(input, "a value").hint(FORMS))),
        },
    }
}

/// A call, a constant, or a name.
fn named<'a>(input: &mut Input<'a>, at: usize, name: &'a str) -> Parsed<Expr<'a>> {
    if follows(input, "(") {
        if name.contains(['.', '[', '/', '$', '@']) {
            let problem = Problem::new(Code::UnknownOp, format!("`{name}` is not the name of an operation"));
            return Err(fault(at, problem.hint("a module is applied with `call`")));
        }
        return call(input, at, name);
    }
    match (constant(name), name) {
        (Some(value), _) => Ok(Expr::json(at, value)),
        (None, "save" | "as" | "to") => {
            let problem = Problem::new(Code::Malformed, format!("expected a value, found the word `{name}`"));
            Err(fault(at, problem.hint(FORMS)))
        }
        (None, _) => Ok(Expr { at, height: 0, kind: Kind::Name(name) }),
    }
}

/// `softmax(x, dim=-1)`, `tensor([1, 2], dtype="f32")`.
fn call<'a>(input: &mut Input<'a>, at: usize, op: &str) -> Parsed<Expr<'a>> {
    let open = here(input);
    input.next_slice(1);
    let arguments = within(input, open, ")", arguments)?;
    let (named, values): (Vec<_>, Vec<_>) = arguments.into_iter().partition(|(name, _)| name.is_some());
    let values: Vec<Expr<'a>> = values.into_iter().map(|(_, value)| value).collect();
    let mut made = Vec::with_capacity(named.len() + 2);
    let places = if op == "tensor" { Some(&["data"][..]) } else { positional(op) };
    if op != "tensor" {
        made.push(Field::new(at, "op", Expr::json(at, op)));
    }
    match places {
        Some(places) if values.len() > places.len() => {
            let detail = format!("`{op}` takes {} in its brackets without a name", places.join(", "));
            let problem =
                Problem::new(Code::BadArgument, detail).hint(format!("write the rest by name: `{op}(…, k=3)`"));
            return Err(fault(values[places.len()].at, problem));
        }
        Some(places) => {
            made.extend(places.iter().zip(values).map(|(place, value)| Field::of(op, value.at, place, value)));
        }
        None if values.is_empty() => {}
        None => {
            let value = |(place, value)| verbatim(value, role_at(op, place));
            let args = Expr::list(at, values.into_iter().enumerate().map(value).collect())?;
            made.push(Field::new(at, "args", args));
        }
    }
    made.extend(named.into_iter().filter_map(|(key, value)| key.map(|(at, key)| Field::of(op, at, key, value))));
    Expr::object(at, made)
}

type Argument<'a> = (Option<(usize, &'a str)>, Expr<'a>);

/// What stands between a call's brackets: values, then `name=value`.
fn arguments<'a>(input: &mut Input<'a>) -> Parsed<Vec<Argument<'a>>> {
    let mut found = Vec::<Argument<'a>>::new();
    while !follows(input, ")") {
        let at = here(input);
        let key = field_name(input)?;
        if key.is_none() && found.last().is_some_and(|(key, _)| key.is_some()) {
            let problem = Problem::new(Code::Malformed, "a value without a name stands behind one with a name");
            return Err(fault(at, problem.hint("values come first, then `name=value`")));
        }
        found.push((key.map(|key| (at, key)), expr(input)?));
        space(input)?;
        if !accept(input, ",") {
            break;
        }
        space(input)?;
    }
    Ok(found)
}

/// `name =`, where no second `=` follows.
pub(super) fn field_name<'a>(input: &mut Input<'a>) -> Parsed<Option<&'a str>> {
    let start = input.checkpoint();
    let found = opt(terminated(word, (space, '=', peek(not('='))))).parse_next(input)?;
    if found.is_none() {
        input.reset(&start);
    }
    Ok(found)
}

/// Values with commas between them.
fn items<'a>(input: &mut Input<'a>, close: &str) -> Parsed<Vec<Expr<'a>>> {
    let mut found = Vec::new();
    while !follows(input, close) {
        found.push(expr(input)?);
        space(input)?;
        if !accept(input, ",") {
            break;
        }
        space(input)?;
    }
    Ok(found)
}

/// `"key": value`, with commas between them.
fn fields<'a>(input: &mut Input<'a>) -> Parsed<Vec<Field<'a>>> {
    let mut found = Vec::new();
    while !follows(input, "}") {
        let at = here(input);
        let key = match follows(input, "\"") || follows(input, "'") {
            true => quoted(input)?,
            false => match opt(word).parse_next(input)? {
                Some(key) => key.into(),
                None => return Err(fault(at, expected(input, "the name of a field"))),
            },
        };
        space(input)?;
        if !accept(input, ":") {
            return Err(fault(here(input), expected(input, "`:`")));
        }
        found.push(Field::new(at, &key, expr(input)?));
        space(input)?;
        if !accept(input, ",") {
            break;
        }
        space(input)?;
    }
    Ok(found)
}

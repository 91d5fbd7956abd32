//! Lines: `save … as x`, `p = …`, `site = …`, `site += …`, `steer field=value`, and calls alone.

use winnow::Parser;
use winnow::combinator::{alt, opt};
use winnow::stream::Stream;

use super::expr::{Expr, Field, Kind, expr, field_name};
use super::scan::{Input, Parsed, ahead, expected, fault, follows, here, label, name, quote, quoted, space, word};
use super::words::{SIGNS, is_taken};
use crate::path::is_site_word;
use crate::problem::{Code, Problem};

/// One node, and the plain word by which other lines may call its value.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// The node.
    pub(super) node: Expr<'a>,
    /// The name bound by `name = …`.
    pub(super) bound: Option<&'a str>,
}

/// Every line of a text. The input's last line may lack its end.
pub(super) fn lines<'a>(input: &mut Input<'a>) -> Parsed<Vec<Line<'a>>> {
    let mut found = Vec::new();
    loop {
        // between lines, a line's end is space
        input.state = 1;
        space(input)?;
        input.state = 0;
        if ahead(input).is_empty() {
            return Ok(found);
        }
        found.push(line(input)?);
        end(input)?;
    }
}

/// A line ends here.
fn end(input: &Input<'_>) -> Parsed<()> {
    let hint = match ahead(input).as_bytes().first() {
        None | Some(b'\n') => return Ok(()),
        Some(b'[') => "an index stands directly behind a name; give the value a name first: `x = …`, then `x[0]`",
        Some(b'@') => "`@` begins the name of a tensor; the matrix product is `matmul(a, b)`",
        Some(b',') => "fields have spaces between them: `steer layers=[5, 10] vector=@joy`",
        Some(b':') => "a slice in a field is quoted: `tokens=\"2:5\"`",
        Some(b'%' | b'/' | b'&' | b'|' | b'^' | b'!' | b'=') => {
            "the signs are + - * / ** == != < <= > >=, all else is a call such as `maximum(a, b)`"
        }
        _ => "a line is a node: `save logits[:, -1] as x`, `p = softmax(x, -1)`, `layers.5.output[:, -1] += @joy`",
    };
    Err(fault(here(input), expected(input, "the end of the line").hint(hint)))
}

fn line<'a>(input: &mut Input<'a>) -> Parsed<Line<'a>> {
    let at = here(input);
    if let Some(op) = command(input)? {
        return rest(input, at, vec![Field::new(at, "op", Expr::json(at, op))]).map(alone);
    }
    if opt(word.verify(|word: &str| word == "save")).parse_next(input)?.is_some() {
        let value = expr(input)?;
        return rest(
            input,
            at,
            vec![Field::new(at, "op", Expr::json(at, "save")), Field::new(value.at, "value", value)],
        )
        .map(alone);
    }
    let start = input.checkpoint();
    if let Some(target) = target(input)? {
        space(input)?;
        let sign = here(input);
        if let Some(op) = assignment(input) {
            return match (op, target) {
                (None, Target::Id(id)) => bind(input, at, id),
                (_, Target::Site(target)) => set(input, at, target, sign, op),
                (Some(_), Target::Id(id)) => {
                    let problem =
                        Problem::new(Code::BadArgument, format!("`{id}` cannot be written: values are immutable"));
                    Err(fault(at, problem.hint("give the new value a name of its own")))
                }
            };
        }
        input.reset(&start);
    }
    let value = expr(input)?;
    match value.kind {
        Kind::Object(fields) => rest(input, value.at, fields).map(alone),
        _ => {
            end(input)?;
            let problem = Problem::new(Code::Malformed, "a value alone on a line does nothing");
            Err(fault(at, problem.hint("`save … as x` returns it")))
        }
    }
}

fn alone(node: Expr<'_>) -> Line<'_> {
    Line { node, bound: None }
}

/// The operation of `steer layers=[5] vector=@joy`, if that is what stands here.
fn command<'a>(input: &mut Input<'a>) -> Parsed<Option<&'a str>> {
    let start = input.checkpoint();
    let op = opt(word).parse_next(input)?;
    if op.is_some() && ahead(input).starts_with([' ', '\t']) {
        space(input)?;
        let fields = input.checkpoint();
        if field_name(input)?.is_some() {
            input.reset(&fields);
            return Ok(op);
        }
    }
    input.reset(&start);
    Ok(None)
}

/// What stands on the left of `=`.
#[derive(Debug)]
enum Target<'a> {
    /// A name for the value: the name as the JSON has it, and whether it is a plain word.
    Id(Id<'a>),
    /// A site that is written.
    Site(Expr<'a>),
}

#[derive(Debug)]
struct Id<'a> {
    name: String,
    plain: Option<&'a str>,
}

impl std::fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

fn target<'a>(input: &mut Input<'a>) -> Parsed<Option<Target<'a>>> {
    let at = here(input);
    if follows(input, "$\"") || follows(input, "$'") {
        input.next_slice(1);
        let name = quoted(input)?;
        return Ok(Some(Target::Id(Id { name, plain: None })));
    }
    let target = match ahead(input).starts_with(['"', '\'']) {
        true => Target::Site(Expr::json(at, quoted(input)?)),
        false => match opt(name).parse_next(input)? {
            None => return Ok(None),
            Some(found) => match found.strip_prefix('$') {
                Some(id) if is_plain(id) => Target::Id(Id { name: id.into(), plain: None }),
                None if is_plain(found) && !found.contains('{') && !is_site_word(found) => {
                    Target::Id(Id { name: found.into(), plain: Some(found) })
                }
                _ => Target::Site(Expr { at, height: 0, kind: Kind::Name(found) }),
            },
        },
    };
    Ok(Some(target))
}

fn is_plain(name: &str) -> bool {
    !name.contains(['.', '[', '/', '@'])
}

/// `=`, or `+=` and its kind with the operation that it does.
fn assignment(input: &mut Input<'_>) -> Option<Option<&'static str>> {
    if follows(input, "=") && !follows(input, "==") {
        input.next_slice(1);
        return Some(None);
    }
    let sign = SIGNS.iter().find(|sign| sign.assigns() && follows(input, sign.sign))?;
    follows(input, &format!("{}=", sign.sign)).then(|| {
        input.next_slice(sign.sign.len() + 1);
        Some(sign.op)
    })
}

/// `p = softmax(x, -1)`
fn bind<'a>(input: &mut Input<'a>, at: usize, id: Id<'a>) -> Parsed<Line<'a>> {
    if let Some(word) = id.plain.filter(|word| is_taken(word)) {
        let problem = Problem::new(Code::BadArgument, format!("`{word}` means something else"));
        return Err(fault(
            at,
            problem.hint(format!("take another name, or write `${word}` here and wherever it is used")),
        ));
    }
    space(input)?;
    let begin = here(input);
    let value = expr(input)?;
    let fields = match value.kind {
        Kind::Object(fields) if fields.iter().any(|field| field.name == "op") => fields,
        // a name for a value that no operation makes
        kind => {
            let value = Expr { kind, ..value };
            let args = Expr { at: begin, height: value.height + 1, kind: Kind::List(vec![value]) };
            let fields = vec![Field::new(begin, "op", Expr::json(begin, "clone")), Field::new(begin, "args", args)];
            return bound_line(input, at, id, begin, fields);
        }
    };
    bound_line(input, at, id, value.at, fields)
}

fn bound_line<'a>(
    input: &mut Input<'a>,
    at: usize,
    id: Id<'a>,
    value: usize,
    mut fields: Vec<Field<'a>>,
) -> Parsed<Line<'a>> {
    fields.push(Field::new(at, "id", Expr::json(at, id.name)));
    Ok(Line { node: rest(input, value, fields)?, bound: id.plain })
}

/// `layers.5.output[:, -1] = x`, `layers.5.output[:, -1] += x`
fn set<'a>(input: &mut Input<'a>, at: usize, target: Expr<'a>, sign: usize, op: Option<&str>) -> Parsed<Line<'a>> {
    let value = expr(input)?;
    let value = match op {
        None => value,
        Some(op) => Expr::node(sign, op, vec![target.clone(), value])?,
    };
    let op = Field::new(at, "op", Expr::json(at, "set"));
    rest(input, at, vec![op, Field::new(at, "target", target), Field::new(value.at, "value", value)]).map(alone)
}

/// What may follow on every line: `as x`, `to @x`, `field=value`.
fn rest<'a>(input: &mut Input<'a>, at: usize, mut fields: Vec<Field<'a>>) -> Parsed<Expr<'a>> {
    let op = fields.iter().find(|field| field.name == "op").and_then(|field| match &field.value.kind {
        Kind::Json(op) => op.as_str().map(String::from),
        _ => None,
    });
    let op = op.unwrap_or_default();
    loop {
        space(input)?;
        let begin = here(input);
        if let Some(field) = field_name(input)? {
            fields.push(Field::of(&op, begin, field, expr(input)?));
            continue;
        }
        let start = input.checkpoint();
        let field = opt(word).parse_next(input)?;
        match field {
            Some("as") => fields.push(Field::new(begin, "as", result(input)?)),
            Some("to") => fields.push(Field::new(begin, "to", stored(input)?)),
            _ => {
                input.reset(&start);
                return Expr::object(at, fields);
            }
        }
    }
}

/// The name behind `as`.
fn result<'a>(input: &mut Input<'a>) -> Parsed<Expr<'a>> {
    space(input)?;
    let at = here(input);
    match opt(alt((quoted, label.map(String::from)))).parse_next(input)? {
        Some(name) => Ok(Expr::json(at, name)),
        None => {
            let hint = format!("other names are quoted: `save … as {}`", quote("a name"));
            Err(fault(at, expected(input, "the name of a result").hint(hint)))
        }
    }
}

/// The tensor behind `to`.
fn stored<'a>(input: &mut Input<'a>) -> Parsed<Expr<'a>> {
    space(input)?;
    let at = here(input);
    let stored = name.verify(|name: &str| name.starts_with('@')).map(String::from);
    match opt(alt((quoted, stored))).parse_next(input)? {
        Some(name) => Ok(Expr::json(at, name)),
        None => {
            Err(fault(at, expected(input, "a tensor's name").hint("`save … to @joy` keeps the value on the server")))
        }
    }
}

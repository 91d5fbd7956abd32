//! From what was written to the JSON of the nodes, and where each part of it stands.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::expr::{Expr, Field, Kind};
use super::scan::{Parsed, fault};
use super::spans::{Below, Span};
use super::statement::Line;
use crate::path::is_site_word;
use crate::problem::{Code, Problem};

/// The nodes, and where they stand.
pub(super) fn lower(lines: Vec<Line<'_>>) -> Parsed<(Vec<Value>, Span)> {
    let bound: HashSet<&str> = lines.iter().filter_map(|line| line.bound).collect();
    let (mut nodes, mut spans) = (Vec::with_capacity(lines.len()), Vec::with_capacity(lines.len()));
    for line in lines {
        let (node, span) = value(line.node, &bound)?;
        nodes.push(node);
        spans.push(span);
    }
    Ok((nodes, Span { at: 0, below: Below::Items(spans) }))
}

fn value(expr: Expr<'_>, bound: &HashSet<&str>) -> Parsed<(Value, Span)> {
    let at = expr.at;
    let (value, below) = match expr.kind {
        Kind::Json(value) => (value, Below::Nothing),
        Kind::Name(name) => (resolve(name, bound, at)?.into(), Below::Nothing),
        Kind::List(items) => {
            let (mut values, mut spans) = (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
            for item in items {
                let (item, span) = value(item, bound)?;
                values.push(item);
                spans.push(span);
            }
            (Value::Array(values), Below::Items(spans))
        }
        Kind::Object(fields) => object(fields, bound)?,
    };
    Ok((value, Span { at, below }))
}

fn object(fields: Vec<Field<'_>>, bound: &HashSet<&str>) -> Parsed<(Value, Below)> {
    let (mut object, mut spans) = (Map::with_capacity(fields.len()), Vec::with_capacity(fields.len()));
    for field in fields {
        let (value, span) = value(field.value, bound)?;
        if object.contains_key(&field.name) {
            let problem = Problem::new(Code::Malformed, format!("`{}` is given twice", field.name));
            return Err(fault(field.at, problem.hint("leave one of them out")));
        }
        object.insert(field.name.clone(), value);
        spans.push((field.name, field.at, span));
    }
    Ok((Value::Object(object), Below::Fields(spans)))
}

/// The string that a name is in the JSON: a node's name gets its `$`.
fn resolve(name: &str, bound: &HashSet<&str>, at: usize) -> Parsed<String> {
    let (head, rest) = name.split_at(name.find(['.', '[', '/']).unwrap_or(name.len()));
    let is_bound = bound.contains(head);
    match rest.strip_prefix('/') {
        Some(divisor) if is_bound || is_site_word(head) => {
            let detail = format!("`{head}` is no input, and `/` without spaces stands behind the name of one");
            let problem = Problem::new(Code::UnknownInput, detail);
            Err(fault(at, problem.hint(format!("with spaces it divides: `{head} / {divisor}`"))))
        }
        _ if is_bound => Ok(format!("${name}")),
        _ => Ok(name.into()),
    }
}

/// Whether the name would be read as this string and nothing else.
pub(super) fn reads_as(name: &str, string: &str, bound: &HashSet<&str>) -> bool {
    resolve(name, bound, 0).is_ok_and(|found| found == string)
}

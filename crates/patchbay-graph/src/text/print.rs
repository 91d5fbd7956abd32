//! From the JSON of nodes to the text form.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::lower::reads_as;
use super::scan::{is_label, is_name, is_word, quote};
use super::words::{ATOM, COMMANDS, MAX_NESTED, MINUS, Role, Sign, constant, is_taken, positional, role, role_at};
use crate::path::is_site_word;
use crate::problem::{Code, Problem, Result};

/// Writes nodes; `bound` holds the ids that may stand without their `$`.
struct Printer<'a> {
    bound: HashSet<&'a str>,
    out: String,
}

/// The text form of nodes, one a line.
pub(super) fn print(nodes: &[Value]) -> Result<String> {
    let bound = nodes.iter().filter_map(bound).collect();
    let mut printer = Printer { bound, out: String::new() };
    for (i, node) in nodes.iter().enumerate() {
        let Some(object) = node.as_object() else {
            return Err(Problem::new(Code::Malformed, "a node is an object with `op`").at(format!("/graph/{i}")));
        };
        if is_deep(node, MAX_NESTED) {
            let detail = format!("lists and objects stand in each other more than {MAX_NESTED} deep");
            return Err(Problem::new(Code::TooLarge, detail).at(format!("/graph/{i}")));
        }
        printer.line(object);
        printer.out.push('\n');
    }
    Ok(printer.out)
}

/// The word that a line binds as `word = …`.
fn bound(node: &Value) -> Option<&str> {
    let op = node.get("op")?.as_str()?;
    let id = node.get("id")?.as_str()?;
    let binds = is_plain(id) && !COMMANDS.contains(&op) && node.as_object().is_some_and(is_call);
    binds.then_some(id)
}

fn is_plain(id: &str) -> bool {
    is_word(id) && !id.contains('{') && !is_taken(id)
}

fn is_deep(value: &Value, left: usize) -> bool {
    let deep = |item| left == 0 || is_deep(item, left - 1);
    match value {
        Value::Array(items) => left == 0 || items.iter().any(deep),
        Value::Object(fields) => left == 0 || fields.values().any(deep),
        _ => false,
    }
}

/// Whether an object can be written as `op(…, field=value)`.
fn is_call(object: &Map<String, Value>) -> bool {
    let op = object.get("op").and_then(Value::as_str);
    op.is_some_and(|op| is_word(op) && op != "tensor") && object.keys().all(|key| is_word(key))
}

/// Whether an object can be written as `tensor(…)`.
fn is_tensor(object: &Map<String, Value>) -> bool {
    !object.is_empty() && object.keys().all(|key| ["data", "dtype", "shape", "b64"].contains(&key.as_str()))
}

/// The sign of a node that has no other fields than `op`, `args` and these, and its values.
fn signed<'a>(object: &'a Map<String, Value>, others: &[&str]) -> Option<(&'static Sign, &'a [Value])> {
    let op = object.get("op")?.as_str()?;
    let args = object.get("args")?.as_array()?.as_slice();
    let others = others.iter().filter(|field| object.contains_key(**field)).count();
    match (args, Sign::of(op)) {
        _ if object.len() != 2 + others => None,
        ([_, _], Some(sign)) => Some((sign, args)),
        // a minus before a number would become part of it
        ([value], None) if op == MINUS.op && !is_number(value) => Some((&MINUS, args)),
        _ => None,
    }
}

fn is_number(value: &Value) -> bool {
    value.is_number() || matches!(value.as_str(), Some("Infinity" | "-Infinity"))
}

impl Printer<'_> {
    fn line(&mut self, object: &Map<String, Value>) {
        let op = object.get("op").and_then(Value::as_str).unwrap_or_default();
        if !is_call(object) {
            return self.fields(object);
        }
        match (op, object.get("value"), object.get("target")) {
            ("save", Some(value), _) => {
                self.out.push_str("save ");
                self.value(value, Role::Operand, 0);
                let named = self.results(object);
                self.rest(op, object, &[&["op", "value"], named.as_slice()].concat());
            }
            ("set", Some(value), Some(Value::String(target))) => {
                self.set(target, value);
                self.rest(op, object, &["op", "target", "value"]);
            }
            _ if COMMANDS.contains(&op) && object.len() > 1 => {
                self.out.push_str(op);
                self.rest(op, object, &["op"]);
            }
            _ if COMMANDS.contains(&op) => self.fields(object),
            _ => self.node(op, object),
        }
    }

    /// `p = op(…) as x`
    fn node(&mut self, op: &str, object: &Map<String, Value>) {
        let mut written = self.labelled(object);
        if let Some(Value::String(id)) = object.get("id") {
            written.push("id");
            let sigil = if is_plain(id) { "" } else { "$" };
            let id = if is_word(id) { id.clone() } else { quote(id) };
            self.out.push_str(&format!("{sigil}{id} = "));
        }
        match signed(object, &written) {
            Some((sign, args)) if written.iter().all(|field| *field == "id") => {
                let start = self.out.len();
                self.sign(sign, args);
                // not to be taken for a line that saves
                if self.out[start..].starts_with("save(") {
                    self.out.insert(start, '(');
                    self.out.push(')');
                }
            }
            _ => {
                self.call(op, object, &written);
                self.results(object);
            }
        }
    }

    /// `target = value`, or `target += value` where the value begins with the target.
    fn set(&mut self, target: &str, value: &Value) {
        // a plain word would be the name of a value
        let id = target.strip_prefix('$').unwrap_or(target);
        let names = is_word(id) && (id != target || !target.contains('{') && !is_site_word(target));
        match is_name(target) && !names {
            true => self.string(target, Role::Operand),
            false => self.out.push_str(&quote(target)),
        }
        let change = value
            .as_object()
            .and_then(|value| signed(value, &[]))
            .filter(|(sign, args)| sign.assigns() && args.len() == 2 && args[0].as_str() == Some(target));
        let (sign, value) = change.map_or(("", value), |(sign, args)| (sign.sign, &args[1]));
        self.out.push_str(&format!(" {sign}= "));
        self.value(value, Role::Operand, 0);
    }

    /// Which of `as` and `to` can be written behind the node.
    fn labelled(&self, object: &Map<String, Value>) -> Vec<&'static str> {
        ["as", "to"].into_iter().filter(|field| object.get(*field).is_some_and(Value::is_string)).collect()
    }

    /// ` as x to @y`
    fn results(&mut self, object: &Map<String, Value>) -> Vec<&'static str> {
        let fields = self.labelled(object);
        for field in &fields {
            let name = object[*field].as_str().unwrap_or_default();
            let bare = if *field == "as" { is_label(name) } else { name.starts_with('@') && is_name(name) };
            let name = if bare { name.to_owned() } else { quote(name) };
            self.out.push_str(&format!(" {field} {name}"));
        }
        fields
    }

    /// ` field=value` for every field that is not written yet.
    fn rest(&mut self, op: &str, object: &Map<String, Value>, written: &[&str]) {
        for (key, value) in object.iter().filter(|(key, _)| !written.contains(&key.as_str())) {
            self.out.push_str(&format!(" {key}="));
            self.value(value, role(op, key), 0);
        }
    }

    /// `op(value, field=value)`, less what is written elsewhere.
    fn call(&mut self, op: &str, object: &Map<String, Value>, elsewhere: &[&str]) {
        let mut written = [&["op"], elsewhere].concat();
        let mut separator = "";
        self.out.push_str(op);
        self.out.push('(');
        match positional(op) {
            Some(places) => {
                for (place, value) in places.iter().map_while(|place| object.get(*place).map(|value| (*place, value))) {
                    written.push(place);
                    self.out.push_str(separator);
                    self.value(value, role(op, place), 0);
                    separator = ", ";
                }
            }
            None => {
                if let Some(Value::Array(args)) = object.get("args").filter(|args| !is_empty(args)) {
                    written.push("args");
                    for (place, value) in args.iter().enumerate() {
                        self.out.push_str(separator);
                        self.value(value, role_at(op, place), 0);
                        separator = ", ";
                    }
                }
            }
        }
        for (key, value) in object.iter().filter(|(key, _)| !written.contains(&key.as_str())) {
            self.out.push_str(&format!("{separator}{key}="));
            self.value(value, role(op, key), 0);
            separator = ", ";
        }
        self.out.push(')');
    }

    /// A value, in brackets where what stands beside it binds tighter than `power`.
    fn value(&mut self, value: &Value, role: Role, power: u8) {
        let open = strength(value) < power;
        self.out.push_str(if open { "(" } else { "" });
        match value {
            Value::String(text) => self.string(text, role),
            Value::Array(items) => {
                self.out.push('[');
                for (i, item) in items.iter().enumerate() {
                    self.out.push_str(if i > 0 { ", " } else { "" });
                    self.value(item, role, 0);
                }
                self.out.push(']');
            }
            Value::Object(object) => self.object(object),
            value => self.out.push_str(&value.to_string()),
        }
        self.out.push_str(if open { ")" } else { "" });
    }

    fn object(&mut self, object: &Map<String, Value>) {
        if let Some((sign, args)) = signed(object, &[]) {
            self.sign(sign, args);
        } else if is_call(object) {
            self.call(object["op"].as_str().unwrap_or_default(), object, &[]);
        } else if is_tensor(object) {
            self.tensor(object);
        } else {
            self.fields(object);
        }
    }

    fn sign(&mut self, sign: &Sign, args: &[Value]) {
        let (left, right) = sign.sides();
        match args {
            [left_value, right_value] => {
                self.value(left_value, Role::Operand, left);
                self.out.push_str(&format!(" {} ", sign.sign));
                self.value(right_value, Role::Operand, right);
            }
            _ => {
                self.out.push_str(sign.sign);
                args.iter().for_each(|value| self.value(value, Role::Operand, sign.power));
            }
        }
    }

    /// `tensor(data, dtype="f32")`
    fn tensor(&mut self, object: &Map<String, Value>) {
        let mut separator = "";
        self.out.push_str("tensor(");
        if let Some(data) = object.get("data") {
            self.value(data, Role::Operand, 0);
            separator = ", ";
        }
        for (key, value) in object.iter().filter(|(key, _)| *key != "data") {
            self.out.push_str(&format!("{separator}{key}="));
            self.value(value, Role::Word, 0);
            separator = ", ";
        }
        self.out.push(')');
    }

    /// An object as in JSON, but for the values in it.
    fn fields(&mut self, object: &Map<String, Value>) {
        self.out.push('{');
        for (i, (key, value)) in object.iter().enumerate() {
            self.out.push_str(if i > 0 { ", " } else { "" });
            self.out.push_str(&quote(key));
            self.out.push_str(": ");
            self.value(value, Role::Unknown, 0);
        }
        self.out.push('}');
    }

    /// A string: a value without quotes, where it would be read as what it is.
    fn string(&mut self, text: &str, role: Role) {
        let short = text.strip_prefix('$').filter(|name| is_name(name) && reads_as(name, text, &self.bound));
        let long = Some(text).filter(|name| is_name(name) && reads_as(name, text, &self.bound));
        let bare = match (short, text) {
            _ if role != Role::Operand => None,
            (_, "NaN" | "Infinity" | "-Infinity") => Some(text),
            (Some(short), _) => Some(short),
            (None, _) => long.filter(|name| constant(name).is_none() && (!is_taken(name) || is_site_word(name))),
        };
        match bare {
            Some(name) => self.out.push_str(name),
            None => self.out.push_str(&quote(text)),
        }
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

/// How tightly what a value is written as holds together.
fn strength(value: &Value) -> u8 {
    match value {
        Value::Number(number) if number.to_string().starts_with('-') => MINUS.power,
        Value::String(text) if text == "-Infinity" => MINUS.power,
        Value::Object(object) => signed(object, &[]).map_or(ATOM, |(sign, _)| sign.power),
        _ => ATOM,
    }
}

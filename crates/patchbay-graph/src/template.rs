//! Nodes with places to fill in.
//!
//! `{layer}` in a string of a template stands for the value that goes by the name `layer`, and a string that is nothing but
//! `"{layer}"` takes the value's own type. Sweeps fill in the values of their axes, named edits their parameters.

use std::ops::Range;

use serde_json::Value;

use crate::problem::escape;

/// How many names a template may have.
pub(crate) const MAX_NAMES: usize = 16;

/// How much a template may come to, its parts and the bytes of its texts counted.
pub(crate) const MAX_FILLED: usize = 16 << 20;

/// A set of names: bit i stands for the one with the number i.
pub(crate) type NameSet = u16;

/// Nodes with places to fill in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    names: Vec<String>,
    nodes: Vec<Value>,
    /// The strings that hold names: JSON pointer, and which; in the order of the pointers.
    mentions: Vec<(String, NameSet)>,
}

impl Template {
    /// Nodes that stand at a pointer, with at most [`MAX_NAMES`] names.
    pub(crate) fn new(names: Vec<String>, nodes: &[Value], at: &str) -> Self {
        let mut template = Self { names, nodes: nodes.to_vec(), mentions: Vec::new() };
        let mut mentions = Vec::new();
        for (i, node) in nodes.iter().enumerate() {
            template.find_mentions(node, &format!("{at}/{i}"), &mut mentions);
        }
        mentions.sort_unstable();
        template.mentions = mentions;
        template
    }

    /// The names.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// A name that no string holds.
    pub(crate) fn unused(&self) -> Option<&str> {
        let named = self.mentions.iter().fold(0, |all, (_, names)| all | names);
        self.names.iter().enumerate().find(|(i, _)| named & (1 << i) == 0).map(|(_, name)| name.as_str())
    }

    fn find_mentions(&self, value: &Value, at: &str, found: &mut Vec<(String, NameSet)>) {
        match value {
            Value::String(text) => {
                let named = |name: &String| text.contains(&format!("{{{name}}}"));
                let names = (0..self.names.len()).filter(|i| named(&self.names[*i])).fold(0, |set, i| set | 1 << i);
                if names != 0 {
                    found.push((at.to_owned(), names));
                }
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(i, item)| self.find_mentions(item, &format!("{at}/{i}"), found));
            }
            Value::Object(fields) => {
                fields.iter().for_each(|(key, item)| self.find_mentions(item, &format!("{at}/{}", escape(key)), found));
            }
            _ => {}
        }
    }

    /// The names that are held at a JSON pointer or below it.
    pub(crate) fn named_below(&self, pointer: &str) -> NameSet {
        let from = |start: &str| self.mentions.partition_point(|(at, _)| at.as_str() < start);
        let here = self.mentions[from(pointer)..].iter().take_while(|(at, _)| at == pointer);
        let inside = format!("{pointer}/");
        let inside = self.mentions[from(&inside)..].iter().take_while(|(at, _)| at.starts_with(&inside));
        here.chain(inside).fold(0, |set, (_, names)| set | names)
    }

    /// The pointer to the string whose filling holds what a pointer points to, or the pointer itself.
    pub(crate) fn filled_at<'a>(&self, pointer: &'a str) -> &'a str {
        let mut ends = pointer.match_indices('/').map(|(end, _)| &pointer[..end]);
        let filled = ends.rfind(|at| self.mentions.binary_search_by(|(other, _)| other.as_str().cmp(at)).is_ok());
        filled.unwrap_or(pointer)
    }

    /// What the nodes come to with these values, one a name, and how much there is of it; none where it is too much.
    pub(crate) fn fill(&self, values: Vec<Value>) -> Option<(Vec<Value>, usize)> {
        let values: Vec<Filling> = values.into_iter().map(Filling::new).collect();
        let mut room = MAX_FILLED;
        let nodes = self.nodes.iter().map(|node| self.fill_value(node, &values, &mut room)).collect::<Option<_>>()?;
        Some((nodes, MAX_FILLED - room))
    }

    fn fill_value(&self, value: &Value, values: &[Filling], room: &mut usize) -> Option<Value> {
        *room = room.checked_sub(1)?;
        Some(match value {
            Value::String(text) => self.fill_text(text, values, room)?,
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.fill_value(item, values, room)).collect::<Option<_>>()?)
            }
            Value::Object(fields) => {
                let field = |(key, item): (&String, &Value)| Some((key.clone(), self.fill_value(item, values, room)?));
                Value::Object(fields.iter().map(field).collect::<Option<_>>()?)
            }
            value => value.clone(),
        })
    }

    fn fill_text(&self, text: &str, values: &[Filling], room: &mut usize) -> Option<Value> {
        *room = room.checked_sub(text.len())?;
        let mut filled = String::new();
        let mut rest = text;
        while let Some((span, name)) = self.first_mention(rest) {
            let filling = &values[name];
            if span.len() == text.len() {
                *room = room.checked_sub(filling.weight)?;
                return Some(filling.value.clone());
            }
            *room = room.checked_sub(filling.text.len())?;
            filled.push_str(&rest[..span.start]);
            filled.push_str(&filling.text);
            rest = &rest[span.end..];
        }
        filled.push_str(rest);
        Some(Value::String(filled))
    }

    /// Where the first name stands, and which it is.
    fn first_mention(&self, text: &str) -> Option<(Range<usize>, usize)> {
        text.match_indices('{').find_map(|(open, _)| {
            let inside = &text[open + 1..];
            let name = &inside[..inside.find(|c: char| !is_name(c))?];
            let found = self.names.iter().position(|other| other == name);
            let found = found.filter(|_| inside[name.len()..].starts_with('}'))?;
            Some((open..open + name.len() + 2, found))
        })
    }
}

/// Whether a name can stand in a template.
pub(crate) fn fits(name: &str) -> bool {
    !name.is_empty() && name.chars().all(is_name)
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// A value in the forms that it is filled in.
struct Filling {
    value: Value,
    text: String,
    weight: usize,
}

impl Filling {
    fn new(value: Value) -> Self {
        let text = match &value {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        Self { weight: weight(&value), value, text }
    }
}

/// How much there is of a value: its parts, and the bytes of its texts.
fn weight(value: &Value) -> usize {
    1 + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(fields) => fields.iter().map(|(key, item)| key.len() + weight(item)).sum(),
        _ => 0,
    }
}

//! Sweeps: one graph for every combination of values on named axes.
//!
//! The graph of a sweep is a template: `{layer}` in its strings stands for the value of the axis `layer`, and a string that is
//! nothing but `"{layer}"` takes the value's own type. Each combination is a cell, and a cell is a graph like any other.

use std::ops::Range;

use serde_json::{Map, Number, Value};

use crate::fields::{Fields, wrong};
use crate::node::Node;
use crate::problem::{Code, Problem, Result, escape};

/// How many axes a sweep may have.
pub const MAX_AXES: usize = 16;

/// How much the graph of one cell may be, its parts and the bytes of its texts counted.
const MAX_CELL: usize = 16 << 20;

/// A set of axes: bit i stands for the axis with the number i.
pub type AxisSet = u16;

/// A graph for every combination of values on its axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// The axes, in the order of the request; the last one changes fastest.
    pub axes: Vec<SweepAxis>,
    template: Vec<Value>,
    /// The strings that name axes: JSON pointer, and which; in the order of the pointers.
    mentions: Vec<(String, AxisSet)>,
}

/// One axis of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepAxis {
    /// Its name.
    pub name: String,
    values: Values,
}

#[derive(Clone, Debug, PartialEq)]
enum Values {
    List(Vec<Value>),
    Range { start: i64, step: i64, count: usize },
}

impl SweepAxis {
    /// Number of values.
    pub fn len(&self) -> usize {
        match &self.values {
            Values::List(values) => values.len(),
            Values::Range { count, .. } => *count,
        }
    }

    /// Whether it has no value; a sweep has no such axis.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value at a place.
    pub fn value(&self, place: usize) -> Value {
        match &self.values {
            Values::List(values) => values.get(place).cloned().unwrap_or_default(),
            Values::Range { start, step, .. } => Value::Number(Number::from(start + step * place as i64)),
        }
    }

    fn parse(name: &str, value: &Value) -> Result<Self> {
        let plain = !name.is_empty() && name.chars().all(is_name);
        if !plain {
            return Err(Problem::new(Code::BadArgument, format!("{name:?} cannot name an axis"))
                .hint("take letters, digits and `_`")
                .under(name));
        }
        let values = match value {
            Value::Array(values) => Values::List(values.clone()),
            Value::Object(object) => range(object).map_err(|problem| problem.under(name))?,
            value => return Err(wrong(name, "a list of values, or {\"range\": [start, stop]}", value)),
        };
        let axis = Self { name: name.to_owned(), values };
        if axis.is_empty() {
            let problem = Problem::new(Code::BadArgument, format!("the axis `{name}` has no value")).under(name);
            return Err(problem.hint("an axis has at least one"));
        }
        Ok(axis)
    }
}

/// `{"range": [start, stop]}` or `{"range": [start, stop, step]}`, as Python's `range` has them.
fn range(object: &Map<String, Value>) -> Result<Values> {
    let mut fields = Fields::new("an axis", object);
    let ends = fields.need("range")?;
    fields.finish()?;
    let numbers: Option<Vec<i64>> = ends.as_array().and_then(|ends| ends.iter().map(Value::as_i64).collect());
    let (start, stop, step) = match numbers.as_deref() {
        Some([start, stop]) => (*start, *stop, 1),
        Some([start, stop, step]) if *step != 0 => (*start, *stop, *step),
        _ => return Err(wrong("range", "[start, stop] or [start, stop, step] of whole numbers, the step not 0", ends)),
    };
    let distance = if step > 0 { i128::from(stop) - i128::from(start) } else { i128::from(start) - i128::from(stop) };
    let (distance, step_size) = (distance.max(0).unsigned_abs(), i128::from(step).unsigned_abs());
    let count = usize::try_from(distance.div_ceil(step_size))
        .map_err(|_| Problem::new(Code::TooLarge, "a range with more values than can be counted").under("range"))?;
    Ok(Values::Range { start, step, count })
}

impl Sweep {
    /// Reads the axes of a sweep over a graph.
    ///
    /// # Errors
    /// Axes that are not axes, or that nothing in the graph names.
    pub fn parse(value: &Value, graph: &[Value]) -> Result<Self> {
        let object = value.as_object().ok_or_else(|| wrong("sweep", "an object of axes by name", value).at(""))?;
        if object.is_empty() || object.len() > MAX_AXES {
            let detail = format!("a sweep has 1 to {MAX_AXES} axes, found {}", object.len());
            return Err(Problem::new(Code::BadArgument, detail));
        }
        let axes: Vec<SweepAxis> =
            object.iter().map(|(name, value)| SweepAxis::parse(name, value)).collect::<Result<_>>()?;
        let mut sweep = Self { axes, template: graph.to_vec(), mentions: Vec::new() };
        let mut mentions = Vec::new();
        for (i, node) in graph.iter().enumerate() {
            sweep.find_mentions(node, &format!("/graph/{i}"), &mut mentions);
        }
        mentions.sort_unstable();
        sweep.mentions = mentions;
        let named = sweep.mentions.iter().fold(0, |all, (_, axes)| all | axes);
        if let Some((_, axis)) = sweep.axes.iter().enumerate().find(|(i, _)| named & (1 << i) == 0) {
            let detail = format!("nothing in the graph names the axis `{}`", axis.name);
            let hint =
                format!("write {{{}}} where its value shall stand, as in \"layers.{{layer}}.output\"", axis.name);
            return Err(Problem::new(Code::UnusedNode, detail).hint(hint).under(&axis.name));
        }
        Ok(sweep)
    }

    fn find_mentions(&self, value: &Value, at: &str, found: &mut Vec<(String, AxisSet)>) {
        match value {
            Value::String(text) => {
                let named = |axis: &SweepAxis| text.contains(&format!("{{{}}}", axis.name));
                let axes = (0..self.axes.len()).filter(|i| named(&self.axes[*i])).fold(0, |set, i| set | 1 << i);
                if axes != 0 {
                    found.push((at.to_owned(), axes));
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

    /// Number of cells, or nothing where they cannot be counted.
    pub fn cells(&self) -> Option<usize> {
        self.axes.iter().try_fold(1usize, |cells, axis| cells.checked_mul(axis.len()))
    }

    /// The place on every axis of a cell.
    pub fn places(&self, mut cell: usize) -> Vec<usize> {
        let mut places = vec![0; self.axes.len()];
        for (place, axis) in places.iter_mut().zip(&self.axes).rev() {
            *place = cell % axis.len();
            cell /= axis.len();
        }
        places
    }

    /// The axes that are named at a JSON pointer or below it.
    pub fn named_below(&self, pointer: &str) -> AxisSet {
        let from = |start: &str| self.mentions.partition_point(|(at, _)| at.as_str() < start);
        let here = self.mentions[from(pointer)..].iter().take_while(|(at, _)| at == pointer);
        let inside = format!("{pointer}/");
        let inside = self.mentions[from(&inside)..].iter().take_while(|(at, _)| at.starts_with(&inside));
        here.chain(inside).fold(0, |set, (_, axes)| set | axes)
    }

    /// The graph of a cell.
    ///
    /// # Errors
    /// Whatever is wrong with it, and in which cell.
    pub fn nodes(&self, cell: usize) -> Result<Vec<Node>> {
        self.weighed_nodes(cell).map(|(nodes, _)| nodes)
    }

    /// The graph of a cell, and how much there is of it: its parts, and the bytes of its texts.
    pub(crate) fn weighed_nodes(&self, cell: usize) -> Result<(Vec<Node>, usize)> {
        let places = self.places(cell);
        let values = self.axes.iter().zip(&places).map(|(axis, place)| Filling::new(axis.value(*place)));
        let values: Vec<Filling> = values.collect();
        let mut room = MAX_CELL;
        let nodes: Option<Vec<Value>> = self.template.iter().map(|node| self.fill(node, &values, &mut room)).collect();
        let nodes = nodes.ok_or_else(|| {
            let detail = format!("with the values of the axes filled in, the graph is more than {MAX_CELL} bytes");
            Problem::new(Code::TooLarge, detail).hint("put large tensors into the store").at("/sweep")
        })?;
        let nodes = crate::request::nodes(&nodes).map_err(|problem| self.in_cell(problem, cell))?;
        Ok((nodes, MAX_CELL - room))
    }

    /// Says in which cell a problem was found. What is wrong within an axis's value is pointed to by the string that it fills.
    pub(crate) fn in_cell(&self, problem: Problem, cell: usize) -> Problem {
        let mut ends = problem.pointer.match_indices('/').map(|(end, _)| &problem.pointer[..end]);
        let filled = ends.rfind(|at| self.mentions.binary_search_by(|(other, _)| other.as_str().cmp(at)).is_ok());
        let pointer = filled.unwrap_or(&problem.pointer).to_owned();
        let places = self.places(cell);
        let values = self.axes.iter().zip(places).map(|(axis, place)| {
            let value = axis.value(place);
            format!("{} = {}", axis.name, crate::fields::brief(&value))
        });
        let detail = format!("{} (where {})", problem.detail, values.collect::<Vec<_>>().join(", "));
        Problem { detail, pointer, ..problem }
    }

    /// What a node comes to with these values, as long as there is room.
    fn fill(&self, value: &Value, values: &[Filling], room: &mut usize) -> Option<Value> {
        *room = room.checked_sub(1)?;
        Some(match value {
            Value::String(text) => self.fill_text(text, values, room)?,
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.fill(item, values, room)).collect::<Option<_>>()?)
            }
            Value::Object(fields) => {
                let field = |(key, item): (&String, &Value)| Some((key.clone(), self.fill(item, values, room)?));
                Value::Object(fields.iter().map(field).collect::<Option<_>>()?)
            }
            value => value.clone(),
        })
    }

    fn fill_text(&self, text: &str, values: &[Filling], room: &mut usize) -> Option<Value> {
        *room = room.checked_sub(text.len())?;
        let mut filled = String::new();
        let mut rest = text;
        while let Some((span, axis)) = self.first_mention(rest) {
            let filling = &values[axis];
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

    /// Where the first axis is named, and which it is.
    fn first_mention(&self, text: &str) -> Option<(Range<usize>, usize)> {
        text.match_indices('{').find_map(|(open, _)| {
            let inside = &text[open + 1..];
            let name = &inside[..inside.find(|c: char| !is_name(c))?];
            let axis = self
                .axes
                .iter()
                .position(|axis| axis.name == name)
                .filter(|_| inside[name.len()..].starts_with('}'))?;
            Some((open..open + name.len() + 2, axis))
        })
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The value of an axis in one cell, in the forms that it is filled in.
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sweep(axes: Value, graph: Value) -> Result<Sweep> {
        Sweep::parse(&axes, graph.as_array().unwrap())
    }

    #[test]
    fn strings_are_filled_and_whole_ones_keep_the_values_type() {
        let axes = json!({"layer": {"range": [4, 0, -2]}, "to": ["a", [1, 2]]});
        let sweep = sweep(axes, json!([{"x": "layers.{layer}.{other}{to}", "y": "{to}", "z": ["{layer}"]}])).unwrap();
        assert_eq!((sweep.cells(), sweep.places(3)), (Some(4), vec![1, 1]));
        let fill = |cell: usize| {
            let places = sweep.places(cell);
            let values = sweep.axes.iter().zip(places).map(|(axis, place)| Filling::new(axis.value(place)));
            sweep.fill(&sweep.template[0], &values.collect::<Vec<_>>(), &mut 1000).unwrap()
        };
        assert_eq!(fill(0), json!({"x": "layers.4.{other}a", "y": "a", "z": [4]}));
        assert_eq!(fill(3), json!({"x": "layers.2.{other}[1,2]", "y": [1, 2], "z": [2]}));
        assert_eq!(sweep.named_below("/graph/0"), 0b11);
        assert_eq!((sweep.named_below("/graph/0/z"), sweep.named_below("/graph/0/y")), (0b01, 0b10));
        assert_eq!(sweep.named_below("/graph/00"), 0);
    }

    #[test]
    fn what_is_no_axis_is_refused() {
        let graph = json!([{"x": "{a}{b}"}]);
        for (axes, pointer) in [
            (json!({}), ""),
            (json!([1]), ""),
            (json!({"a": 3}), "/a"),
            (json!({"a": []}), "/a"),
            (json!({"a": {"range": [2, 2]}}), "/a"),
            (json!({"a": {"range": [0, 1, 0]}}), "/a/range"),
            (json!({"a": {"range": [0.5, 1]}}), "/a/range"),
            (json!({"a": {"rang": [0, 1]}}), "/a"),
            (json!({"a-b": [1]}), "/a-b"),
            (json!({"a": [1], "c": [1]}), "/c"),
        ] {
            let problem = sweep(axes.clone(), graph.clone()).unwrap_err();
            assert_eq!(problem.pointer, pointer, "{axes}: {problem}");
        }
        let axis = json!({"range": [i64::MIN, i64::MAX]});
        assert_eq!(sweep(json!({"a": axis, "b": axis}), graph).unwrap().cells(), None);
    }
}

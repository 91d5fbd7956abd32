//! Sweeps: one graph for every combination of values on named axes.
//!
//! The graph of a sweep is a template: `{layer}` in its strings stands for the value of the axis `layer`, and a string that is
//! nothing but `"{layer}"` takes the value's own type. Each combination is a cell, and a cell is a graph like any other.

use serde_json::{Map, Number, Value};

use crate::fields::{Fields, wrong};
use crate::node::Node;
use crate::problem::{Code, Problem, Result};
use crate::template::{self, MAX_FILLED, MAX_NAMES, NameSet, Template};

/// A graph for every combination of values on its axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// The axes, in the order of the request; the last one changes fastest.
    pub axes: Vec<SweepAxis>,
    template: Template,
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
        if !template::fits(name) {
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
        if object.is_empty() || object.len() > MAX_NAMES {
            let detail = format!("a sweep has 1 to {MAX_NAMES} axes, found {}", object.len());
            return Err(Problem::new(Code::BadArgument, detail));
        }
        let axes: Vec<SweepAxis> =
            object.iter().map(|(name, value)| SweepAxis::parse(name, value)).collect::<Result<_>>()?;
        let names = axes.iter().map(|axis| axis.name.clone()).collect();
        let template = Template::new(names, graph, "/graph");
        if let Some(name) = template.unused() {
            let detail = format!("nothing in the graph names the axis `{name}`");
            let hint = format!("write {{{name}}} where its value shall stand, as in \"layers.{{layer}}.output\"");
            return Err(Problem::new(Code::UnusedNode, detail).hint(hint).under(name));
        }
        Ok(Self { axes, template })
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

    /// The axes that are named at a JSON pointer or below it: bit i stands for the axis with the number i.
    pub fn named_below(&self, pointer: &str) -> NameSet {
        self.template.named_below(pointer)
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
        let values = self.axes.iter().zip(&places).map(|(axis, place)| axis.value(*place)).collect();
        let (nodes, weight) = self.template.fill(values).ok_or_else(|| {
            let detail = format!("with the values of the axes filled in, the graph is more than {MAX_FILLED} bytes");
            Problem::new(Code::TooLarge, detail).hint("put large tensors into the store").at("/sweep")
        })?;
        let nodes = crate::request::nodes(&nodes, "/graph").map_err(|problem| self.in_cell(problem, cell))?;
        Ok((nodes, weight))
    }

    /// Says in which cell a problem was found. What is wrong within an axis's value is pointed to by the string that it fills.
    pub(crate) fn in_cell(&self, problem: Problem, cell: usize) -> Problem {
        let pointer = self.template.filled_at(&problem.pointer).to_owned();
        let places = self.places(cell);
        let values = self.axes.iter().zip(places).map(|(axis, place)| {
            let value = axis.value(place);
            format!("{} = {}", axis.name, crate::fields::brief(&value))
        });
        let detail = format!("{} (where {})", problem.detail, values.collect::<Vec<_>>().join(", "));
        Problem { detail, pointer, ..problem }
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
            let values = sweep.axes.iter().zip(places).map(|(axis, place)| axis.value(place)).collect();
            sweep.template.fill(values).unwrap().0.swap_remove(0)
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

//! A trace on its way: the lines of its graph, its inputs, and which field of the recipe each came from.

use patchbay_graph::problem::{Code, Problem, Result};
use patchbay_graph::request::ONLY_INPUT;
use patchbay_graph::text::{TextGraph, print};
use serde_json::{Map, Value, json};

use crate::picture::Picture;

/// The body of a trace or of a generation, and what was found out while it was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    body: Map<String, Value>,
    /// The graph as text, a line a node, and as nodes.
    text: Vec<String>,
    graph: Vec<Value>,
    /// The field that each node came from.
    fields: Vec<String>,
    /// The fields of the inputs, by their names, and whether their rows are the field's own.
    inputs: Vec<(String, String, bool)>,
    /// What the answer has beside the trace's.
    pub notes: Map<String, Value>,
    /// Of a generation, how the rows of text stand in the result: prompts, and layers.
    pub texts: Option<[usize; 2]>,
    /// Where its rows have nothing to do with each other and may run in parts: the axis of rows of its results.
    pub rows_apart: Option<usize>,
    /// How its results are drawn, if they are.
    pub picture: Option<Picture>,
}

/// A trace on its way.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    inputs: Map<String, Value>,
    sweep: Map<String, Value>,
    /// Each line of the graph's text, and the field that it follows from.
    lines: Vec<(String, String)>,
    places: Vec<(String, String, bool)>,
    notes: Map<String, Value>,
    /// Where the fields of a recipe within the recipe stand.
    within: String,
    /// What a generation takes beside a trace.
    settings: Map<String, Value>,
    texts: Option<[usize; 2]>,
    rows_apart: Option<usize>,
    picture: Option<Picture>,
}

impl Draft {
    /// Lets a recipe within this one add to it, whose fields stand in this field, but for those that are made of another.
    pub(crate) fn within<T>(
        &mut self,
        field: &str,
        (made, of): (&str, &str),
        add: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        field.clone_into(&mut self.within);
        let added = add(self);
        self.within.clear();
        let made = format!("{field}{made}");
        self.places.iter_mut().filter(|(_, field, _)| *field == made).for_each(|(_, field, _)| of.clone_into(field));
        added
    }

    /// A field of the recipe, or of the one within it.
    fn field(&self, field: &str) -> String {
        format!("{}{field}", self.within)
    }

    /// Adds an input that stands in a field of the recipe.
    pub(crate) fn input(&mut self, name: &str, value: &Value, field: &str) {
        self.inputs.insert(name.into(), value.clone());
        self.places.push((name.into(), self.field(field), true));
    }

    /// Adds an input that is made of a field.
    pub(crate) fn made_input(&mut self, name: &str, value: Value, field: &str) {
        self.inputs.insert(name.into(), value);
        self.places.push((name.into(), self.field(field), false));
    }

    /// Adds an axis of a sweep.
    pub(crate) fn axis(&mut self, name: &str, values: Value) {
        self.sweep.insert(name.into(), values);
    }

    /// Adds a line of the text form, which follows from a field.
    ///
    /// # Errors
    /// What stands in the field makes no line.
    pub(crate) fn line(&mut self, field: &str, line: &str) -> Result<()> {
        let read = TextGraph::parse(line).map_err(|problem| plain(problem).at(field))?;
        if read.nodes.len() != 1 {
            return Err(Problem::new(Code::Malformed, "this does not stand in one line").at(field));
        }
        self.lines.push((line.to_owned(), self.field(field)));
        Ok(())
    }

    /// Adds lines.
    pub(crate) fn lines<'a>(&mut self, field: &str, lines: impl IntoIterator<Item = &'a str>) -> Result<()> {
        lines.into_iter().try_for_each(|line| self.line(field, line))
    }

    /// Adds a node.
    ///
    /// # Errors
    /// It is too long.
    pub(crate) fn node(&mut self, field: &str, node: Value) -> Result<()> {
        let line = print(&[node]).map_err(|problem| problem.at(field))?;
        self.lines.push((line.trim_end().to_owned(), self.field(field)));
        Ok(())
    }

    /// Gives an operand that stands in a field a name, under which lines take it.
    ///
    /// # Errors
    /// It is too long.
    pub(crate) fn operand(&mut self, name: &str, value: &Value, field: &str) -> Result<()> {
        self.node(field, json!({"op": "clone", "id": name, "args": [value]}))
    }

    /// Adds something to the answer.
    pub(crate) fn note(&mut self, name: &str, value: Value) {
        self.notes.insert(name.into(), value);
    }

    /// Makes it a generation of texts of an input whose rows are those of prompts and layers, with these settings.
    pub(crate) fn generates(&mut self, input: &str, texts: [usize; 2], settings: Map<String, Value>) {
        self.settings = settings;
        self.settings.insert("grow".into(), input.into());
        self.texts = Some(texts);
    }

    /// Says that the rows of its only input have nothing to do with each other, and which axis of its results they are.
    pub(crate) fn rows_are_apart(&mut self, axis: usize) {
        self.rows_apart = Some(axis);
    }

    /// Says how the results are drawn.
    pub(crate) fn picture(&mut self, picture: Picture) {
        self.picture = Some(picture);
    }

    /// The body of the trace, with these fields of the request.
    ///
    /// # Errors
    /// The graph is too long.
    pub(crate) fn finish(self, more: Map<String, Value>) -> Result<Made> {
        let picture = self.picture;
        let mut body = more;
        body.extend(self.settings);
        // an input that is alone needs no name
        match self.inputs.len() == 1 && self.inputs.contains_key(ONLY_INPUT) {
            true => body.extend(self.inputs),
            false => drop(body.insert("inputs".into(), self.inputs.into())),
        }
        if !self.sweep.is_empty() {
            body.insert("sweep".into(), self.sweep.into());
        }
        let (text, fields): (Vec<String>, Vec<String>) = self.lines.into_iter().unzip();
        let graph = TextGraph::parse(&text.join("\n")).map_err(|problem| plain(problem).at(""))?.nodes;
        let (inputs, notes, texts, rows_apart) = (self.places, self.notes, self.texts, self.rows_apart);
        Ok(Made { body, text, graph, fields, inputs, notes, texts, rows_apart, picture })
    }
}

/// A problem in a text that the caller does not see.
fn plain(problem: Problem) -> Problem {
    let detail = problem.detail.lines().next().unwrap_or_default().to_owned();
    Problem { detail, line: None, column: None, ..problem }
}

impl Made {
    /// The body of the trace, or of the generation.
    pub fn body(&self) -> Value {
        let mut body = self.body.clone();
        body.insert("graph".into(), self.graph.clone().into());
        body.into()
    }

    /// The same body, for these rows of ids in place of its only input's.
    pub fn body_of(&self, rows: &[Vec<u32>]) -> Value {
        let mut body: Map<String, Value> = self
            .body
            .iter()
            .filter(|(name, _)| *name != ONLY_INPUT)
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        body.insert(ONLY_INPUT.into(), json!(rows));
        body.insert("graph".into(), self.graph.clone().into());
        body.into()
    }

    /// The same body with the graph in the text form, a line a node, for people to read and to change.
    pub fn explained(&self) -> Value {
        let mut body = self.body.clone();
        body.insert("graph".into(), self.text.clone().into());
        body.into()
    }

    /// A pointer into the trace's body as one into the recipe's.
    pub fn place(&self, pointer: &str) -> String {
        let node = pointer.strip_prefix("/graph/").and_then(|rest| rest.split('/').next()?.parse::<usize>().ok());
        if let Some(node) = node {
            let field = self.fields.get(node).cloned().unwrap_or_default();
            // what a `steer` has beside its vector goes by the same name in the recipe
            let part = pointer.split('/').nth(3).filter(|part| ["layers", "tokens"].contains(part));
            return match (part, field.rsplit_once('/')) {
                (Some(part), Some((before, "vector"))) => format!("{before}/{part}"),
                _ => field,
            };
        }
        let input = |(name, field, own): &(String, String, bool)| {
            let at = if self.body.contains_key(ONLY_INPUT) { "/input".to_owned() } else { format!("/inputs/{name}") };
            let rest = pointer.strip_prefix(&at).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
            Some(if *own { format!("{field}{rest}") } else { field.clone() })
        };
        match self.inputs.iter().find_map(input) {
            Some(place) => place,
            None if pointer.starts_with("/sweep") || pointer == "/graph" => String::new(),
            None => pointer.to_owned(),
        }
    }

    /// A problem of the trace as one of the recipe.
    pub fn placed(&self, problem: Problem) -> Problem {
        let pointer = self.place(&problem.pointer);
        problem.at(pointer)
    }
}

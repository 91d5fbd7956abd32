//! Named edits: graphs of writes that are kept by name, and stand before the graph of every request that names them.
//!
//! An edit acts on all inputs of a request, in the order in which edits are named, and before the request's own nodes. Its
//! numbers may have names: parameters, with defaults and bounds, which a request may give other values.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::fields::{Fields, brief, wrong};
use crate::node::{Action, Node};
use crate::operand::OperandKind;
use crate::problem::{Code, Problem, Result, escape};
use crate::request::{Input, Output, Request, example, list, nodes};
use crate::template::{self, MAX_FILLED, MAX_NAMES, Template};
use crate::text::SourceMap;

/// A graph of writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// The model that it was made for, where that was said.
    pub model: Option<String>,
    /// An input that it fits, where one was given.
    pub example: Option<Input>,
    /// Its parameters, in the order of the template's names.
    parameters: Vec<Parameter>,
    template: Template,
    text: Option<Arc<SourceMap>>,
}

/// A number of an edit that goes by a name.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Parameter {
    default: f64,
    min: f64,
    max: f64,
}

/// The edits before the nodes of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edits(Vec<Edited>);

/// An edit before the nodes of a request.
#[derive(Clone, Debug, PartialEq)]
struct Edited {
    /// Nothing where it stands alone.
    name: Option<String>,
    /// Its nodes.
    nodes: usize,
    /// How often they stand there: once an input.
    copies: usize,
    text: Option<Arc<SourceMap>>,
}

impl Edit {
    /// Parses `{"graph": …, "parameters": {"factor": {"default": 1, "min": 0, "max": 8}}, "model": …, "input": …, "description": …}`.
    ///
    /// # Errors
    /// It is not of this form, or does more than write.
    pub fn parse(body: &Value) -> Result<Self> {
        let object = body.as_object().ok_or_else(|| Problem::new(Code::Malformed, "the body is a JSON object"))?;
        let mut fields = Fields::new("an edit", object);
        let model = fields.text("model")?.map(String::from);
        let example = fields.get("input").map(example).transpose()?;
        fields.text("description")?;
        let (names, parameters) = parameters(fields.get("parameters"))?;
        let (list, text) = list(fields.need("graph")?)?;
        fields.finish()?;
        let template = Template::new(names, &list, "/graph");
        if let Some(name) = template.unused() {
            let hint = format!("write {{{name}}} where its value shall stand, as in \"factor\": \"{{{name}}}\"");
            let problem = Problem::new(Code::UnusedNode, format!("nothing in the graph names the parameter `{name}`"));
            return Err(problem.hint(hint).under(name).under("parameters"));
        }
        let edit = Self { model, example, parameters, template, text: text.map(Arc::new) };
        let placed = |problem: Problem| match &edit.text {
            Some(text) => problem.in_text(text),
            None => problem,
        };
        let nodes = edit.nodes(None, "").map_err(placed)?;
        writes_only(&nodes).map_err(placed)?;
        Ok(edit)
    }

    /// A trace of the edit alone, with the defaults of its parameters, that reads all logits of an input. What is wrong with it
    /// stands where it stands in the edit's own body.
    ///
    /// # Errors
    /// Parameters that are filled in make no graph.
    pub fn alone(&self, input: Input) -> Result<Request> {
        let mut graph = self.nodes(None, "")?;
        let edits = Edits(vec![Edited { name: None, nodes: graph.len(), copies: 1, text: self.text.clone() }]);
        graph.extend(nodes(&[json!({"op": "save", "value": "logits", "as": "logits"})], "")?);
        Ok(Request {
            model: self.model.clone(),
            inputs: vec![input],
            graph,
            edits,
            edit_args: None,
            sweep: None,
            text: None,
            output: Output::default(),
            timeout_ms: None,
        })
    }

    /// The nodes, with what a request gives as its arguments. The edit stands at a pointer.
    fn nodes(&self, arguments: Option<(&Value, &str)>, at: &str) -> Result<Vec<Node>> {
        let mut values: Vec<f64> = self.parameters.iter().map(|parameter| parameter.default).collect();
        if let Some((value, at)) = arguments {
            self.arguments(value, &mut values).map_err(|problem| problem.below(at))?;
        }
        let filled = self.template.fill(values.into_iter().map(number).collect());
        let (filled, _) = filled.ok_or_else(|| {
            let detail = format!("with its parameters filled in, the edit is more than {MAX_FILLED} bytes");
            Problem::new(Code::TooLarge, detail).at(format!("{at}/graph"))
        })?;
        nodes(&filled, &format!("{at}/graph"))
    }

    /// Reads a request's values of the parameters.
    fn arguments(&self, given: &Value, values: &mut [f64]) -> Result<()> {
        let object =
            given.as_object().ok_or_else(|| Problem::new(Code::Malformed, "an edit's arguments are an object"))?;
        let names = self.template.names();
        for (name, value) in object {
            let Some(i) = names.iter().position(|other| other == name) else {
                let problem = Problem::new(Code::UnknownField, format!("this edit has no parameter `{name}`"));
                return Err(problem.suggest(name, names.iter().map(String::as_str)).under(name));
            };
            let number = value.as_f64().ok_or_else(|| wrong(name, "a number", value))?;
            let Parameter { min, max, .. } = self.parameters[i];
            if !(min..=max).contains(&number) {
                let problem = Problem::new(Code::BadArgument, format!("`{name}` is {number}"));
                return Err(problem.hint(format!("this edit takes {min} to {max}")).under(name));
            }
            values[i] = number;
        }
        Ok(())
    }
}

/// A number as a template takes it: a whole one without a point, so that it may be a layer's.
fn number(value: f64) -> Value {
    match value.fract() == 0.0 && value.abs() < 9e15 {
        true => Value::from(value as i64),
        false => Value::from(value),
    }
}

/// Names and bounds of the parameters.
fn parameters(value: Option<&Value>) -> Result<(Vec<String>, Vec<Parameter>)> {
    let Some(value) = value else { return Ok(Default::default()) };
    let object = value.as_object().ok_or_else(|| wrong("parameters", "an object of parameters by name", value))?;
    if object.len() > MAX_NAMES {
        let detail = format!("an edit has {MAX_NAMES} parameters at most, found {}", object.len());
        return Err(Problem::new(Code::TooLarge, detail).under("parameters"));
    }
    let parsed = object.iter().map(|(name, value)| {
        let parameter = if template::fits(name) { Parameter::parse(name, value) } else { Err(bad_name(name)) };
        parameter.map(|parameter| (name.clone(), parameter)).map_err(|problem| problem.under("parameters"))
    });
    Ok(parsed.collect::<Result<Vec<_>>>()?.into_iter().unzip())
}

fn bad_name(name: &str) -> Problem {
    let problem = Problem::new(Code::BadArgument, format!("{name:?} cannot name a parameter"));
    problem.hint("take letters, digits and `_`").under(name)
}

impl Parameter {
    /// Parses a default, alone or with bounds.
    fn parse(name: &str, value: &Value) -> Result<Self> {
        let (default, min, max) = match value {
            Value::Object(object) => {
                let below = |problem: Problem| problem.under(name);
                let mut fields = Fields::new("a parameter", object);
                fields.need("default").map_err(below)?;
                let mut number = |field| fields.number(field).map_err(below);
                let found = (number("default")?, number("min")?, number("max")?);
                fields.finish().map_err(below)?;
                found
            }
            value => (value.as_f64(), None, None),
        };
        let form = "a number, or {\"default\": 1, \"min\": 0, \"max\": 8}";
        let default = default.ok_or_else(|| wrong(name, form, value))?;
        let (min, max) = (min.unwrap_or(f64::NEG_INFINITY), max.unwrap_or(f64::INFINITY));
        match (min..=max).contains(&default) {
            true => Ok(Self { default, min, max }),
            false => {
                let detail = format!("the default {default} is not between {min} and {max}");
                Err(Problem::new(Code::BadArgument, detail).under("default").under(name))
            }
        }
    }
}

/// An edit writes, on all inputs alike.
fn writes_only(nodes: &[Node]) -> Result<()> {
    let mut open: Vec<&Node> = nodes.iter().rev().collect();
    let mut writes = 0;
    while let Some(node) = open.pop() {
        let input = match &node.action {
            Action::Save { .. } | Action::TopTokens { .. } | Action::Grad { .. } => {
                let problem =
                    Problem::new(Code::Unsupported, format!("an edit only writes: it has no `{}`", node.op()));
                return Err(problem.hint("leave it to the requests that name the edit").at(&node.at));
            }
            Action::Set { target, .. } => target.input.as_deref(),
            Action::Steer(steer) => steer.input.as_deref(),
            Action::Skip { input, .. } => input.as_deref(),
            _ => None,
        };
        writes += usize::from(!node.has_value());
        let read = node.operands().into_iter().find_map(|operand| match &operand.kind {
            OperandKind::Site(site) => site.input.as_deref(),
            _ => None,
        });
        if let Some(input) = input.or(read) {
            let detail = format!("an edit acts on all inputs, and names none: here is `{}`", brief(&input.into()));
            return Err(Problem::new(Code::UnknownInput, detail).hint("leave it out").at(&node.at));
        }
        open.extend(node.operands().into_iter().filter_map(|operand| operand.inline()));
    }
    match writes {
        0 => Err(Problem::new(Code::EmptyWrite, "this edit writes nothing")
            .hint("{\"op\": \"steer\", \"layers\": [10], \"vector\": \"@joy\"}")
            .at("/graph")),
        _ => Ok(()),
    }
}

impl Edits {
    /// Puts the nodes of edits, each under the name that the request has for it, before the request's own, with the request's
    /// arguments. Of several inputs each is edited.
    ///
    /// # Errors
    /// Arguments for an edit that is not there, that it does not have, or beyond their bounds.
    pub(crate) fn apply(
        edits: &[(String, Arc<Edit>)],
        arguments: Option<&Map<String, Value>>,
        inputs: &[&str],
        graph: Vec<Node>,
    ) -> Result<(Self, Vec<Node>)> {
        let known = |name: &&String| !edits.iter().any(|(edit, _)| edit == *name);
        if let Some(name) = arguments.and_then(|arguments| arguments.keys().find(known)) {
            let problem = Problem::new(Code::BadArgument, format!("this request names no edit `{name}`"));
            let problem = problem.suggest(name, edits.iter().map(|(name, _)| name.as_str()));
            return Err(problem.under(name).under("edit_args"));
        }
        let (mut applied, mut all) = (Vec::with_capacity(edits.len()), Vec::new());
        for (place, (name, edit)) in edits.iter().enumerate() {
            let at = format!("/edit_args/{}", escape(name));
            let given = arguments.and_then(|arguments| arguments.get(name)).map(|given| (given, at.as_str()));
            let nodes = edit.nodes(given, &pointer(name))?;
            for (copy, input) in inputs.iter().enumerate() {
                let scope = format!("@{place}.{copy}@");
                let input = (inputs.len() > 1).then_some(*input);
                all.extend(nodes.iter().cloned().map(|node| scoped(node, &scope, input)));
            }
            let (nodes, copies) = (nodes.len(), inputs.len());
            applied.push(Edited { name: Some(name.clone()), nodes, copies, text: edit.text.clone() });
        }
        all.extend(graph);
        Ok((Self(applied), all))
    }

    /// Number of their nodes, which come first in the request's graph.
    pub fn len(&self) -> usize {
        self.0.iter().map(Edited::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The edit of a node, if it is one's, and the node's number there or among the request's own.
    pub fn locate(&self, mut node: usize) -> (Option<&str>, usize) {
        for edited in &self.0 {
            if node < edited.len() {
                return (edited.name.as_deref(), node % edited.nodes);
            }
            node -= edited.len();
        }
        (None, node)
    }

    /// Says of nodes of edits that they touch nothing.
    pub fn untouched(&self, nodes: &[usize]) -> Vec<String> {
        let said = nodes.iter().filter_map(|node| {
            let (name, node) = self.locate(*node);
            let at = pointer(name?);
            Some(format!(
                "{at}/graph/{node} touches nothing: nothing that is read comes after it, or it acts at other steps"
            ))
        });
        said.collect()
    }

    /// Says of a problem in an edit that it is there: its pointer begins with `/edits/NAME`, as what follows points into the edit.
    pub(crate) fn placed(&self, problem: Problem) -> Problem {
        let inside = |edited: &&Edited| {
            let rest = problem.pointer.strip_prefix(&edited.pointer());
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let Some(edited) = self.0.iter().find(inside) else { return problem };
        let at = edited.pointer();
        let problem = Problem { pointer: problem.pointer[at.len()..].to_owned(), ..problem };
        let problem = match &edited.text {
            Some(text) => problem.in_text(text),
            None => problem,
        };
        match &edited.name {
            None => problem,
            Some(name) => {
                let detail = format!("in the edit `{name}`: {}", problem.detail);
                Problem { detail, ..problem }.below(&at)
            }
        }
    }
}

impl Edited {
    fn len(&self) -> usize {
        self.nodes * self.copies
    }

    fn pointer(&self) -> String {
        self.name.as_deref().map(pointer).unwrap_or_default()
    }
}

/// Where problems say that an edit stands.
fn pointer(name: &str) -> String {
    format!("/edits/{}", escape(name))
}

/// A node whose ids no other edit and no request has, and which acts on an input.
fn scoped(mut node: Node, scope: &str, input: Option<&str>) -> Node {
    let input = input.map(String::from);
    node.id = node.id.map(|id| format!("{scope}{id}"));
    let mut open = vec![&mut node];
    while let Some(node) = open.pop() {
        match &mut node.action {
            Action::Set { target, .. } => target.input.clone_from(&input),
            Action::Steer(steer) => steer.input.clone_from(&input),
            Action::Skip { input: of, .. } => of.clone_from(&input),
            _ => {}
        }
        for operand in node.operands_mut() {
            match &mut operand.kind {
                OperandKind::Node { id, .. } => id.insert_str(0, scope),
                OperandKind::Site(site) => site.input.clone_from(&input),
                OperandKind::Inline(node) => open.push(node),
                _ => {}
            }
        }
    }
    node
}

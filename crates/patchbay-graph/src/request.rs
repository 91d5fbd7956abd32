//! A request as it came: the model, the inputs, the graph, and how the answer is to be written.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::conversation::Conversation;
use crate::dtype::DType;
use crate::edit::{Edit, Edits};
use crate::fields::{Fields, brief, wrong};
use crate::node::Node;
use crate::problem::{Code, Problem, Result, escape};
use crate::sweep::Sweep;
use crate::text::{SourceMap, TextGraph};

/// Name of the input where the request has only one.
pub const ONLY_INPUT: &str = "input";

/// The body of a trace, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Which model; none only where there is one to take.
    pub model: Option<String>,
    /// The inputs, in the order of the request.
    pub inputs: Vec<Input>,
    /// The nodes, those of edits first; of a sweep, those of its first cell.
    pub graph: Vec<Node>,
    /// The edits before the request's own nodes.
    pub edits: Edits,
    /// Values of the edits' parameters, by edit.
    pub(crate) edit_args: Option<Map<String, Value>>,
    /// The sweep, if it is one.
    pub sweep: Option<Sweep>,
    /// Where the nodes stand in the text, if the graph came as text.
    pub text: Option<Arc<SourceMap>>,
    /// How the answer is written.
    pub output: Output,
    /// Milliseconds that it may take; as the server says, where nothing stands here.
    pub timeout_ms: Option<u64>,
}

/// A named input.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// JSON pointer to its rows: to the list of them, or to the only one.
    pub at: String,
    /// Its rows.
    pub rows: Vec<InputRow>,
}

/// One row of an input, before it is tokenized.
#[derive(Clone, Debug, PartialEq)]
pub enum InputRow {
    /// A text.
    Text {
        /// The text.
        text: String,
        /// Whether the tokenizer adds the special tokens that it adds by default; where nothing stands here, it does at the beginning
        /// of a sequence.
        add_special_tokens: Option<bool>,
    },
    /// Token ids.
    Ids(Vec<u32>),
    /// A conversation, for the model's chat template.
    Messages(Box<Conversation>),
}

/// How the answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// The form of tensors; none where the `Accept` header decides.
    pub encoding: Option<Encoding>,
    /// Type that floats are converted to.
    pub dtype: Option<DType>,
}

/// The form of tensors in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Nested lists of numbers.
    Json,
    /// Base64 of the little-endian bytes.
    Base64,
    /// The whole body is one safetensors file.
    Safetensors,
}

impl Input {
    /// JSON pointer to a row. A text or a conversation may stand for an input of one row; others are lists.
    pub fn place(&self, row: usize) -> String {
        match &self.rows[..] {
            [InputRow::Text { .. } | InputRow::Messages(_)] => self.at.clone(),
            _ => format!("{}/{row}", self.at),
        }
    }
}

impl Request {
    /// Parses the body of `/v1/trace` or `/v1/validate`.
    ///
    /// # Errors
    /// Whatever is not as the protocol has it, with a pointer to it.
    pub fn parse(body: &Value) -> Result<Self> {
        Self::parse_as("a trace", body, |fields| fields.need("graph").map(drop)).map(|(request, ())| request)
    }

    /// Parses a body that has more fields than a trace, and need not have a graph.
    ///
    /// # Errors
    /// Whatever is not as the protocol has it, with a pointer to it.
    pub fn parse_as<T>(what: &str, body: &Value, more: impl FnOnce(&mut Fields<'_>) -> Result<T>) -> Result<(Self, T)> {
        let object = body.as_object().ok_or_else(|| Problem::new(Code::Malformed, "the body is a JSON object"))?;
        let mut fields = Fields::new(what, object);
        let model = fields.text("model")?.map(String::from);
        let inputs = inputs(fields.get("input"), fields.get("inputs"))?;
        let more = more(&mut fields)?;
        let (list, text) = fields.get("graph").map(list).transpose()?.unwrap_or_default();
        let sweep = fields.get("sweep").map(|axes| Sweep::parse(axes, &list)).transpose();
        let sweep = sweep.map_err(|problem| problem.under("sweep"))?;
        let graph = match &sweep {
            None => nodes(&list, "/graph"),
            Some(sweep) => sweep.nodes(0),
        };
        let graph = graph.map_err(|problem| match &text {
            Some(text) => problem.in_text(text),
            None => problem,
        })?;
        let edit_args = fields.get("edit_args").map(edit_args).transpose()?;
        let output = fields.get("output").map(output).transpose().map_err(|problem| problem.under("output"))?;
        // whether it is a job is the server's business, and changes nothing of what it is
        fields.flag("async")?;
        fields.get("timeout_ms");
        let timeout_ms = timeout_ms(body)?;
        fields.finish()?;
        let text = text.map(Arc::new);
        let (edits, output) = (Edits::default(), output.unwrap_or_default());
        Ok((Self { model, inputs, graph, edits, edit_args, sweep, text, output, timeout_ms }, more))
    }

    /// Puts edits before its own nodes, each under the name that it has for it.
    ///
    /// # Errors
    /// Its arguments are for an edit that is not there, are none of the edit's, or beyond their bounds.
    pub fn edit(&mut self, edits: &[(String, Arc<Edit>)]) -> Result<()> {
        let inputs: Vec<&str> = self.inputs.iter().map(|input| input.name.as_str()).collect();
        let graph = std::mem::take(&mut self.graph);
        (self.edits, self.graph) = Edits::apply(edits, self.edit_args.as_ref(), &inputs, graph)?;
        Ok(())
    }

    /// The request of a sweep's cell, whose own nodes are these.
    pub(crate) fn of_cell(&self, own: Vec<Node>) -> Self {
        let Self { model, inputs, edits, edit_args, text, output, timeout_ms, .. } = self;
        let (model, inputs, text) = (model.clone(), inputs.clone(), text.clone());
        let graph = self.graph[..edits.len()].iter().cloned().chain(own).collect();
        let (edits, edit_args) = (edits.clone(), edit_args.clone());
        Self { model, inputs, graph, edits, edit_args, sweep: None, text, output: *output, timeout_ms: *timeout_ms }
    }

    /// A problem with its place in the text, where the graph, or the edit that it is in, came as text.
    pub(crate) fn placed(&self, problem: Problem) -> Problem {
        match &self.text {
            Some(text) => self.edits.placed(problem.in_text(text)),
            None => self.edits.placed(problem),
        }
    }
}

fn edit_args(value: &Value) -> Result<Map<String, Value>> {
    value.as_object().cloned().ok_or_else(|| wrong("edit_args", "an object of arguments by edit", value))
}

/// The nodes as JSON, from a list or from the text form, which may be a list of its lines.
pub(crate) fn list(value: &Value) -> Result<(Cow<'_, [Value]>, Option<SourceMap>)> {
    match value {
        Value::Array(list) => match lines(list) {
            Some(source) => text(&source),
            None => Ok((Cow::Borrowed(list), None)),
        },
        Value::String(source) => text(source),
        value => Err(wrong("graph", "a list of nodes, or their text form", value)),
    }
}

/// The text that a list of strings holds line by line; none if anything else is among them.
fn lines(list: &[Value]) -> Option<String> {
    let lines: Vec<&str> = list.iter().map(Value::as_str).collect::<Option<_>>()?;
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn text(source: &str) -> Result<(Cow<'static, [Value]>, Option<SourceMap>)> {
    let TextGraph { nodes, map } = TextGraph::parse(source)?;
    Ok((Cow::Owned(nodes), Some(map)))
}

/// The nodes of a list that stands at a pointer.
pub(crate) fn nodes(list: &[Value], at: &str) -> Result<Vec<Node>> {
    let node = |(i, node): (usize, &Value)| {
        let at = format!("{at}/{i}");
        match node.as_object() {
            Some(object) => Node::parse(object, &at, 0).map_err(|problem| problem.below(&at)),
            None => Err(Problem::new(Code::Malformed, "a node is an object with `op`")
                .hint("{\"op\": \"save\", \"value\": \"logits[:, -1]\", \"as\": \"x\"}")
                .at(at)),
        }
    };
    list.iter().enumerate().map(node).collect()
}

fn output(value: &Value) -> Result<Output> {
    let object = value.as_object().ok_or_else(|| Problem::new(Code::Malformed, "`output` is an object"))?;
    let mut fields = Fields::new("`output`", object);
    let encoding = match fields.text("encoding")? {
        None => None,
        Some("json") => Some(Encoding::Json),
        Some("base64") => Some(Encoding::Base64),
        Some("safetensors") => Some(Encoding::Safetensors),
        Some(other) => {
            let problem = Problem::new(Code::BadArgument, format!("there is no encoding `{other}`"));
            return Err(problem.suggest(other, ["json", "base64", "safetensors"]).under("encoding"));
        }
    };
    let dtype = match fields.text("dtype")? {
        None => None,
        Some(name) => match DType::from_name(name).filter(|dtype| dtype.is_float()) {
            Some(dtype) => Some(dtype),
            None => {
                let problem = Problem::new(Code::DtypeMismatch, format!("floats cannot be written as `{name}`"));
                return Err(problem.suggest(name, ["f32", "f16", "bf16", "f64"]).under("dtype"));
            }
        },
    };
    fields.finish()?;
    Ok(Output { encoding, dtype })
}

/// How long a request may take, which is known before anything else of its body is read.
///
/// # Errors
/// `timeout_ms` is there, and is no time.
pub fn timeout_ms(body: &Value) -> Result<Option<u64>> {
    let found = body.get("timeout_ms").filter(|value| !value.is_null());
    let time = |value: &Value| {
        let time = value.as_u64().filter(|time| *time > 0);
        time.ok_or_else(|| wrong("timeout_ms", "a whole number of milliseconds, 1 or more", value))
    };
    found.map(time).transpose()
}

fn inputs(one: Option<&Value>, several: Option<&Value>) -> Result<Vec<Input>> {
    match (one, several) {
        (Some(value), None) => Ok(vec![example(value)?]),
        (None, Some(Value::Object(named))) if !named.is_empty() => {
            named.iter().map(|(name, value)| named_input(name, value)).collect()
        }
        (None, Some(value)) => Err(wrong("inputs", "an object of named inputs", value)),
        (Some(_), Some(_)) => {
            Err(Problem::new(Code::Malformed, "a request has either `input` or `inputs`").under("inputs"))
        }
        (None, None) => Err(Problem::new(Code::MissingField, "a trace needs the field `input`, or `inputs` by name")
            .hint("\"input\": \"The capital of France is\"")),
    }
}

/// An input as a field `input` has it.
pub(crate) fn example(value: &Value) -> Result<Input> {
    input(ONLY_INPUT, "/input".into(), value)
}

fn named_input(name: &str, value: &Value) -> Result<Input> {
    let at = format!("/inputs/{}", escape(name));
    if name.is_empty() || name.contains(['/', '[', ']', '$', '@', '"', '\'']) {
        let problem = Problem::new(Code::BadArgument, format!("{name:?} cannot name an input")).at(at);
        return Err(problem.hint("take letters, digits, `_` and `-`"));
    }
    input(name, at, value)
}

fn input(name: &str, at: String, value: &Value) -> Result<Input> {
    let (at, rows) = match value {
        Value::Array(items) if items.iter().all(Value::is_number) && !items.is_empty() => {
            let problem = Problem::new(Code::Malformed, "token ids come as a list of lists, one a row");
            return Err(problem.hint("put the list into another: [[…]]").at(at));
        }
        Value::Array(items) => {
            let row = |(i, item): (usize, &Value)| row(item).map_err(|problem| problem.under(i).below(&at));
            let rows = items.iter().enumerate().map(row).collect::<Result<_>>()?;
            (at, rows)
        }
        Value::Object(object) => {
            let (field, rows) = object_rows(object).map_err(|problem| problem.below(&at))?;
            (format!("{at}/{field}"), rows)
        }
        value => {
            let row = row(value).map_err(|problem| problem.below(&at))?;
            (at, vec![row])
        }
    };
    if rows.is_empty() {
        let problem = Problem::new(Code::Malformed, "an input has at least one row").at(at);
        return Err(problem.hint("a row is a text or a list of token ids"));
    }
    Ok(Input { name: name.into(), at, rows })
}

/// One row.
fn row(value: &Value) -> Result<InputRow> {
    match value {
        Value::String(text) => Ok(InputRow::Text { text: text.into(), add_special_tokens: None }),
        Value::Array(ids) => {
            let id = |(i, id)| token(id).map_err(|problem| problem.under(i));
            ids.iter().enumerate().map(id).collect::<Result<_>>().map(InputRow::Ids)
        }
        Value::Object(object) => {
            let (field, mut rows) = object_rows(object)?;
            match (rows.pop(), rows.is_empty()) {
                (Some(row), true) => Ok(row),
                _ => Err(Problem::new(Code::Malformed, "an item of a list of rows is one row")
                    .hint("write one object a text")
                    .under(field)),
            }
        }
        _ => Err(Problem::new(
            Code::Malformed,
            "a row is a string, a list of token ids, {\"text\": …} or {\"messages\": […]}",
        )),
    }
}

fn token(value: &Value) -> Result<u32> {
    let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
    id.ok_or_else(|| wrong_value("a token id is a whole number", value))
}

/// The rows of an input object, and the field they stand in.
fn object_rows(object: &Map<String, Value>) -> Result<(&'static str, Vec<InputRow>)> {
    let mut fields = Fields::new("an input", object);
    let found = match (fields.get("text"), fields.get("messages")) {
        (Some(text), None) => ("text", texts(&mut fields, text)?),
        (None, Some(messages)) => {
            ("messages", vec![InputRow::Messages(Box::new(Conversation::parse(&mut fields, messages)?))])
        }
        _ => return Err(Problem::new(Code::MissingField, "an input object has either `text` or `messages`")),
    };
    fields.finish()?;
    Ok(found)
}

fn texts(fields: &mut Fields<'_>, value: &Value) -> Result<Vec<InputRow>> {
    let add_special_tokens = fields.flag("add_special_tokens")?;
    let row = |text: &str| InputRow::Text { text: text.into(), add_special_tokens };
    match value {
        Value::String(text) => Ok(vec![row(text)]),
        Value::Array(texts) => {
            let text = |(i, text): (usize, &Value)| {
                let found = text.as_str().map(row);
                found.ok_or_else(|| wrong_value("a text is a string", text).under(i).under("text"))
            };
            texts.iter().enumerate().map(text).collect()
        }
        value => Err(wrong("text", "a string or a list of strings", value)),
    }
}

fn wrong_value(expected: &str, found: &Value) -> Problem {
    Problem::new(Code::Malformed, format!("{expected}, found {}", brief(found)))
}

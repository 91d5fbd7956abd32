//! The answer to a trace, and the contract's picture of its request.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::sync::Arc;

use patchbay_engine::{Held, Receipt, Usage};
use patchbay_graph::{Edits, Encoding};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::generation::OutputBody;
use super::result::{HandleBody, NamedResults, ResultBody, as_map, number};
use super::session::SessionBody;
use super::tensor_body::{TensorBody, TensorSchema};
use super::tokens::InputTokens;
use super::{JSON, SAFETENSORS, safetensors};
use crate::recipes::picture::Drawn;

/// The body of a trace. It is parsed by `patchbay_graph::Request`, whose errors point into it; this is its picture in
/// the contract.
#[derive(ToSchema)]
#[schema(example = json!({
    "model": "smollm2",
    "input": "The capital of France is",
    "graph": [
        {"op": "save", "value": "layers.5.output[:, -1]", "as": "h"},
        {"op": "top_tokens", "value": "logits[:, -1]", "k": 1, "as": "next"}
    ]
}))]
pub struct TraceRequest {
    /// The model; may be left out where the server has only one. `smollm2+calm+terse` runs it with edits.
    pub model: Option<String>,
    /// Values of the edits' parameters, by edit: `{"calm": {"factor": 2}}`.
    pub edit_args: Option<BTreeMap<String, BTreeMap<String, f64>>>,
    /// The only input, which is then named `input`.
    pub input: Option<Rows>,
    /// Several inputs by name, instead of `input`.
    pub inputs: Option<BTreeMap<String, Rows>>,
    /// The nodes, or a text that says the same, one a line; the text may be a list of its lines.
    pub graph: Graph,
    /// Axes by name, each a list of values or `{"range": [start, stop, step]}`: the graph runs for every combination, with
    /// `{name}` in its strings replaced.
    pub sweep: Option<BTreeMap<String, Value>>,
    /// How the answer is written.
    pub output: Option<OutputOptions>,
    /// Answers with a job as soon as it was let in: `GET /v1/jobs/{id}/result` has what comes of it.
    pub r#async: Option<bool>,
    /// Milliseconds that it may take until its answer begins; then it is stopped, and answered with 504.
    #[schema(minimum = 1, example = 60000)]
    pub timeout_ms: Option<u64>,
}

/// Rows of an input: a text, a list of texts, a list of lists of token ids, `{"text": …, "add_special_tokens": bool}` or
/// `{"messages": […]}`, the messages with `tools`, `documents`, `add_generation_prompt` (true if nothing is said) and
/// `chat_template_kwargs` beside them where the chat template takes these.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(example = json!("The capital of France is"))]
pub enum Rows {
    /// One text.
    Text(String),
    /// Texts or lists of token ids, one a row.
    List(Vec<Value>),
    /// `{"text": …, "add_special_tokens": bool}` or `{"messages": […], "tools": […], "documents": […],
    /// "add_generation_prompt": bool, "continue_final_message": bool,
    /// "chat_template_kwargs": {…}}`.
    Object(BTreeMap<String, Value>),
}

/// A graph: a list of nodes, or their text form, one a line: `layers[10].output[:, -1] += 0.5 * @joy`,
/// `p = softmax(logits[:, -1], -1)`, `save p as probs`.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(example = json!("save layers.5.output[:, -1] as h\ntop_tokens(logits[:, -1], k=1) as next"))]
pub enum Graph {
    /// The nodes.
    Nodes(Vec<Node>),
    /// The text form.
    Text(String),
    /// The text form, line by line.
    Lines(Vec<String>),
}

/// A node of a graph: `op` says what it does, `id` names its value for others, and the other fields are the operation's.
#[derive(ToSchema)]
#[schema(example = json!({"op": "save", "value": "layers.5.output[:, -1]", "as": "h"}))]
pub struct Node {
    /// The operation: `save`, `set`, `steer`, `skip`, `project_on_vocab`, `top_tokens` or a tensor operation.
    pub op: String,
    /// The name by which other nodes use its value, as `"$id"`.
    pub id: Option<String>,
    /// What the operation takes.
    #[serde(flatten)]
    pub fields: BTreeMap<String, Value>,
}

/// How an answer is written.
#[derive(ToSchema)]
pub struct OutputOptions {
    /// `json` (nested lists), `base64` or `safetensors`; without it the `Accept` header decides.
    #[schema(example = "base64")]
    pub encoding: Option<String>,
    /// The type that floats are converted to: `f16`, `bf16`, `f32` or `f64`.
    #[schema(example = "f32")]
    pub dtype: Option<String>,
}

/// The answer to a trace.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct TraceResponse {
    /// Name of this run.
    #[schema(example = "trace-2f8a0f1c")]
    pub id: String,
    /// The model.
    #[schema(example = "smollm2")]
    pub model: String,
    /// Of a generation: the new tokens, one entry a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Vec<OutputBody>>,
    /// The results, in the order of the graph.
    #[schema(value_type = BTreeMap<String, ResultSchema>)]
    pub results: NamedResults,
    /// The tokens of every input.
    #[serde(serialize_with = "as_map")]
    #[schema(value_type = BTreeMap<String, InputTokens>)]
    pub inputs: Vec<(String, InputTokens)>,
    /// One line for every write that ran.
    pub receipts: Vec<ReceiptBody>,
    /// What it took.
    #[schema(value_type = UsageSchema)]
    pub usage: Usage,
    /// Of a generation: the seed, which gives the same text once more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Of a generation that is kept: its session, with which later ones go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionBody>,
    /// Doubts about the model: its architecture is not proven, or one of its load-time checks failed. What of an edit touched
    /// nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What a recipe tells of its results.
    #[serde(flatten)]
    #[schema(value_type = BTreeMap<String, Value>)]
    pub notes: Map<String, Value>,
}

/// A result: a tensor, or tokens.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum ResultSchema {
    /// A tensor.
    Tensor(TensorSchema),
    /// What `top_tokens` gives.
    Tokens(TokensSchema),
    /// A tensor in the caller's store, where an event tells of a large one.
    Handle(HandleBody),
    /// Lists of texts, of the recipe `patchscope-generate`.
    Texts(Vec<Value>),
}

/// What `top_tokens` gives: at each place the likeliest tokens, best first. The outer lists are nested as the places are.
#[derive(ToSchema)]
#[schema(example = json!({"tokens": [[{"id": 7042, "text": " Paris", "prob": 0.71, "logit": 18.2}]]}))]
pub struct TokensSchema {
    /// Nested lists of tokens.
    pub tokens: Vec<Value>,
}

/// A write that ran.
#[derive(Clone, Debug, PartialEq, serde::Serialize, ToSchema)]
#[schema(as = Receipt, example = json!({
    "node": 0, "site": "layers.5.output", "input": "input", "rows": 1, "positions": 5, "delta_norm": 12.3
}))]
pub struct ReceiptBody {
    /// The edit whose node it is, if it is not the request's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edit: Option<String>,
    /// Number of the node in its graph.
    pub node: usize,
    /// The cell of a sweep: its place on every axis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cell: Option<Vec<usize>>,
    /// The site.
    pub site: String,
    /// Name of the input.
    pub input: String,
    /// Rows touched.
    pub rows: usize,
    /// Token positions touched, over all rows.
    pub positions: usize,
    /// Euclidean norm of the change, over all elements.
    #[serde(serialize_with = "number")]
    #[schema(value_type = NumberSchema)]
    pub delta_norm: f64,
}

impl ReceiptBody {
    /// Of a write of a request, or of one of the edits before its nodes.
    pub(crate) fn new(receipt: Receipt, edits: &Edits) -> Self {
        let Receipt { node, cell, site, input, rows, positions, delta_norm } = receipt;
        let (edit, node) = edits.locate(node);
        Self { edit: edit.map(String::from), node, cell, site, input, rows, positions, delta_norm }
    }
}

/// A number; one that is not finite is `"NaN"`, `"Infinity"` or `"-Infinity"`.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(as = Number, example = json!(12.3))]
pub enum NumberSchema {
    /// A finite one.
    Finite(f64),
    /// The name of another.
    NotFinite(String),
}

/// What a run took.
#[derive(ToSchema)]
#[schema(as = Usage, example = json!({
    "prompt_tokens": 5, "new_tokens": 0, "passes": 1, "layers_run": 30, "layer_count": 30, "token_layers": 150, "shared": 0, "co_batched": 1,
    "queue_ms": 0.1, "compute_ms": 40.2
}))]
pub struct UsageSchema {
    /// Tokens of all inputs; of a generation, those before the first new one.
    pub prompt_tokens: usize,
    /// How many of them were not computed, as their keys had been kept: in a session, or of a prompt that began alike.
    pub cached_tokens: Option<usize>,
    /// Tokens generated.
    pub new_tokens: usize,
    /// Cells of a sweep.
    pub cells: Option<usize>,
    /// Parts that the rows ran in, where all of them together would have held too much.
    pub parts: Option<usize>,
    /// Walks through the layers.
    pub passes: usize,
    /// Blocks run, over all passes.
    pub layers_run: usize,
    /// Blocks of the model.
    pub layer_count: usize,
    /// Tokens times blocks that ran for it. What it had in common with others counts in equal parts.
    pub token_layers: usize,
    /// Tokens times blocks that did not have to run, as its rows, its cells, or it and other requests, had them in common.
    pub shared: usize,
    /// Requests that shared a wave, this one included.
    pub co_batched: usize,
    /// Milliseconds from arrival to start.
    pub queue_ms: f64,
    /// Milliseconds from start to end.
    pub compute_ms: f64,
}

/// Bytes of elements that an answer is short with.
const SHORT: usize = 4 << 10;

/// An answer, and the form that was asked for.
#[derive(Debug)]
pub struct TraceAnswer {
    /// What it says.
    pub response: TraceResponse,
    /// Its form.
    pub encoding: Encoding,
    /// The memory of its results, let go with it.
    pub held: Option<Arc<Held>>,
    /// How it is drawn, if it can be.
    pub picture: Option<Drawn>,
}

impl TraceAnswer {
    /// Its media type.
    pub fn media_type(&self) -> &'static str {
        match self.encoding {
            Encoding::Json | Encoding::Base64 => JSON,
            Encoding::Safetensors => SAFETENSORS,
        }
    }

    /// Writes the body: JSON, or one safetensors file of the tensors with the response, less their elements, as JSON in the
    /// metadata key `response`. Elements are read while they are written, so that it takes no memory of its own. How long it will
    /// be is told before, where that is known.
    ///
    /// # Errors
    /// When the elements cannot be read, or the body not be written.
    pub fn write(&self, out: &mut impl Write, length: impl FnOnce(u64)) -> io::Result<()> {
        if self.encoding != Encoding::Safetensors {
            return Ok(serde_json::to_writer(out, &self.response)?);
        }
        let response = serde_json::to_string(&self.response)?;
        let tensors = self.response.results.0.iter().filter_map(|(name, result)| match result {
            ResultBody::Tensor(body) => Some((name.as_str(), &body.tensor)),
            ResultBody::Tokens { .. } | ResultBody::Handle(_) | ResultBody::Texts(_) => None,
        });
        let file = safetensors::File::new(tensors, HashMap::from([("response".to_owned(), response)]))?;
        length(file.byte_len());
        file.write(out)
    }

    /// The same with its tensors out of memory, so that it can be kept.
    ///
    /// # Errors
    /// When their elements cannot be read or written.
    pub fn at_rest(mut self) -> io::Result<Self> {
        let rest = |(name, result)| match result {
            ResultBody::Tensor(TensorBody { tensor, form }) => {
                Ok((name, ResultBody::Tensor(TensorBody { tensor: tensor.at_rest()?, form })))
            }
            other => Ok((name, other)),
        };
        let results = self.response.results.0.into_iter().map(rest).collect::<io::Result<_>>()?;
        self.response.results = NamedResults(results);
        Ok(Self { held: None, ..self })
    }

    /// Bytes of its tensors' elements.
    pub fn byte_len(&self) -> u64 {
        self.response.results.0.iter().map(|(_, result)| result.weight() as u64).sum()
    }

    /// Whether it is written sooner than another thread would wake.
    pub fn is_short(&self) -> bool {
        let TraceResponse { results, inputs, receipts, .. } = &self.response;
        let results: usize = results.0.iter().map(|(_, result)| result.weight()).sum();
        let mut tokens: usize = inputs.iter().flat_map(|(_, input)| &input.lengths).sum();
        tokens += self.response.outputs.iter().flatten().map(|output| 4 * output.ids.len()).sum::<usize>();
        results + 8 * (tokens + receipts.len()) <= SHORT
    }

    /// The whole body.
    ///
    /// # Errors
    /// When the elements cannot be read.
    pub fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write(&mut bytes, |_| ())?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use patchbay_engine::{Answer, TokenScore};
    use patchbay_graph::DType;
    use serde_json::json;

    use super::*;
    use crate::wire::result::Style;

    fn response(encoding: Encoding) -> TraceAnswer {
        let tensor = candle_core::Tensor::new(&[[0.1f32, 2.0]], &candle_core::Device::Cpu).unwrap();
        let shape = patchbay_graph::Shape::dense([1, 2]);
        let score = TokenScore { id: 7, prob: 0.71, logit: 18.2 };
        let tensor = Answer::Tensor { tensor, shape, dtype: DType::F32 };
        let tokens = Answer::Tokens { dims: vec![1], tokens: vec![vec![score]] };
        let result = |answer| Style { encoding, convert: None, tokenizer: None }.result(answer).unwrap();
        let response = TraceResponse {
            id: "t".into(),
            model: "m".into(),
            outputs: None,
            results: NamedResults(vec![("h".into(), result(tensor)), ("next".into(), result(tokens))]),
            inputs: vec![("input".into(), InputTokens { ids: vec![vec![1]], tokens: None, lengths: vec![1] })],
            receipts: Vec::new(),
            usage: Usage::default(),
            seed: None,
            session: None,
            warnings: Vec::new(),
            notes: Map::new(),
        };
        TraceAnswer { response, encoding, held: None, picture: None }
    }

    #[test]
    fn json_is_as_the_protocol_shows_it() {
        let text = String::from_utf8(response(Encoding::Json).bytes().unwrap()).unwrap();
        assert!(
            text.starts_with(concat!(
                r#"{"id":"t","model":"m","results":{"h":{"dtype":"f32","shape":[1,2],"data":[[0.1,2.0]]},"#,
                r#""next":{"tokens":[[{"id":7,"text":null,"prob":0.71,"logit":18.2}]]}},"#,
                r#""inputs":{"input":{"ids":[[1]],"lengths":[1]}},"receipts":[],"usage":{"prompt_tokens":0,"#
            )),
            "{text}"
        );
    }

    #[test]
    fn safetensors_carry_the_rest_of_the_response() {
        let file = response(Encoding::Safetensors).bytes().unwrap();
        let (_, header) = ::safetensors::SafeTensors::read_metadata(&file).unwrap();
        let rest: Value = serde_json::from_str(&header.metadata().as_ref().unwrap()["response"]).unwrap();
        assert_eq!(rest["results"]["h"], json!({"dtype": "f32", "shape": [1, 2]}));
        assert_eq!(rest["results"]["next"]["tokens"][0][0]["id"], 7);
        assert_eq!(safetensors::read(&file).unwrap()[0].0, "h");
    }
}

//! OpenAI's endpoints.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream, StreamExt};
use serde_json::Value;
use utoipa::ToSchema;

use crate::generation::{Generating, Told};
use crate::http::body::JsonBody;
use crate::http::events::BEAT;
use crate::openai::Kind;
use crate::openai::answered::Writer;
use crate::openai::asked::Asked;
use crate::openai::embedding::{Embedding, EmbeddingList};
use crate::openai::error::{ErrorBody, placed};
use crate::progress::Progress;
use crate::wire::PROBLEM;
use crate::{Caller, Failure, ProblemDetails, Service};

/// A chat, as OpenAI's clients ask for it. `patchbay` has a graph that acts while the model writes.
#[derive(ToSchema)]
#[schema(example = json!({"model": "smollm2", "messages": [{"role": "user", "content": "Hello!"}], "max_completion_tokens": 16}))]
#[allow(dead_code, reason = "a picture in the contract")]
pub(in crate::http) struct ChatRequest {
    /// The model; `smollm2+calm+terse` runs it with edits.
    pub model: Option<String>,
    /// Values of the edits' parameters, by edit: `{"calm": {"factor": 2}}`.
    pub edit_args: Option<BTreeMap<String, BTreeMap<String, f64>>>,
    /// The messages, for the model's chat template.
    pub messages: Vec<Value>,
    /// `{"graph": …, "output": …, "session": …, "keep": …}`: what is read and changed while the model writes, with what it goes on, and how
    /// long it is kept, as in `/v1/generate`.
    pub patchbay: Option<Value>,
    /// OpenAI's other fields: `max_completion_tokens`, `temperature`, `top_p`, `n`, `stop`, `seed`, `logit_bias`, `presence_penalty`,
    /// `frequency_penalty`, `logprobs`, `top_logprobs`, `stream`, `stream_options`, `response_format`, `tools`, `tool_choice`; and `top_k`,
    /// `min_p`, `repetition_penalty`.
    #[serde(flatten)]
    pub fields: BTreeMap<String, Value>,
}

/// A completion, as OpenAI's clients ask for it.
#[derive(ToSchema)]
#[schema(example = json!({"model": "smollm2", "prompt": "The capital of France is", "max_tokens": 8}))]
#[allow(dead_code, reason = "a picture in the contract")]
pub(in crate::http) struct CompletionRequest {
    /// The model; `smollm2+calm+terse` runs it with edits.
    pub model: Option<String>,
    /// Values of the edits' parameters, by edit: `{"calm": {"factor": 2}}`.
    pub edit_args: Option<BTreeMap<String, BTreeMap<String, f64>>>,
    /// A text, token ids, or a list of either.
    pub prompt: Value,
    /// `{"graph": …, "output": …, "session": …, "keep": …}`: what is read and changed while the model writes, with what it goes on, and how
    /// long it is kept, as in `/v1/generate`.
    pub patchbay: Option<Value>,
    /// OpenAI's other fields: `max_tokens`, `temperature`, `top_p`, `n`, `stop`, `seed`, `logit_bias`, `presence_penalty`,
    /// `frequency_penalty`, `logprobs`, `echo`, `stream`, `stream_options`; and `top_k`, `min_p`, `repetition_penalty`, `constraint`.
    #[serde(flatten)]
    pub fields: BTreeMap<String, Value>,
}

/// Texts to turn into vectors, as OpenAI's clients ask for them.
#[derive(ToSchema)]
#[schema(example = json!({"model": "smollm2", "input": ["Paris", "London"], "patchbay": {"site": "layers.12.output", "pooling": "mean"}}))]
#[allow(dead_code, reason = "a picture in the contract")]
pub(in crate::http) struct EmbeddingRequest {
    /// The model; `smollm2+calm+terse` runs it with edits.
    pub model: Option<String>,
    /// Values of the edits' parameters, by edit: `{"calm": {"factor": 2}}`.
    pub edit_args: Option<BTreeMap<String, BTreeMap<String, f64>>>,
    /// A text, token ids, or a list of either.
    pub input: Value,
    /// `float` or `base64`.
    pub encoding_format: Option<String>,
    /// Only so many of the first numbers of each vector.
    pub dimensions: Option<usize>,
    /// `{"site": "ln_final.output", "pooling": "mean", "normalize": true}`: what is read, how it is pooled over the tokens (`mean`, `max`,
    /// `first` or `last`), and whether it is scaled to length 1; each may be left out.
    pub patchbay: Option<Value>,
    /// OpenAI's `user`, which changes nothing.
    #[serde(flatten)]
    pub fields: BTreeMap<String, Value>,
}

/// Turn texts into vectors, as OpenAI's API has it.
///
/// A vector is what a site holds of a text, pooled over its tokens.
#[utoipa::path(
    post, path = "/v1/embeddings", tag = "openai", request_body = EmbeddingRequest,
    responses(
        (status = 200, description = "OpenAI's list of embeddings", body = EmbeddingList),
        (status = "4XX", description = "What is wrong", body = ErrorBody),
        (status = "5XX", description = "The server is busy, or failed", body = ErrorBody)
    )
)]
pub(in crate::http) async fn embed(
    State(service): State<Arc<Service>>,
    caller: Caller,
    JsonBody(body): JsonBody,
) -> Result<Json<EmbeddingList>, Failure> {
    let asked = Embedding::parse(&body)?;
    let chosen = service.choose(asked.body.get("model").and_then(Value::as_str), &caller)?;
    asked.check(chosen.model.ready()?.tree())?;
    let answer = service.trace(asked.body.clone(), None, &caller).await.map_err(Embedding::placed)?;
    Ok(Json(asked.answer(&answer.response)?))
}

/// Chat with a model, as OpenAI's API has it.
///
/// With `"stream": true` the answer is chunks as server-sent events, with `[DONE]` at the end.
#[utoipa::path(
    post, path = "/v1/chat/completions", tag = "openai", request_body = ChatRequest,
    responses(
        (status = 200, description = "OpenAI's chat completion", content(
            (Value = "application/json"),
            (String = "text/event-stream")
        )),
        (status = "4XX", description = "What is wrong", body = ErrorBody),
        (status = "5XX", description = "The server is busy, or failed", body = ErrorBody)
    )
)]
pub(in crate::http) async fn chat(
    State(service): State<Arc<Service>>,
    caller: Caller,
    JsonBody(body): JsonBody,
) -> Result<Response<Body>, Failure> {
    completed(&service, Kind::Chat, &body, &caller).await
}

/// Go on with a text, as OpenAI's API has it.
///
/// With `"stream": true` the answer is chunks as server-sent events, with `[DONE]` at the end.
#[utoipa::path(
    post, path = "/v1/completions", tag = "openai", request_body = CompletionRequest,
    responses(
        (status = 200, description = "OpenAI's completion", content(
            (Value = "application/json"),
            (String = "text/event-stream")
        )),
        (status = "4XX", description = "What is wrong", body = ErrorBody),
        (status = "5XX", description = "The server is busy, or failed", body = ErrorBody)
    )
)]
pub(in crate::http) async fn complete(
    State(service): State<Arc<Service>>,
    caller: Caller,
    JsonBody(body): JsonBody,
) -> Result<Response<Body>, Failure> {
    completed(&service, Kind::Text, &body, &caller).await
}

async fn completed(
    service: &Arc<Service>,
    kind: Kind,
    body: &Value,
    caller: &Caller,
) -> Result<Response<Body>, Failure> {
    let mut asked = Asked::parse(kind, body)?;
    if asked.tools.is_some() {
        let model = service.choose(asked.body.get("model").and_then(Value::as_str), caller)?.model.ready()?;
        asked.speak(model.tokenizer.as_ref())?;
    }
    let generating = service.generate(asked.body.clone(), kind == Kind::Chat, None, caller, &Progress::default()).await;
    let generating = generating.map_err(|failure| placed(kind, failure))?;
    let writer = generating.writer(&asked);
    if asked.streams {
        return Ok(Sse::new(chunks(generating, writer)).keep_alive(KeepAlive::new().interval(BEAT)).into_response());
    }
    let answer = generating.answer().await.map_err(|failure| placed(kind, failure))?;
    Ok(Json(writer.answer(&answer.response)?).into_response())
}

/// A generation as chunks, with `[DONE]` at the end.
fn chunks(generating: Generating, writer: Writer) -> impl Stream<Item = Result<Event, Infallible>> {
    let parts = stream::unfold(Some((generating, writer)), async |state| {
        let (mut generating, mut writer) = state?;
        let told = generating.next().await;
        let ends = matches!(told, Ok(Told::Done(_)) | Err(_));
        let mut events: Vec<Event> = match told.and_then(|told| writer.chunks(&told)) {
            Ok(chunks) => chunks.iter().map(data).collect(),
            Err(failure) => vec![data(&ErrorBody::from(placed(writer.kind(), failure).to_problem()))],
        };
        if ends {
            events.push(Event::default().data("[DONE]"));
        }
        Some((stream::iter(events.into_iter().map(Ok)), (!ends).then_some((generating, writer))))
    });
    parts.flatten()
}

fn data(chunk: &impl serde::Serialize) -> Event {
    Event::default().json_data(chunk).unwrap_or_default()
}

/// Writes problems in OpenAI's shape.
pub(in crate::http) async fn errors(response: Response<Body>) -> Response<Body> {
    if response.headers().get(CONTENT_TYPE).is_none_or(|media| media != PROBLEM) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let problem: ProblemDetails = match serde_json::from_slice(&bytes) {
        Ok(problem) => problem,
        Err(error) => Failure::internal(error).to_problem(),
    };
    // OpenAI's clients know 400 for whatever a request gets wrong
    if parts.status == 422 {
        parts.status = axum::http::StatusCode::BAD_REQUEST;
    }
    let body = serde_json::to_vec(&ErrorBody::from(problem)).unwrap_or_default();
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    parts.headers.remove(axum::http::header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(body))
}

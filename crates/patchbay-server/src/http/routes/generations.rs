//! Text that a model writes under intervention.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;

use crate::http::accept::Accept;
use crate::http::body::JsonBody;
use crate::http::events::told;
use crate::http::reply::Refused;
use crate::http::stream::send;
use crate::wire::generation::GenerateRequest;
use crate::wire::trace::TraceResponse;
use crate::{Caller, Failure, ProblemDetails, Service};

/// Generate text, read and steered by a graph.
///
/// Step 0 is the pass over the prompt, and each later one goes over the token that the one before gave; nodes act at all of them,
/// or at their `steps`. Token indices are positions in the whole sequence, and -1 is the newest. What a graph saves is
/// joined along the axis of tokens.
///
/// With `"stream": true` the answer is server-sent events: `token` for every new token, `saved` for what a step saves, and at the
/// end `done`, which has all of the answer, or `error`, which is a problem. Tensors of more than 16 KiB are not written into
/// events: when `done` comes they are in the caller's store, under the name that stands in their place.
#[utoipa::path(
    post, path = "/v1/generate", tag = "generations", request_body = GenerateRequest,
    responses(
        (status = 200, description = "The new tokens, and what the graph saves", content(
            (TraceResponse = "application/json"),
            (Vec<u8> = "application/vnd.safetensors"),
            (String = "text/event-stream")
        )),
        (status = 504, description = "It was not done within its `timeout_ms`, or the server's own", body = ProblemDetails,
            content_type = "application/problem+json"),
        Refused
    )
)]
pub(in crate::http) async fn generate(
    State(service): State<Arc<Service>>,
    Accept(accept): Accept,
    caller: Caller,
    JsonBody(body): JsonBody,
) -> Result<Response<Body>, Failure> {
    let generating = service.generate(body, false, accept, &caller).await?;
    if generating.streams { Ok(told(generating)) } else { send(generating.answer().await?).await }
}

//! Text that a model writes under intervention.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;

use crate::http::accept::Accept;
use crate::http::body::JsonBody;
use crate::http::events::told;
use crate::http::reply::Refused;
use crate::http::routes::jobs::{accepted, is_job};
use crate::http::stream::send;
use crate::progress::Progress;
use crate::wire::generation::GenerateRequest;
use crate::wire::job::JobBody;
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
/// events: when `done` comes they are in the caller's store, under the name that stands in their place. With `"async": true` the answer
/// is a job, as soon as it was let in.
#[utoipa::path(
    post, path = "/v1/generate", tag = "generations", request_body = GenerateRequest,
    responses(
        (status = 200, description = "The new tokens, and what the graph saves", content(
            (TraceResponse = "application/json"),
            (Vec<u8> = "application/vnd.safetensors"),
            (String = "text/event-stream")
        )),
        (status = 202, description = "With `async`: the job", body = JobBody),
        (status = 504, description = "It was not done within its `timeout_ms`, or the server's own", body = ProblemDetails,
            content_type = "application/problem+json"),
        Refused
    )
)]
pub(in crate::http) async fn generate(
    State(service): State<Arc<Service>>,
    Accept(accept): Accept,
    caller: Caller,
    JsonBody(mut body): JsonBody,
) -> Result<Response<Body>, Failure> {
    if is_job(&mut body)? {
        if body.get("stream") == Some(&true.into()) {
            let failure = Failure::new(422, "unsupported", "a job has no stream").at("/stream");
            return Err(failure.hint("GET /v1/jobs/{id}/events tells how far it is"));
        }
        let (running, owner) = (Arc::clone(&service), caller.clone());
        let run =
            |progress| async move { running.generate(body, false, accept, &owner, &progress).await?.answer().await };
        return Ok(accepted(&*service.start("generate", &caller, run).await?));
    }
    let generating = service.generate(body, false, accept, &caller, &Progress::default()).await?;
    if generating.streams { Ok(told(generating)) } else { send(Arc::new(generating.answer().await?)).await }
}

//! Running graphs, and asking what they would do.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::Response;

use crate::http::accept::Accept;
use crate::http::body::JsonBody;
use crate::http::reply::Refused;
use crate::http::routes::jobs::{accepted, is_job};
use crate::http::stream::send;
use crate::wire::job::JobBody;
use crate::wire::trace::{TraceRequest, TraceResponse};
use crate::wire::validation::ValidateResponse;
use crate::{Caller, Failure, ProblemDetails, Service};

/// Run a graph.
///
/// The answer is JSON or, with `Accept: application/vnd.safetensors` or `"output": {"encoding": "safetensors"}`, one
/// safetensors file of the tensors, whose metadata key `response` holds the rest as JSON. Everything that a request can
/// get wrong is said before anything runs. With `"async": true` the answer is a job, as soon as it was let in.
#[utoipa::path(
    post, path = "/v1/trace", tag = "traces", request_body = TraceRequest,
    responses(
        (status = 200, description = "What the graph saves", content(
            (TraceResponse = "application/json"),
            (Vec<u8> = "application/vnd.safetensors")
        )),
        (status = 202, description = "With `async`: the job", body = JobBody),
        (status = 504, description = "It was not done within its `timeout_ms`, or the server's own", body = ProblemDetails,
            content_type = "application/problem+json"),
        Refused
    )
)]
pub(in crate::http) async fn trace(
    State(service): State<Arc<Service>>,
    Accept(accept): Accept,
    caller: Caller,
    JsonBody(mut body): JsonBody,
) -> Result<Response<Body>, Failure> {
    if is_job(&mut body)? {
        let (running, owner) = (Arc::clone(&service), caller.clone());
        let run = |progress| async move { running.trace_told(body, accept, &owner, &progress).await };
        return Ok(accepted(&*service.start("trace", &caller, run).await?));
    }
    send(Arc::new(service.trace(body, accept, &caller).await?)).await
}

/// Ask what a graph would return, how it would run and what it would cost.
///
/// Takes the body of a trace and runs nothing.
#[utoipa::path(
    post, path = "/v1/validate", tag = "traces", request_body = TraceRequest,
    responses((status = 200, description = "Shapes, plan and cost", body = ValidateResponse), Refused)
)]
pub(in crate::http) async fn validate(
    State(service): State<Arc<Service>>,
    caller: Caller,
    JsonBody(body): JsonBody,
) -> Result<Json<ValidateResponse>, Failure> {
    service.validate(body, &caller).await.map(Json)
}

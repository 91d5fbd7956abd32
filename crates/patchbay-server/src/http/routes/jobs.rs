//! The caller's jobs: requests that run without anybody waiting for them.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use axum::response::sse::{KeepAlive, Sse};
use futures_util::stream;
use patchbay_graph::fields::wrong;
use serde_json::Value;

use crate::http::accept::Format;
use crate::http::events::{BEAT, event};
use crate::http::path::Name;
use crate::http::reply::NotThere;
use crate::http::stream::send_as;
use crate::jobs::Job;
use crate::wire::job::{JobBody, JobList};
use crate::wire::trace::TraceResponse;
use crate::{Caller, Failure, ProblemDetails, Service};

/// Takes `async` out of a body: whether it is to be a job.
pub(super) fn is_job(body: &mut Value) -> Result<bool, Failure> {
    match body.as_object_mut().and_then(|object| object.remove("async")) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(is_job)) => Ok(is_job),
        Some(other) => Err(wrong("async", "true or false", &other).into()),
    }
}

/// A job that was let in: 202, and where it is.
pub(super) fn accepted(job: &Job) -> Response<Body> {
    let body = job.body();
    let location = format!("/v1/jobs/{}", body.id);
    (StatusCode::ACCEPTED, [(LOCATION, location)], Json(body)).into_response()
}

/// List the caller's jobs.
#[utoipa::path(
    get, path = "/v1/jobs", tag = "jobs",
    responses((status = 200, description = "The jobs, oldest first", body = JobList))
)]
pub(in crate::http) async fn list(State(service): State<Arc<Service>>, caller: Caller) -> Json<JobList> {
    Json(JobList { object: "list", data: service.jobs().list(&caller) })
}

/// Get how far a job is.
#[utoipa::path(
    get, path = "/v1/jobs/{id}", tag = "jobs", params(("id" = String, Path, description = "The job")),
    responses((status = 200, description = "How far it is", body = JobBody), NotThere)
)]
pub(in crate::http) async fn get(
    State(service): State<Arc<Service>>,
    Name(id): Name,
    caller: Caller,
) -> Result<Json<JobBody>, Failure> {
    service.jobs().find(&caller, &id).map(|job| Json(job.body()))
}

/// Stop a job, and forget what came of it.
#[utoipa::path(
    delete, path = "/v1/jobs/{id}", tag = "jobs", params(("id" = String, Path, description = "The job")),
    responses((status = 204, description = "It is forgotten"), NotThere)
)]
pub(in crate::http) async fn delete(
    State(service): State<Arc<Service>>,
    Name(id): Name,
    caller: Caller,
) -> Result<StatusCode, Failure> {
    service.jobs().remove(&caller, &id)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Follow a job: server-sent events.
///
/// The event is the job's status: `running` as often as it gets on, and at the end `done`, `failed` or `cancelled`. The data is the job.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/events", tag = "jobs", params(("id" = String, Path, description = "The job")),
    responses((status = 200, description = "How far it gets", body = String, content_type = "text/event-stream"), NotThere)
)]
pub(in crate::http) async fn events(
    State(service): State<Arc<Service>>,
    Name(id): Name,
    caller: Caller,
) -> Result<Response<Body>, Failure> {
    let job = service.jobs().find(&caller, &id)?;
    let told = stream::unfold((job, None), async |(job, seen): (Arc<Job>, Option<JobBody>)| {
        let body = match seen {
            None => job.body(),
            Some(seen) => job.changed(&seen).await?,
        };
        Some((Ok::<_, Infallible>(event(body.status, &body)), (job, Some(body))))
    });
    Ok(Sse::new(told).keep_alive(KeepAlive::new().interval(BEAT)).into_response())
}

/// Get what came of a job: the answer that its request would have had, as often as it is asked for within an hour.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/result", tag = "jobs", params(
        ("id" = String, Path, description = "The job"),
        ("format" = Option<String>, Query, description = "`svg`: a picture of a recipe's results, as with `Accept: image/svg+xml`")
    ),
    responses(
        (status = 200, description = "The answer", content(
            (TraceResponse = "application/json"),
            (Vec<u8> = "application/vnd.safetensors"),
            (String = "image/svg+xml")
        )),
        (status = 409, description = "It has not ended", body = ProblemDetails, content_type = "application/problem+json"),
        (status = "default", description = "What it failed with", body = ProblemDetails,
            content_type = "application/problem+json"),
        NotThere
    )
)]
pub(in crate::http) async fn result(
    State(service): State<Arc<Service>>,
    Name(id): Name,
    format: Format,
    caller: Caller,
) -> Result<Response<Body>, Failure> {
    send_as(service.jobs().find(&caller, &id)?.answer()?, format).await
}

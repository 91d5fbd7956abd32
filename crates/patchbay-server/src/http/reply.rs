//! Answers as HTTP, and the answers to what no route takes.

use std::any::Any;

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Method, Response, StatusCode, Uri};
use axum::response::IntoResponse;
use http_body_util::Full;
use utoipa::IntoResponses;

use crate::Failure;
use crate::failure::ProblemDetails;
use crate::wire::{Encoded, PROBLEM};

impl IntoResponse for Encoded {
    fn into_response(self) -> Response<Body> {
        ([(CONTENT_TYPE, HeaderValue::from_static(self.media_type))], self.bytes).into_response()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response<Body> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.to_problem()).unwrap_or_default();
        let mut response = (status, [(CONTENT_TYPE, HeaderValue::from_static(PROBLEM))], body).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// What a request with a body can be refused for.
#[derive(IntoResponses)]
#[allow(dead_code)]
pub(super) enum Refused {
    /// Not JSON, a field that is unknown, missing or of the wrong type.
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(ProblemDetails),
    /// The request is for another host, or of a page of another site.
    #[response(status = 403, content_type = "application/problem+json")]
    Foreign(ProblemDetails),
    /// No such model.
    #[response(status = 404, content_type = "application/problem+json")]
    Unknown(ProblemDetails),
    /// The body stopped coming.
    #[response(status = 408, content_type = "application/problem+json")]
    Stalled(ProblemDetails),
    /// A body, an input or a result over a limit, which is named.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(ProblemDetails),
    /// The `Content-Type` is none that is understood.
    #[response(status = 415, content_type = "application/problem+json")]
    Unsupported(ProblemDetails),
    /// Understood, but it cannot be: an unknown site or operation, a shape, a type, an index, a name.
    #[response(status = 422, content_type = "application/problem+json")]
    Impossible(ProblemDetails),
    /// A fault of the server.
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(ProblemDetails),
    /// The model is loading or its queue is full; `Retry-After` says when to come back.
    #[response(status = 503, content_type = "application/problem+json")]
    Busy(ProblemDetails),
}

/// What a look at something can be refused for.
#[derive(IntoResponses)]
#[allow(dead_code)]
pub(super) enum NotThere {
    /// The request is for another host, or of a page of another site.
    #[response(status = 403, content_type = "application/problem+json")]
    Foreign(ProblemDetails),
    /// There is no such thing.
    #[response(status = 404, content_type = "application/problem+json")]
    Unknown(ProblemDetails),
    /// The model is loading; `Retry-After` says when to come back.
    #[response(status = 503, content_type = "application/problem+json")]
    Busy(ProblemDetails),
}

/// No route has this path.
pub(super) async fn unknown_path(uri: Uri) -> Failure {
    let detail = format!("there is nothing at {}", uri.path());
    Failure::new(404, "unknown_path", detail).hint("/docs shows every endpoint, /openapi.json describes them")
}

/// A route has this path, but not this method; the header `Allow` names those that it has.
pub(super) async fn wrong_method(method: Method, uri: Uri) -> Failure {
    let detail = format!("{} does not take {method}", uri.path());
    Failure::new(405, "wrong_method", detail).hint("the header `Allow` names the methods it takes")
}

/// A panic is a fault of the server, and of one request only.
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> Response<Full<Bytes>> {
    let said = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let problem = Failure::internal(said.unwrap_or("a panic")).to_problem();
    let mut response = Response::new(Full::from(serde_json::to_vec(&problem).unwrap_or_default()));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
    response
}

//! The caller's edits.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::ETAG;
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;

use crate::http::body::JsonBody;
use crate::http::path::Name;
use crate::http::reply::{NotThere, Refused};
use crate::precondition::Precondition;
use crate::wire::edit::{EditList, EditRequest, EditView};
use crate::{Caller, Failure, ProblemDetails, Service};

/// List the caller's edits.
#[utoipa::path(
    get, path = "/v1/edits", tag = "edits",
    responses((status = 200, description = "The edits, by name", body = EditList))
)]
pub(in crate::http) async fn list(State(service): State<Arc<Service>>, caller: Caller) -> Json<EditList> {
    let edits = service.edits().all(&caller);
    let data = edits.iter().map(|(name, kept)| EditView::new(name, kept)).collect();
    Json(EditList { object: "list", data })
}

/// Keep an edit under a name.
///
/// An edit is a graph of writes. `"model": "smollm2+name"` runs a model with it in every endpoint, and
/// `"model": "smollm2+calm+terse"` with several, in this order. It is checked against its model before it is kept. What the name held
/// before is replaced, unless `If-Match` or `If-None-Match` expect something else.
#[utoipa::path(
    put, path = "/v1/edits/{name}", tag = "edits", request_body = EditRequest,
    params(("name" = String, Path, description = "The name, as it stands behind `+`")),
    responses(
        (status = 200, description = "It took the place of another", body = EditView),
        (status = 201, description = "It is kept", body = EditView),
        (status = 412, description = "The name does not hold what was expected", body = ProblemDetails,
            content_type = "application/problem+json"),
        Refused
    )
)]
pub(in crate::http) async fn put(
    State(service): State<Arc<Service>>,
    Name(name): Name,
    caller: Caller,
    expected: Precondition,
    JsonBody(body): JsonBody,
) -> Result<Response<Body>, Failure> {
    let (replaced, view) = service.put_edit(name, body, expected, &caller).await?;
    let status = if replaced { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, [(ETAG, view.etag.clone())], Json(view)).into_response())
}

/// Get an edit, as it was put.
///
/// The header `ETag` is its version; with that as `If-None-Match` the answer is 304 as long as it is the same.
#[utoipa::path(
    get, path = "/v1/edits/{name}", tag = "edits",
    params(("name" = String, Path, description = "The name, as it stands behind `+`")),
    responses(
        (status = 200, description = "The edit", body = EditRequest),
        (status = 304, description = "It is the version that the caller has"),
        NotThere
    )
)]
pub(in crate::http) async fn get(
    State(service): State<Arc<Service>>,
    Name(name): Name,
    caller: Caller,
    known: Precondition,
) -> Result<Response<Body>, Failure> {
    let kept = service.edits().get(&caller, &name)?;
    let etag = [(ETAG, kept.etag.clone())];
    match known.none_match.is_some_and(|tags| tags.has(Some(&kept.etag))) {
        true => Ok((StatusCode::NOT_MODIFIED, etag).into_response()),
        false => Ok((etag, Json(&kept.body)).into_response()),
    }
}

/// Forget an edit. Requests that run with it go on.
#[utoipa::path(
    delete, path = "/v1/edits/{name}", tag = "edits",
    params(("name" = String, Path, description = "The name, as it stands behind `+`")),
    responses(
        (status = 204, description = "It is forgotten"),
        (status = 412, description = "The name does not hold what was expected", body = ProblemDetails,
            content_type = "application/problem+json"),
        NotThere
    )
)]
pub(in crate::http) async fn delete(
    State(service): State<Arc<Service>>,
    Name(name): Name,
    caller: Caller,
    expected: Precondition,
) -> Result<StatusCode, Failure> {
    service.edits().delete(&caller, &name, &expected)?;
    Ok(StatusCode::NO_CONTENT)
}

//! The caller's sessions.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use crate::http::path::Name;
use crate::http::reply::NotThere;
use crate::wire::session::{SessionList, SessionTokens};
use crate::{Caller, Failure, Service};

/// List the caller's sessions.
#[utoipa::path(
    get, path = "/v1/sessions", tag = "generations",
    responses((status = 200, description = "The sessions, by name", body = SessionList))
)]
pub(in crate::http) async fn list(State(service): State<Arc<Service>>, caller: Caller) -> Json<SessionList> {
    Json(SessionList { object: "list", data: service.sessions().list(&caller) })
}

/// Get a session's tokens.
#[utoipa::path(
    get, path = "/v1/sessions/{id}", tag = "generations",
    params(("id" = String, Path, description = "The session, as a generation's answer names it")),
    responses((status = 200, description = "Its tokens, row by row", body = SessionTokens), NotThere)
)]
pub(in crate::http) async fn get(
    State(service): State<Arc<Service>>,
    Name(id): Name,
    caller: Caller,
) -> Result<Json<SessionTokens>, Failure> {
    service.sessions().tokens(&caller, &id).map(Json)
}

/// Forget a session, whose memory is free then. Generations that go on with it are not disturbed.
#[utoipa::path(
    delete, path = "/v1/sessions/{id}", tag = "generations",
    params(("id" = String, Path, description = "The session, as a generation's answer names it")),
    responses((status = 204, description = "It is forgotten"), NotThere)
)]
pub(in crate::http) async fn delete(
    State(service): State<Arc<Service>>,
    Name(id): Name,
    caller: Caller,
) -> Result<StatusCode, Failure> {
    service.sessions().remove(&caller, &id)?;
    Ok(StatusCode::NO_CONTENT)
}

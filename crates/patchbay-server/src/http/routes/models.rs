//! The models of the server.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use crate::http::body::JsonBody;
use crate::http::path::Name;
use crate::http::reply::{NotThere, Refused};
use crate::registry::Placed;
use crate::wire::json::read;
use crate::wire::model::{ChecksResponse, LoadRequest, ModelList, ModelView};
use crate::wire::tree::TreeResponse;
use crate::{Failure, ProblemDetails, Service};

/// List the models.
///
/// The shape is OpenAI's, with more in it.
#[utoipa::path(
    get, path = "/v1/models", tag = "models",
    responses((status = 200, description = "The models, by name", body = ModelList))
)]
pub(in crate::http) async fn list(State(service): State<Arc<Service>>) -> Json<ModelList> {
    Json(service.registry().list())
}

/// Describe a model, and how far its load is.
#[utoipa::path(
    get, path = "/v1/models/{id}", tag = "models", params(("id" = String, Path, description = "Name of the model")),
    responses((status = 200, description = "The model", body = ModelView), NotThere)
)]
pub(in crate::http) async fn describe(
    State(service): State<Arc<Service>>,
    Name(id): Name,
) -> Result<Json<ModelView>, Failure> {
    Ok(Json(service.registry().find(Some(&id))?.view()))
}

/// Load a model under a name.
///
/// Answers at once; `GET` shows how far the load is. Asking again for the same changes nothing.
#[utoipa::path(
    put, path = "/v1/models/{id}", tag = "models", request_body = LoadRequest,
    params(("id" = String, Path, description = "Name of the model")),
    responses(
        (status = 200, description = "It was there already", body = ModelView),
        (status = 202, description = "It is being loaded", body = ModelView),
        (status = 409, description = "The name is taken by another model", body = ProblemDetails,
            content_type = "application/problem+json"),
        Refused
    )
)]
pub(in crate::http) async fn load(
    State(service): State<Arc<Service>>,
    Name(id): Name,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<ModelView>), Failure> {
    Ok(match service.load(&id, &read::<LoadRequest>(body)?)? {
        Placed::Ready(model) => (StatusCode::OK, Json(model.view())),
        Placed::Loading(model) => (StatusCode::ACCEPTED, Json(model.view())),
    })
}

/// Unload a model.
///
/// Requests that it has accepted are still answered.
#[utoipa::path(
    delete, path = "/v1/models/{id}", tag = "models", params(("id" = String, Path, description = "Name of the model")),
    responses((status = 204, description = "It is unloaded"), NotThere)
)]
pub(in crate::http) async fn unload(
    State(service): State<Arc<Service>>,
    Name(id): Name,
) -> Result<StatusCode, Failure> {
    service.registry().remove(&id)?;
    Ok(StatusCode::NO_CONTENT)
}

/// List every site of a model, with its shape.
#[utoipa::path(
    get, path = "/v1/models/{id}/tree", tag = "models",
    params(("id" = String, Path, description = "Name of the model")),
    responses((status = 200, description = "The tree", body = TreeResponse), NotThere)
)]
pub(in crate::http) async fn tree(
    State(service): State<Arc<Service>>,
    Name(id): Name,
) -> Result<Json<TreeResponse>, Failure> {
    service.registry().find(Some(&id))?.tree().map(Json)
}

/// Tell what the checks made at a model's load found.
#[utoipa::path(
    get, path = "/v1/models/{id}/checks", tag = "models",
    params(("id" = String, Path, description = "Name of the model")),
    responses((status = 200, description = "The checks", body = ChecksResponse), NotThere)
)]
pub(in crate::http) async fn checks(
    State(service): State<Arc<Service>>,
    Name(id): Name,
) -> Result<Json<ChecksResponse>, Failure> {
    service.registry().find(Some(&id))?.checks().map(Json)
}

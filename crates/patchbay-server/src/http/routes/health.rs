//! Whether the server lives and is ready.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{Failure, ProblemDetails, Service};

/// The server lives.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Health {
    /// Always `ok`.
    #[schema(value_type = String, example = "ok")]
    status: &'static str,
}

/// What answers here.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Index {
    /// Always `patchbay`.
    #[schema(value_type = String, example = "patchbay")]
    name: &'static str,
    /// Its version.
    #[schema(value_type = String, example = "0.1.0")]
    version: &'static str,
    /// Names of the models.
    models: Vec<String>,
    /// The page to try the endpoints on.
    #[schema(value_type = String, example = "/docs")]
    docs: &'static str,
    /// The contract.
    #[schema(value_type = String, example = "/openapi.json")]
    openapi: &'static str,
}

/// Tell whether the process lives.
#[utoipa::path(
    get, path = "/healthz", tag = "server", responses((status = 200, description = "It lives", body = Health))
)]
pub(in crate::http) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Tell whether every model that the server was started with takes requests.
#[utoipa::path(
    get, path = "/readyz", tag = "server",
    responses(
        (status = 200, description = "All of them do", body = Health),
        (status = 503, description = "Not yet; what is missing is named", body = ProblemDetails,
            content_type = "application/problem+json")
    )
)]
pub(in crate::http) async fn readyz(State(service): State<Arc<Service>>) -> Result<Json<Health>, Failure> {
    service.ready().map(|()| Json(Health { status: "ok" }))
}

/// Say what answers here and where to read on.
#[utoipa::path(get, path = "/", tag = "server", responses((status = 200, description = "Names and links", body = Index)))]
pub(in crate::http) async fn index(State(service): State<Arc<Service>>) -> Json<Index> {
    let models = service.registry().all().iter().map(|model| model.name.clone()).collect();
    let version = env!("CARGO_PKG_VERSION");
    Json(Index { name: "patchbay", version, models, docs: "/docs", openapi: "/openapi.json" })
}

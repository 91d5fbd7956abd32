//! The contract: every route with its description, as OpenAPI and as a page to try them on.

use std::sync::Arc;

use axum::Router;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Contract;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::routes::{health, models, tensors, tokens, traces};
use crate::Service;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "patchbay",
        description = "Look inside a running forward pass of a language model, and change it. Every error is \
            `application/problem+json` with a `code`, a JSON pointer to the offending field and, where it helps, a hint.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "traces", description = "Graphs of reads and writes at the sites of a forward pass."),
        (name = "models", description = "The models of the server."),
        (name = "tokens", description = "Text to tokens and back."),
        (name = "tensors", description = "Tensors that a caller keeps on the server, for graphs to name as `@name`."),
        (name = "server", description = "Whether the server lives and is ready.")
    )
)]
struct Description;

/// Every route and its description.
pub(super) fn routes() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(traces::trace))
        .routes(routes!(traces::validate))
        .routes(routes!(models::list))
        .routes(routes!(models::describe, models::load, models::unload))
        .routes(routes!(models::tree))
        .routes(routes!(models::checks))
        .routes(routes!(tokens::tokenize))
        .routes(routes!(tokens::detokenize))
        .routes(routes!(tensors::list))
        .routes(routes!(tensors::put, tensors::get, tensors::delete))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::index))
}

/// `/openapi.json`, and `/docs`, whose page and scripts are part of the program and need no other host.
pub(super) fn docs(contract: Contract) -> Router {
    SwaggerUi::new("/docs").config(Config::default().validator_url("none")).url("/openapi.json", contract).into()
}

/// The contract as OpenAPI JSON, printed for people, with a newline at the end.
pub fn openapi() -> String {
    let contract = routes().into_openapi();
    // The contract is made of plain maps and strings, which are always JSON.
    let mut text = contract.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

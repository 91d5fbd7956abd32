//! The contract: every route with its description, as OpenAPI and as a page to try them on.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::{StatusCode, Uri};
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::{Router, middleware};
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Contract;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::reply::unknown_path;
use super::routes::{edits, generations, health, jobs, models, openai, recipes, sessions, tensors, tokens, traces};
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
        (name = "generations", description = "Text that a model writes, read and steered while it does."),
        (name = "recipes", description = "The analyses of interpretability, each as a graph of the language."),
        (name = "jobs", description = "Requests that run without anybody waiting for them: `\"async\": true`."),
        (name = "openai", description = "Chat, completions and embeddings for OpenAI's clients."),
        (name = "models", description = "The models of the server."),
        (name = "tokens", description = "Text to tokens and back."),
        (name = "tensors", description = "Tensors that a caller keeps on the server, for graphs to name as `@name`."),
        (name = "edits", description = "Graphs of writes that a caller keeps on the server: `\"model\": \"smollm2+name\"` runs with one."),
        (name = "server", description = "Whether the server lives and is ready.")
    )
)]
struct Description;

/// Every route and its description.
pub(super) fn routes() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(traces::trace))
        .routes(routes!(traces::validate))
        .routes(routes!(generations::generate))
        .routes(routes!(recipes::list))
        .routes(routes!(recipes::run))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::get, jobs::delete))
        .routes(routes!(jobs::events))
        .routes(routes!(jobs::result))
        .merge(openai())
        .routes(routes!(models::list))
        .routes(routes!(models::describe, models::load, models::unload))
        .routes(routes!(models::tree))
        .routes(routes!(models::checks))
        .routes(routes!(tokens::tokenize))
        .routes(routes!(tokens::detokenize))
        .routes(routes!(tensors::list))
        .routes(routes!(tensors::put, tensors::get, tensors::delete))
        .routes(routes!(edits::list))
        .routes(routes!(edits::put, edits::get, edits::delete))
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::get, sessions::delete))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::index))
}

/// OpenAI's routes, whose errors have OpenAI's shape.
fn openai() -> OpenApiRouter<Arc<Service>> {
    let routes = OpenApiRouter::new().routes(routes!(openai::chat)).routes(routes!(openai::complete));
    let routes = routes.routes(routes!(openai::embed));
    routes.layer(middleware::map_response(openai::errors))
}

/// `/openapi.json`, and `/docs`, whose page and scripts are part of the program and need no other host.
pub(super) fn docs(contract: Contract) -> Router {
    let page = SwaggerUi::new("/docs").config(Config::default().validator_url("none")).url("/openapi.json", contract);
    Router::from(page).layer(middleware::from_fn(async |uri: Uri, request: Request, next: Next| {
        let response = next.run(request).await;
        // a file that the page does not have
        if response.status() == StatusCode::NOT_FOUND { unknown_path(uri).await.into_response() } else { response }
    }))
}

/// The contract as OpenAPI JSON, printed for people, with a newline at the end.
pub fn openapi() -> String {
    let contract = routes().into_openapi();
    // The contract is made of plain maps and strings, which are always JSON.
    let mut text = contract.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

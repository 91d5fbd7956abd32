//! Recipes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use axum::response::IntoResponse;
use patchbay_recipes::NAMES;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::http::accept::{Accept, Format};
use crate::http::body::JsonBody;
use crate::http::path::Name;
use crate::http::reply::Refused;
use crate::http::routes::jobs::{accepted, is_job};
use crate::http::stream::send_as;
use crate::progress::Progress;
use crate::recipes::Cooked;
use crate::wire::job::JobBody;
use crate::wire::trace::{OutputOptions, TraceResponse};
use crate::{Caller, Failure, ProblemDetails, Service};

/// The recipes.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct RecipeList {
    /// Always `list`.
    #[schema(value_type = String, example = "list")]
    object: &'static str,
    /// Their names.
    #[schema(value_type = Vec<String>)]
    data: [&'static str; NAMES.len()],
}

/// The body of a recipe: what all of them take. `docs/recipes.md` says what each takes beside it.
#[derive(ToSchema)]
#[schema(example = json!({"model": "smollm2", "input": "The capital of France is", "k": 3}))]
#[allow(dead_code, reason = "a picture in the contract")]
pub(in crate::http) struct RecipeRequest {
    /// The model; may be left out where the server has only one. `smollm2+calm` runs it with an edit.
    model: Option<String>,
    /// Values of the edits' parameters, by edit.
    edit_args: Option<BTreeMap<String, BTreeMap<String, f64>>>,
    /// Returns the trace that the recipe is, which may be changed and sent to `/v1/trace`, and runs nothing.
    explain: Option<bool>,
    /// How the answer is written.
    output: Option<OutputOptions>,
    /// Answers with a job as soon as it was let in.
    r#async: Option<bool>,
    /// Milliseconds that it may take until its answer begins.
    timeout_ms: Option<u64>,
    /// The recipe's own fields.
    #[serde(flatten)]
    fields: BTreeMap<String, Value>,
}

/// List the recipes.
#[utoipa::path(
    get, path = "/v1/recipes", tag = "recipes",
    responses((status = 200, description = "Their names", body = RecipeList))
)]
pub(in crate::http) async fn list() -> Json<RecipeList> {
    Json(RecipeList { object: "list", data: NAMES })
}

/// Run a recipe: an analysis that is a graph of the language.
///
/// The answer is that of a trace. With `"explain": true` it is the body of that trace, and nothing runs. With `"async": true` it is a job.
#[utoipa::path(
    post, path = "/v1/recipes/{name}", tag = "recipes", request_body = RecipeRequest,
    params(
        ("name" = String, Path, description = "The recipe"),
        ("format" = Option<String>, Query, description = "`svg`: a picture of the results, as with `Accept: image/svg+xml`")
    ),
    responses(
        (status = 200, description = "The results, or the trace that it is", content(
            (TraceResponse = "application/json"),
            (Vec<u8> = "application/vnd.safetensors"),
            (String = "image/svg+xml")
        )),
        (status = 202, description = "With `async`: the job", body = JobBody),
        (status = 504, description = "It was not done within its `timeout_ms`, or the server's own", body = ProblemDetails,
            content_type = "application/problem+json"),
        Refused
    )
)]
pub(in crate::http) async fn run(
    State(service): State<Arc<Service>>,
    Name(name): Name,
    Accept(accept): Accept,
    format: Format,
    caller: Caller,
    JsonBody(mut body): JsonBody,
) -> Result<Response<Body>, Failure> {
    if is_job(&mut body)? && body.get("explain") != Some(&true.into()) {
        let (running, owner, kind) = (Arc::clone(&service), caller.clone(), name.clone());
        let run = |progress| async move {
            match running.recipe(name, body, accept, &owner, &progress).await? {
                Cooked::Answered(answer) => Ok(*answer),
                Cooked::Explained(_) => Err(Failure::internal("a job explains nothing")),
            }
        };
        return Ok(accepted(&*service.start(&kind, &caller, run).await?));
    }
    match service.recipe(name, body, accept, &caller, &Progress::default()).await? {
        Cooked::Explained(trace) => Ok(Json(trace).into_response()),
        Cooked::Answered(answer) => send_as(Arc::from(answer), format).await,
    }
}

//! Text to tokens and back.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::http::body::JsonBody;
use crate::http::reply::Refused;
use crate::wire::tokens::{DetokenizeRequest, DetokenizeResponse, TokenizeRequest, TokenizeResponse};
use crate::{Caller, Failure, Service};

/// Turn text into tokens.
///
/// Takes every form that the input of a trace has, and gives the tokens that a trace would run on.
#[utoipa::path(
    post, path = "/v1/tokenize", tag = "tokens", request_body = TokenizeRequest,
    responses((status = 200, description = "The tokens of each row", body = TokenizeResponse), Refused)
)]
pub(in crate::http) async fn tokenize(
    State(service): State<Arc<Service>>,
    caller: Caller,
    JsonBody(body): JsonBody,
) -> Result<Json<TokenizeResponse>, Failure> {
    service.tokenize(body, &caller).await.map(Json)
}

/// Turn tokens into text.
#[utoipa::path(
    post, path = "/v1/detokenize", tag = "tokens", request_body = DetokenizeRequest,
    responses((status = 200, description = "The text of each row", body = DetokenizeResponse), Refused)
)]
pub(in crate::http) async fn detokenize(
    State(service): State<Arc<Service>>,
    caller: Caller,
    JsonBody(body): JsonBody,
) -> Result<Json<DetokenizeResponse>, Failure> {
    service.detokenize(body, &caller).await.map(Json)
}

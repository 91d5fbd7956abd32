//! The caller's tensors.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use patchbay_graph::Encoding;

use crate::blocking::blocking;
use crate::http::accept::Accept;
use crate::http::body::TensorsBody;
use crate::http::path::Name;
use crate::http::reply::{NotThere, Refused};
use crate::name::check_tensor;
use crate::wire::Encoded;
use crate::wire::stored::{StoredView, TensorList, encode, from_json, from_safetensors};
use crate::wire::tensor_body::TensorSchema;
use crate::{Caller, Failure, Service};

/// List the caller's tensors.
#[utoipa::path(
    get, path = "/v1/tensors", tag = "tensors",
    responses((status = 200, description = "The tensors, by name", body = TensorList))
)]
pub(in crate::http) async fn list(State(service): State<Arc<Service>>, caller: Caller) -> Json<TensorList> {
    Json(TensorList::new(&service.store().shelf(&caller)))
}

/// Keep tensors under a name.
///
/// The body is a safetensors file, or JSON: one tensor, as a nested list or as `{"dtype", "shape", "data"}` or the same
/// with `b64`, or an object of several by key. Graphs name them as `@name`, one of several as `@name.key`. What the name
/// held before is replaced.
#[utoipa::path(
    put, path = "/v1/tensors/{name}", tag = "tensors",
    params(("name" = String, Path, description = "The name, without `@`")),
    request_body(content((TensorSchema = "application/json"), (Vec<u8> = "application/vnd.safetensors"))),
    responses(
        (status = 200, description = "It took the place of another", body = StoredView),
        (status = 201, description = "It is kept", body = StoredView),
        Refused
    )
)]
pub(in crate::http) async fn put(
    State(service): State<Arc<Service>>,
    Name(name): Name,
    caller: Caller,
    body: TensorsBody,
) -> Result<(StatusCode, Json<StoredView>), Failure> {
    blocking(move || {
        check_tensor(&name)?;
        let tensors = match body {
            TensorsBody::Json(value) => from_json(&name, &value)?,
            TensorsBody::Safetensors(bytes) => from_safetensors(&bytes)?,
        };
        let view = StoredView::new(&name, &tensors);
        let replaced = service.store().put(&caller, &name, tensors)?;
        Ok((if replaced { StatusCode::OK } else { StatusCode::CREATED }, Json(view)))
    })
    .await
}

/// Get what a name holds.
///
/// As JSON or, with `Accept: application/vnd.safetensors`, as a safetensors file. `HEAD` tells whether it is there and
/// how long it is.
#[utoipa::path(
    get, path = "/v1/tensors/{name}", tag = "tensors",
    params(("name" = String, Path, description = "The name, without `@`")),
    responses(
        (status = 200, description = "The tensor, or an object of several by key", content(
            (TensorSchema = "application/json"),
            (Vec<u8> = "application/vnd.safetensors")
        )),
        NotThere
    )
)]
pub(in crate::http) async fn get(
    State(service): State<Arc<Service>>,
    Name(name): Name,
    caller: Caller,
    Accept(accept): Accept,
) -> Result<Encoded, Failure> {
    blocking(move || {
        let shelf = service.store().shelf(&caller);
        encode(&name, shelf.tensors(&name)?, accept.unwrap_or(Encoding::Json))
    })
    .await
}

/// Forget a name.
#[utoipa::path(
    delete, path = "/v1/tensors/{name}", tag = "tensors",
    params(("name" = String, Path, description = "The name, without `@`")),
    responses((status = 204, description = "It is forgotten"), NotThere)
)]
pub(in crate::http) async fn delete(
    State(service): State<Arc<Service>>,
    Name(name): Name,
    caller: Caller,
) -> Result<StatusCode, Failure> {
    service.store().delete(&caller, &name)?;
    Ok(StatusCode::NO_CONTENT)
}

//! HTTP: the routes, what is refused before a route is reached, and the contract.
//!
//! Every route is a short function over [`Service`] with its line of the contract above it, so that the two cannot
//! drift apart. Whatever goes wrong, a panic and an unknown path included, is answered as problem details.

mod accept;
mod body;
mod condition;
mod contract;
mod events;
mod leftover;
mod loopback;
mod path;
mod peer;
mod reply;
mod routes;
mod serve;
mod stream;

pub use contract::openapi;
pub use serve::serve;

use std::sync::Arc;

use axum::{Router, middleware};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::trace::TraceLayer;

use crate::Service;

/// Every route of the contract over a service. [`serve`] adds who may use them.
pub fn router(service: Arc<Service>) -> Router {
    let (routes, contract) = contract::routes().with_state(service).split_for_parts();
    routes
        .merge(contract::docs(contract))
        .fallback(reply::unknown_path)
        .method_not_allowed_fallback(reply::wrong_method)
        .layer(CatchPanicLayer::custom(reply::panicked))
        .layer(middleware::from_fn(leftover::read_on))
        // what failed for a fault of the server is logged where that is known
        .layer(TraceLayer::new_for_http().on_failure(()))
}

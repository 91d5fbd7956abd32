//! The HTTP server of patchbay.
//!
//! [`Service`] is what the server does, whatever carries the requests: models ([`registry`], [`loader`]), the callers'
//! tensors ([`store`]) and edits ([`edits`]), traces ([`service`]). [`wire`] has the forms in which requests come and answers go, and [`http`]
//! the routes, the limits and the contract. The command line stands on [`Service`] too, so that a graph gives the same
//! answer with and without a socket.

mod blocking;
pub mod caller;
mod cells;
mod deadline;
pub mod device;
pub mod edits;
pub mod failure;
mod gather;
mod generation;
pub mod http;
pub mod inputs;
pub mod jobs;
pub mod loader;
mod memory;
pub mod model;
pub mod name;
mod openai;
mod parts;
pub mod precondition;
mod progress;
mod recipes;
pub mod registry;
pub mod service;
pub mod sessions;
pub mod settings;
pub mod store;
mod sweep;
mod trace;
mod wave_times;
pub mod wire;

pub use caller::Caller;
pub use deadline::Timeouts;
pub use failure::{Failure, ProblemDetails};
pub use service::Service;
pub use settings::Settings;

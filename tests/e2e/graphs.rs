//! Random graphs that are right, as the engine's tests make them.

use std::sync::Arc;

use patchbay_graph::Tree;
use patchbay_server::wire::model::LoadRequest;
use patchbay_server::{Service, Settings};
use serde_json::json;

use crate::server::{Server, golden};

#[path = "../../crates/patchbay-engine/tests/random/generate.rs"]
#[allow(dead_code, reason = "the engine's tests look at more of it")]
pub(crate) mod generate;
#[path = "../../crates/patchbay-engine/tests/random/operations.rs"]
mod operations;
#[path = "../../crates/patchbay-engine/tests/random/writes.rs"]
mod writes;

pub(crate) use generate::Generator;

/// The tree of a golden model, which graphs are made for.
pub(crate) async fn tree(model: &str) -> Arc<Tree> {
    let service = Service::new(Settings::default());
    let source = golden(model).display().to_string();
    let placed = service.load_first(model, &LoadRequest { source, dtype: None, device: None }).unwrap();
    Arc::clone(service.wait(placed.model()).await.unwrap().tree())
}

/// Puts the tensor into the store that graphs name.
pub(crate) async fn put_joy(server: &Server, tree: &Tree) {
    let joy: Vec<f32> = (0..tree.hidden).map(|i| ((i * 7 + 3) % 11) as f32 * 0.1 - 0.5).collect();
    assert!(server.put("/v1/tensors/joy", &json!(joy)).await.status().is_success());
}

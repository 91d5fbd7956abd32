//! Named edits: kept, versioned, put before the graphs of requests, and refused where they cannot be.

mod kept;
mod problems;
mod talk;
mod used;

use serde_json::{Value, json};

use crate::server::Server;

/// A model with a tokenizer and a chat template: 3 layers, 24 wide.
const MODEL: &str = "llama-rope3";

/// Adds to the stream, as strongly as a request says.
fn calm() -> Value {
    json!({
        "graph": [{"op": "steer", "layers": [1], "vector": [1.0], "factor": "{factor}"}],
        "parameters": {"factor": {"default": 0.5, "min": -4, "max": 4}},
        "description": "adds the same to every number of the stream"
    })
}

/// Scales the stream at the same place.
fn loud() -> Value {
    json!({"graph": "layers.1.output *= 3"})
}

/// Keeps an edit, which has to succeed.
async fn keep(server: &Server, name: &str, edit: &Value) {
    let response = server.put(&format!("/v1/edits/{name}"), edit).await;
    let status = response.status();
    let answer: Value = response.json().await.unwrap();
    assert!(status.is_success(), "{edit}\n{answer}");
}

/// A server with a golden model and the two edits.
async fn server() -> Server {
    let server = Server::with(MODEL).await;
    keep(&server, "calm", &calm()).await;
    keep(&server, "loud", &loud()).await;
    server
}

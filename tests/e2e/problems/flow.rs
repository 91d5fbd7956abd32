//! Graphs whose parts are right, but do not go together.

use serde_json::json;

use super::{MODEL, refuse_bodies, refuse_graphs, save, saved};
use crate::server::Server;

#[tokio::test]
async fn graphs_that_do_not_hang_together() {
    let set = |target: &str, value: &str| json!([{"op": "set", "target": target, "value": value}, save()]);
    refuse_graphs(vec![
        (json!([]), (422, "nothing_saved", "/graph", "save")),
        (json!([{"op": "set", "target": "logits", "value": 0}]), (422, "nothing_saved", "/graph", "save")),
        (json!([save(), save()]), (422, "duplicate_result", "/graph/1/as", "another name")),
        (
            json!([{"op": "abs", "args": [1], "id": "a"}, {"op": "abs", "args": [2], "id": "a"}, save()]),
            (422, "duplicate_id", "/graph/1/id", "another id"),
        ),
        (
            json!([{"op": "save", "value": 1.0, "to": "@a"}, {"op": "save", "value": 2.0, "to": "@a"}]),
            (422, "duplicate_result", "/graph/1/to", "another name"),
        ),
        (
            json!([{"op": "abs", "args": ["$b"], "id": "a"}, {"op": "abs", "args": ["$a"], "id": "b"}, save()]),
            (422, "cycle", "/graph/*", "before it"),
        ),
        (json!([{"op": "abs", "args": ["$a"], "id": "a"}, save()]), (422, "cycle", "/graph/0/*", "")),
        (set("layers.1.output", "layers.2.output"), (422, "backward_flow", "/graph/0", "second input")),
        (set("layers.0.self_attn.probs", "layers.0.self_attn.output"), (422, "*", "/graph/0*", "")),
        (json!([save(), {"op": "abs", "args": [1]}]), (422, "unused_node", "/graph/1", "leave it out")),
        (
            json!([save(), {"op": "set", "target": "logits[:, -1]", "value": 0}]),
            (422, "unreachable_write", "/graph/1", "save something after it"),
        ),
        (
            json!([{"op": "save", "value": "layers.0.output", "as": "x"}, {"op": "skip", "layers": 2}]),
            (422, "unreachable_write", "/graph/1", "logits"),
        ),
        (
            json!([{"op": "skip", "layers": [1, 2]}, {"op": "save", "value": "layers.1.mlp.up", "as": "y"}, save()]),
            (422, "skipped_block", "/graph/1/value", "layers.2.output"),
        ),
        (
            json!([{"op": "skip", "layers": 1}, {"op": "set", "target": "layers.1.mlp.neurons", "value": 0}, save()]),
            (422, "skipped_block", "/graph/1*", ""),
        ),
        (
            json!([{"op": "skip", "layers": [0, 1]}, {"op": "skip", "layers": 1}, save()]),
            (422, "skipped_block", "/graph/1/layers", "one node"),
        ),
    ])
    .await;
}

#[tokio::test]
async fn inputs_that_wait_for_each_other() {
    let server = Server::with(MODEL).await;
    let inputs = json!({"clean": [[1, 2]], "corrupt": [[3, 4]]});
    let body = |graph| json!({"inputs": inputs, "graph": graph});
    let set = |target: &str, value: &str| json!({"op": "set", "target": target, "value": value});
    let save = json!({"op": "save", "value": "corrupt/logits", "as": "x"});
    refuse_bodies(
        &server,
        vec![
            (body(saved(json!("logits"))), (422, "unknown_input", "/graph/0/value", "`clean/…`")),
            (body(saved(json!("cleen/logits"))), (422, "unknown_input", "/graph/0/value", "`clean`")),
            (body(json!([{"op": "skip", "layers": 0}, save])), (422, "unknown_input", "/graph/0*", "")),
            (
                body(json!([{"op": "steer", "layers": 0, "vector": 1.0}, save])),
                (422, "unknown_input", "/graph/0*", "clean"),
            ),
            (
                body(json!([
                    set("corrupt/layers.0.output", "clean/layers.1.output"),
                    set("clean/layers.0.output", "corrupt/layers.1.output"),
                    save
                ])),
                (422, "backward_flow", "/graph/*", ""),
            ),
        ],
    )
    .await;
}

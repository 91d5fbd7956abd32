//! The fields of every operation: missing, unknown, or of the wrong kind.

use serde_json::{Value, json};

use super::{MODEL, Row, compare, refuse_graphs, save, saved};
use crate::server::Server;

#[tokio::test]
async fn nodes_and_their_fields() {
    let mut rows = structure();
    rows.extend(writes());
    rows.extend(operations());
    assert!(rows.len() >= 50, "{}", rows.len());
    refuse_graphs(rows).await;
}

#[tokio::test]
async fn what_only_the_forward_pass_shows() {
    let server = Server::with(MODEL).await;
    for (value, refusal) in [
        (
            json!({"op": "call", "module": "embed_tokens", "args": [{"op": "add", "args": [[[1]], 319]}]}),
            (422, "index_out_of_range", "/graph/0/value", "0 to 319"),
        ),
        (
            json!({"op": "one_hot", "args": [{"op": "argmax", "args": ["logits[0]", -1]}, 1]}),
            (422, "index_out_of_range", "/graph/0/value", ""),
        ),
    ] {
        let body = json!({"input": [[1, 2, 3]], "graph": saved(value)});
        compare(&body.to_string(), server.post("/v1/trace", &body).await, refusal).await;
    }
}

fn node(node: Value) -> Value {
    json!([node, save()])
}

fn structure() -> Vec<Row> {
    let last = || json!("logits[:, -1]");
    vec![
        (json!([7]), (400, "malformed", "/graph/0", "save")),
        (json!([["save"]]), (400, "malformed", "/graph/0", "save")),
        (json!([null]), (400, "malformed", "/graph/0", "save")),
        (json!([{}]), (400, "missing_field", "/graph/0", "")),
        (json!([{"op": null}]), (422, "bad_argument", "/graph/0/op", "")),
        (json!([{"op": 5}]), (422, "bad_argument", "/graph/0/op", "")),
        (json!([{"op": "sav"}]), (422, "unknown_op", "/graph/0/op", "`save`")),
        (json!([{"op": ""}]), (422, "unknown_op", "/graph/0/op", "")),
        (json!([save(), {"op": "x".repeat(100_000)}]), (422, "unknown_op", "/graph/1/op", "")),
        (json!([{"op": "save", "as": "x"}]), (400, "missing_field", "/graph/0", "")),
        (json!([{"op": "save", "value": last()}]), (400, "missing_field", "/graph/0", "`to`")),
        (json!([{"op": "save", "value": last(), "as": 5}]), (422, "bad_argument", "/graph/0/as", "")),
        (json!([{"op": "save", "value": last(), "to": 5}]), (422, "bad_argument", "/graph/0/to", "")),
        (json!([{"op": "save", "value": last(), "to": "joy"}]), (422, "bad_argument", "/graph/0/to", "")),
        (json!([{"op": "save", "value": last(), "to": "@a.b"}]), (422, "bad_argument", "/graph/0/to", "")),
        (json!([{"op": "save", "value": last(), "to": "@a b"}]), (422, "bad_name", "/graph/0*", "letters")),
        (
            json!([{"op": "save", "value": last(), "as": "x", "vlaue": 1}]),
            (400, "unknown_field", "/graph/0/vlaue", "`value`"),
        ),
        (json!([{"op": "save", "value": last(), "as": "x", "id": 3}]), (422, "bad_argument", "/graph/0/id", "")),
        (json!([{"op": "save", "value": last(), "as": "x", "id": ""}]), (422, "bad_argument", "/graph/0/id", "an id")),
        (
            json!([{"op": "save", "value": last(), "as": "x", "id": "$a"}]),
            (422, "bad_argument", "/graph/0/id", "an id"),
        ),
        (json!([{"op": "top_tokens", "as": "x"}]), (400, "missing_field", "/graph/0", "")),
        (json!([{"op": "top_tokens", "value": last()}]), (400, "missing_field", "/graph/0", "")),
        (json!([{"op": "top_tokens", "value": last(), "as": []}]), (422, "bad_argument", "/graph/0/as", "")),
        (json!([{"op": "top_tokens", "value": last(), "as": "x", "k": -1}]), (422, "bad_argument", "/graph/0/k", "")),
        (json!([{"op": "top_tokens", "value": last(), "as": "x", "k": 1.5}]), (422, "bad_argument", "/graph/0/k", "")),
        (
            json!([{"op": "top_tokens", "value": last(), "as": "x", "k": 0}]),
            (422, "bad_argument", "/graph/0/k", "1 to 320"),
        ),
        (
            json!([{"op": "top_tokens", "value": last(), "as": "x", "k": 321}]),
            (422, "bad_argument", "/graph/0/k", "1 to 320"),
        ),
        (
            json!([{"op": "top_tokens", "value": "layers.0.output", "as": "x"}]),
            (422, "shape_mismatch", "/graph/0/value", "project_on_vocab"),
        ),
        (saved(json!({"op": "project_on_vocab"})), (400, "missing_field", "/graph/0/value*", "")),
        (
            saved(json!({"op": "project_on_vocab", "args": [1.0, 2.0]})),
            (422, "bad_argument", "/graph/0/value/args", ""),
        ),
        (
            saved(json!({"op": "project_on_vocab", "args": ["logits"]})),
            (422, "shape_mismatch", "/graph/0/value/args*", ""),
        ),
        (
            saved(json!({"op": "project_on_vocab", "args": ["ln_final.input"], "output_transform": 1})),
            (422, "bad_argument", "/graph/0/value/output_transform", ""),
        ),
    ]
}

fn writes() -> Vec<Row> {
    let steer = |fields: Value| {
        let mut steer = json!({"op": "steer", "layers": 0, "vector": 1.0});
        steer.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        node(steer)
    };
    vec![
        (node(json!({"op": "set", "value": 0})), (400, "missing_field", "/graph/0", "")),
        (node(json!({"op": "set", "target": "logits"})), (400, "missing_field", "/graph/0", "")),
        (node(json!({"op": "set", "target": 5, "value": 0})), (422, "bad_argument", "/graph/0/target", "")),
        (node(json!({"op": "set", "target": "$a", "value": 0})), (422, "bad_argument", "/graph/0/target", "a site")),
        (node(json!({"op": "set", "target": "@a", "value": 0})), (422, "bad_argument", "/graph/0/target", "a site")),
        (node(json!({"op": "set", "target": "", "value": 0})), (422, "unknown_site", "/graph/0/target", "")),
        (
            node(json!({"op": "set", "target": "layers.9.output", "value": 0})),
            (422, "unknown_site", "/graph/0/target", "layers 0 to 2"),
        ),
        (
            node(json!({"op": "set", "target": "next_token_probs", "value": 0})),
            (422, "unknown_site", "/graph/0/target", "`logits`"),
        ),
        (
            node(json!({"op": "set", "target": "layers.0.output", "value": [1.0, 2.0]})),
            (422, "shape_mismatch", "/graph/0/value", "equal or 1"),
        ),
        (
            node(json!({"op": "set", "target": "logits[:, 3:]", "value": 0})),
            (422, "empty_write", "/graph/0/target", "slices"),
        ),
        (
            node(json!({"op": "set", "target": "logits", "value": 0, "layers": 1})),
            (400, "unknown_field", "/graph/0/layers", ""),
        ),
        (node(json!({"op": "steer", "vector": 1.0})), (400, "missing_field", "/graph/0", "")),
        (node(json!({"op": "steer", "layers": 0})), (400, "missing_field", "/graph/0", "")),
        (steer(json!({"layers": []})), (422, "empty_write", "/graph/0/layers", "")),
        (steer(json!({"layers": "all"})), (422, "bad_argument", "/graph/0/layers*", "")),
        (steer(json!({"layers": [0, 1.5]})), (422, "bad_argument", "/graph/0/layers*", "")),
        (steer(json!({"layers": [0, 3]})), (422, "unknown_site", "/graph/0/layers", "layers 0 to 2")),
        (steer(json!({"layers": [-4]})), (422, "unknown_site", "/graph/0/layers", "layers 0 to 2")),
        (steer(json!({"layers": i64::MIN})), (422, "unknown_site", "/graph/0/layers", "layers 0 to 2")),
        (steer(json!({"vector": [1.0, 2.0]})), (422, "shape_mismatch", "/graph/0/vector", "equal or 1")),
        (steer(json!({"factor": "logits"})), (422, "shape_mismatch", "/graph/0*", "")),
        (steer(json!({"factor": "x"})), (422, "unknown_site", "/graph/0/factor", "")),
        (steer(json!({"tokens": 9})), (422, "index_out_of_range", "/graph/0/tokens", "-3 to 2")),
        (steer(json!({"tokens": {"a": 1}})), (422, "bad_argument", "/graph/0/tokens*", "")),
        (steer(json!({"tokens": " France"})), (422, "bad_index", "/graph/0/tokens", "as in NumPy")),
        (steer(json!({"tokens": "' France'"})), (422, "text_not_found", "/graph/0/tokens", "spaces")),
        (steer(json!({"rows": 1})), (422, "index_out_of_range", "/graph/0/rows", "-1 to 0")),
        (steer(json!({"input": "b"})), (422, "unknown_input", "/graph/0/input", "`input`")),
        (steer(json!({"site": "mlp.neurons"})), (422, "unknown_site", "/graph/0/site", "`")),
        (steer(json!({"site": "outptu"})), (422, "unknown_site", "/graph/0/site", "`output`")),
        (steer(json!({"faktor": 2})), (400, "unknown_field", "/graph/0/faktor", "`factor`")),
        (node(json!({"op": "skip"})), (400, "missing_field", "/graph/0", "")),
        (node(json!({"op": "skip", "layers": [0, 1, 2]})), (422, "bad_argument", "/graph/0/layers", "")),
        (node(json!({"op": "skip", "layers": []})), (422, "bad_argument", "/graph/0/layers", "")),
        (node(json!({"op": "skip", "layers": [2, 1]})), (422, "bad_argument", "/graph/0/layers", "[first, last]")),
        (node(json!({"op": "skip", "layers": 3})), (422, "unknown_site", "/graph/0/layers", "layers 0 to 2")),
        (
            node(json!({"op": "skip", "layers": 1, "with": [1.0, 2.0]})),
            (422, "shape_mismatch", "/graph/0/with", "equal or 1"),
        ),
        (node(json!({"op": "skip", "layers": 1, "input": "b"})), (422, "unknown_input", "/graph/0/input", "`input`")),
    ]
}

fn operations() -> Vec<Row> {
    let last = || json!("logits[:, -1]");
    vec![
        (saved(json!({"op": "softmx", "args": [last(), -1]})), (422, "unknown_op", "/graph/0/value/op", "`softmax`")),
        (saved(json!({"op": "add", "args": [last()]})), (400, "missing_field", "/graph/0/value*", "add(")),
        (saved(json!({"op": "add", "args": [1, 2, 3, 4]})), (422, "bad_argument", "/graph/0/value/args*", "add(")),
        (saved(json!({"op": "add", "args": 5})), (422, "bad_argument", "/graph/0/value/args", "")),
        (
            saved(json!({"op": "add", "args": [1], "input": 2, "other": 3})),
            (422, "bad_argument", "/graph/0/value/input", ""),
        ),
        (saved(json!({"op": "add", "args": [1, 2], "beta": 2})), (400, "unknown_field", "/graph/0/value/beta", "")),
        (saved(json!({"op": "add", "args": [1, 2], "alpha": "x"})), (422, "bad_argument", "/graph/0/value/alpha", "")),
        (
            saved(json!({"op": "add", "args": ["logits", "ln_final.input"]})),
            (422, "shape_mismatch", "/graph/0/value*", "equal or 1"),
        ),
        (saved(json!({"op": "softmax", "args": [last(), "x"]})), (422, "bad_argument", "/graph/0/value/args/1", "")),
        (
            saved(json!({"op": "softmax", "args": [last(), 2]})),
            (422, "index_out_of_range", "/graph/0/value*", "-2 to 1"),
        ),
        (
            saved(json!({"op": "softmax", "args": [last(), i64::MIN]})),
            (422, "index_out_of_range", "/graph/0/value*", "-2 to 1"),
        ),
        (saved(json!({"op": "sum", "args": [last()], "dim": [0, 0]})), (422, "bad_argument", "/graph/0/value*", "")),
        (
            saved(json!({"op": "sum", "args": [last()], "keepdim": "yes"})),
            (422, "bad_argument", "/graph/0/value/keepdim", ""),
        ),
        (saved(json!({"op": "mean", "args": [[1, 2]]})), (422, "dtype_mismatch", "/graph/0/value*", "floats")),
        (saved(json!({"op": "gelu", "args": [last(), "fast"]})), (422, "bad_argument", "/graph/0/value/args/1", "")),
        (
            saved(json!({"op": "clamp", "args": [last(), {"a": 1}]})),
            (400, "unknown_field", "/graph/0/value/args/1/a", ""),
        ),
    ]
}

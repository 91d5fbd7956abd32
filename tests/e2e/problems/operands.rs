//! Operands: sites, indices, references, and tensors written into the request.

use serde_json::{Value, json};

use super::{MODEL, Row, refuse_bodies, refuse_graphs, save, saved};
use crate::server::Server;

#[tokio::test]
async fn operands_of_every_form() {
    let refuse = |value: Value, refusal| (saved(value), refusal);
    let mut rows: Vec<Row> = sites().into_iter().map(|(text, refusal)| refuse(json!(text), refusal)).collect();
    rows.extend(tensors().into_iter().map(|(value, refusal)| refuse(value, refusal)));
    refuse_graphs(rows).await;
}

type Site = (&'static str, super::Refusal);

fn sites() -> Vec<Site> {
    let unknown = |hint| (422, "unknown_site", "/graph/0/value", hint);
    let index = |hint| (422, "bad_index", "/graph/0/value", hint);
    vec![
        ("layers.99.output", unknown("this model has layers 0 to 2")),
        ("layers[-4].output", unknown("this model has layers 0 to 2")),
        ("layers.9223372036854775808.output", unknown("")),
        ("layers_output[3]", unknown("this model has layers 0 to 2")),
        ("layers.[0, 7].output", unknown("this model has layers 0 to 2")),
        ("layers.x.output", unknown("layers.5.output")),
        ("layers.1", unknown("layers.5.output")),
        ("layers", unknown("layers.5.output")),
        ("layer.1.output", unknown("`layers.1.output`")),
        ("layers.1.outputs", unknown("`output`")),
        ("layers.1.self_attn.prob", unknown("`self_attn.probs`")),
        ("layers.1.mlp.router.probs", unknown("it has input")),
        ("logit", unknown("`logits`")),
        ("lm_head", unknown("")),
        ("model.layers.0.output", unknown("")),
        ("other/logits", (422, "unknown_input", "/graph/0/value", "`input`")),
        ("", (422, "bad_argument", "/graph/0/value", "\"$id\"")),
        ("$", (422, "bad_argument", "/graph/0/value", "\"$id\"")),
        ("@", (422, "bad_argument", "/graph/0/value", "\"$id\"")),
        ("$nope", (422, "unknown_node", "/graph/0/value", "")),
        ("@nope", (404, "unknown_tensor", "/graph/0/value", "PUT /v1/tensors/nope")),
        ("@nope.key", (404, "unknown_tensor", "/graph/0/value", "PUT /v1/tensors/nope")),
        ("logits[", index("as in NumPy")),
        ("logits[:, -1", index("as in NumPy")),
        ("logits[:, a]", index("as in NumPy")),
        ("logits[1.5]", index("as in NumPy")),
        ("logits[::0]", index("")),
        ("logits[..., ...]", index("")),
        ("logits[0, 0, 0, 0]", index("leave out 1")),
        ("logits[[0, 0], [0, 1, 2]]", index("paired")),
        ("logits[:, :, 'the']", index("token axis")),
        ("logits[:, 'the", index("")),
        ("logits[:, 3]", (422, "index_out_of_range", "/graph/0/value", "-3 to 2")),
        ("logits[:, -4]", (422, "index_out_of_range", "/graph/0/value", "-3 to 2")),
        ("logits[1]", (422, "index_out_of_range", "/graph/0/value", "-1 to 0")),
        ("logits[:, :, 320]", (422, "index_out_of_range", "/graph/0/value", "-320 to 319")),
        ("logits[:, 99999999999999999999]", (422, "*", "/graph/0/value", "")),
        ("logits[:, [0, 5]]", (422, "index_out_of_range", "/graph/0/value", "-3 to 2")),
        ("logits[:, ' France']", (422, "text_not_found", "/graph/0/value", "spaces included")),
    ]
}

fn tensors() -> Vec<Row> {
    let half = "\u{ff}".repeat(3);
    vec![
        (json!({}), (400, "missing_field", "/graph/0/value", "")),
        (json!([[1.0, 2.0], [3.0]]), (422, "shape_mismatch", "/graph/0/value/1", "")),
        (json!([1.0, [2.0]]), (422, "shape_mismatch", "/graph/0/value/1", "")),
        (json!([1.0, null]), (400, "malformed", "/graph/0/value/1", "")),
        (json!([1.0, "x"]), (400, "malformed", "/graph/0/value/1", "\"NaN\"")),
        (json!(9_007_199_254_740_993_i64), (422, "dtype_mismatch", "/graph/0/value", "whole numbers")),
        (nested(17), (413, "too_large", "/graph/0/value*", "")),
        (json!({"data": [1], "b64": ""}), (400, "missing_field", "/graph/0/value", "")),
        (json!({"data": [1], "typ": "f32"}), (400, "unknown_field", "/graph/0/value/typ", "`dtype`")),
        (json!({"data": [1], "dtype": "f33"}), (422, "dtype_mismatch", "/graph/0/value/dtype", "`f32`")),
        (json!({"data": [1], "dtype": 32}), (400, "malformed", "/graph/0/value/dtype", "")),
        (json!({"data": [256], "dtype": "u8"}), (422, "dtype_mismatch", "/graph/0/value/data", "0 to 255")),
        (json!({"data": [0.5], "dtype": "i64"}), (422, "dtype_mismatch", "/graph/0/value/data", "whole numbers")),
        (json!({"data": [1, 2], "shape": [3]}), (422, "shape_mismatch", "/graph/0/value/data", "")),
        (json!({"data": [1], "shape": [-1]}), (400, "malformed", "/graph/0/value/shape", "")),
        (json!({"data": [1], "shape": 1}), (400, "malformed", "/graph/0/value/shape", "")),
        (json!({"data": [], "shape": [u64::MAX, 16]}), (413, "too_large", "/graph/0/value/shape", "")),
        (json!({"b64": "AAAA"}), (400, "missing_field", "/graph/0/value", "")),
        (json!({"b64": "A", "dtype": "f32", "shape": [1]}), (400, "malformed", "/graph/0/value/b64", "")),
        (json!({"b64": half, "dtype": "f32", "shape": [1]}), (400, "malformed", "/graph/0/value/b64", "")),
        (json!({"b64": "AAAA", "dtype": "f32", "shape": [1]}), (422, "shape_mismatch", "/graph/0/value/b64", "")),
        (json!({"b64": 5, "dtype": "f32", "shape": [1]}), (400, "malformed", "/graph/0/value/b64", "")),
    ]
}

/// A number in this many lists.
fn nested(depth: usize) -> Value {
    (0..depth).fold(json!(1.0), |inner, _| json!([inner]))
}

#[tokio::test]
async fn the_nearest_of_the_callers_own_tensors() {
    let server = Server::with(MODEL).await;
    let many = json!({"a.weight": [1.0], "b": [2.0]});
    assert_eq!(server.put("/v1/tensors/joy", &json!([1.0, 2.0])).await.status(), 201);
    assert_eq!(server.put("/v1/tensors/many", &many).await.status(), 201);
    let rows = [
        ("@yoy", "`joy`"),
        ("@many", "`@many.a.weight`, `@many.b`"),
        ("@many.c", "`b`"),
        ("@many.a.wait", "`a.weight`"),
    ];
    let rows = rows.into_iter().map(|(text, hint)| {
        let body = json!({"input": [[1]], "graph": saved(json!(text))});
        (body, (404, "unknown_tensor", "/graph/0/value", hint))
    });
    let bad = json!({"input": [[1]], "graph": [{"op": "steer", "layers": 0, "vector": "@joy"}, save()]});
    let rows = rows.chain([(bad, (422, "shape_mismatch", "/graph/0/vector", "equal or 1"))]);
    refuse_bodies(&server, rows.collect()).await;
}

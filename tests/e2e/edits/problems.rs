//! What can be wrong with an edit, and with a request that names one.

use serde_json::{Value, json};

use super::{keep, server};
use crate::server::{Server, golden};

/// Puts an edit that has to be refused: status, code and pointer.
async fn refused(server: &Server, edit: &Value, expected: (u16, &str, &str)) -> Value {
    let response = server.put("/v1/edits/wrong", edit).await;
    let status = response.status().as_u16();
    let problem: Value = response.json().await.unwrap();
    let said = |field: &str| problem.get(field).map_or("", |value| value.as_str().unwrap());
    assert_eq!((status, said("code"), said("pointer")), expected, "{edit}\n{problem}");
    problem
}

#[tokio::test]
async fn an_edit_is_checked_before_it_is_kept() {
    let server = server().await;
    let graph = |graph: Value| json!({"graph": graph});
    let set = |target: &str, value: Value| graph(json!([{"op": "set", "target": target, "value": value}]));
    for (edit, expected) in [
        (set("layers.99.output", json!(0)), (422, "unknown_site", "/graph/0/target")),
        (set("layers.1.output", json!([1, 2])), (422, "shape_mismatch", "/graph/0/value")),
        (set("layers.1.output", json!("@nobody")), (404, "unknown_tensor", "/graph/0/value")),
        (set("layers.1.output[:, 5000]", json!(0)), (422, "index_out_of_range", "/graph/0/target")),
        (graph(json!("save logits as x")), (422, "unsupported", "/graph")),
        (graph(json!([])), (422, "empty_write", "/graph")),
        (json!({}), (400, "missing_field", "")),
        (json!([]), (400, "malformed", "")),
        (json!({"graph": "logits *= 2", "model": "nobody"}), (404, "unknown_model", "/model")),
        (json!({"graph": "logits *= 2", "modle": "x"}), (400, "unknown_field", "/modle")),
        (json!({"graph": "logits *= {x}", "parameters": {"x": "1"}}), (422, "bad_argument", "/parameters/x")),
        (json!({"graph": "logits *= 2", "parameters": {"x": 1}}), (422, "unused_node", "/parameters/x")),
        (json!({"graph": "logits *= 2", "description": "x".repeat(2 << 20)}), (413, "too_large", "")),
    ] {
        refused(&server, &edit, expected).await;
    }
    let problem =
        refused(&server, &graph(json!("layers.1.output *= 2\nlayers.1.outptu *= 2")), (422, "unknown_site", "/graph"))
            .await;
    assert_eq!((&problem["line"], &problem["column"]), (&json!(2), &json!(1)), "{problem}");
    for name in ["a+b", "-x", "a b", &"x".repeat(129)] {
        assert_eq!(server.put(&format!("/v1/edits/{name}"), &super::loud()).await.status(), 422, "{name}");
    }
    assert_eq!(server.get("/v1/edits/wrong").await.status(), 404, "nothing of it was kept");
}

/// Rows, texts and lengths are those of requests; an example says more.
#[tokio::test]
async fn an_edit_for_some_prompts_is_checked_as_far_as_that_goes() {
    let server = server().await;
    keep(&server, "row", &json!({"graph": "layers.1.output[3] = 0"})).await;
    keep(&server, "late", &json!({"graph": "layers.1.output[:, 100] = 0"})).await;
    keep(&server, "text", &json!({"graph": "layers.1.output[:, ' France'] = 0"})).await;
    let pinned = json!({"graph": [{"op": "set", "target": "layers.1.output[:, :3, 0]", "value": [1, 2, 3]}]});
    keep(&server, "three", &pinned).await;
    let all = json!({"graph": [{"op": "set", "target": "layers.1.output[0, :, 0]", "value": [1, 2, 3]}]});
    let problem = refused(&server, &all, (422, "shape_mismatch", "/graph/0/value")).await;
    assert!(problem["hint"].as_str().unwrap().contains("`input`"), "{problem}");
    let mut with = all.clone();
    with["input"] = json!([[1, 2, 3]]);
    keep(&server, "whole", &with).await;
    with["input"] = json!("the wrong prompt");
    refused(&server, &with, (422, "shape_mismatch", "/graph/0/value")).await;
    let text = json!({"graph": "layers.1.output[:, ' France'] = 0", "input": "Spain"});
    refused(&server, &text, (422, "text_not_found", "/graph")).await;

    // in a request the edit is checked anew
    let body = json!({"model": "llama-rope3+row", "input": [[1, 2]], "graph": "save logits as x"});
    let problem = server.refused("/v1/trace", &body, 422).await;
    assert_eq!((&problem["code"], &problem["pointer"]), (&json!("index_out_of_range"), &json!("/edits/row/graph")));
    assert!(problem["detail"].as_str().unwrap().starts_with("in the edit `row`"), "{problem}");
    server.refused("/v1/generate", &json!({"model": "llama-rope3+row", "input": [[1, 2]]}), 422).await;
}

#[tokio::test]
async fn names_and_arguments_are_checked_before_anything_runs() {
    let server = server().await;
    let many: String = (0..17).map(|number| format!("+e{number}")).collect();
    for (model, args, status, code, pointer, hint) in [
        ("llama-rope3+clam", json!({}), 404, "unknown_edit", "/model", "did you mean `calm`?"),
        ("llama-rope3+", json!({}), 404, "unknown_edit", "/model", "`calm`"),
        ("llama-rope+calm", json!({}), 404, "unknown_model", "/model", "did you mean `llama-rope3`?"),
        ("llama-rope3+calm+calm", json!({}), 422, "bad_argument", "/model", "parameter"),
        (&format!("llama-rope3{many}"), json!({}), 413, "too_large", "/model", ""),
        (
            "llama-rope3+calm",
            json!({"calm": {"factro": 1}}),
            400,
            "unknown_field",
            "/edit_args/calm/factro",
            "`factor`",
        ),
        ("llama-rope3+calm", json!({"calm": {"factor": 5}}), 422, "bad_argument", "/edit_args/calm/factor", "-4 to 4"),
        ("llama-rope3+calm", json!({"loud": {}}), 422, "bad_argument", "/edit_args/loud", "`calm`"),
        ("llama-rope3+calm", json!({"calm": 2}), 400, "malformed", "/edit_args/calm", ""),
        ("llama-rope3", json!({"calm": {"factor": 1}}), 422, "bad_argument", "/edit_args/calm", ""),
    ] {
        let body = json!({"model": model, "edit_args": args, "input": [[1, 2]], "graph": "save logits as x"});
        for path in ["/v1/trace", "/v1/validate", "/v1/generate"] {
            let problem = server.refused(path, &body, status).await;
            assert_eq!((&problem["code"], &problem["pointer"]), (&json!(code), &json!(pointer)), "{body}\n{problem}");
            let said = problem.get("hint").map_or("", |said| said.as_str().unwrap());
            assert!(said.contains(hint), "{body}\n{problem}");
        }
        let body = json!({"model": model, "edit_args": args, "prompt": [1, 2]});
        let answer: Value = server.post("/v1/completions", &body).await.json().await.unwrap();
        assert_eq!(answer["error"]["code"], code, "{body}\n{answer}");
    }
    server.refused("/v1/tokenize", &json!({"model": "llama-rope3+clam", "input": "a"}), 404).await;
}

#[tokio::test]
async fn an_edit_for_another_models_width_is_refused() {
    let model = |name: &str| format!("{name}={}", golden(name).display());
    let server = Server::start(&["--model", &model("llama-rope3"), "--model", &model("llama-gqa-tied")]);
    server.ready().await;
    let vector: Vec<f64> = (0..24).map(f64::from).collect();
    let edit = json!({
        "model": "llama-rope3", "graph": [{"op": "steer", "layers": [1], "vector": vector, "factor": 1}]
    });
    keep(&server, "wide", &edit).await;
    let mut other = edit.clone();
    other["model"] = json!("llama-gqa-tied");
    refused(&server, &other, (422, "shape_mismatch", "/graph/0/vector")).await;
    let body = |model: &str| json!({"model": model, "input": [[1, 2]], "graph": "save logits as x"});
    server.trace(&body("llama-rope3+wide")).await;
    for path in ["/v1/trace", "/v1/validate", "/v1/generate"] {
        let problem = server.refused(path, &body("llama-gqa-tied+wide"), 422).await;
        assert_eq!(problem["pointer"], "/edits/wide/graph/0/vector", "{problem}");
        assert!(problem["hint"].as_str().unwrap().contains("made for the model `llama-rope3`"), "{problem}");
    }
    // without a name there is no telling which of two models is meant
    let unnamed = json!({"graph": "logits *= 2"});
    refused(&server, &unnamed, (400, "missing_field", "/model")).await;
}

//! What cannot be generated is said before anything runs.

use serde_json::{Value, json};

use crate::server::Server;

#[tokio::test]
async fn is_pointed_to() {
    let server = Server::with("llama-gqa-tied").await;
    let mean = json!({"op": "mean", "args": ["logits"]});
    let save = |value: &str| json!([{"op": "save", "value": value, "as": "x"}]);
    for (change, status, pointer) in [
        (json!({"max_new_tokens": 0}), 422, "/max_new_tokens"),
        (json!({"max_new_tokens": 1_000_000}), 413, "/max_new_tokens"),
        (json!({"max_new_tokens": "many"}), 422, "/max_new_tokens"),
        (json!({"n": 1_000_000}), 413, "/n"),
        (json!({"stop": vec!["x"; 10_000]}), 413, "/stop"),
        (json!({"stop": [1_000_000]}), 422, "/stop"),
        (json!({"temperature": -1}), 422, "/temperature"),
        (json!({"logit_bias": {"1000000": 1}}), 422, "/logit_bias"),
        (json!({"temprature": 1}), 400, "/temprature"),
        (json!({"sweep": {"a": [1, 2]}, "graph": save("layers.{a}.output")}), 422, "/sweep"),
        (json!({"graph": save("layers.99.output")}), 422, "/graph/0/value"),
        (json!({"graph": save("layers.1.output[:, 40]")}), 422, "/graph/0/value"),
        (json!({"graph": [{"op": "save", "value": "logits", "as": "x", "steps": 30}]}), 422, "/graph/0"),
        (json!({"graph": [{"op": "save", "value": "logits", "as": "x", "steps": "later"}]}), 422, "/graph/0/steps"),
        (
            json!({"graph": [{"op": "grad", "of": mean, "wrt": "layers.1.output", "id": "g"},
                          {"op": "save", "value": "$g", "as": "x"}]}),
            422,
            "/graph/0",
        ),
        (json!({"graph": [{"op": "skip", "layers": 1, "steps": "prompt"}]}), 422, "/graph/0"),
        (
            json!({"graph": [{"op": "save", "value": {"op": "reshape", "args": ["layers.1.output", [-1]]}, "as": "x"}]}),
            422,
            "/graph/0/value",
        ),
        (json!({"stream": true, "output": {"encoding": "safetensors"}}), 422, "/output/encoding"),
        (json!({"input": "a text"}), 422, "/input"),
        (json!({"input": [[1], []]}), 422, "/input/1"),
    ] {
        let mut body = json!({"input": [[1, 2, 3]], "max_new_tokens": 8});
        change.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        let problem = server.refused("/v1/generate", &body, status).await;
        assert_eq!(problem["pointer"], pointer, "{body}\n{problem}");
    }
    let steps = json!({"input": [[1, 2]], "graph": [{"op": "save", "value": "logits", "as": "x", "steps": "all"}]});
    let problem = server.refused("/v1/trace", &steps, 422).await;
    assert_eq!(problem["pointer"], "/graph/0/steps");
    let inputs = json!({"inputs": {"a": [[1]], "b": [[2]]}, "max_new_tokens": 2});
    assert_eq!(server.refused("/v1/generate", &inputs, 400).await["pointer"], "/grow");
}

#[tokio::test]
async fn logits_that_are_no_numbers_end_it() {
    let server = Server::with("llama-gqa-tied").await;
    let body = json!({
        "input": [[1, 2, 3]], "max_new_tokens": 8, "ignore_eos": true,
        "graph": [{"op": "set", "target": "layers.1.output", "value": {"op": "log", "args": [-1.0]}, "steps": {"from": 2}}]
    });
    let problem = server.refused("/v1/generate", &body, 422).await;
    assert!(problem["detail"].as_str().unwrap().contains("row 0 at step 2"), "{problem}");
    let mut streamed = body;
    streamed["stream"] = json!(true);
    let text = server.post("/v1/generate", &streamed).await.text().await.unwrap();
    let events = super::streams::events(&text);
    let (name, found): &(String, Value) = events.last().unwrap();
    assert_eq!((name.as_str(), &found["code"], events.len()), ("error", &problem["code"], 3));
}

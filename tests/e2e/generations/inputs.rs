//! Generations of several inputs: text of one of them, and what the others hold in the prompt's pass.

use serde_json::{Value, json};

use crate::server::Server;

const MODEL: &str = "llama-rope3";

fn set(steps: &str) -> Value {
    json!({"op": "set", "target": "text/layers.1.output[:, -1]", "value": "source/layers.1.output[:, -1]", "steps": steps})
}

fn inputs() -> Value {
    json!({"source": [[9, 8, 7], [3]], "text": [[1, 2, 3, 4], [5, 6]]})
}

fn ids(answer: &Value) -> Vec<Value> {
    answer["outputs"].as_array().unwrap().iter().map(|output| output["ids"].clone()).collect()
}

#[tokio::test]
async fn what_another_input_holds_is_put_into_the_prompt() {
    let server = Server::with(MODEL).await;
    let kept = json!({"input": inputs()["source"], "graph": "save layers.1.output[:, -1] to @kept"});
    server.trace(&kept).await;
    let by_hand = json!({
        "input": inputs()["text"], "max_new_tokens": 8, "ignore_eos": true,
        "graph": [{"op": "set", "target": "layers.1.output[:, -1]", "value": "@kept", "steps": "prompt"},
                  {"op": "save", "value": "layers.2.output", "as": "h"}]
    });
    let save = |value: &str, name: &str| json!({"op": "save", "value": value, "as": name});
    let body = json!({
        "inputs": inputs(), "grow": "text", "max_new_tokens": 8, "ignore_eos": true,
        "graph": [set("prompt"), save("text/layers.2.output", "h"), save("source/layers.2.output", "other")]
    });
    let (found, expected) = (server.generate(&body).await, server.generate(&by_hand).await);
    assert_eq!(ids(&found), ids(&expected));
    assert_eq!(found["results"]["h"], expected["results"]["h"]);
    // the other input has its own tokens, and its rows are there once
    let other = json!({"input": inputs()["source"], "graph": "save layers.2.output as other"});
    assert_eq!(found["results"]["other"], server.trace(&other).await["results"]["other"]);
    assert_eq!(found["receipts"][0]["positions"], 2);
    assert_eq!(found["usage"]["prompt_tokens"], 10);
    assert_ne!(
        ids(&found),
        ids(&server.generate(&json!({"input": inputs()["text"], "max_new_tokens": 8, "ignore_eos": true})).await)
    );
}

#[tokio::test]
async fn samples_scores_and_sessions_are_those_of_the_text() {
    let server = Server::with(MODEL).await;
    let body = json!({
        "inputs": {"text": [[1, 2, 3, 4]], "source": [[9, 8, 7]]}, "grow": "text", "max_new_tokens": 4, "ignore_eos": true,
        "graph": [{"op": "save", "value": "source/logits[:, -1, :2]", "as": "x"}], "n": 3, "temperature": 1, "seed": 5,
        "prompt_logprobs": 2, "keep": true
    });
    let plain = json!({"input": [[1, 2, 3, 4]], "max_new_tokens": 4, "ignore_eos": true, "n": 3, "temperature": 1, "seed": 5, "prompt_logprobs": 2});
    let (found, expected) = (server.generate(&body).await, server.generate(&plain).await);
    assert_eq!(found["outputs"], expected["outputs"]);
    let again = json!({"session": found["session"]["id"], "max_new_tokens": 2, "ignore_eos": true});
    assert_eq!(server.generate(&again).await["outputs"].as_array().unwrap().len(), 3);
    // beside a session, the other input is as it is
    let more = json!({
        "session": found["session"]["id"], "inputs": {"source": [[9, 8, 7]], "text": [[5]]}, "grow": "text", "max_new_tokens": 2,
        "ignore_eos": true, "graph": [{"op": "save", "value": "source/logits[:, -1, :2]", "as": "x"}]
    });
    assert_eq!(server.generate(&more).await["results"]["x"], found["results"]["x"]);
}

#[tokio::test]
async fn what_cannot_be_is_said() {
    let server = Server::with(MODEL).await;
    let save = json!({"op": "save", "value": "text/layers.0.output", "as": "x"});
    let steer = json!({"op": "steer", "input": "text", "layers": [1], "vector": "$v"});
    let mean = json!({"op": "mean", "id": "v", "args": ["source/layers.1.output[:, -1]", 0]});
    let unnamed = json!({"op": "save", "value": "layers.0.output", "as": "x"});
    for (body, status, pointer, hint) in [
        (json!({"inputs": inputs(), "graph": [save]}), 400, "/grow", "\"grow\": \"text\""),
        (json!({"inputs": inputs(), "grow": "txt", "graph": [save]}), 422, "/grow", "text"),
        (json!({"inputs": inputs(), "grow": "text", "graph": [unnamed]}), 422, "/graph/0", "text/"),
        (json!({"inputs": inputs(), "grow": "text", "graph": [set("all")]}), 422, "/graph/0", "\"steps\": \"prompt\""),
        (json!({"inputs": inputs(), "grow": "text", "graph": [mean, steer]}), 422, "/graph/1", "@name"),
        (json!({"inputs": inputs(), "grow": "text", "graph": [set("new")]}), 422, "/graph/0", ""),
        (json!({"input": [[1]], "grow": "text"}), 422, "/grow", "input"),
    ] {
        let problem = server.refused("/v1/generate", &body, status).await;
        assert!(problem["pointer"].as_str().unwrap().starts_with(pointer), "{problem}");
        assert!(problem["hint"].as_str().unwrap_or("").contains(hint), "{problem}");
    }
}

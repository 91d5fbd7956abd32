//! What a request with edits does is what it does with their nodes in its own graph.

use serde_json::{Value, json};

use super::{keep, server};
use crate::server::Server;

const READ: &str = "save logits[:, -1] as x";

/// Results of a trace of two ragged rows.
async fn logits(server: &Server, model: &str, args: Value, graph: Value) -> Value {
    let body = json!({"model": model, "edit_args": args, "input": [[1, 2, 3], [4, 5, 6, 7]], "graph": graph});
    server.trace(&body).await["results"]["x"].clone()
}

#[tokio::test]
async fn a_trace_with_edits_is_a_trace_with_their_nodes() {
    let server = server().await;
    for (model, args, graph) in [
        ("llama-rope3+calm", json!({}), "layers.1.output += 0.5\nsave logits[:, -1] as x"),
        ("llama-rope3+calm", json!({"calm": {"factor": -2}}), "layers.1.output += -2\nsave logits[:, -1] as x"),
        ("llama-rope3+calm+loud", json!({}), "layers.1.output += 0.5\nlayers.1.output *= 3\nsave logits[:, -1] as x"),
        ("llama-rope3+loud+calm", json!({}), "layers.1.output *= 3\nlayers.1.output += 0.5\nsave logits[:, -1] as x"),
    ] {
        let edited = logits(&server, model, args.clone(), json!(READ)).await;
        assert_eq!(edited, logits(&server, "llama-rope3", json!({}), json!(graph)).await, "{model} {args}");
        assert_ne!(edited, logits(&server, "llama-rope3", json!({}), json!(READ)).await, "{model} {args}");
    }
}

#[tokio::test]
async fn receipts_say_whose_node_it_was() {
    let server = server().await;
    let body = json!({
        "model": "llama-rope3+loud+calm", "inputs": {"a": [[1, 2]], "b": [[3, 4, 5]]},
        "graph": "a/layers.0.output[:, -1] = 0\nsave a/logits[:, -1] as a\nsave b/logits[:, -1] as b"
    });
    let answer = server.trace(&body).await;
    assert_eq!(answer["model"], "llama-rope3+loud+calm");
    let receipts = answer["receipts"].as_array().unwrap();
    let mut told: Vec<(&str, u64, &str)> = receipts
        .iter()
        .map(|receipt| {
            let edit = receipt.get("edit").map_or("", |edit| edit.as_str().unwrap());
            (edit, receipt["node"].as_u64().unwrap(), receipt["input"].as_str().unwrap())
        })
        .collect();
    told.sort_unstable();
    // `*=` reads, multiplies and writes: its write is the last of its line's nodes
    let line = told.iter().find(|(edit, ..)| *edit == "loud").unwrap().1;
    assert_eq!(told, [("", 0, "a"), ("calm", 0, "a"), ("calm", 0, "b"), ("loud", line, "a"), ("loud", line, "b")]);
    assert!(receipts.iter().all(|receipt| receipt["delta_norm"].as_f64().unwrap() > 0.0), "{receipts:?}");
}

#[tokio::test]
async fn sweeps_and_validation_know_them() {
    let server = server().await;
    let sweep = |model: &str, graph: &str| {
        json!({
            "model": model, "input": [[1, 2, 3]], "sweep": {"layer": {"range": [0, 3]}},
            "graph": format!("{graph}layers.{{layer}}.mlp.output = 0\nsave logits[:, -1] as x")
        })
    };
    let edited = server.trace(&sweep("llama-rope3+calm", "")).await;
    let by_hand = server.trace(&sweep("llama-rope3", "layers.1.output += 0.5\n")).await;
    assert_eq!(edited["results"], by_hand["results"]);
    let validated: Value = server.post("/v1/validate", &sweep("llama-rope3+calm", "")).await.json().await.unwrap();
    assert_eq!(validated["results"]["x"]["shape"], json!([3, 1, 320]));
    assert_eq!(validated["model"], "llama-rope3+calm");
}

#[tokio::test]
async fn what_of_an_edit_touches_nothing_is_told() {
    let server = server().await;
    let body = json!({"model": "llama-rope3+calm", "input": [[1, 2]], "graph": "save layers.0.output as x"});
    let answer = server.trace(&body).await;
    assert!(answer["warnings"][0].as_str().unwrap().starts_with("/edits/calm/graph/0 touches nothing"), "{answer}");
    assert_eq!((&answer["usage"]["layers_run"], &answer["receipts"]), (&json!(1), &json!([])));
    let validated: Value = server.post("/v1/validate", &body).await.json().await.unwrap();
    assert_eq!(validated["warnings"], answer["warnings"]);

    let late = json!({"graph": [{"op": "set", "target": "layers.0.output", "value": 0, "steps": {"from": 5}}]});
    keep(&server, "late", &late).await;
    let mut body = json!({"model": "llama-rope3+late", "input": [[1, 2]], "max_new_tokens": 3});
    let answer = server.generate(&body).await;
    assert!(answer["warnings"][0].as_str().unwrap().starts_with("/edits/late/graph/0 touches nothing"), "{answer}");
    body["max_new_tokens"] = json!(8);
    body["ignore_eos"] = json!(true);
    let answer = server.generate(&body).await;
    assert_eq!((answer.get("warnings"), &answer["receipts"][0]["edit"]), (None, &json!("late")), "{answer}");
}

#[tokio::test]
async fn generations_and_openais_forms_run_with_them() {
    let server = server().await;
    let ask = |model: &str, graph: &str| json!({"model": model, "input": [[5, 6, 7]], "max_new_tokens": 12, "ignore_eos": true, "graph": graph});
    let plain = server.generate(&ask("llama-rope3", "")).await;
    let by_hand = server.generate(&ask("llama-rope3", "layers.1.output *= 3\nlayers.1.output += 2")).await;
    let mut edited = ask("llama-rope3+loud+calm", "");
    edited["edit_args"] = json!({"calm": {"factor": 2}});
    let edited = server.generate(&edited).await;
    assert_eq!(edited["outputs"], by_hand["outputs"]);
    assert_ne!(edited["outputs"], plain["outputs"]);
    assert_eq!(edited["receipts"][0]["positions"], json!(3 + 11));

    let openai = json!({
        "model": "llama-rope3+loud+calm", "edit_args": {"calm": {"factor": 2}}, "prompt": [5, 6, 7], "max_tokens": 12,
        "temperature": 0, "ignore_eos": true
    });
    let answer: Value = server.post("/v1/completions", &openai).await.json().await.unwrap();
    assert_eq!(answer["choices"][0]["text"], edited["outputs"][0]["text"], "{answer}");
    assert_eq!(answer["model"], "llama-rope3+loud+calm");
    let tokens: Value =
        server.post("/v1/tokenize", &json!({"model": "llama-rope3+calm", "input": "a"})).await.json().await.unwrap();
    assert_eq!(tokens["model"], "llama-rope3+calm");
}

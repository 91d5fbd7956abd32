//! Server-sent events: the same text and results, and nothing that outlives the client.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::Server;

/// The events of a body of server-sent events.
pub(crate) fn events(text: &str) -> Vec<(String, Value)> {
    let event = |event: &str| {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        Some((field("event:")?.to_owned(), serde_json::from_str(field("data:")?).unwrap()))
    };
    text.split("\n\n").filter_map(event).collect()
}

#[tokio::test]
async fn tells_what_the_answer_says() {
    let server = Server::with("llama-gqa-tied").await;
    let graph = json!([
        {"op": "save", "value": "layers.0.output[:, -1, :3]", "as": "h"},
        {"op": "save", "value": "layers.*.output", "as": "large"},
        {"op": "steer", "layers": [1], "vector": [1.0], "factor": 1}
    ]);
    let input = json!([(0..60).collect::<Vec<_>>(), [1, 2]]);
    let body = json!({"input": input, "max_new_tokens": 5, "ignore_eos": true, "graph": graph, "logprobs": 2});
    let plain = server.generate(&body).await;
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let response = server.post("/v1/generate", &streamed).await;
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    let events = events(&response.text().await.unwrap());
    let (last, done) = events.last().unwrap();
    assert_eq!(last, "done");
    assert_eq!(done["outputs"], plain["outputs"]);
    assert_eq!(done["receipts"], plain["receipts"]);
    assert_eq!(done["results"]["h"], plain["results"]["h"]);
    for row in 0..2 {
        let tokens = events.iter().filter(|(name, data)| name == "token" && data["row"] == row);
        let ids: Vec<Value> = tokens.map(|(_, data)| data["id"].clone()).collect();
        assert_eq!(json!(ids), plain["outputs"][row]["ids"]);
    }
    let saved: Vec<&Value> = events.iter().filter(|(name, _)| name == "saved").map(|(_, data)| data).collect();
    assert_eq!(saved.len(), 5);
    assert_eq!(saved[2]["step"], 2);
    assert_eq!(saved[2]["results"]["h"]["data"][0], plain["results"]["h"]["data"][0][2]);
    // what is large is in the store when it is done
    let handle = done["results"]["large"]["tensor"].as_str().unwrap();
    assert_eq!(saved[0]["results"]["large"]["tensor"], handle);
    assert_eq!(done["results"]["large"]["shape"], plain["results"]["large"]["shape"]);
    let read = json!({"input": [[1]], "graph": [{"op": "save", "value": handle, "as": "x"}]});
    assert_eq!(server.trace(&read).await["results"]["x"]["data"], plain["results"]["large"]["data"]);
}

#[tokio::test]
async fn a_client_that_hangs_up_stops_it() {
    let server = Server::with_flags("llama-gqa-tied", &["--max-tokens", "1000000"]).await;
    let context: Value = server.get("/v1/models/llama-gqa-tied").await.json().await.unwrap();
    let most = context["context"].as_u64().unwrap() - 3;
    let body = json!({
        "input": vec![vec![1, 2, 3]; 16], "max_new_tokens": most, "ignore_eos": true, "stream": true, "temperature": 1,
    });
    for _ in 0..3 {
        let mut response = server.post("/v1/generate", &body).await;
        assert!(response.chunk().await.unwrap().is_some());
        drop(response);
    }
    let begin = Instant::now();
    assert!(server.is_idle().await);
    assert!(begin.elapsed() < Duration::from_secs(10));
}

//! Everything that a request can get wrong: what is answered, where it points to, and what it says about mending it.

mod bodies;
mod fields;
mod flow;
mod limits;
mod operands;
mod routes;

use reqwest::Response;
use serde_json::{Value, json};

use crate::server::Server;

/// What has to be answered: status, code, pointer (with `*` at its end: what it begins with), and part of the hint.
type Refusal = (u16, &'static str, &'static str, &'static str);

/// A graph or a body that is wrong, and the answer to it.
type Row = (Value, Refusal);

/// A model with a tokenizer: 3 layers, 24 wide, 3 heads on 1, a vocabulary of 320, 128 tokens at most.
const MODEL: &str = "llama-rope3";

/// A node that makes a graph return something.
fn save() -> Value {
    json!({"op": "save", "value": "logits[:, -1]", "as": "x"})
}

/// A graph that saves this.
fn saved(value: Value) -> Value {
    json!([{"op": "save", "value": value, "as": "x"}])
}

/// What is wrong with an answer, if it is not the one that has to be given.
async fn miss(asked: &str, response: Response, (status, code, pointer, hint): Refusal) -> Option<String> {
    let found = response.status();
    let media = response.headers().get("content-type").cloned();
    let text = response.text().await.unwrap();
    let asked: String = asked.chars().take(300).collect();
    let shown: String = text.chars().take(600).collect();
    let missed = |what: &str| Some(format!("{what}\n  asked {asked}\n  found {found} {shown}\n"));
    let Ok(problem) = serde_json::from_str::<Value>(&text) else { return missed("not JSON") };
    let said = |field: &str| problem.get(field).map_or("", |value| value.as_str().unwrap());
    if found != status || problem["status"] != status || (code != "*" && said("code") != code) {
        return missed(&format!("wants {status} {code}"));
    }
    if media.is_none_or(|media| media != "application/problem+json") {
        return missed("wants application/problem+json");
    }
    let place = said("pointer");
    if !pointer.strip_suffix('*').map_or(place == pointer, |start| place.starts_with(start)) {
        return missed(&format!("has to point to {pointer:?}"));
    }
    if !said("hint").contains(hint) {
        return missed(&format!("has to hint at {hint:?}"));
    }
    let whole = said("type") == format!("urn:patchbay:problem:{}", said("code"));
    if !whole || said("title").is_empty() || said("detail").is_empty() {
        return missed("wants type, title and detail");
    }
    None
}

/// Fails with everything that was missed.
fn none_of(misses: Vec<String>) {
    assert!(misses.is_empty(), "{} of the answers are wrong:\n{}", misses.len(), misses.join("\n"));
}

/// Compares one answer with what it has to be.
async fn compare(asked: &str, response: Response, refusal: Refusal) {
    none_of(miss(asked, response, refusal).await.into_iter().collect());
}

/// Sends every body to trace and to validate, which refuse alike; afterwards the server answers as before.
async fn refuse_bodies(server: &Server, rows: Vec<Row>) {
    let good = json!({"input": [[1, 2, 3]], "graph": [save()]});
    let before = server.trace(&good).await;
    let mut misses = Vec::new();
    for (body, refusal) in rows {
        for path in ["/v1/trace", "/v1/validate"] {
            misses.extend(miss(&format!("{path} {body}"), server.post(path, &body).await, refusal).await);
        }
    }
    none_of(misses);
    assert_eq!(server.trace(&good).await["results"], before["results"]);
}

/// Sends every graph with an input of three tokens.
async fn refuse_graphs(rows: Vec<Row>) {
    let server = Server::with(MODEL).await;
    let text = json!([[1, 2, 3]]);
    let rows = rows.into_iter().map(|(graph, refusal)| (json!({"input": text, "graph": graph}), refusal));
    refuse_bodies(&server, rows.collect()).await;
}

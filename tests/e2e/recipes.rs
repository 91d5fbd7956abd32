//! Recipes: what they find is what nnterp finds, what they say they are is what they do, and what is wrong is said of their own fields.

mod attribution;
mod hands;
mod nnterp;
mod parts;
mod pictures;
mod probe;
mod problems;

use serde_json::{Value, json};

use crate::golden::numbers;
use crate::server::Server;

/// Runs a recipe, which has to succeed.
async fn cook(server: &Server, name: &str, body: &Value) -> Value {
    let response = server.post(&format!("/v1/recipes/{name}"), body).await;
    let status = response.status();
    let answer: Value = response.json().await.unwrap();
    assert_eq!(status, 200, "{name} {body}\n{answer}");
    answer
}

/// The trace that a recipe is.
async fn explained(server: &Server, name: &str, body: &Value) -> Value {
    let mut body = body.clone();
    body["explain"] = json!(true);
    cook(server, name, &body).await
}

/// Two results are the same up to rounding.
fn close(found: &Value, expected: &Value, what: &str) {
    assert_eq!(found["shape"], expected["shape"], "{what}");
    let (found, expected) = (numbers(&found["data"]), numbers(&expected["data"]));
    let largest = expected.iter().fold(1e-6f64, |most, x| most.max(x.abs()));
    for (found, expected) in found.iter().zip(&expected) {
        assert!(
            (found - expected).abs() <= 1e-4 * largest,
            "{what}: {found}, not {expected}; the largest is {largest}"
        );
    }
}

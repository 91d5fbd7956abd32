//! Conversations with an edited model beside others with the plain one.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::server;
use crate::server::Server;

/// What the model says in three turns, with what it said before.
async fn conversation(server: &Server, number: usize) -> Vec<Value> {
    let model = if number.is_multiple_of(2) { "llama-rope3" } else { "llama-rope3+calm+loud" };
    let mut messages = vec![json!({"role": "user", "content": format!("say {}", number / 2)})];
    let mut said = Vec::new();
    for turn in 0..3 {
        let body = json!({
            "model": model, "messages": messages, "max_completion_tokens": 6, "temperature": 0.8, "seed": number + turn,
        });
        let mut answer: Value = server.post("/v1/chat/completions", &body).await.json().await.unwrap();
        let choice = answer["choices"][0].take();
        assert!(choice["message"]["content"].is_string(), "{body}\n{answer}");
        messages.push(choice["message"].clone());
        messages.push(json!({"role": "user", "content": "on"}));
        said.push(choice);
    }
    said
}

#[tokio::test]
async fn sixteen_steered_beside_sixteen_that_are_not() {
    let server = server().await;
    let mut alone = Vec::new();
    for number in 0..32 {
        alone.push(conversation(&server, number).await);
    }
    let together = join_all((0..32).map(|number| conversation(&server, number))).await;
    for (number, (alone, together)) in alone.iter().zip(&together).enumerate() {
        assert_eq!(alone, together, "conversation {number}");
    }
    let steered = (0..16).filter(|pair| alone[2 * pair] != alone[2 * pair + 1]).count();
    assert_eq!(steered, 16, "an edit changes what is said");
}

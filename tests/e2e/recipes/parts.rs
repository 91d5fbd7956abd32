//! Recipes of more rows than a trace takes run in parts, and give what the rows give.

use serde_json::{Value, json};

use super::cook;
use crate::golden::numbers;
use crate::server::Server;

/// Rows of different lengths and tokens.
fn rows(count: usize) -> Vec<Vec<usize>> {
    (0..count).map(|row| (0..1 + row % 5).map(|token| (7 * row + 3 * token) % 90).collect()).collect()
}

#[tokio::test]
async fn activations_of_any_number_of_rows() {
    let server = Server::with_flags("llama-gqa-tied", &["--max-rows", "110", "--max-tokens", "320"]).await;
    let rows = rows(1100);
    for more in
        [json!({}), json!({"layers": [1], "index": 0, "site": "self_attn.z"}), json!({"output": {"dtype": "f16"}})]
    {
        let body = |rows: &[Vec<usize>]| {
            let mut body = json!({"input": rows});
            more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
            body
        };
        let whole = cook(&server, "activations", &body(&rows)).await;
        let found = &whole["results"]["activations"];
        let shape: Vec<usize> = serde_json::from_value(found["shape"].clone()).unwrap();
        assert_eq!(shape[1], rows.len());
        let (data, inner) = (numbers(&found["data"]), shape[2..].iter().product::<usize>());
        for (number, part) in rows.chunks(100).enumerate() {
            let alone = cook(&server, "activations", &body(part)).await;
            let alone = numbers(&alone["results"]["activations"]["data"]);
            for layer in 0..shape[0] {
                let at = (layer * rows.len() + 100 * number) * inner;
                let (found, size) = (&data[at..at + part.len() * inner], part.len() * inner);
                assert_eq!(found, &alone[layer * size..(layer + 1) * size], "layer {layer}, part {number}");
            }
        }
        assert_eq!(whole["inputs"]["input"]["ids"], json!(rows));
        assert_eq!(whole["usage"]["prompt_tokens"], rows.iter().map(Vec::len).sum::<usize>());
    }
}

#[tokio::test]
async fn an_edit_acts_on_all_parts() {
    let server = Server::with("llama-gqa-tied").await;
    let edit = json!({"model": "llama-gqa-tied", "graph": "layers[0].output *= 2.0"});
    assert!(server.put("/v1/edits/twice", &edit).await.status().is_success());
    let rows = rows(600);
    let found = cook(&server, "activations", &json!({"input": rows, "layers": [0]})).await;
    let twice = json!({"input": rows, "layers": [0], "model": "llama-gqa-tied+twice"});
    let twice = cook(&server, "activations", &twice).await;
    let numbers = |answer: &Value| numbers(&answer["results"]["activations"]["data"]);
    assert!(numbers(&found).iter().zip(numbers(&twice)).all(|(once, twice)| 2.0 * *once as f32 == twice as f32));
    let touched: u64 =
        twice["receipts"].as_array().unwrap().iter().map(|receipt| receipt["rows"].as_u64().unwrap()).sum();
    assert_eq!(touched, 600);
}

#[tokio::test]
async fn what_is_wrong_with_a_row_is_said_of_that_row() {
    let server = Server::with("llama-gqa-tied").await;
    let mut rows = rows(900);
    rows[777] = vec![1, 2, 100_000];
    let body = json!({"input": rows});
    let problem = server.refused("/v1/recipes/activations", &body, 422).await;
    assert_eq!(problem["pointer"], "/input/777/2", "{problem}");
    // what is as wide as a row is long cannot be put together
    let body = json!({"input": vec![[1, 2]; 1100], "site": "self_attn.probs"});
    assert_eq!(server.refused("/v1/recipes/activations", &body, 413).await["pointer"], "/input");
}

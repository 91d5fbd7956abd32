//! Direct logit attribution: shares add up to the logit, and what no part writes is what the biases write.

use serde_json::{Value, json};

use super::cook;
use crate::golden::numbers;
use crate::server::Server;

#[tokio::test]
async fn shares_add_up_on_every_kind_of_norm() {
    // with a norm that takes the mean off or not, with and without weights and biases, parallel parts, multipliers, norms behind the parts
    for model in
        ["llama-gqa-tied", "gpt2", "gemma2", "granite", "cohere", "olmo", "phi", "mpt", "nemotron", "qwen3_moe"]
    {
        let server = Server::with(model).await;
        let input = json!([[1, 2, 3, 4], [5, 6]]);
        for per in ["layer", "head"] {
            let body = json!({"input": input, "tokens": [7, 9], "per": per});
            if per == "head" && model == "gemma2" {
                let response = server.post("/v1/recipes/direct-logit-attribution", &body).await;
                let problem: Value = response.json().await.unwrap();
                assert_eq!(
                    (&problem["code"], &problem["pointer"]),
                    (&json!("unsupported"), &json!("/per")),
                    "{problem}"
                );
                continue;
            }
            let found = cook(&server, "direct-logit-attribution", &body).await;
            let names = found["components"].as_array().unwrap();
            let graph = "save lm_head.output[:, -1, 7] - lm_head.output[:, -1, 9] as logit";
            let logit = server.trace(&json!({"input": input, "graph": graph})).await;
            let logit = numbers(&logit["results"]["logit"]["data"]);
            let mut has_biases = false;
            let behind_heads = if per == "head" { "layers.0.self_attn.o_proj.bias" } else { "ln_final.bias" };
            for bias in ["ln_final.bias", "lm_head.bias", behind_heads] {
                let graph = json!({"input": [[1]], "graph": format!("save weights.{bias} as bias")});
                has_biases |= server.post("/v1/validate", &graph).await.status() == 200;
            }
            for (row, logit) in logit.iter().enumerate() {
                let shares = numbers(&found["results"]["attribution"]["data"][row]);
                assert_eq!(shares.len(), names.len());
                let largest = shares.iter().fold(0.0f64, |most, share| most.max(share.abs()));
                let sum: f64 = shares.iter().sum();
                assert!((sum - logit).abs() <= 1e-4 * largest, "{model} {per}: {sum} and {logit}");
                let rest = shares.last().unwrap().abs();
                assert!(has_biases || rest <= 1e-3 * largest, "{model} {per}: {rest} is nobody's, of {largest}");
            }
        }
    }
}

/// Of GPT-2, all that is left when each part's share is told is the bias of the last norm.
#[tokio::test]
async fn the_rest_is_the_biases() {
    let server = Server::with("gpt2").await;
    let body = json!({"input": [[1, 2, 3, 4]], "tokens": [7, 9]});
    let found = cook(&server, "direct-logit-attribution", &body).await;
    let shares = numbers(&found["results"]["attribution"]["data"][0]);
    let graph = "save sum((weights.lm_head[7] - weights.lm_head[9]) * weights.ln_final.bias) as bias";
    let bias =
        server.trace(&json!({"input": [[1]], "graph": graph})).await["results"]["bias"]["data"].as_f64().unwrap();
    let largest = shares.iter().fold(0.0f64, |most, share| most.max(share.abs()));
    assert!((shares.last().unwrap() - bias).abs() <= 1e-4 * largest, "{shares:?} and {bias}");
}

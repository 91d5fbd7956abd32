//! SmolLM2 with half-precision and quantised weights (`--dtype`), against the same model in float32.

use serde_json::{Value, json};

use crate::golden::numbers;
use crate::server::Server;
use crate::smollm2::smollm2;

/// What is looked at: logits after each token, a write, a gradient, and text.
struct Seen {
    bytes: u64,
    logits: Vec<f64>,
    steered: Vec<f64>,
    gradient: Vec<f64>,
    first: String,
    tokens: usize,
}

async fn observe(dtype: &str) -> Option<Seen> {
    let file = smollm2()?;
    let server = Server::start(&["--model", &format!("smollm2={}", file.display()), "--dtype", dtype]);
    server.ready().await;
    let facts: Value = server.get("/v1/models/smollm2").await.json().await.unwrap();
    assert_eq!(facts["dtype"], dtype, "{facts}");
    let checks: Value = server.get("/v1/models/smollm2/checks").await.json().await.unwrap();
    assert_eq!(checks["passed"], true, "{checks}");

    let prompt = "The capital of France is";
    let trace = |graph: Value| {
        let body = json!({"model": "smollm2", "input": prompt, "graph": graph});
        let server = &server;
        async move { server.trace(&body).await }
    };
    let plain = trace(json!([{"op": "save", "value": "logits[0]", "as": "x"}])).await;
    let steered = trace(json!([
        {"op": "mul", "args": ["layers.10.output", 1.2], "id": "louder"},
        {"op": "set", "target": "layers.10.output", "value": "$louder"},
        {"op": "save", "value": "logits[0, -1]", "as": "x"},
    ]))
    .await;
    let gradient = trace(json!([
        {"op": "grad", "id": "g", "of": "logits[0, -1, 7042]", "wrt": "layers.12.output"},
        {"op": "save", "value": "$g", "as": "x"},
    ]))
    .await;
    let text = server.generate(&json!({"model": "smollm2", "input": prompt, "max_new_tokens": 8})).await;
    let generated = &text["outputs"][0];
    Some(Seen {
        bytes: facts["bytes"].as_u64().unwrap(),
        logits: numbers(&plain["results"]["x"]["data"]),
        steered: numbers(&steered["results"]["x"]["data"]),
        gradient: numbers(&gradient["results"]["x"]["data"]),
        first: generated["text"].as_str().unwrap().chars().take(6).collect(),
        tokens: generated["ids"].as_array().unwrap().len(),
    })
}

/// The largest difference, as a share of the largest exact value.
fn share(exact: &[f64], found: &[f64]) -> f64 {
    assert_eq!(exact.len(), found.len());
    assert!(found.iter().all(|x| x.is_finite()));
    let worst = exact.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    worst / exact.iter().map(|x| x.abs()).fold(0.0, f64::max)
}

#[tokio::test]
async fn every_precision_is_as_near_to_float32_as_the_documentation_says() {
    let Some(exact) = observe("f32").await else { return };
    assert_eq!((exact.first.as_str(), exact.tokens), (" Paris", 8));
    // The most that logits and gradients may differ by, and the share of float32's bytes that the weights may take.
    for (dtype, most, of_gradient, bytes) in
        [("f16", 3e-3, 2e-2, 0.51), ("bf16", 2e-2, 0.1, 0.51), ("q8_0", 4e-2, 0.15, 0.28), ("q4_k", 0.4, 0.6, 0.16)]
    {
        let found = observe(dtype).await.unwrap();
        let [logits, steered, gradient] = [
            share(&exact.logits, &found.logits),
            share(&exact.steered, &found.steered),
            share(&exact.gradient, &found.gradient),
        ];
        println!("{dtype}: logits {logits:.1e}, steered {steered:.1e}, gradient {gradient:.1e}");
        assert!(logits > 0.0 && logits < most, "{dtype}: logits differ by {logits}");
        assert!(steered < most, "{dtype}: logits under a write differ by {steered}");
        assert!(gradient < of_gradient, "{dtype}: gradients differ by {gradient}");
        assert!((found.bytes as f64) < bytes * exact.bytes as f64, "{dtype}: {} of {} bytes", found.bytes, exact.bytes);
        assert_eq!((found.first.as_str(), found.tokens), (" Paris", 8), "{dtype}");
    }
}

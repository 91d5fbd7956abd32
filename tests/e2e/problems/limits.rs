//! The limits on one request, each set by its flag and named where it is met.

use serde_json::{Value, json};

use super::{MODEL, compare, save, saved};
use crate::server::{Server, golden};

async fn limited(flag: &str, value: &str) -> Server {
    let server = Server::start(&["--model", &golden(MODEL).display().to_string(), flag, value]);
    server.ready().await;
    server
}

fn body(input: Value, graph: Value) -> Value {
    json!({"input": input, "graph": graph})
}

#[tokio::test]
async fn every_limit_is_named() {
    let one = || json!([[1, 2, 3]]);
    let last = || json!([save()]);
    let nested = saved(json!({"op": "abs", "args": [{"op": "neg", "args": ["logits"]}]}));
    for (flag, value, fits, exceeds, pointer) in [
        (
            "--max-nodes",
            "2",
            body(one(), saved(json!({"op": "abs", "args": ["logits"]}))),
            body(one(), nested),
            "/graph",
        ),
        ("--max-rows", "2", body(json!([[1], [2]]), last()), body(json!([[1], [2], [3]]), last()), ""),
        (
            "--max-tokens",
            "5",
            body(json!([[1, 2], [3, 4, 5]]), last()),
            body(json!([[1, 2, 3], [4, 5, 6]]), last()),
            "/input",
        ),
        ("--max-result-bytes", "1280", body(one(), last()), body(one(), saved(json!("logits"))), "/graph"),
        (
            "--max-peak-bytes",
            "100000",
            body(one(), last()),
            body(json!([vec![1; 100]]), saved(json!("logits"))),
            "/graph",
        ),
        ("--memory", "98KiB", body(one(), last()), body(json!([vec![1; 100]]), saved(json!("logits"))), "/graph"),
    ] {
        let server = limited(flag, value).await;
        server.trace(&fits).await;
        let name = flag.trim_start_matches("--").replace('-', "_");
        for path in ["/v1/trace", "/v1/validate"] {
            let problem = server.refused(path, &exceeds, 413).await;
            assert_eq!(problem["code"], "too_large");
            let found = problem.get("pointer").map_or("", |pointer| pointer.as_str().unwrap());
            assert!(found.starts_with(pointer), "{problem}");
            assert!(problem.to_string().contains(&name), "{name}: {problem}");
        }
    }
}

#[tokio::test]
async fn bodies_that_are_too_long() {
    let server = limited("--max-body-bytes", "1000").await;
    let refusal = (413, "too_large", "", "max_body_bytes");
    let long = body(json!("x".repeat(1000)), json!([save()]));
    compare("announced", server.post("/v1/trace", &long).await, refusal).await;
    // a client that looks at the answer only once all of it is sent
    let long = body(json!("x".repeat(20_000_000)), json!([save()]));
    compare("long", server.post("/v1/trace", &long).await, refusal).await;
    let put = server.request(reqwest::Method::PUT, "/v1/tensors/a").header("content-type", "application/json");
    compare("tensor", put.body(format!("[{}0]", "0,".repeat(600))).send().await.unwrap(), refusal).await;
}

#[tokio::test]
async fn what_a_caller_may_keep() {
    for (flag, value, fits, exceeds, name) in [
        ("--max-tensor-bytes", "16", vec![1.0; 4], vec![1.0; 5], "max_tensor_bytes"),
        ("--max-total-bytes", "20", vec![1.0; 4], vec![1.0; 2], "max_total_bytes"),
        ("--max-names", "1", vec![1.0; 4], vec![1.0; 1], "max_names"),
    ] {
        let server = limited(flag, value).await;
        assert_eq!(server.put("/v1/tensors/a", &json!(fits)).await.status(), 201, "{flag}");
        let refusal = (413, "too_large", "", "DELETE /v1/tensors");
        let response = server.put("/v1/tensors/b", &json!(exceeds)).await;
        compare(name, response, refusal).await;
        // a graph that keeps too much does not run
        let keep = json!([{"op": "save", "value": exceeds, "to": "@b"}]);
        let problem = server.refused("/v1/trace", &body(json!([[1]]), keep), 413).await;
        assert!(problem["detail"].as_str().unwrap().contains(name), "{problem}");
        assert_eq!(server.get("/v1/tensors/b").await.status(), 404);
    }
}

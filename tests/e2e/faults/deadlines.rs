//! Requests whose time is over.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Calm, quick, slow};
use crate::server::Server;

/// A sweep that would take minutes.
fn endless() -> Value {
    let mut body = slow();
    body["graph"] = json!([
        {"op": "steer", "layers": [0], "vector": vec![1.0; 24], "factor": "{factor}"},
        {"op": "save", "value": "logits[:, -1, :2]", "as": "x"}
    ]);
    body["sweep"] = json!({"factor": (1..=500).collect::<Vec<_>>()});
    body
}

/// What the server says to a body that it cannot do in time, and how long it took to say so.
async fn cut_off(server: &Server, mut body: Value, timeout: Option<u64>) -> (Value, Duration) {
    if let Some(timeout) = timeout {
        body["timeout_ms"] = json!(timeout);
    }
    let begin = Instant::now();
    let problem = server.refused("/v1/trace", &body, 504).await;
    assert_eq!(problem["code"], "timed_out");
    (problem, begin.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_that_is_cut_off_is_answered_at_once_and_leaves_nothing() {
    let calm = Calm::start(&[]).await;
    cut_off(&calm.server, endless(), Some(1500)).await;
    // what the allocator keeps of the first is no leak; what it holds after others would be
    let calm = calm.settled();
    for timeout in [5, 400, 1500] {
        let (problem, took) = cut_off(&calm.server, endless(), Some(timeout)).await;
        let expected = Duration::from_millis(timeout);
        // what is late beyond that is a busy machine
        assert!(took >= expected && took < expected + Duration::from_secs(3), "{took:?} of {expected:?}");
        assert!(problem["detail"].as_str().unwrap().contains(&format!("{timeout} ms")), "{problem}");
        assert!(problem["hint"].as_str().unwrap().contains("`timeout_ms`"), "{problem}");
    }
    // none of its cells is in anybody's way
    let begin = Instant::now();
    let answer = calm.server.trace(&quick(3)).await;
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert_eq!(answer["usage"]["co_batched"], 1);
    calm.still().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_has_a_default_and_a_most() {
    let calm = Calm::start(&["--timeout", "0.3", "--max-timeout", "50"]).await;
    let (problem, took) = cut_off(&calm.server, endless(), None).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(problem["hint"].as_str().unwrap().contains("50000"), "{problem}");
    let mut body = quick(3);
    body["timeout_ms"] = json!(50_000);
    calm.server.trace(&body).await;
    body["timeout_ms"] = json!(50_001);
    for path in ["/v1/trace", "/v1/validate"] {
        let problem = calm.server.refused(path, &body, 413).await;
        assert_eq!((&problem["code"], &problem["pointer"]), (&json!("too_large"), &json!("/timeout_ms")));
        assert!(problem["hint"].as_str().unwrap().contains("max_timeout"), "{problem}");
    }
    calm.still().await;
}

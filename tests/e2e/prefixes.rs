//! Prompts that begin as others did.

use serde_json::{Value, json};

use crate::server::Server;

const MODEL: &str = "llama-gqa-tied";

/// A prompt of 30 tokens, and one more.
fn body(last: u32) -> Value {
    let prompt = (0..30).map(|token| token * 7 % 90).chain([last]).collect::<Vec<_>>();
    json!({"input": [prompt], "graph": [{"op": "save", "value": "logits[:, -1]", "as": "x"}]})
}

#[tokio::test]
async fn the_answer_says_what_was_saved_and_is_the_same() {
    let [keeping, forgetting] = [Server::with(MODEL).await, Server::with_flags(MODEL, &["--prefix-cache", "0"]).await];
    for (last, cached) in [(1, Value::Null), (2, json!(30)), (3, json!(30))] {
        let [kept, fresh] = [keeping.trace(&body(last)).await, forgetting.trace(&body(last)).await];
        assert!(kept["results"] == fresh["results"]);
        assert_eq!((&kept["usage"]["cached_tokens"], &fresh["usage"]["cached_tokens"]), (&cached, &Value::Null));
        let layers = |answer: &Value| answer["usage"]["token_layers"].as_u64().unwrap();
        assert_eq!(layers(&kept) < layers(&fresh), cached != Value::Null);
    }
    // what is left is part of the plan, where it is
    let plan = async |server: &Server| server.post("/v1/validate", &body(1)).await.json::<Value>().await.unwrap();
    let [kept, fresh] = [plan(&keeping).await, plan(&forgetting).await];
    let bytes = kept["cost"]["prefix_bytes"].as_u64().unwrap();
    let peak = |answer: &Value| answer["cost"]["peak_bytes"].as_u64().unwrap();
    assert_eq!((peak(&kept) - bytes, &fresh["cost"]["prefix_bytes"]), (peak(&fresh), &Value::Null));
}

/// However many prompts come, no more of them is kept than may be.
#[tokio::test]
async fn what_is_kept_is_bounded() {
    const MOST: u64 = 1 << 20;
    let server = Server::with_flags(MODEL, &["--prefix-cache", "1MiB"]).await;
    let rows = |number: usize| -> Value {
        (0..16).map(|row| (0..60).map(|token| (token * 7 + row * 5 + number * 11) % 89).collect::<Vec<_>>()).collect()
    };
    let body = |number: usize| json!({"input": rows(number), "graph": [{"op": "save", "value": "logits[:, -1, 0]", "as": "x"}]});
    server.trace(&body(0)).await;
    let left =
        server.post("/v1/validate", &body(0)).await.json::<Value>().await.unwrap()["cost"]["prefix_bytes"].clone();
    let before = server.memory("VmRSS");
    for number in 1..60 {
        server.trace(&body(number)).await;
    }
    let all = 60 * left.as_u64().unwrap();
    let grown = server.memory("VmRSS").saturating_sub(before);
    eprintln!("{} MiB of {} MiB are kept", grown >> 20, all >> 20);
    assert!(all > 16 * MOST && grown < 8 * MOST, "{} MiB of {} MiB are kept", grown >> 20, all >> 20);
}

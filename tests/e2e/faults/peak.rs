//! The process takes what was planned.

use reqwest::Method;
use serde_json::{Value, json};

use super::MODEL;
use crate::server::{Server, golden};
use crate::smollm2::smollm2;

/// Rows, none of which begins like another.
fn rows(count: usize) -> Value {
    (0..count).map(|row| [vec![row % 300, row / 300], vec![7; 118]].concat()).collect()
}

fn save(rows: usize, value: &str, encoding: &str) -> Value {
    json!({"input": self::rows(rows), "graph": [{"op": "save", "value": value, "as": "x"}], "output": {"encoding": encoding}})
}

/// What was planned for a trace, and how much more memory the process had while it ran than before.
async fn taken(server: &Server, body: &Value) -> (u64, u64) {
    let plan: Value = server.post("/v1/validate", body).await.json().await.unwrap();
    let planned = plan["cost"]["peak_bytes"].as_u64().unwrap();
    // from here on the peak is counted anew
    std::fs::write(format!("/proc/{}/clear_refs", server.id()), "5").unwrap();
    let before = server.memory("VmRSS");
    let mut response = server.request(Method::POST, "/v1/trace").json(body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    while response.chunk().await.unwrap().is_some() {}
    (planned, server.memory("VmHWM").saturating_sub(before))
}

/// A graph of operations on tensors of 76 MiB each.
fn operations() -> Value {
    let ones = json!({"op": "ones", "size": [4000, 5000], "id": "ones"});
    let sum = json!({"op": "add", "args": [{"op": "exp", "args": ["$ones"]}, {"op": "neg", "args": ["$ones"]}]});
    json!({"input": [[1, 2]], "output": {"encoding": "safetensors"}, "graph": [
        ones, {"op": "save", "as": "x", "value": {"op": "sum", "args": [{"op": "cumsum", "args": [sum, 0]}], "dim": 0}}]})
}

/// Sixteen texts through SmolLM2, every block's output of every token.
fn hidden_states() -> Value {
    let row = |row: u32| (0..64).map(|token| 5 + row * 97 + token * 13).collect::<Vec<u32>>();
    json!({"input": (0..16).map(row).collect::<Vec<_>>(), "output": {"encoding": "safetensors"},
           "graph": [{"op": "save", "value": "layers.*.output", "as": "x"}]})
}

/// Within a tenth, and a little for what is not counted: threads, the buffers of the connection, the body and its tokens.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_peak_of_the_process_is_within_a_tenth_of_the_plan() {
    let tiny = golden(MODEL);
    let mut traces = vec![
        ("attention", tiny.clone(), save(290, "layers.*.self_attn.probs", "safetensors")),
        ("attention as base64", tiny.clone(), save(290, "layers.*.self_attn.scores", "base64")),
        ("heads", tiny.clone(), save(240, "layers.*.self_attn.heads", "safetensors")),
        ("operations", tiny, operations()),
    ];
    traces.extend(smollm2().map(|model| ("hidden states", model, hidden_states())));
    let mut wrong = Vec::new();
    for (what, model, body) in traces {
        let server = Server::start(&["--model", &model.display().to_string(), "--log", "error"]);
        server.ready().await;
        server.trace(&super::quick(3)).await;
        let (planned, grown) = taken(&server, &body).await;
        let line = format!("{what}: {} MiB planned, {} MiB taken", planned >> 20, grown >> 20);
        eprintln!("{line}");
        assert!(planned > 50 << 20, "{what}: too little to tell: {planned}");
        if grown as f64 > 1.1 * planned as f64 + FIXED {
            wrong.push(line);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

const FIXED: f64 = 12.0 * 1024.0 * 1024.0;

//! Real models over HTTP, from GGUF files and as float32 folders, against what transformers computed: slices of all sites at three
//! depths, logits of several texts and of one longer than Gemma's window.
//!
//! `PATCHBAY_TEST_MODELS` names the folder that holds them; `tests/golden/real_text.py` made the recordings.

use crate::golden::Golden;
use crate::server::{Server, golden, real_model};

async fn check(recorded: &str, source: &str) {
    let Some(path) = real_model(source) else { return };
    let server = Server::start(&["--model", &format!("{recorded}={}", path.display())]);
    server.ready().await;
    let recorded = Golden::read(&golden(recorded));
    assert_eq!(recorded.cases.len(), 3);
    for case in &recorded.cases {
        let answer = server.trace(&case["request"]).await;
        recorded.compare(case, &answer, "expect");
    }
}

#[tokio::test]
async fn smollm2_from_its_folder() {
    check("smollm2-135m", "smollm2-135m").await;
}

#[tokio::test]
async fn smollm2_from_gguf() {
    check("smollm2-135m", "SmolLM2-135M-Instruct.Q4_1.gguf").await;
}

#[tokio::test]
async fn gemma3_from_its_folder() {
    check("gemma3-270m", "gemma3-270m").await;
}

#[tokio::test]
async fn gemma3_from_gguf() {
    check("gemma3-270m", "gemma-3-270m-q4_k_m.gguf").await;
}

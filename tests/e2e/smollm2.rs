//! SmolLM2-135M-Instruct from its GGUF file, against what Hugging Face and nnterp computed.
//!
//! `PATCHBAY_TEST_MODELS` names the folder that holds it; `./test` fetches it.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::golden::Golden;
use crate::server::{Server, golden, real_model};

/// The file, where it is at hand.
pub(crate) fn smollm2() -> Option<PathBuf> {
    real_model("SmolLM2-135M-Instruct.Q4_1.gguf")
}

#[tokio::test]
async fn smollm2_equals_hugging_face_and_nnterp() {
    let Some(file) = smollm2() else { return };
    let server = Server::start(&["--model", &format!("smollm2={}", file.display())]);
    server.ready().await;

    let recorded = Golden::read(&golden("smollm2"));
    let mut with_nnterp = 0;
    for case in &recorded.cases {
        let answer = server.trace(&case["request"]).await;
        recorded.compare(case, &answer, "expect");
        if case.get("nnterp").is_some() {
            recorded.compare(case, &answer, "nnterp");
            with_nnterp += 1;
        }
    }
    assert_eq!(with_nnterp, 6);

    let checks: Value = server.get("/v1/models/smollm2/checks").await.json().await.unwrap();
    assert_eq!(checks["passed"], true, "{checks}");

    let paris = server
        .trace(&json!({
            "model": "smollm2", "input": "The capital of France is",
            "graph": [{"op": "top_tokens", "value": "logits[:, -1]", "k": 1, "as": "next"}],
        }))
        .await;
    assert_eq!(paris["inputs"]["input"]["ids"], json!([[504, 3575, 282, 4649, 314]]));
    let token = &paris["results"]["next"]["tokens"][0][0];
    assert_eq!((&token["id"], &token["text"]), (&json!(7042), &json!(" Paris")));
}

//! OpenAI's endpoints, through clients that others wrote.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::server::Server;
use crate::smollm2::smollm2;

/// Runs a script of `tests/clients` against SmolLM2. The folder of installed packages has Python's and, where there is npm, Node's.
async fn talks(program: &str, script: &str, packages: impl Fn(PathBuf) -> Option<(&'static str, PathBuf)>) {
    let folder = std::env::var_os("PATCHBAY_TEST_CLIENTS").map(PathBuf::from);
    let (Some(file), Some((variable, folder))) = (smollm2(), folder.and_then(packages)) else {
        eprintln!("skipped: PATCHBAY_TEST_CLIENTS names no folder with the client of {script}; ./test installs it");
        return;
    };
    let server = Server::start(&["--model", &format!("smollm2={}", file.display())]);
    server.ready().await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients").join(script);
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(program);
    command.arg(script).arg(server.url()).env(variable, folder).env("NO_PROXY", "*").env("LLM_USER_PATH", home.path());
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{}\n{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn openai_python_talks_to_it() {
    talks("python3", "openai_python.py", |folder| Some(("PYTHONPATH", folder))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn llm_talks_to_it() {
    talks("python3", "llm_python.py", |folder| Some(("PYTHONPATH", folder))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openai_node_talks_to_it() {
    talks("node", "openai_node.cjs", |folder| {
        Some(("NODE_PATH", folder.join("node_modules"))).filter(|(_, folder)| folder.is_dir())
    })
    .await;
}

#[tokio::test]
async fn errors_have_openais_shape() {
    let server = Server::with("llama-gqa-tied").await;
    for (path, body, status, param) in [
        ("/v1/completions", json!({"prompt": [[1, 2]], "max_tokens": 0}), 400, json!("max_tokens")),
        ("/v1/completions", json!({"prompt": "text"}), 400, json!("prompt")),
        ("/v1/completions", json!({"max_tokens": 1}), 400, Value::Null),
        ("/v1/completions", json!([]), 400, Value::Null),
        ("/v1/chat/completions", json!({"messages": [{"role": "user", "content": "x"}]}), 400, json!("messages")),
        ("/v1/completions", json!({"prompt": [[1, 2]], "n": 1_000_000}), 413, json!("n")),
    ] {
        let response = server.post(path, &body).await;
        let (found, media) = (response.status(), response.headers()["content-type"].clone());
        let answer: Value = response.json().await.unwrap();
        assert_eq!((found.as_u16(), media.to_str().unwrap()), (status, "application/json"), "{body}\n{answer}");
        assert_eq!(answer["error"]["param"], param, "{body}\n{answer}");
        assert!(answer["error"]["message"].is_string() && answer["error"]["code"].is_string(), "{answer}");
    }
    let ids = json!({"prompt": [1, 2, 3], "max_tokens": 4, "temperature": 0, "ignore_eos": true});
    let answer: Value = server.post("/v1/completions", &ids).await.json().await.unwrap();
    assert_eq!(
        (&answer["choices"][0]["finish_reason"], &answer["usage"]["completion_tokens"]),
        (&json!("length"), &json!(4))
    );
}

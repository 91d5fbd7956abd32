//! Greedy text is transformers'.

use serde_json::{Value, json};

use super::streams::events;

use crate::server::{Server, golden, real_model};

fn recorded(name: &str) -> Value {
    let golden: Value = serde_json::from_slice(&std::fs::read(golden(name).join("golden.json")).unwrap()).unwrap();
    golden["greedy"].clone()
}

/// Every golden model goes on as recorded, all of them on one server.
#[tokio::test]
async fn of_every_golden_model() {
    let folders = std::fs::read_dir(golden("")).unwrap().map(|entry| entry.unwrap().path());
    let mut models: Vec<(String, Value)> = folders
        .filter(|folder| folder.join("config.json").is_file() && folder.join("golden.json").is_file())
        .map(|folder| folder.file_name().unwrap().to_str().unwrap().to_owned())
        .map(|name| (name.clone(), recorded(&name)))
        .filter(|(_, greedy)| greedy.is_object())
        .collect();
    models.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(models.len() > 60, "{} models", models.len());
    let loads: Vec<String> = models.iter().map(|(name, _)| format!("{name}={}", golden(name).display())).collect();
    let arguments: Vec<&str> = loads.iter().flat_map(|load| ["--model", load.as_str()]).collect();
    let server = Server::start(&arguments);
    server.ready().await;
    for (name, greedy) in models {
        // the recordings go beyond the context of some, which transformers does not mind
        let facts: Value = server.get(&format!("/v1/models/{name}")).await.json().await.unwrap();
        let room = facts["context"].as_u64().unwrap() as usize + 1 - greedy["prompt"].as_array().unwrap().len();
        let ids = greedy.get("generated").unwrap_or(&greedy["ids"]).as_array().unwrap();
        let ids = &ids[..ids.len().min(room)];
        let body = json!({
            "model": name, "input": [greedy["prompt"]], "max_new_tokens": ids.len(), "ignore_eos": true,
        });
        let answer = server.generate(&body).await;
        assert_eq!(answer["outputs"][0]["ids"], json!(ids), "{name}");
        assert_eq!(answer["outputs"][0]["finish_reason"], "length", "{name}");
        assert_eq!(answer["usage"]["passes"], ids.len(), "{name}");
        let token_layers = (greedy["prompt"].as_array().unwrap().len() + ids.len() - 1) as u64
            * answer["usage"]["layer_count"].as_u64().unwrap();
        // Phi-3 begins again where its long rotations begin
        let once = answer["usage"]["token_layers"].as_u64().unwrap() <= token_layers;
        assert!(once || name == "phi3", "{name}: each token runs once");
    }
}

async fn real(name: &str, source: &str) {
    let Some(path) = real_model(source) else { return };
    let server = Server::start(&["--model", &format!("{name}={}", path.display())]);
    server.ready().await;
    let greedy = recorded(name);
    let count = greedy["ids"].as_array().unwrap().len();
    let body = json!({"input": greedy["text"], "max_new_tokens": count, "ignore_eos": true});
    let answer = server.generate(&body).await;
    let output = &answer["outputs"][0];
    assert_eq!(output["ids"], greedy["ids"], "{name}");
    // the text has no special tokens
    let detokenize = json!({"ids": [greedy["ids"]], "skip_special_tokens": true});
    let text: Value = server.post("/v1/detokenize", &detokenize).await.json().await.unwrap();
    assert_eq!(output["text"], text["text"][0], "{name}");
    let text = output["text"].as_str().unwrap();
    ends_at_a_text(&server, &body, text).await;
}

/// Ends at pieces of the text, wherever tokens begin and end, and tells no more than what comes before them.
async fn ends_at_a_text(server: &Server, body: &Value, text: &str) {
    let starts: Vec<usize> = text.char_indices().map(|(start, _)| start).collect();
    for (start, len) in [(3, 4), (9, 1), (14, 6), (30, 9)] {
        let stop = &text[starts[start]..starts[start + len]];
        let before = &text[..text.find(stop).unwrap()];
        let mut body = body.clone();
        body["stop"] = json!(["not there", stop]);
        let answer = server.generate(&body).await;
        assert_eq!(answer["outputs"][0]["text"], before, "{stop:?}");
        assert_eq!(answer["outputs"][0]["finish_reason"], "stop");
        body["stream"] = json!(true);
        let events = events(&server.post("/v1/generate", &body).await.text().await.unwrap());
        let told = events.iter().filter(|(name, _)| name == "token").map(|(_, token)| token["text"].as_str().unwrap());
        assert_eq!(told.collect::<String>(), before, "{stop:?}");
    }
}

#[tokio::test]
async fn of_smollm2() {
    real("smollm2-135m", "smollm2-135m").await;
}

#[tokio::test]
async fn of_gemma3() {
    real("gemma3-270m", "gemma3-270m").await;
}

/// Text that is steered at every step, at those after the prompt's, or by nothing, as nnterp does it.
#[tokio::test]
async fn steered_as_nnterp_steers() {
    let recorded: Value = serde_json::from_slice(&std::fs::read(golden("steered.json")).unwrap()).unwrap();
    for (name, file) in [("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"), ("gemma3", "gemma3-270m")] {
        let Some(path) = real_model(file) else { continue };
        let server = Server::start(&["--model", &format!("{name}={}", path.display())]);
        server.ready().await;
        let model = &recorded["models"][name];
        let difference = format!(
            "save a/layers[{0}].output[0, -1] - b/layers[{0}].output[0, -1] to @love",
            model["source"].as_u64().unwrap()
        );
        let inputs = json!({"a": recorded["for"], "b": recorded["against"]});
        server.trace(&json!({"inputs": inputs, "graph": difference})).await;
        for case in model["texts"].as_array().unwrap() {
            let ids = case["ids"].as_array().unwrap();
            let steer = json!({
                "op": "steer", "layers": model["layers"], "vector": "@love", "factor": case["factor"], "steps": case["steps"]
            });
            let answer = server
                .generate(&json!({
                    "input": recorded["prompt"], "max_new_tokens": ids.len(), "min_new_tokens": ids.len(), "graph": [steer]
                }))
                .await;
            assert_eq!(answer["outputs"][0]["ids"], case["ids"], "{name} {case}");
        }
    }
}

//! Text to tokens and back.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::folder::Folder;
use crate::server::Server;
use crate::smollm2::smollm2;

async fn tokenize(server: &Server, input: Value) -> Value {
    let response = server.post("/v1/tokenize", &json!({"input": input})).await;
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

#[tokio::test]
async fn a_trace_runs_on_what_tokenize_says() {
    let server = Server::with("llama-rope3").await;
    for input in [
        json!("the cat"),
        json!(["the cat", "a", "it is 4 o'clock → ünï😀"]),
        json!([[5, 6], [7]]),
        json!({"text": ["the cat", "a"], "add_special_tokens": false}),
        json!({"messages": [{"role": "user", "content": "hello"}]}),
        json!(["a", [5, 6], {"messages": [{"role": "user", "content": "b"}]}]),
    ] {
        let tokens = tokenize(&server, input.clone()).await;
        let graph = json!([{"op": "save", "value": 1.0, "as": "x"}]);
        let trace = server.trace(&json!({"input": input, "graph": graph})).await;
        for field in ["ids", "tokens", "lengths"] {
            assert_eq!(trace["inputs"]["input"][field], tokens[field], "{input}: {field}");
        }
        let lengths: Vec<usize> =
            tokens["ids"].as_array().unwrap().iter().map(|row| row.as_array().unwrap().len()).collect();
        assert_eq!(tokens["lengths"], json!(lengths));
        assert_eq!(tokens["model"], "llama-rope3");
    }
}

#[tokio::test]
async fn special_tokens_and_chats() {
    let server = Server::with("llama-rope3").await;
    let with = tokenize(&server, json!("the cat")).await;
    assert_eq!(with["tokens"], json!([["<|bos|>", "t", "he", " cat"]]));
    let without = tokenize(&server, json!({"text": "the cat", "add_special_tokens": false})).await;
    assert_eq!(without["tokens"], json!([["t", "he", " cat"]]));
    let chat = tokenize(&server, json!({"messages": [{"role": "user", "content": "cat"}]})).await;
    let spelled = chat["tokens"][0].as_array().unwrap().iter().map(|token| token.as_str().unwrap()).collect::<String>();
    assert_eq!(spelled, "<|bos|>user: cat<|eos|>assistant: ", "the template once, with its own special tokens");
}

/// The text that a model makes of an input, or the problem.
async fn spelled(server: &Server, model: &str, input: Value) -> Result<String, Value> {
    let response = server.post("/v1/tokenize", &json!({"model": model, "input": input})).await;
    if response.status() != 200 {
        return Err(response.json().await.unwrap());
    }
    let ids = response.json::<Value>().await.unwrap()["ids"].take();
    let back = server.post("/v1/detokenize", &json!({"model": model, "ids": ids})).await;
    Ok(back.json::<Value>().await.unwrap()["text"][0].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn tools_documents_and_variables_reach_the_chat_template() {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../patchbay-checkpoint/tests/fixtures");
    let recorded: Value = serde_json::from_slice(&std::fs::read(fixtures.join("chats.json")).unwrap()).unwrap();
    let templates = ["command", "granite", "llama", "qwen"].map(|name| {
        let template = std::fs::read(fixtures.join(format!("chats/{name}.jinja"))).unwrap();
        let folder = Folder::copy("llama-rope3")
            .configure("max_position_embeddings", json!(100_000))
            .write("tokenizer_config.json", recorded["special_tokens"].to_string())
            .write("chat_template.jinja", template);
        (name, folder)
    });
    let sources: Vec<String> =
        templates.iter().flat_map(|(name, folder)| ["--model".into(), format!("{name}={}", folder.source())]).collect();
    let server = Server::start(&sources.iter().map(String::as_str).collect::<Vec<_>>());
    server.ready().await;
    let mut seen = [0; 4];
    for case in recorded["cases"].as_array().unwrap() {
        let (name, conversation) = (case["template"].as_str().unwrap(), case["conversation"].as_str().unwrap());
        let known = templates.iter().any(|(known, _)| *known == name);
        if !known || !["system", "calls", "called", "parts"].contains(&conversation) {
            continue;
        }
        let mut variables = case["options"].as_object().unwrap().clone();
        let mut input = json!({"messages": recorded["conversations"][conversation], "add_generation_prompt": false});
        for (i, field) in ["tools", "documents", "add_generation_prompt"].into_iter().enumerate() {
            if let Some(value) = variables.remove(field) {
                input[field] = value;
                seen[i] += 1;
            }
        }
        input["continue_final_message"] = variables.remove("continue_final_message").unwrap_or_default();
        seen[3] += variables.len();
        input["chat_template_kwargs"] = Value::Object(variables);
        match (spelled(&server, name, input).await, case["text"].as_str()) {
            (found, Some(text)) => {
                assert_eq!(found.as_deref(), Ok(text), "{name}: {conversation}, {}", case["options"]);
            }
            (Ok(found), None) => {
                panic!("{name}: {conversation}, {}: transformers refuses, found {found}", case["options"])
            }
            (Err(problem), None) => assert_eq!(problem["pointer"], "/input/messages", "{problem}"),
        }
    }
    assert!(seen.iter().all(|count| *count > 5), "{seen:?}");
}

#[tokio::test]
async fn ids_and_back() {
    let server = Server::with("llama-rope3").await;
    let texts = ["the cat", "a", "it is 4 o'clock → ünï😀", "  two  spaces\n\nlines\t"];
    let tokens = tokenize(&server, json!({"text": texts, "add_special_tokens": false})).await;
    let response = server.post("/v1/detokenize", &json!({"ids": tokens["ids"]})).await;
    let back: Value = response.json().await.unwrap();
    assert_eq!(back["text"], json!(texts));
    assert_eq!(back["tokens"], tokens["tokens"]);
    let ids = json!([[0, 85, 259, 1]]);
    let skip = json!({"ids": ids, "skip_special_tokens": true});
    let skipped: Value = server.post("/v1/detokenize", &skip).await.json().await.unwrap();
    assert_eq!(skipped["text"], json!(["the"]));
    let kept: Value = server.post("/v1/detokenize", &json!({"ids": ids})).await.json().await.unwrap();
    assert_eq!(kept["text"], json!(["<|bos|>the<|eos|>"]));
    let none: Value = server.post("/v1/detokenize", &json!({"ids": [[]]})).await.json().await.unwrap();
    assert_eq!(none["text"], json!([""]));
}

#[tokio::test]
async fn without_a_tokenizer() {
    let server = Server::with("gpt2").await;
    let ids = tokenize(&server, json!([[1, 2]])).await;
    assert_eq!((&ids["ids"], ids.get("tokens")), (&json!([[1, 2]]), None));
    let problem = server.refused("/v1/detokenize", &json!({"ids": [[1]]}), 422).await;
    assert_eq!((&problem["code"], &problem["pointer"]), (&json!("unsupported"), &json!("/model")));
    server.refused("/v1/tokenize", &json!({"input": "text"}), 422).await;
}

#[tokio::test]
async fn every_token_of_smollm2_reads_back() {
    let Some(file) = smollm2() else { return };
    let server = Server::start(&["--model", &format!("smollm2={}", file.display())]);
    server.ready().await;
    let text = "A man, a plan… naïve café 🙂 \u{200d} 漢字 \"quoted\"\r\n\tend ";
    let tokens = tokenize(&server, json!(text)).await;
    let back: Value = server.post("/v1/detokenize", &json!({"ids": tokens["ids"]})).await.json().await.unwrap();
    assert_eq!(back["text"], json!([text]));
}

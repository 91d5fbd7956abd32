//! Calls of tools. The model has random weights, so that only a constraint makes it write one.

use serde_json::{Value, json};

use crate::folder::Folder;
use crate::generations::streams::events;
use crate::server::Server;

/// A template that shows calls as Hermes does, and one as Mistral does.
const TAGGED: &str = "{% for tool in tools or [] %}{{ tool.function.name }} {% endfor %}{% for message in messages %}{% if \
    message.tool_calls %}{% for call in message.tool_calls %}<tool_call>{{ call.function.arguments.a + 1 }}</tool_call>{% endfor %}{% else \
    %}{{ message.content }}{% endif %}{% endfor %}";
const LISTED: &str =
    "{% for tool in tools or [] %}{{ tool.function.name }} {% endfor %}[TOOL_CALLS] {{ messages[0].content }}";

fn tools() -> Value {
    let parameters = json!({
        "type": "object", "required": ["unit", "days"], "additionalProperties": false,
        "properties": {"unit": {"$ref": "#/$defs/unit"}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
        "$defs": {"unit": {"enum": ["celsius", "kelvin"]}}
    });
    json!([
        {"type": "function", "function": {"name": "now"}},
        {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    ])
}

async fn server(template: &str) -> (Folder, Server) {
    let folder = Folder::copy("llama-rope3");
    let config = json!({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|bos|>", "eos_token": "<|eos|>",
        "chat_template": template});
    let folder = folder.write("tokenizer_config.json", config.to_string());
    let server = Server::start(&["--model", &format!("m={}", folder.source())]);
    server.ready().await;
    (folder, server)
}

fn asked(choice: &Value) -> Value {
    json!({"messages": [{"role": "user", "content": "hi"}], "tools": tools(), "tool_choice": choice, "max_completion_tokens": 90, "seed": 1})
}

async fn refused(server: &Server, body: &Value) -> Value {
    let response = server.post("/v1/chat/completions", body).await;
    assert_eq!(response.status(), 400, "{body}");
    response.json().await.unwrap()
}

/// The calls and what they are checked by.
fn check(calls: &Value) {
    assert_eq!(calls.as_array().map(Vec::len), Some(1), "{calls}");
    let call = &calls[0];
    assert!(call["id"].as_str().unwrap().starts_with("call_") && call["type"] == "function", "{call}");
    let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    if call["function"]["name"] == "weather" {
        assert!(["celsius", "kelvin"].contains(&arguments["unit"].as_str().unwrap()), "{call}");
        assert!((1..=9).contains(&arguments["days"].as_i64().unwrap()), "{call}");
    }
}

#[tokio::test]
async fn a_call_that_has_to_come_comes() {
    let named = json!({"type": "function", "function": {"name": "weather"}});
    for template in [TAGGED, LISTED] {
        let (_folder, server) = server(template).await;
        let body = asked(&named);
        let answer: Value = server.post("/v1/chat/completions", &body).await.json().await.unwrap();
        let choice = &answer["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls", "{answer}");
        assert_eq!(
            (&choice["message"]["content"], &choice["message"]["tool_calls"][0]["function"]["name"]),
            (&Value::Null, &json!("weather"))
        );
        check(&choice["message"]["tool_calls"]);

        let mut body = body;
        body["stream"] = json!(true);
        let told = server.post("/v1/chat/completions", &body).await.text().await.unwrap();
        let chunks: Vec<Value> =
            told.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect();
        let deltas = || chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]);
        let content: String = deltas().filter_map(|delta| delta["content"].as_str()).collect();
        let calls: Vec<&Value> = deltas().filter_map(|delta| delta.get("tool_calls")).collect();
        assert_eq!((content.as_str(), calls.len()), ("", 1), "{told}");
        assert_eq!(
            (&calls[0][0]["index"], &calls[0][0]["function"]),
            (&json!(0), &choice["message"]["tool_calls"][0]["function"])
        );
        assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
    }
}

#[tokio::test]
async fn of_any_tool_or_of_none() {
    let (_folder, server) = server(TAGGED).await;
    for seed in 0..6 {
        let mut body = asked(&json!("required"));
        (body["seed"], body["temperature"]) = (json!(seed), json!(1.5));
        let answer: Value = server.post("/v1/chat/completions", &body).await.json().await.unwrap();
        // an open object may go on beyond the last token
        if answer["choices"][0]["finish_reason"] == "tool_calls" {
            check(&answer["choices"][0]["message"]["tool_calls"]);
        } else {
            assert_eq!(answer["choices"][0]["finish_reason"], "length", "{answer}");
        }
    }
    let free: Value = server.post("/v1/chat/completions", &asked(&json!("auto"))).await.json().await.unwrap();
    assert!(
        free["choices"][0]["message"]["content"].is_string()
            && free["choices"][0]["message"].get("tool_calls").is_none()
    );
    // earlier calls go back to the model, their arguments as an object
    let mut body = asked(&json!("auto"));
    body["messages"] = json!([{"role": "assistant", "content": null, "tool_calls": [{"id": "x", "type": "function",
        "function": {"name": "now", "arguments": "{\"a\": 41}"}}]}]);
    body["patchbay"] = json!({"graph": "save layers[0].output[:, \"42\"] as h"});
    let answer: Value = server.post("/v1/chat/completions", &body).await.json().await.unwrap();
    assert!(answer["patchbay"]["results"]["h"]["shape"][1].as_u64() >= Some(1), "{answer}");
}

#[tokio::test]
async fn templates_without_calls() {
    let (_folder, plain) = server("{{ messages[0].content }}").await;
    let answer = refused(&plain, &asked(&json!("auto"))).await;
    assert_eq!(answer["error"]["param"], "tools", "{answer}");
    let (_folder, other) = server("{{ tools | length }}<tool_call>\n<function=x>{{ messages[0].content }}").await;
    let answer = refused(&other, &asked(&json!("required"))).await;
    assert_eq!(answer["error"]["param"], "tool_choice", "{answer}");
    let free = other.post("/v1/chat/completions", &asked(&json!("auto"))).await;
    assert_eq!(free.status(), 200);
    let mut both = asked(&json!("required"));
    both["response_format"] = json!({"type": "json_object"});
    let answer = refused(&other, &both).await;
    assert_eq!(answer["error"]["param"], "response_format", "{answer}");
}

/// A schema that nothing can be written by is the caller's fault, and said at once.
#[tokio::test]
async fn arguments_that_cannot_be() {
    let (_folder, server) = server(TAGGED).await;
    let mut body = asked(&json!("required"));
    body["tools"][1]["function"]["parameters"] = json!({"type": "nothing"});
    let answer = refused(&server, &body).await;
    assert_eq!(answer["error"]["param"], "tools", "{answer}");
    let body = json!({"model": "m", "input": "a", "max_new_tokens": 30, "constraint": {"choice": ["yes", "no"]}, "stream": true});
    let told = events(&server.post("/v1/generate", &body).await.text().await.unwrap());
    let (_, done) = told.last().unwrap();
    assert!(["yes", "no"].contains(&done["outputs"][0]["text"].as_str().unwrap()), "{done}");
    assert_eq!(done["outputs"][0]["finish_reason"], "stop");
}

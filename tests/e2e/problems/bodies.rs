//! Bodies: what is not JSON, what is not a trace, inputs and the form of the answer.

use reqwest::Method;
use serde_json::{Value, json};

use super::{MODEL, Row, compare, refuse_bodies, save};
use crate::server::{Server, golden};

#[tokio::test]
async fn bodies_that_are_no_trace() {
    let server = Server::with(MODEL).await;
    let body = |fields: Value| {
        let mut body = json!({"input": [[1, 2]], "graph": [save()]});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        body
    };
    let input = |input: Value| body(json!({"input": input}));
    let inputs = |inputs: Value| json!({"inputs": inputs, "graph": [save()]});
    let output = |output: Value| body(json!({"output": output}));
    let rows: Vec<Row> = vec![
        (json!([]), (400, "malformed", "", "")),
        (json!("trace"), (400, "malformed", "", "")),
        (json!(null), (400, "malformed", "", "")),
        (json!({}), (400, "missing_field", "", "")),
        (json!({"input": "x"}), (400, "missing_field", "", "")),
        (json!({"graph": [save()]}), (400, "missing_field", "", "\"input\"")),
        (body(json!({"graph": {}})), (422, "bad_argument", "/graph", "")),
        (body(json!({"graph": 5})), (422, "bad_argument", "/graph", "")),
        (body(json!({"grph": []})), (400, "unknown_field", "/grph", "`graph`")),
        (body(json!({"model": 5})), (422, "bad_argument", "/model", "")),
        (body(json!({"model": "llama"})), (404, "unknown_model", "/model", "`llama-rope3`")),
        (body(json!({"model": ""})), (404, "unknown_model", "/model", "`llama-rope3`")),
        (body(json!({"inputs": {"a": "x"}})), (400, "malformed", "/inputs", "")),
        (inputs(json!({})), (422, "bad_argument", "/inputs", "")),
        (inputs(json!([])), (422, "bad_argument", "/inputs", "")),
        (inputs(json!({"a/b": "x"})), (422, "bad_argument", "/inputs/a~1b", "letters")),
        (inputs(json!({"": "x"})), (422, "bad_argument", "/inputs/", "letters")),
        (inputs(json!({"a": 5})), (400, "malformed", "/inputs/a", "")),
        (input(json!([1, 2])), (400, "malformed", "/input", "[[…]]")),
        (input(json!([])), (400, "malformed", "/input", "a row is")),
        (input(json!([[]])), (422, "bad_argument", "/input/0", "at least one")),
        (input(json!([[1], [2, 320]])), (422, "index_out_of_range", "/input/1/1", "ids 0 to 319")),
        (input(json!([[1, -2]])), (400, "malformed", "/input/0/1", "")),
        (input(json!([[1, 4_294_967_296_u64]])), (400, "malformed", "/input/0/1", "")),
        (input(json!([[1, 1.5]])), (400, "malformed", "/input/0/1", "")),
        (input(json!([["x"]])), (400, "malformed", "/input/0/0", "")),
        (input(json!(["a", 3])), (400, "malformed", "/input/1", "")),
        (input(json!(true)), (400, "malformed", "/input", "")),
        (input(json!({"texts": "a"})), (400, "missing_field", "/input", "")),
        (input(json!({"text": "a", "messages": []})), (400, "missing_field", "/input", "")),
        (input(json!({"text": 5})), (422, "bad_argument", "/input/text", "")),
        (input(json!({"text": ["a", 3]})), (400, "malformed", "/input/text/1", "")),
        (input(json!({"text": "", "add_special_tokens": false})), (422, "bad_argument", "/input/text", "at least one")),
        (
            input(json!({"text": "a", "add_special_tokens": "no"})),
            (422, "bad_argument", "/input/add_special_tokens", ""),
        ),
        (input(json!(["a", {"text": "b", "x": 1}])), (400, "unknown_field", "/input/1/x", "")),
        (input(json!({"messages": []})), (422, "bad_argument", "/input/messages", "")),
        (input(json!({"messages": [5]})), (400, "malformed", "/input/messages/0", "`role`")),
        (input(json!({"messages": [{"content": "x"}]})), (400, "malformed", "/input/messages/0", "`role`")),
        (input(json!({"messages": [{"role": "user"}]})), (400, "malformed", "/input/messages/0", "`content`")),
        (
            input(json!([{"messages": [{"role": "user", "content": 5}]}])),
            (400, "malformed", "/input/0/messages/0", "`content`"),
        ),
        (
            input(json!({"messages": [{"role": "user", "content": "x"}], "tools": {}})),
            (422, "bad_argument", "/input/tools", "a JSON schema"),
        ),
        (
            input(json!([{"messages": [{"role": "user", "content": "x"}], "tools": [{}, "clock"]}])),
            (400, "malformed", "/input/0/tools/1", "a JSON schema"),
        ),
        (
            input(json!({"messages": [{"role": "user", "content": "x"}], "documents": "d"})),
            (422, "bad_argument", "/input/documents", "`title`"),
        ),
        (
            input(json!({"messages": [{"role": "user", "content": "x"}], "documents": [["d"]]})),
            (400, "malformed", "/input/documents/0", "`title`"),
        ),
        (
            input(json!({"messages": [{"role": "user", "content": "x"}], "add_generation_prompt": 1})),
            (422, "bad_argument", "/input/add_generation_prompt", ""),
        ),
        (
            input(json!({"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": [1]})),
            (422, "bad_argument", "/input/chat_template_kwargs", ""),
        ),
        (
            input(json!({"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": {"tools": []}})),
            (422, "bad_argument", "/input/chat_template_kwargs/tools", "beside"),
        ),
        (
            input(json!({"messages": [{"role": "user", "content": "x"}], "tool": []})),
            (400, "unknown_field", "/input/tool", "`tools`"),
        ),
        (input(json!({"text": "a", "tools": []})), (400, "unknown_field", "/input/tools", "")),
        (input(json!([vec![1; 129]])), (413, "too_large", "/input/0", "")),
        (input(json!("a b ".repeat(200))), (413, "too_large", "/input", "")),
        (output(json!([])), (400, "malformed", "/output", "")),
        (output(json!({"encoding": "jsn"})), (422, "bad_argument", "/output/encoding", "`json`")),
        (output(json!({"encoding": 5})), (422, "bad_argument", "/output/encoding", "")),
        (output(json!({"dtype": "i64"})), (422, "dtype_mismatch", "/output/dtype", "`f")),
        (output(json!({"dtype": "f8"})), (422, "dtype_mismatch", "/output/dtype", "`f")),
        (output(json!({"dtyp": "f32"})), (400, "unknown_field", "/output/dtyp", "`dtype`")),
    ];
    refuse_bodies(&server, rows).await;
}

#[tokio::test]
async fn text_for_a_model_without_a_tokenizer() {
    let server = Server::with("gpt2").await;
    let body = |input: Value| json!({"input": input, "graph": [save()]});
    refuse_bodies(
        &server,
        vec![
            (body(json!("hello")), (422, "unsupported", "/input", "[[1, 2, 3]]")),
            (body(json!([[1], "hello"])), (422, "unsupported", "/input/1", "[[1, 2, 3]]")),
            (
                json!({"input": [[1, 2]], "graph": [{"op": "save", "value": "logits[:, 'a']", "as": "x"}]}),
                (422, "text_not_found", "/graph/0/value", ""),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn one_of_several_models_has_to_be_named() {
    let source = |name: &str| format!("{name}={}", golden("gpt2").display());
    let server = Server::start(&["--model", &source("a"), "--model", &source("b")]);
    server.ready().await;
    let body = json!({"input": [[1]], "graph": [save()]});
    let refusal = (400, "missing_field", "/model", "one of `a`, `b`");
    for path in ["/v1/trace", "/v1/validate"] {
        compare(path, server.post(path, &body).await, refusal).await;
    }
    compare("", server.post("/v1/tokenize", &json!({"input": "x"})).await, refusal).await;
    let empty = Server::start(&[]);
    compare("", empty.post("/v1/trace", &body).await, (400, "missing_field", "/model", "PUT /v1/models")).await;
}

#[tokio::test]
async fn bytes_that_are_not_json() {
    let server = Server::with(MODEL).await;
    let json = "application/json";
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let deep_graph = format!(r#"{{"input": [[1]], "graph": {deep}}}"#);
    let long = "[".repeat(1 << 20);
    for (body, media, refusal) in [
        (b"".as_slice(), json, (400, "malformed", "", "JSON object")),
        (b" \n", json, (400, "malformed", "", "JSON object")),
        (b"{", json, (400, "malformed", "", "")),
        (b"{} {}", json, (400, "malformed", "", "")),
        (b"not json", json, (400, "malformed", "", "")),
        (b"\xff\xfe{\x00}\x00", json, (400, "malformed", "", "")),
        (b"{\"input\": \"\xff\"}", json, (400, "malformed", "", "")),
        (b"{'input': 1}", json, (400, "malformed", "", "")),
        (b"{\"input\": NaN}", json, (400, "malformed", "", "")),
        (b"{\"input\": 1e999}", json, (400, "malformed", "", "")),
        (b"{\"input\": \"a\", \"input\": \"b\"}", json, (400, "malformed", "", "")),
        (b"{\"graph\": [{\"op\": \"save\", \"op\": \"set\"}]}", json, (400, "malformed", "", "")),
        (deep_graph.as_bytes(), json, (400, "malformed", "", "127 deep")),
        (long.as_bytes(), json, (400, "malformed", "", "127 deep")),
        (b"{}", "text/plain", (415, "unsupported_media_type", "", "application/json")),
        (b"{}", "application/x-www-form-urlencoded", (415, "unsupported_media_type", "", "application/json")),
        (b"{}", "multipart/form-data", (415, "unsupported_media_type", "", "application/json")),
        (b"{}", "", (415, "unsupported_media_type", "", "application/json")),
    ] {
        for (method, path) in [
            (Method::POST, "/v1/trace"),
            (Method::POST, "/v1/validate"),
            (Method::POST, "/v1/tokenize"),
            (Method::POST, "/v1/detokenize"),
            (Method::PUT, "/v1/models/new"),
        ] {
            let request = server.request(method, path).header("content-type", media).body(body.to_vec());
            let asked = format!("{path} {media} {:.60}", String::from_utf8_lossy(body));
            compare(&asked, request.send().await.unwrap(), refusal).await;
        }
    }
    let good = json!({"input": [[1]], "graph": [save()]}).to_string();
    for media in ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json"] {
        let request = server.request(Method::POST, "/v1/trace").header("content-type", media).body(good.clone());
        assert_eq!(request.send().await.unwrap().status(), 200, "{media}");
    }
}

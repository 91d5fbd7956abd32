//! Every endpoint besides traces: bodies, names, paths and methods.

use reqwest::Method;
use serde_json::{Value, json};

use super::{MODEL, Refusal, compare, miss, none_of};
use crate::server::Server;

#[tokio::test]
async fn every_endpoint_refuses_with_place_and_remedy() {
    let server = Server::with(MODEL).await;
    let long = "x".repeat(129);
    let (post, put, get, delete) = (Method::POST, Method::PUT, Method::GET, Method::DELETE);
    let unknown_tensor = |hint| (404, "unknown_tensor", "", hint);
    let unknown_model = (404, "unknown_model", "", "`llama-rope3`");
    let rows: Vec<(Method, String, Value, Refusal)> = vec![
        (post.clone(), "/v1/tokenize".into(), json!([]), (400, "malformed", "", "")),
        (post.clone(), "/v1/tokenize".into(), json!({}), (400, "missing_field", "", "")),
        (post.clone(), "/v1/tokenize".into(), json!({"inptu": "x"}), (400, "unknown_field", "/inptu", "`input`")),
        (post.clone(), "/v1/tokenize".into(), json!({"input": 5}), (400, "malformed", "/input", "")),
        (post.clone(), "/v1/tokenize".into(), json!({"input": []}), (400, "malformed", "/input", "a row is")),
        (
            post.clone(),
            "/v1/tokenize".into(),
            json!({"input": [[320]]}),
            (422, "index_out_of_range", "/input/0/0", "0 to 319"),
        ),
        (post.clone(), "/v1/tokenize".into(), json!({"input": "x", "model": 5}), (400, "malformed", "/model", "")),
        (
            post.clone(),
            "/v1/tokenize".into(),
            json!({"input": "x", "model": "llama-rope"}),
            (404, "unknown_model", "/model", "`llama-rope3`"),
        ),
        (post.clone(), "/v1/detokenize".into(), json!({}), (400, "missing_field", "", "")),
        (post.clone(), "/v1/detokenize".into(), json!({"ids": [1]}), (400, "malformed", "/ids/0", "")),
        (post.clone(), "/v1/detokenize".into(), json!({"ids": [[1, -1]]}), (400, "malformed", "/ids/0/1", "")),
        (
            post.clone(),
            "/v1/detokenize".into(),
            json!({"ids": [[1], [2, 320]]}),
            (422, "index_out_of_range", "/ids/1/1", "0 to 319"),
        ),
        (
            post.clone(),
            "/v1/detokenize".into(),
            json!({"ids": [[1]], "model": "x"}),
            (404, "unknown_model", "/model", ""),
        ),
        (
            post.clone(),
            "/v1/detokenize".into(),
            json!({"ids": [[1]], "skip": true}),
            (400, "unknown_field", "/skip", "`skip_special_tokens`"),
        ),
        (put.clone(), "/v1/models/new".into(), json!({}), (400, "missing_field", "", "")),
        (put.clone(), "/v1/models/new".into(), json!(["org/name"]), (400, "malformed", "", "")),
        (put.clone(), "/v1/models/new".into(), json!({"source": 5}), (400, "malformed", "/source", "")),
        (put.clone(), "/v1/models/new".into(), json!({"source": ""}), (422, "bad_source", "/source", "org/name")),
        (
            put.clone(),
            "/v1/models/new".into(),
            json!({"source": "/not/there"}),
            (422, "bad_source", "/source", "org/name"),
        ),
        (
            put.clone(),
            "/v1/models/new".into(),
            json!({"source": "a/b", "dtype": "q4"}),
            (422, "bad_argument", "/dtype", "`bf16`"),
        ),
        (
            put.clone(),
            "/v1/models/new".into(),
            json!({"source": "a/b", "device": "tpu"}),
            (422, "bad_argument", "/device", "`cpu`"),
        ),
        (
            put.clone(),
            "/v1/models/new".into(),
            json!({"source": "a/b", "devise": "cpu"}),
            (400, "unknown_field", "/devise", "`device`"),
        ),
        (put.clone(), "/v1/models/a+b".into(), json!({"source": "a/b"}), (422, "bad_name", "", "letters")),
        (put.clone(), format!("/v1/models/{long}"), json!({"source": "a/b"}), (422, "bad_name", "", "128")),
        (
            put.clone(),
            format!("/v1/models/{MODEL}"),
            json!({"source": "a/b"}),
            (409, "model_exists", "", "DELETE /v1/models/"),
        ),
        (get.clone(), "/v1/models/llama".into(), Value::Null, unknown_model),
        (get.clone(), "/v1/models/llama/tree".into(), Value::Null, unknown_model),
        (get.clone(), "/v1/models/llama/checks".into(), Value::Null, unknown_model),
        (delete.clone(), "/v1/models/llama".into(), Value::Null, unknown_model),
        (get.clone(), "/v1/models/%ff".into(), Value::Null, (400, "malformed", "", "")),
        (put.clone(), "/v1/tensors/a".into(), json!({}), (422, "bad_argument", "", "at least one")),
        (put.clone(), "/v1/tensors/a".into(), json!(null), (400, "malformed", "", "")),
        (put.clone(), "/v1/tensors/a".into(), json!("x"), (400, "malformed", "", "\"NaN\"")),
        (put.clone(), "/v1/tensors/a".into(), json!([[1], [2, 3]]), (422, "shape_mismatch", "/1", "")),
        (
            put.clone(),
            "/v1/tensors/a".into(),
            json!({"data": [1], "dtype": "f33"}),
            (422, "dtype_mismatch", "/dtype", "`f32`"),
        ),
        (put.clone(), "/v1/tensors/a".into(), json!({"shape": [1], "dtype": "f32"}), (400, "missing_field", "", "")),
        (
            put.clone(),
            "/v1/tensors/a".into(),
            json!({"k": {"data": ["x"]}}),
            (400, "malformed", "/k/data/0", "\"NaN\""),
        ),
        (
            put.clone(),
            "/v1/tensors/a".into(),
            json!({"__metadata__": [1]}),
            (422, "bad_name", "/__metadata__", "another key"),
        ),
        (put.clone(), "/v1/tensors/a.b".into(), json!([1]), (422, "bad_name", "", "letters")),
        (put.clone(), "/v1/tensors/a%20b".into(), json!([1]), (422, "bad_name", "", "letters")),
        (get.clone(), "/v1/tensors/a".into(), Value::Null, unknown_tensor("PUT /v1/tensors/a")),
        (delete.clone(), "/v1/tensors/a".into(), Value::Null, unknown_tensor("PUT /v1/tensors/a")),
        (get.clone(), "/v1/nothing".into(), Value::Null, (404, "unknown_path", "", "/docs")),
        (get.clone(), "/v1/models/a/b/c".into(), Value::Null, (404, "unknown_path", "", "/docs")),
        (get.clone(), "/docs/nothing.js".into(), Value::Null, (404, "unknown_path", "", "/docs")),
        (get.clone(), format!("/{}", "x".repeat(20_000)), Value::Null, (404, "unknown_path", "", "/docs")),
        (get.clone(), "/v1/trace".into(), Value::Null, (405, "wrong_method", "", "Allow")),
        (delete, "/v1/models".into(), Value::Null, (405, "wrong_method", "", "Allow")),
        (post, "/healthz".into(), json!({}), (405, "wrong_method", "", "Allow")),
        (Method::OPTIONS, "/v1/trace".into(), Value::Null, (405, "wrong_method", "", "Allow")),
        (Method::PATCH, "/v1/tensors/a".into(), json!([1]), (405, "wrong_method", "", "Allow")),
    ];
    let mut misses = Vec::new();
    for (method, path, body, refusal) in rows {
        let request = server.request(method.clone(), &path);
        let request = if body.is_null() && method != Method::PUT { request } else { request.json(&body) };
        misses.extend(miss(&format!("{method} {path:.80} {body}"), request.send().await.unwrap(), refusal).await);
    }
    none_of(misses);
    let wrong = server.get("/v1/trace").await;
    assert_eq!(wrong.headers()["allow"], "POST");
}

#[tokio::test]
async fn files_that_are_no_safetensors() {
    let server = Server::start(&[]);
    let file = |header: Value, data: &[u8]| {
        let header = header.to_string();
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    };
    let tensor = |dtype: &str, shape: Value, bytes: usize| json!({"x": {"dtype": dtype, "shape": shape, "data_offsets": [0, bytes]}});
    let huge = u64::MAX.to_le_bytes();
    for (bytes, refusal) in [
        (vec![], (400, "malformed", "", "save()")),
        (b"{}".to_vec(), (400, "malformed", "", "save()")),
        ([huge.as_slice(), b"{}"].concat(), (400, "malformed", "", "save()")),
        (file(json!([]), b""), (400, "malformed", "", "save()")),
        (file(tensor("F32", json!([2]), 8), b"1234"), (400, "malformed", "", "save()")),
        (file(tensor("F32", json!([2]), 4), b"1234"), (400, "malformed", "", "save()")),
        (file(tensor("I8", json!([1]), 1), b"1"), (422, "dtype_mismatch", "", "bf16")),
        (file(tensor("F32", json!([0, 1_u64 << 40, 1_u64 << 40]), 0), b""), (413, "too_large", "", "`x`")),
        (file(tensor("U8", json!(vec![1; 17]), 1), b"1"), (413, "too_large", "", "`x`")),
        (file(json!({}), b""), (422, "bad_argument", "", "at least one")),
    ] {
        let put = server.request(Method::PUT, "/v1/tensors/a").header("content-type", "application/vnd.safetensors");
        compare(&format!("{bytes:?}"), put.body(bytes).send().await.unwrap(), refusal).await;
    }
    let put = server.request(Method::PUT, "/v1/tensors/a").header("content-type", "text/plain").body("1");
    let refusal =
        (415, "unsupported_media_type", "", "application/vnd.safetensors` or `Content-Type: application/json");
    compare("text", put.send().await.unwrap(), refusal).await;
}

#[tokio::test]
async fn pages_of_other_sites_cannot_use_it() {
    let server = Server::with(MODEL).await;
    let body = json!({"input": [[1]], "graph": [super::save()]});
    let send = |method: Method, path: &str, name: &'static str, value: &'static str| {
        server.request(method, path).header(name, value).json(&body).send()
    };
    for host in ["evil.example", "evil.example:8420", "localhost.evil.example", "0.0.0.0"] {
        for path in ["/v1/models", "/healthz", "/openapi.json", "/docs/"] {
            let response = send(Method::GET, path, "host", host).await.unwrap();
            compare(host, response, (403, "foreign_host", "", "localhost")).await;
        }
        let response = send(Method::POST, "/v1/trace", "host", host).await.unwrap();
        compare(host, response, (403, "foreign_host", "", "localhost")).await;
    }
    for origin in ["https://evil.example", "null"] {
        let response = send(Method::POST, "/v1/trace", "origin", origin).await.unwrap();
        compare(origin, response, (403, "foreign_origin", "", "pages that this machine serves")).await;
        let response = send(Method::DELETE, "/v1/models/llama-rope3", "origin", origin).await.unwrap();
        compare(origin, response, (403, "foreign_origin", "", "")).await;
    }
    for (name, value) in [("host", "localhost:1234"), ("host", "[::1]"), ("origin", "http://localhost:1234")] {
        let response = send(Method::POST, "/v1/trace", name, value).await.unwrap();
        assert_eq!(response.status(), 200, "{name}: {value}");
        assert!(!response.headers().keys().any(|name| name.as_str().starts_with("access-control")));
    }
}

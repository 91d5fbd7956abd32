//! The caller's tensors: put, listed, used in a graph, given back, forgotten.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::server::Server;

const SAFETENSORS: &str = "application/vnd.safetensors";

async fn get(server: &Server, name: &str, accept: &'static str) -> Response {
    server.request(Method::GET, &format!("/v1/tensors/{name}")).header("accept", accept).send().await.unwrap()
}

#[tokio::test]
async fn from_put_to_delete() {
    let server = Server::with("llama-rope3").await;
    let body = json!({"dtype": "f32", "shape": [2, 2], "data": [[0.1, "NaN"], ["-Infinity", 4.0]]});
    let put = server.put("/v1/tensors/joy", &body).await;
    assert_eq!(put.status(), 201);
    let view: Value = put.json().await.unwrap();
    assert_eq!(view, json!({"name": "joy", "bytes": 16, "tensors": {"joy": {"dtype": "f32", "shape": [2, 2]}}}));
    let back: Value = server.get("/v1/tensors/joy").await.json().await.unwrap();
    assert_eq!(back, body);
    let head = server.request(Method::HEAD, "/v1/tensors/joy").send().await.unwrap();
    assert_eq!(head.status(), 200);
    let length: usize = head.headers()["content-length"].to_str().unwrap().parse().unwrap();
    assert_eq!(length, server.get("/v1/tensors/joy").await.bytes().await.unwrap().len());
    assert_eq!(head.bytes().await.unwrap().len(), 0);
    let again = server.put("/v1/tensors/joy", &json!([1.0])).await;
    assert_eq!(again.status(), 200, "in the place of another");
    let list: Value = server.get("/v1/tensors").await.json().await.unwrap();
    assert_eq!((&list["object"], &list["bytes"]), (&json!("list"), &json!(4)));
    assert_eq!(list["data"][0]["tensors"]["joy"], json!({"dtype": "f32", "shape": [1]}));
    let delete = || server.request(Method::DELETE, "/v1/tensors/joy").send();
    assert_eq!(delete().await.unwrap().status(), 204);
    assert_eq!(delete().await.unwrap().status(), 404);
    assert_eq!(server.request(Method::HEAD, "/v1/tensors/joy").send().await.unwrap().status(), 404);
    assert_eq!(server.get("/v1/tensors").await.json::<Value>().await.unwrap()["data"], json!([]));
}

#[tokio::test]
async fn files_come_back_as_they_were() {
    let server = Server::start(&[]);
    let many = json!({
        "a.weight": {"dtype": "bf16", "shape": [2], "data": [0.5, -1.0]},
        "b": [[1, 2], [3, 4]],
        "flags": [true, false],
        "empty": {"dtype": "f16", "shape": [0, 3], "data": []},
        "one": 2.5,
    });
    assert_eq!(server.put("/v1/tensors/many", &many).await.status(), 201);
    let file = get(&server, "many", SAFETENSORS).await;
    assert_eq!(file.headers()["content-type"], SAFETENSORS);
    let file = file.bytes().await.unwrap();
    for media in [SAFETENSORS, "application/octet-stream"] {
        let put = server.request(Method::PUT, "/v1/tensors/copy").header("content-type", media).body(file.clone());
        assert!(put.send().await.unwrap().status().is_success());
        assert_eq!(get(&server, "copy", SAFETENSORS).await.bytes().await.unwrap(), file);
        let [one, other] = ["many", "copy"].map(|name| get(&server, name, "application/json"));
        assert_eq!(one.await.text().await.unwrap(), other.await.text().await.unwrap());
    }
    // any byte but 0 is true, and it is given back as one thing in every form
    let header = json!({"x": {"dtype": "BOOL", "shape": [3], "data_offsets": [0, 3]}}).to_string();
    let flags = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0, 1, 7]].concat();
    let put = server.request(Method::PUT, "/v1/tensors/x").header("content-type", SAFETENSORS).body(flags);
    assert_eq!(put.send().await.unwrap().status(), 201);
    assert_eq!(get(&server, "x", "").await.json::<Value>().await.unwrap()["data"], json!([false, true, true]));
    assert!(get(&server, "x", SAFETENSORS).await.bytes().await.unwrap().ends_with(&[0, 1, 1]));
}

#[tokio::test]
async fn graphs_read_and_keep_them() {
    let server = Server::with("llama-rope3").await;
    let body = |graph: Value| json!({"input": [[5, 9, 200]], "graph": graph});
    let keep = json!([
        {"op": "save", "value": "layers.1.output[0, -1]", "to": "@joy", "as": "h"},
        {"op": "save", "value": {"op": "mul", "args": ["logits", 0.0]}, "to": "@zero"},
    ]);
    let kept = server.trace(&body(keep)).await;
    let stored: Value = server.get("/v1/tensors/joy").await.json().await.unwrap();
    assert_eq!(stored, kept["results"]["h"], "the same bits");
    assert_eq!(kept["results"].as_object().unwrap().len(), 1);
    let read = json!([
        {"op": "save", "value": "@joy", "as": "all"},
        {"op": "save", "value": "@joy[3:5]", "as": "some"},
        {"op": "save", "value": "@zero[0, -1, :2]", "as": "zero"},
        {"op": "set", "target": "layers.1.output[0, -1]", "value": "@joy"},
        {"op": "save", "value": "logits", "as": "logits"},
    ]);
    let read = server.trace(&body(read)).await;
    assert_eq!(read["results"]["all"], kept["results"]["h"]);
    assert_eq!(read["results"]["some"]["data"], json!(stored["data"].as_array().unwrap()[3..5]));
    assert_eq!(read["results"]["zero"]["data"].as_array().unwrap().len(), 2);
    let plain = server.trace(&body(json!([{"op": "save", "value": "logits", "as": "logits"}]))).await;
    assert!(read["results"]["logits"] == plain["results"]["logits"], "its own value written back changes nothing");
    // one of several by key, and a name that is replaced while nothing runs
    server.put("/v1/tensors/joy", &json!({"a.weight": [1.0, 2.0], "b": [3.0]})).await;
    let read = json!([{"op": "save", "value": "@joy.a.weight[1]", "as": "x"}]);
    assert_eq!(server.trace(&body(read)).await["results"]["x"]["data"], 2.0);
    // validating keeps nothing
    let promise = server.post("/v1/validate", &body(json!([{"op": "save", "value": 1.0, "to": "@new"}]))).await;
    assert_eq!(promise.status(), 200);
    assert_eq!(server.get("/v1/tensors/new").await.status(), 404);
}

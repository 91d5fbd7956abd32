//! Edits as a store has them: put, listed, given back, replaced, forgotten, each with its version.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::{calm, loud};
use crate::generations::streams::events;
use crate::server::Server;

/// A request with a header.
async fn with(server: &Server, method: Method, header: (&'static str, &str), body: Option<&Value>) -> Response {
    let request = server.request(method, "/v1/edits/calm").header(header.0, header.1);
    body.into_iter().fold(request, |request, body| request.json(body)).send().await.unwrap()
}

fn etag(response: &Response) -> String {
    response.headers()["etag"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn from_put_to_delete() {
    let server = Server::with(super::MODEL).await;
    let put = server.put("/v1/edits/calm", &calm()).await;
    assert_eq!(put.status(), 201);
    let first = etag(&put);
    let view: Value = put.json().await.unwrap();
    let expected = json!({
        "name": "calm", "etag": first, "model": super::MODEL, "parameters": calm()["parameters"],
        "description": calm()["description"]
    });
    assert_eq!(view, expected);
    assert_eq!(server.get("/v1/edits").await.json::<Value>().await.unwrap(), json!({"object": "list", "data": [view]}));
    let got = server.get("/v1/edits/calm").await;
    assert_eq!(etag(&got), first);
    assert_eq!(got.json::<Value>().await.unwrap(), calm(), "as it was put");
    let same = with(&server, Method::GET, ("if-none-match", &first), None).await;
    assert_eq!((same.status().as_u16(), etag(&same)), (304, first.clone()));
    let again = server.put("/v1/edits/calm", &calm()).await;
    assert_eq!((again.status().as_u16(), etag(&again)), (200, first.clone()), "the same edit is the same version");
    let other = server.put("/v1/edits/calm", &loud()).await;
    let second = etag(&other);
    assert_eq!(other.status(), 200);
    assert_ne!(first, second);
    for (header, status) in [(("if-match", &*first), 412), (("if-none-match", "*"), 412), (("if-match", &*second), 200)]
    {
        let put = with(&server, Method::PUT, header, Some(&calm())).await;
        assert_eq!(put.status(), status, "{header:?}");
    }
    assert_eq!(with(&server, Method::DELETE, ("if-match", &second), None).await.status(), 412);
    assert_eq!(with(&server, Method::DELETE, ("if-match", &first), None).await.status(), 204);
    assert_eq!(with(&server, Method::DELETE, ("if-match", "*"), None).await.status(), 404);
    assert_eq!(server.get("/v1/edits/calm").await.status(), 404);
    assert_eq!(with(&server, Method::PUT, ("if-match", "*"), Some(&calm())).await.status(), 412);
    assert_eq!(with(&server, Method::PUT, ("if-none-match", "*"), Some(&calm())).await.status(), 201);
}

/// Whatever becomes of its name, a request has the edit that it began with.
#[tokio::test]
async fn a_running_request_keeps_its_edit() {
    let server = super::server().await;
    let mut body = json!({
        "model": "llama-rope3+calm", "input": [[1, 2, 3]], "max_new_tokens": 100, "ignore_eos": true,
        "graph": [{"op": "save", "value": "layers.1.output[:, -1]", "as": "h", "steps": [0, 99]}]
    });
    let alone = server.generate(&body).await;
    body["stream"] = json!(true);
    let mut stream = server.post("/v1/generate", &body).await;
    let mut text = stream.chunk().await.unwrap().unwrap().to_vec();
    super::keep(&server, "calm", &loud()).await;
    assert_eq!(server.request(Method::DELETE, "/v1/edits/calm").send().await.unwrap().status(), 204);
    while let Some(more) = stream.chunk().await.unwrap() {
        text.extend_from_slice(&more);
    }
    let events = events(&String::from_utf8(text).unwrap());
    let (last, done) = events.last().unwrap();
    assert_eq!((&**last, &done["outputs"], &done["results"]), ("done", &alone["outputs"], &alone["results"]));
}

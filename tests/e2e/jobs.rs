//! Requests that run without anybody waiting for them.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::Server;

const MODEL: &str = "llama-gqa-tied";

/// Sends a request as a job, which has to be let in.
async fn start(server: &Server, path: &str, body: &Value) -> Value {
    let mut body = body.clone();
    body["async"] = json!(true);
    let response = server.post(path, &body).await;
    assert_eq!(response.status(), 202);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let job: Value = response.json().await.unwrap();
    assert_eq!(location, format!("/v1/jobs/{}", job["id"].as_str().unwrap()));
    job
}

fn at(job: &Value, below: &str) -> String {
    format!("/v1/jobs/{}{below}", job["id"].as_str().unwrap())
}

/// All events of a job, to its end.
async fn events(server: &Server, job: &Value) -> Vec<(String, Value)> {
    let text = server.get(&at(job, "/events")).await.text().await.unwrap();
    let event = |part: &str| {
        let name = part.lines().find_map(|line| line.strip_prefix("event: "))?;
        let data = part.lines().find_map(|line| line.strip_prefix("data: "))?;
        Some((name.to_owned(), serde_json::from_str(data).unwrap()))
    };
    text.split("\n\n").filter_map(event).collect()
}

async fn status(server: &Server, method: Method, path: &str) -> u16 {
    server.request(method, path).send().await.unwrap().status().as_u16()
}

fn sweep(cells: usize) -> Value {
    json!({
        "input": [[1, 2, 3]], "sweep": {"x": {"range": [0, cells, 1]}},
        "graph": [{"op": "set", "target": "layers.1.output[:, 0, 0]", "value": "{x}"},
                  {"op": "save", "value": "logits[0, -1, :4]", "as": "y"}]
    })
}

#[tokio::test]
async fn what_comes_of_a_job_is_what_the_request_gives() {
    let server = Server::with(MODEL).await;
    let input = json!([[1, 2, 3], [4, 5]]);
    let save = json!([{"op": "save", "value": "layers.*.output", "as": "h"}]);
    // so much that it still runs when its beginning is told of
    let many: Vec<Vec<u32>> = (0..120).map(|row| (0..30).map(|token| (row * 7 + token * 11) % 90).collect()).collect();
    for (path, body, kind) in [
        ("/v1/trace", json!({"input": many, "graph": save}), "trace"),
        ("/v1/trace", sweep(7), "trace"),
        ("/v1/generate", json!({"input": input, "graph": save, "max_new_tokens": 5, "ignore_eos": true}), "generate"),
        ("/v1/recipes/logit-lens", json!({"input": input}), "logit-lens"),
        ("/v1/recipes/activations", json!({"input": vec![[7, 8]; 600]}), "activations"),
    ] {
        let job = start(&server, path, &body).await;
        assert_eq!((&job["kind"], &job["status"]), (&json!(kind), &json!("running")), "{job}");
        let told = events(&server, &job).await;
        let (name, last) = told.last().unwrap();
        assert_eq!((name.as_str(), &last["status"], &last["done"]), ("done", &json!("done"), &last["of"]), "{last}");
        let of = match path {
            "/v1/generate" => 10,
            "/v1/recipes/activations" => 600,
            _ if body.get("sweep").is_some() => 7,
            _ => 1,
        };
        assert_eq!(last["of"], of, "{path}");
        assert!(last["ended"].as_u64() >= last["created"].as_u64() && last["expires_in"].as_u64() > Some(3500));
        let counts: Vec<u64> = told.iter().map(|(_, job)| job["done"].as_u64().unwrap()).collect();
        assert!(counts.is_sorted(), "{counts:?}");
        let by_hand: Value = server.post(path, &body).await.json().await.unwrap();
        // as often as it is asked for
        for _ in 0..2 {
            let found: Value = server.get(&at(&job, "/result")).await.json().await.unwrap();
            for field in ["results", "outputs", "inputs", "receipts"] {
                assert_eq!(found[field], by_hand[field], "{path} {field}");
            }
        }
        assert_eq!(status(&server, Method::DELETE, &at(&job, "")).await, 204);
        for below in ["", "/events", "/result"] {
            assert_eq!(status(&server, Method::GET, &at(&job, below)).await, 404);
        }
    }
    let explained =
        server.post("/v1/recipes/logit-lens", &json!({"input": input, "async": true, "explain": true})).await;
    assert_eq!(explained.status(), 200);
}

#[tokio::test]
async fn safetensors_are_kept_as_such() {
    let server = Server::with(MODEL).await;
    let save = json!([{"op": "save", "value": "layers.*.output", "as": "h"}]);
    let body = json!({"input": [[1, 2, 3]], "graph": save, "output": {"encoding": "safetensors"}});
    let job = start(&server, "/v1/trace", &body).await;
    events(&server, &job).await;
    let response = server.get(&at(&job, "/result")).await;
    assert_eq!(response.headers()["content-type"], "application/vnd.safetensors");
    let (file, by_hand) =
        (response.bytes().await.unwrap(), server.post("/v1/trace", &body).await.bytes().await.unwrap());
    let tensor =
        |file: &[u8]| safetensors::SafeTensors::deserialize(file).unwrap().tensor("h").unwrap().data().to_vec();
    assert_eq!(tensor(&file), tensor(&by_hand));
}

#[tokio::test]
async fn what_is_wrong_is_said_at_once() {
    let server = Server::with(MODEL).await;
    for (path, body, status, pointer) in [
        ("/v1/trace", json!({"input": [[1]], "graph": "save layers.99.output as h"}), 422, "/graph"),
        ("/v1/trace", json!({"input": [[1]], "graph": [], "asynk": 1}), 400, "/asynk"),
        ("/v1/generate", json!({"input": [[1]], "max_new_tokens": 0}), 422, "/max_new_tokens"),
        ("/v1/generate", json!({"input": [[1]], "stream": true}), 422, "/stream"),
        ("/v1/recipes/logit-lens", json!({"input": [[1]], "layers": [99]}), 422, "/layers/0"),
        ("/v1/recipes/activations", json!({"input": vec![[100_000]; 300]}), 422, "/input/0/0"),
        ("/v1/recipes/nothing", json!({"input": [[1]]}), 404, ""),
    ] {
        let mut body = body;
        body["async"] = json!(true);
        let problem = server.refused(path, &body, status).await;
        assert!(problem["pointer"].as_str().unwrap_or("").starts_with(pointer), "{path} {problem}");
    }
    let list: Value = server.get("/v1/jobs").await.json().await.unwrap();
    assert_eq!(list["data"], json!([]));
    assert_eq!(status(&server, Method::GET, "/v1/jobs/job-0").await, 404);
    assert_eq!(status(&server, Method::DELETE, "/v1/jobs/job-0").await, 404);
}

#[tokio::test]
async fn a_job_that_runs_has_no_result_and_can_be_stopped() {
    let server = Server::with(MODEL).await;
    let job = start(&server, "/v1/trace", &sweep(100_000)).await;
    let response = server.get(&at(&job, "/result")).await;
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (409, &"1".parse().unwrap()));
    assert_eq!(response.json::<Value>().await.unwrap()["code"], "not_done");
    let list: Value = server.get("/v1/jobs").await.json().await.unwrap();
    assert_eq!(list["data"][0]["id"], job["id"]);
    // it goes on while others are answered
    server.trace(&json!({"input": [[1]], "graph": "save logits as l"})).await;
    let (told, deleted) = tokio::join!(events(&server, &job), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        status(&server, Method::DELETE, &at(&job, "")).await
    });
    assert_eq!(deleted, 204);
    assert_eq!(told.last().unwrap().0, "cancelled");
    assert!(told.iter().any(|(_, job)| job["done"].as_u64() > Some(0)));
    assert!(server.is_idle().await);
}

#[tokio::test]
async fn a_job_has_the_time_that_it_asks_for() {
    let server = Server::with_flags(MODEL, &["--timeout", "0.2"]).await;
    let mut body = sweep(100_000);
    let job = start(&server, "/v1/trace", &body).await;
    (body["timeout_ms"], body["async"]) = (json!(300), json!(true));
    let response = server.post("/v1/trace", &body).await;
    // whether it was let in before its time was over depends on the machine
    if response.status() == 202 {
        let short: Value = response.json().await.unwrap();
        let told = events(&server, &short).await;
        let (name, last) = told.last().unwrap();
        assert_eq!((name.as_str(), &last["error"]["code"]), ("failed", &json!("timed_out")), "{last}");
        assert_eq!(server.get(&at(&short, "/result")).await.status(), 504);
    } else {
        assert_eq!(response.status(), 504);
    }
    let still: Value = server.get(&at(&job, "")).await.json().await.unwrap();
    assert_eq!(still["status"], "running", "{still}");
    assert_eq!(status(&server, Method::DELETE, &at(&job, "")).await, 204);
}

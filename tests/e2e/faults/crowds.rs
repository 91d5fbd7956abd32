//! Many clients at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Calm, MODEL, quick, slow};
use crate::server::golden;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_and_bad_requests_at_once() {
    let calm = Arc::new(Calm::start(&[]).await);
    let mut alone = Vec::new();
    for token in 0..100 {
        alone.push(calm.server.trace(&quick(token)).await["results"].take());
    }
    let mut clients = JoinSet::new();
    for (token, alone) in (0..100).zip(alone) {
        let calm = Arc::clone(&calm);
        clients.spawn(async move {
            let bad = [
                json!({"input": [[999]], "graph": []}),
                json!({"input": [[1]], "graph": [{"op": "save", "value": "layers.9.output", "as": "x"}]}),
                json!({"input": [[1, 2]], "graph": [{"op": "set", "target": "logits", "value": [[1, 2], [3]]}]}),
                json!([]),
            ];
            for round in 0..5 {
                let found = calm.server.trace(&quick(token)).await["results"].take();
                assert!(found == alone, "token {token} in round {round}");
                let response = calm.server.post("/v1/trace", &bad[(token as usize + round) % 4]).await;
                assert!(response.status().is_client_error(), "{}", response.status());
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    Arc::into_inner(calm).unwrap().still().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_says_when_to_come_back() {
    let mut calm = Calm::start(&["--queue", "2"]).await;
    let expected = Arc::new(calm.server.trace(&slow()).await["results"].take());
    // what an allocator keeps after the first crowd is no leak; what it holds after the second would be
    calm = crowd(calm, &expected).await.settled();
    crowd(calm, &expected).await.still().await;
}

/// Twelve slow traces at once: some are answered, the others told when to come back.
async fn crowd(calm: Calm, expected: &Arc<Value>) -> Calm {
    let calm = Arc::new(calm);
    let mut clients = JoinSet::new();
    for _ in 0..12 {
        let calm = Arc::clone(&calm);
        clients.spawn(async move {
            let response = calm.server.post("/v1/trace", &slow()).await;
            let retry = response.headers().get("retry-after").map(|seconds| seconds.to_str().unwrap().to_owned());
            (response.status(), retry, response.json::<Value>().await.unwrap())
        });
    }
    let (mut answered, mut refused) = (0, 0);
    while let Some(client) = clients.join_next().await {
        let (status, retry, answer) = client.unwrap();
        match status {
            StatusCode::OK => {
                answered += 1;
                assert!(answer["results"] == **expected);
            }
            status => {
                refused += 1;
                assert_eq!((status, answer["code"].as_str()), (StatusCode::SERVICE_UNAVAILABLE, Some("queue_full")));
                assert!(retry.unwrap().parse::<u32>().unwrap() >= 1);
                assert!(answer["hint"].is_string(), "{answer}");
            }
        }
    }
    assert!(answered >= 3 && refused >= 1, "{answered} were answered, {refused} refused");
    Arc::into_inner(calm).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_is_unloaded_while_it_is_asked() {
    let calm = Arc::new(Calm::start(&[]).await);
    let source = json!({"source": golden("gpt2").display().to_string()});
    let expected = {
        calm.server.put("/v1/models/other", &source).await;
        loop {
            let response = calm.server.post("/v1/trace", &other(7)).await;
            if response.status().is_success() {
                break response.json::<Value>().await.unwrap()["results"].take();
            }
        }
    };
    let (answered, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let (calm, expected) = (Arc::clone(&calm), expected.clone());
        let (answered, done) = (Arc::clone(&answered), Arc::clone(&done));
        clients.spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let response = calm.server.post("/v1/trace", &other(7)).await;
                let status = response.status();
                let answer: Value = response.json().await.unwrap();
                match (status.as_u16(), answer["code"].as_str()) {
                    (200, None) => {
                        answered.fetch_add(1, Ordering::Relaxed);
                        assert!(answer["results"] == expected);
                    }
                    (404, Some("unknown_model")) | (503, Some("model_loading" | "model_unloaded" | "model_failed")) => {
                    }
                    _ => panic!("{status}: {answer}"),
                }
                for path in ["/v1/models", "/v1/models/other/tree", "/readyz"] {
                    assert_ne!(calm.server.get(path).await.status(), 500);
                }
            }
        });
    }
    for turn in 0..30 {
        calm.server.request(Method::DELETE, "/v1/models/other").send().await.unwrap();
        let put = calm.server.put("/v1/models/other", &source).await;
        assert!(put.status().is_success(), "{}", put.status());
        tokio::time::sleep(std::time::Duration::from_millis(15)).await;
        // most models go before anybody has had them; every fifth is there until somebody was answered
        let before = answered.load(Ordering::Relaxed);
        while turn % 5 == 0 && answered.load(Ordering::Relaxed) == before {
            if let Some(client) = clients.try_join_next() {
                client.unwrap();
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    done.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let answered = answered.load(Ordering::Relaxed);
    assert!(answered > 0, "somebody has to have been answered for this to say anything");
    calm.server.request(Method::DELETE, "/v1/models/other").send().await.unwrap();
    Arc::into_inner(calm).unwrap().still().await;
}

fn other(token: u32) -> Value {
    let mut body = quick(token);
    body["model"] = json!("other");
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_under_way_outlives_its_model() {
    let calm = Calm::start(&[]).await;
    let expected = calm.server.trace(&slow()).await["results"].take();
    let under_way = tokio::spawn(calm.server.request(Method::POST, "/v1/trace").json(&slow()).send());
    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    let gone = calm.server.request(Method::DELETE, &format!("/v1/models/{MODEL}")).send().await.unwrap();
    assert_eq!(gone.status(), 204);
    let response = under_way.await.unwrap().unwrap();
    // on a busy machine the model may have gone before the request was taken
    if response.status() != StatusCode::NOT_FOUND {
        let mut answer: Value = response.json().await.unwrap();
        assert!(answer["results"].take() == expected, "{answer}");
    }
    let source = json!({"source": golden(MODEL).display().to_string()});
    assert_eq!(calm.server.put(&format!("/v1/models/{MODEL}"), &source).await.status(), 202);
    calm.server.ready().await;
    calm.still().await;
}

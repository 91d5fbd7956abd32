//! Sessions: what goes on with kept keys is what it would be from the start.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::again::{MODELS, close, saves};
use super::streams::events;
use crate::common::Random;
use crate::server::Server;

/// A generation that is kept: its answer, and all ids of each row.
async fn kept(server: &Server, mut body: Value) -> (Value, Vec<Vec<u32>>) {
    body["keep"] = json!(true);
    let answer = server.generate(&body).await;
    let session = server.get(&format!("/v1/sessions/{}", answer["session"]["id"].as_str().unwrap())).await;
    let session: Value = session.json().await.unwrap();
    assert_eq!(session["lengths"], answer["session"]["lengths"]);
    (answer, serde_json::from_value(session["ids"].clone()).unwrap())
}

pub(super) fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Random lengths and places to go on from, with an edit while the first tokens were computed and another for the rest: each value is that of a
/// trace of the whole text with both edits where they acted.
#[tokio::test]
async fn what_goes_on_is_recomputed() {
    for model in MODELS {
        let server = Server::with(model).await;
        let facts: Value = server.get(&format!("/v1/models/{model}")).await.json().await.unwrap();
        let vocab = facts["vocab"].as_u64().unwrap() as usize;
        for seed in 0..8 {
            let mut random = Random(1000 + seed);
            let mut some =
                |most: usize| -> Vec<u32> { (0..1 + random.below(most)).map(|_| random.below(vocab) as u32).collect() };
            let (prompt, more) = (some(6), some(5));
            let new = 2 + random.below(5);
            let edit = |factor: f64, at: &str| {
                let site = format!("layers.1.output{at}");
                json!({"op": "set", "target": site, "value": {"op": "mul", "args": [site, factor]}})
            };
            let begin = json!({"input": [prompt], "max_new_tokens": new, "ignore_eos": true, "graph": [edit(1.5, "")]});
            let (answer, rows) = kept(&server, begin).await;
            let all = &rows[0];
            assert_eq!(all[..], [&prompt[..], &ids(&answer["outputs"][0]["ids"])].concat());
            let at = 1 + random.below(all.len());
            let goes_on = [vec![edit(0.5, "")], saves()].concat();
            let body = json!({
                "session": {"id": answer["session"]["id"], "at": at}, "input": [more], "max_new_tokens": 3, "ignore_eos": true,
                "graph": goes_on
            });
            let found = server.generate(&body).await;
            // the newest token of the session was not computed, and is now, with the second edit
            let known = at.min(all.len() - 1);
            let text = ids(&found["outputs"][0]["ids"]);
            let whole = [&all[..at], &more, &text[..2]].concat();
            assert_eq!(found["usage"]["cached_tokens"], known);
            assert_eq!(found["usage"]["prompt_tokens"], at + more.len());
            let places = |range: std::ops::Range<usize>| format!("[:, {:?}]", range.collect::<Vec<_>>());
            let edits = vec![edit(1.5, &places(0..known)), edit(0.5, &places(known..whole.len()))];
            let graph = [edits, saves()].concat();
            let traced = server.trace(&json!({"input": [whole], "graph": graph})).await;
            for name in ["stream", "keys", "logits", "probs"] {
                let expected = tail(&traced["results"][name], name, known);
                close(&found["results"][name], &expected, &format!("{model} {seed}: {name} of {body}"));
            }
        }
    }
}

/// What a result has behind the first tokens: of the axis of tokens, which is the second last but for logits.
fn tail(result: &Value, name: &str, tokens: usize) -> Value {
    fn cut(data: &Value, axis: usize, tokens: usize) -> Value {
        match axis {
            0 => json!(data.as_array().unwrap()[tokens..]),
            axis => data.as_array().unwrap().iter().map(|inner| cut(inner, axis - 1, tokens)).collect(),
        }
    }
    let axis = if name == "logits" { 1 } else { 2 };
    let mut shape = result["shape"].clone();
    shape[axis] = json!(shape[axis].as_u64().unwrap() as usize - tokens);
    json!({"shape": shape, "data": cut(&result["data"], axis, tokens)})
}

/// Without more input a generation goes on as if it had never stopped, row by row; the models with rotations by length, too.
#[tokio::test]
async fn in_two_parts_is_in_one() {
    for model in ["llama-gqa-tied", "gemma3", "bloom", "llama-dynamic", "phi3", "llama4"] {
        let server = Server::with(model).await;
        let ask = |new: usize| json!({"input": [[1, 2, 3], [4]], "max_new_tokens": new, "ignore_eos": true});
        let whole = server.generate(&ask(9)).await;
        let (first, _) = kept(&server, ask(4)).await;
        let body = json!({"session": first["session"]["id"], "max_new_tokens": 5, "ignore_eos": true});
        let second = server.generate(&body).await;
        for row in 0..2 {
            let parts = [ids(&first["outputs"][row]["ids"]), ids(&second["outputs"][row]["ids"])].concat();
            assert_eq!(parts, ids(&whole["outputs"][row]["ids"]), "{model} row {row}");
        }
        // once more from the same place: a session does not change
        assert_eq!(server.generate(&body).await["outputs"], second["outputs"], "{model}");
    }
}

/// Many at once from places of one row, each as from the start.
#[tokio::test]
async fn branches_do_not_know_each_other() {
    let server = Server::with("llama-gqa-tied").await;
    let (first, rows) =
        kept(&server, json!({"input": [[9, 8], [1, 2, 3, 4]], "max_new_tokens": 20, "ignore_eos": true})).await;
    let branch = |number: usize| {
        let (at, more) = (1 + number % 23, vec![number as u32, 7]);
        let options = |mut body: Value| {
            body["max_new_tokens"] = json!(6);
            body["ignore_eos"] = json!(true);
            body["temperature"] = json!(if number.is_multiple_of(2) { 0.0 } else { 1.0 });
            body["seed"] = json!(number);
            body
        };
        let session = json!({"id": first["session"]["id"], "row": 1, "at": at});
        let whole = [&rows[1][..at], &more].concat();
        (options(json!({"session": session, "input": [more]})), options(json!({"input": [whole]})))
    };
    let branches: Vec<(Value, Value)> = (0..24).map(branch).collect();
    let together = join_all(branches.iter().map(|(goes_on, _)| server.generate(goes_on))).await;
    for ((goes_on, whole), together) in branches.iter().zip(&together) {
        assert_eq!(server.generate(whole).await["outputs"], together["outputs"], "{goes_on}");
    }
    // several rows of input go on with one row, and one with several
    let many = json!({"session": {"id": first["session"]["id"], "row": 0}, "input": [[1], [2, 3]], "max_new_tokens": 2, "n": 2});
    assert_eq!(server.generate(&many).await["outputs"].as_array().unwrap().len(), 4);
    let one = json!({"session": first["session"]["id"], "input": [[1]], "max_new_tokens": 2});
    assert_eq!(server.generate(&one).await["outputs"].as_array().unwrap().len(), 2);
}

/// A conversation is sent whole, and computed as far as it is new.
#[tokio::test]
async fn conversations_go_on() {
    let server = Server::with("llama-rope3").await;
    let mut messages = vec![json!({"role": "user", "content": "say something"})];
    let mut session = Value::Null;
    for turn in 0..3 {
        let ask = |session: &Value| {
            json!({
                "model": "llama-rope3", "messages": messages, "max_completion_tokens": 5, "temperature": 0,
                "patchbay": {"keep": 60, "session": session}
            })
        };
        let [found, alone]: [Value; 2] = [
            server.post("/v1/chat/completions", &ask(&session)).await.json().await.unwrap(),
            server.post("/v1/chat/completions", &ask(&Value::Null)).await.json().await.unwrap(),
        ];
        assert_eq!(found["choices"], alone["choices"], "{found}");
        assert_eq!(found["usage"]["total_tokens"], alone["usage"]["total_tokens"]);
        let cached = found["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0);
        assert_eq!(cached > 10, turn > 0, "{found}");
        session = found["patchbay"]["session"]["id"].clone();
        messages.push(found["choices"][0]["message"].clone());
        messages.push(json!({"role": "user", "content": "go on"}));
    }
}

#[tokio::test]
async fn a_stream_tells_its_session() {
    let server = Server::with("llama-gqa-tied").await;
    let body = json!({"input": [[1, 2]], "max_new_tokens": 3, "keep": true, "stream": true, "ignore_eos": true});
    let text = server.post("/v1/generate", &body).await.text().await.unwrap();
    let events = events(&text);
    let id = &events.last().unwrap().1["session"]["id"];
    assert_eq!(events.last().unwrap().1["session"]["lengths"], json!([5]));
    server.generate(&json!({"session": id, "max_new_tokens": 1})).await;
    let gone = format!("/v1/sessions/{}", id.as_str().unwrap());
    assert_eq!(server.request(Method::DELETE, &gone).send().await.unwrap().status(), 204);
    let list: Value = server.get("/v1/sessions").await.json().await.unwrap();
    assert_eq!(list["data"], json!([]));
    server.refused("/v1/generate", &json!({"session": id, "max_new_tokens": 1}), 404).await;
}

#[tokio::test]
async fn sessions_end() {
    let server = Server::with("llama-gqa-tied").await;
    let body = json!({"input": [[1, 2]], "max_new_tokens": 3, "keep": 1});
    let answer = server.generate(&body).await;
    let path = format!("/v1/sessions/{}", answer["session"]["id"].as_str().unwrap());
    assert_eq!(server.get(&path).await.status(), 200);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(server.get(&path).await.status(), 404);
}

/// Where memory is short, those who are there go before those who were.
#[tokio::test]
async fn sessions_make_room() {
    let server = Server::with_flags("llama-gqa-tied", &["--memory", "8000000"]).await;
    let body = json!({"input": vec![[1, 2]; 16], "max_new_tokens": 100, "ignore_eos": true, "keep": true});
    let mut begun = Vec::new();
    for _ in 0..12 {
        begun.push(server.generate(&body).await["session"]["id"].clone());
    }
    let list: Value = server.get("/v1/sessions").await.json().await.unwrap();
    let left: Vec<&Value> = list["data"].as_array().unwrap().iter().map(|session| &session["id"]).collect();
    assert!(!left.is_empty() && left.len() < 12, "{left:?}");
    assert!(left.contains(&begun.last().unwrap()) && !left.contains(&&begun[0]), "the oldest went first");
    let bytes: u64 = list["data"].as_array().unwrap().iter().map(|session| session["bytes"].as_u64().unwrap()).sum();
    assert!(bytes <= 4_000_000, "half of the memory is for what is kept: {bytes}");
}

#[tokio::test]
async fn what_cannot_go_on_is_said() {
    let server = Server::start(&[
        "--model",
        &format!("a={}", crate::server::golden("llama-gqa-tied").display()),
        "--model",
        &format!("b={}", crate::server::golden("qwen3").display()),
    ]);
    server.ready().await;
    let skip = json!([{"op": "skip", "layers": 1}]);
    let begin =
        json!({"model": "a", "input": [[1, 2], [3, 4]], "max_new_tokens": 3, "ignore_eos": true, "graph": skip});
    let (answer, _) = kept(&server, begin).await;
    let id = &answer["session"]["id"];
    let of = |more: Value| {
        let mut session = json!({"id": id});
        more.as_object().unwrap().iter().for_each(|(name, value)| session[name] = value.clone());
        json!({"model": "a", "session": session, "graph": skip, "max_new_tokens": 2})
    };
    let with = |mut body: Value, field: &str, value: Value| {
        body[field] = value;
        body
    };
    for (body, status, code, pointer) in [
        (json!({"model": "a", "session": "session-0"}), 404, "unknown_session", "/session"),
        (with(of(json!({})), "model", json!("b")), 422, "bad_argument", "/session"),
        (with(of(json!({})), "graph", json!([])), 422, "skipped_block", "/session"),
        (of(json!({"row": 2})), 422, "index_out_of_range", "/session/row"),
        (of(json!({"at": 6})), 422, "index_out_of_range", "/session/at"),
        (of(json!({"at": -6})), 422, "index_out_of_range", "/session/at"),
        (of(json!({"at": 0})), 422, "bad_argument", "/input/0"),
        (of(json!({"att": 0})), 400, "unknown_field", "/session/att"),
        (of(json!({"row": -1})), 422, "bad_argument", "/session/row"),
        (with(of(json!({})), "session", json!(7)), 422, "bad_argument", "/session"),
        (with(of(json!({})), "session", json!({"at": 7})), 400, "missing_field", "/session"),
        (with(of(json!({})), "input", json!([[1], [2], [3]])), 422, "shape_mismatch", "/input"),
        (with(of(json!({})), "keep", json!(100_000)), 422, "bad_argument", "/keep"),
        (with(of(json!({})), "keep", json!("long")), 422, "bad_argument", "/keep"),
        (with(of(json!({})), "max_new_tokens", json!(1000)), 413, "too_large", "/max_new_tokens"),
        (with(of(json!({})), "input", json!([[1_000_000]])), 422, "index_out_of_range", "/input/0/0"),
    ] {
        let problem = server.refused("/v1/generate", &body, status).await;
        assert_eq!((&problem["code"], &problem["pointer"]), (&json!(code), &json!(pointer)), "{body}\n{problem}");
    }
    server.generate(&of(json!({}))).await;
    // what stands before the session's end cannot be edited any more
    let past = json!([skip[0], {"op": "set", "target": "layers.0.output[:, 0]", "value": 0}]);
    let problem = server.refused("/v1/generate", &with(of(json!({})), "graph", past), 422).await;
    assert_eq!((&problem["code"], &problem["pointer"]), (&json!("empty_write"), &json!("/graph/1")), "{problem}");
}

//! What is saved is joined along the tokens, and acts at its steps.

use serde_json::{Value, json};

use crate::server::Server;

fn shapes(answer: &Value) -> Value {
    let results = answer["results"].as_object().unwrap();
    json!(
        results.iter().map(|(name, result)| (name.clone(), result["shape"].clone())).collect::<serde_json::Map<_, _>>()
    )
}

#[tokio::test]
async fn joined_along_the_tokens() {
    let server = Server::with("llama-gqa-tied").await;
    let save =
        |value: Value, name: &str, steps: &str| json!({"op": "save", "value": value, "as": name, "steps": steps});
    let mean = |dim: Value| json!({"op": "mean", "args": ["layers.1.output"], "dim": dim});
    let graph = json!([
        save(json!("layers.0.output"), "all", "all"),
        save(json!("layers.0.output"), "prompt", "prompt"),
        save(json!("layers.0.output"), "new", "new"),
        save(json!("layers.*.output[:, -1, :2]"), "newest", "all"),
        save(json!("layers.1.output[:, 2]"), "third", "all"),
        save(json!("layers.1.output[:, [1, 4]]"), "listed", "all"),
        save(json!("layers.1.output[:, 1:5]"), "slice", "all"),
        save(json!("layers.1.output[1]"), "row", "all"),
        save(json!("layers.1.self_attn.probs"), "probs", "all"),
        save(json!("layers.1.self_attn.probs[:, 0, -1]"), "looks", "all"),
        save(json!("layers.1.self_attn.q[:, 0]"), "q", "all"),
        save(mean(json!(-1)), "means", "all"),
        save(mean(json!(1)), "over tokens", "all"),
        save(json!("logits[:, -1]"), "logits", "all"),
    ]);
    // prompts of 3 and 2 tokens, 4 new ones, of which the last is not computed
    let body = json!({"input": [[1, 2, 3], [4, 5]], "graph": graph, "max_new_tokens": 4, "ignore_eos": true});
    let answer = server.generate(&body).await;
    let hidden = answer["results"]["all"]["shape"][2].as_u64().unwrap();
    let vocab = answer["results"]["logits"]["shape"][2].as_u64().unwrap();
    let layers = answer["usage"]["layer_count"].as_u64().unwrap();
    let heads = answer["results"]["probs"]["shape"][1].as_u64().unwrap();
    let head = answer["results"]["q"]["shape"][2].as_u64().unwrap();
    assert_eq!(
        shapes(&answer),
        json!({
            "all": [2, 6, hidden], "prompt": [2, 3, hidden], "new": [2, 3, hidden], "newest": [layers, 2, 4, 2],
            "third": [2, 1, hidden], "listed": [2, 2, hidden], "slice": [2, 4, hidden], "row": [5, hidden],
            "probs": [2, heads, 6, 6], "looks": [2, 4, 6], "q": [2, 6, head], "means": [2, 6],
            "over tokens": [2, 4, hidden], "logits": [2, 4, vocab]
        })
    );
    let lengths = |name: &str| answer["results"][name]["lengths"].clone();
    assert_eq!(lengths("all"), json!({"1": [6, 5]}));
    assert_eq!(lengths("probs"), json!({"2": [6, 5], "3": [6, 5]}));
    assert_eq!(lengths("slice"), json!(null));
    // rows that differ in length are padded on the left, with zeros
    assert!(answer["results"]["all"]["data"][1][0].as_array().unwrap().iter().all(|x| x.as_f64() == Some(0.0)));
    assert_eq!(
        answer["results"]["row"]["data"],
        json!(answer["results"]["slice"]["data"][1].as_array().map(|_| answer["results"]["row"]["data"].clone()))
    );
    // every row of attention adds up to one
    for row in answer["results"]["looks"]["data"].as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap()) {
        let sum: f64 = row.as_array().unwrap().iter().filter_map(Value::as_f64).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{row}");
    }
}

#[tokio::test]
async fn a_row_that_ended_takes_no_part() {
    let server = Server::with("llama-gqa-tied").await;
    let free = json!({"input": [[1, 2, 3], [4, 5]], "max_new_tokens": 6, "ignore_eos": true});
    let answer = server.generate(&free).await;
    let ids = |answer: &Value, row: usize| answer["outputs"][row]["ids"].as_array().unwrap().clone();
    let (first, second) = (ids(&answer, 0), ids(&answer, 1));
    // the first row ends with its second token, where the other has not had it
    let stop = &first[1];
    assert!(!second.contains(stop), "{second:?} has {stop}");
    let graph = json!([
        {"op": "save", "value": "layers.0.output", "as": "h"},
        {"op": "top_tokens", "value": "logits[:, -1]", "k": 1, "as": "next"},
        {"op": "steer", "layers": [2], "vector": [0.0], "factor": 1, "steps": "new"},
    ]);
    let body = json!({
        "input": [[1, 2, 3], [4, 5]], "max_new_tokens": 6, "ignore_eos": true, "stop": stop, "graph": graph,
    });
    let answer = server.generate(&body).await;
    assert_eq!((ids(&answer, 0), ids(&answer, 1)), (first[..2].to_vec(), second));
    assert_eq!(answer["outputs"][0]["finish_reason"], "stop");
    assert_eq!(answer["outputs"][1]["finish_reason"], "length");
    assert_eq!(answer["results"]["h"]["shape"].as_array().unwrap()[..2], [json!(2), json!(7)]);
    assert_eq!(answer["results"]["h"]["lengths"], json!({"1": [4, 7]}));
    let next = &answer["results"]["next"]["tokens"];
    assert_eq!(next[0].as_array().unwrap().iter().filter(|place| **place == json!([])).count(), 4);
    // steps 1 to 5 of one row, step 1 of the other
    assert_eq!(answer["receipts"][0]["positions"], 6);
    assert_eq!(answer["usage"]["new_tokens"], 8);
}

#[tokio::test]
async fn what_did_not_come_to_act_is_warned_of() {
    let server = Server::with("llama-gqa-tied").await;
    let free = server.generate(&json!({"input": [[1, 2, 3]], "max_new_tokens": 2, "ignore_eos": true})).await;
    let body = json!({
        "input": [[1, 2, 3]], "max_new_tokens": 9, "stop": [free["outputs"][0]["ids"][0]],
        "graph": [
            {"op": "steer", "layers": [1], "vector": [1.0], "factor": 1, "steps": {"from": 5}},
            {"op": "save", "value": "layers.0.output", "as": "late", "steps": 7}
        ]
    });
    let answer = server.generate(&body).await;
    let warnings = answer["warnings"].to_string();
    assert!(warnings.contains("/graph/0 touched nothing") && warnings.contains("`late` was not saved"), "{warnings}");
    assert_eq!((&answer["results"], &answer["receipts"]), (&json!({}), &json!([])));
}

#[tokio::test]
async fn kept_in_the_store_and_as_safetensors() {
    let server = Server::with("llama-gqa-tied").await;
    let graph = json!([
        {"op": "save", "value": "layers.0.output", "to": "@stream"},
        {"op": "save", "value": "layers.0.output", "as": "h"}
    ]);
    let body = json!({
        "input": [[1, 2, 3]], "max_new_tokens": 4, "ignore_eos": true, "graph": graph, "output": {"encoding": "safetensors"}
    });
    let response = server.post("/v1/generate", &body).await;
    assert_eq!(response.headers()["content-type"], "application/vnd.safetensors");
    let file = response.bytes().await.unwrap();
    let tensors = candle_core::safetensors::load_buffer(&file, &candle_core::Device::Cpu).unwrap();
    assert_eq!(tensors["h"].dims()[..2], [1, 6]);
    let stored =
        server.request(reqwest::Method::GET, "/v1/tensors/stream").header("accept", "application/vnd.safetensors");
    let stored = stored.send().await.unwrap().bytes().await.unwrap();
    let stored = candle_core::safetensors::load_buffer(&stored, &candle_core::Device::Cpu).unwrap();
    let flat = |tensor: &candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(flat(&stored["stream"]), flat(&tensors["h"]));
}

//! A sweep is the same traces, sent one by one.

use serde_json::{Value, json};

use crate::golden::numbers;
use crate::server::Server;

const CLEAN: [u32; 5] = [59, 33, 79, 48, 4];
const CORRUPT: [u32; 5] = [54, 16, 57, 3, 8];

fn body(layer: &Value, pos: &Value) -> Value {
    let site = |input: &str| match layer {
        Value::String(name) => format!("{input}/layers.{name}.output[:, {}]", pos.as_str().unwrap()),
        layer => format!("{input}/layers.{layer}.output[:, {pos}]"),
    };
    json!({
        "inputs": {"clean": [CLEAN], "corrupt": [CORRUPT]},
        "graph": [
            {"op": "set", "target": site("corrupt"), "value": site("clean")},
            {"op": "sub", "args": ["corrupt/logits[0, -1, 7]", "corrupt/logits[0, -1, 9]"], "id": "diff"},
            {"op": "save", "value": "$diff", "as": "diff"},
            {"op": "save", "value": "clean/logits[:, -1]", "as": "clean"},
            {"op": "top_tokens", "value": "corrupt/logits[:, -1]", "k": 2, "as": "top"},
        ],
    })
}

#[tokio::test]
async fn a_sweep_equals_its_cells_one_by_one() {
    let server = Server::with("llama-gqa-tied").await;
    let mut swept = body(&json!("{layer}"), &json!("{pos}"));
    swept["sweep"] = json!({"layer": {"range": [0, 3]}, "pos": [0, 2, -1]});
    let answer = server.trace(&swept).await;
    let results = &answer["results"];
    assert_eq!((&results["diff"]["shape"], &results["clean"]["shape"]), (&json!([3, 3]), &json!([1, 96])));
    for layer in 0..3usize {
        for (place, pos) in [0i64, 2, -1].into_iter().enumerate() {
            let alone = server.trace(&body(&json!(layer), &json!(pos))).await;
            let cell = [layer, place];
            assert_eq!(results["diff"]["data"][layer][place], alone["results"]["diff"]["data"], "{cell:?}");
            assert_eq!(results["top"]["tokens"][layer][place], alone["results"]["top"]["tokens"], "{cell:?}");
            assert_eq!(results["clean"], alone["results"]["clean"]);
            let receipt = &answer["receipts"][layer * 3 + place];
            assert_eq!(receipt["cell"], json!(cell));
            assert_eq!(receipt["delta_norm"], alone["receipts"][0]["delta_norm"]);
        }
    }
    assert_eq!((&answer["usage"]["cells"], &answer["usage"]["passes"]), (&json!(9), &json!(9)));

    let promised: Value = server.post("/v1/validate", &swept).await.json().await.unwrap();
    assert_eq!(promised["results"]["diff"]["shape"], json!([3, 3]));
    assert_eq!(promised["plan"], json!({"cells": 9, "passes": 9, "layers_run": 27, "layer_count": 3}));
}

#[tokio::test]
async fn a_sweep_over_stored_tensors_and_factors_is_kept_with_its_axes() {
    let server = Server::with("llama-gqa-tied").await;
    for (name, value) in [("up", 0.5), ("down", -0.5)] {
        let put = server.request(reqwest::Method::PUT, &format!("/v1/tensors/{name}")).json(&vec![value; 32]);
        assert_eq!(put.send().await.unwrap().status(), 201);
    }
    let answer = server
        .trace(&json!({
            "input": [CLEAN],
            "sweep": {"vector": ["up", "down"], "factor": [0, 1.5]},
            "graph": [
                {"op": "steer", "layers": [1], "vector": "@{vector}", "factor": "{factor}"},
                {"op": "save", "value": "logits[0, -1, :3]", "as": "x", "to": "@grid"},
            ],
        }))
        .await;
    let data = &answer["results"]["x"]["data"];
    assert_eq!(answer["results"]["x"]["shape"], json!([2, 2, 3]));
    assert_eq!(data[0][0], data[1][0], "a factor of 0 steers nowhere");
    assert_ne!(data[0][1], data[1][1]);
    let kept: Value = server.get("/v1/tensors/grid").await.json().await.unwrap();
    assert_eq!(numbers(&kept["data"]), numbers(data));
}

#[tokio::test]
async fn sweeps_beyond_the_limit_are_refused() {
    let server = Server::with("gpt2").await;
    let graph = json!([{"op": "save", "value": "layers.0.output[0, 0, {a}]", "as": "x"}]);
    let body = json!({"input": [CLEAN], "graph": graph, "sweep": {"a": {"range": [0, 1_000_000_000_000i64]}}});
    let problem = server.refused("/v1/trace", &body, 413).await;
    assert_eq!((&problem["pointer"], &problem["code"]), (&json!("/sweep"), &json!("too_large")));
    assert!(problem["hint"].as_str().unwrap().contains("max_cells"), "{problem}");
}

/// The operator allows it, so it runs, for as long as it may: in bounded memory, and when its time is over nothing of it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_cells_take_no_more_memory_than_a_few() {
    let server = Server::with_flags("gpt2", &["--max-cells", "2000000"]).await;
    let graph = json!([
        {"op": "steer", "layers": [1], "vector": vec![1.0; 24], "factor": "{a}"},
        {"op": "save", "value": "logits[0, -1, 7]", "as": "x"}
    ]);
    let body = |cells: i64, timeout: u64| json!({"input": [CLEAN], "graph": graph, "sweep": {"a": {"range": [0, cells]}}, "timeout_ms": timeout});
    server.trace(&body(500, 60_000)).await;
    let before = server.memory("VmHWM");
    // first while it is checked, then, of fewer cells, while it runs
    for (cells, timeout) in [(1_000_000, 1500), (20_000, 5000)] {
        let response = server.post("/v1/trace", &body(cells, timeout)).await;
        let status = response.status().as_u16();
        let answer: Value = response.json().await.unwrap();
        assert!([200, 413, 504].contains(&status), "{answer}");
        eprintln!("{cells} cells: {status}");
    }
    let grown = server.memory("VmHWM").saturating_sub(before);
    eprintln!("{} MiB more", grown >> 20);
    assert!(grown < 96 << 20, "{} MiB more", grown >> 20);
    assert!(server.is_idle().await, "something of it goes on");
}

/// Values that depend on one axis of two, the outer and the inner one: each is taken from the cells that differ in it.
#[tokio::test]
async fn results_have_the_axes_that_they_depend_on_and_no_others() {
    let server = Server::with("llama-gqa-tied").await;
    let graph = |layer: &Value, pos: &Value| {
        let site = |pos: &Value| format!("clean/layers.{}.output[0, {}]", text(layer), text(pos));
        json!([
            {"op": "save", "value": site(&json!(0)), "as": "outer"},
            {"op": "save", "value": format!("clean/logits[0, {}]", text(pos)), "as": "inner"},
            {"op": "save", "value": site(pos), "as": "both"},
            {"op": "top_tokens", "value": format!("clean/logits[0, {}]", text(pos)), "k": 2, "as": "top"},
        ])
    };
    let inputs = json!({"clean": [CLEAN]});
    let (layers, places) = ([2, 0, 1], [4, 1]);
    let sweep = json!({"layer": layers, "pos": places});
    let body = json!({"inputs": inputs, "sweep": sweep, "graph": graph(&json!("{layer}"), &json!("{pos}"))});
    let results = server.trace(&body).await["results"].take();
    for (at, layer) in layers.into_iter().enumerate() {
        for (place, pos) in places.into_iter().enumerate() {
            let body = json!({"inputs": inputs, "graph": graph(&json!(layer), &json!(pos))});
            let alone = server.trace(&body).await["results"].take();
            assert_eq!(results["outer"]["data"][at], alone["outer"]["data"]);
            assert_eq!(results["inner"]["data"][place], alone["inner"]["data"]);
            assert_eq!(results["both"]["data"][at][place], alone["both"]["data"]);
            assert_eq!(results["top"]["tokens"][place], alone["top"]["tokens"]);
        }
    }
    for (name, shape) in [("outer", json!([3, 32])), ("inner", json!([2, 96])), ("both", json!([3, 2, 32]))] {
        assert_eq!(results[name]["shape"], shape, "{name}");
    }
}

/// A number, or the name of an axis, as it stands in a site.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Hundreds of megabytes of results, in no more memory than one cell and the pieces under way take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_stream_in_bounded_memory() {
    const CELLS: usize = 160;
    let server = Server::with("llama-rope3").await;
    let graph = |factor: &Value| {
        json!([{"op": "steer", "layers": [1], "vector": vec![1.0; 24], "factor": factor},
               {"op": "save", "value": "logits", "as": "x"}])
    };
    let rows: Vec<Vec<u32>> = (0..8).map(|row| (0..120).map(|token| 2 + row + token).collect()).collect();
    let factor = |cell: usize| cell as f64 / 8.0;
    let mut body = json!({"input": rows, "graph": graph(&json!(factor(7)))});
    let alone = streamed(&server, &body).await;
    body["graph"] = graph(&json!("{factor}"));
    body["sweep"] = json!({"factor": (0..CELLS).map(factor).collect::<Vec<_>>()});

    let before = server.memory("VmHWM");
    let whole = streamed(&server, &body).await;
    let grown = server.memory("VmHWM").saturating_sub(before);
    let cell = alone.len();
    assert_eq!((cell, whole.len()), (8 * 120 * 320 * 4, CELLS * cell));
    assert!(whole[7 * cell..8 * cell] == alone, "a cell of the stream is not the cell alone");
    eprintln!("{} MiB for {} MiB of results", grown >> 20, whole.len() >> 20);
    // what allocators keep differs from machine to machine; put together in memory the results are there twice
    assert!(grown < whole.len() as u64 / 2, "{} MiB for {} MiB of results", grown >> 20, whole.len() >> 20);

    // those who go away in the middle of it leave nothing behind
    for read in [1, 3] {
        let mut response = server.request(reqwest::Method::POST, "/v1/trace").json(&body).send().await.unwrap();
        for _ in 0..read {
            response.chunk().await.unwrap().unwrap();
        }
    }
    assert!(streamed(&server, &body).await == whole);
    assert!(server.memory("VmHWM").saturating_sub(before) < whole.len() as u64 / 2);
}

/// The bytes of the only tensor of an answer, which came as a safetensors file.
async fn streamed(server: &Server, body: &Value) -> Vec<u8> {
    let mut body = body.clone();
    body["output"] = json!({"encoding": "safetensors"});
    let response = server.post("/v1/trace", &body).await;
    assert_eq!(response.status(), 200);
    // each run has an id and times of its own
    let file = response.bytes().await.unwrap();
    safetensors::SafeTensors::deserialize(&file).unwrap().tensor("x").unwrap().data().to_vec()
}

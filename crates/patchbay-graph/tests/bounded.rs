//! Checking takes a bounded time, however much of one thing a request has.

mod common;

use std::time::Duration;

use common::plan_body;
use cpu_time::ThreadTime;
use patchbay_graph::Code;
use serde_json::{Value, json};

/// What every answer has to come within, on a busy machine and without optimisation.
const LONG: Duration = Duration::from_secs(5);

fn save(value: Value) -> Value {
    json!({"op": "save", "value": value, "as": "x"})
}

#[test]
fn many_rows_and_many_writes() {
    let row = vec![1; 60];
    let mut graph: Vec<Value> = (0..2000)
        .map(|i| json!({"op": "set", "target": format!("layers[{}].output[:, [0, -1, 3]]", i % 4), "value": 0}))
        .collect();
    graph.extend((0..2000).map(|i| json!({"op": "save", "value": "logits[:, :, 0]", "as": format!("x{i}")})));
    let start = ThreadTime::now();
    let plan = plan_body(&json!({"input": vec![row; 1000], "graph": graph})).unwrap();
    assert_eq!(plan.writes.len(), 2000);
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
}

#[track_caller]
/// Four times as much takes about four times as long, and not sixteen times, on any machine.
fn grows_in_step(largest: usize, body: impl Fn(usize) -> Value) {
    let time = |size: usize| {
        let body = body(size);
        let start = ThreadTime::now();
        plan_body(&body).unwrap_or_else(|problem| panic!("{problem}"));
        start.elapsed()
    };
    let (small, large) = (time(largest / 4), time(largest));
    assert!(large < small * 8 + Duration::from_millis(200), "{small:?} for a quarter, {large:?} for all");
}

/// Many of anything at one place.
#[test]
fn gradients_by_the_thousand() {
    let sum = |value: Value| save(json!({"op": "sum", "args": [value]}));
    grows_in_step(60_000, |count| {
        let grad = json!({"op": "grad", "of": "logits[0, 0, 1]", "wrt": vec!["logits[0, 0, 0]"; count]});
        json!({"input": [[1]], "graph": [sum(grad)]})
    });
    // each gradient runs its part of the model again, with all that is read there, and so does its price: the limit on nodes bounds it
    let grad = json!({"op": "grad", "of": "logits[0, 0, 1]", "wrt": vec!["logits[0, 0, 0]"; 28]});
    let node = |i: usize| json!({"op": "save", "value": {"op": "sum", "args": [grad]}, "as": format!("x{i}")});
    let body = json!({"input": [[1]], "graph": (0..1365).map(node).collect::<Value>()});
    let start = ThreadTime::now();
    plan_body(&body).unwrap();
    assert!(start.elapsed() < 3 * LONG, "{:?}", start.elapsed());
}

#[test]
fn many_reads_of_many_rows() {
    let taken = |value: Value, rows: usize| {
        let start = ThreadTime::now();
        plan_body(&json!({"input": vec![vec![1; 60]; rows], "graph": [save(value)]})).unwrap();
        assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
    };
    let sum = |value: Value| json!({"op": "sum", "args": [value]});
    taken(sum(json!({"op": "cat", "args": [vec!["logits[:, 0, 0]"; 15_000]]})), 1000);
    taken(sum(json!({"op": "cat", "args": [vec!["logits[:, :, 0]"; 4000]]})), 1000);
    let places = vec!["59"; 30_000].join(",");
    taken(sum(json!({"op": "cat", "args": [vec![format!("logits[0, [{places}], 0]"); 20]]})), 2);
}

#[test]
fn values_that_flow_back_and_forth() {
    let body = |count: usize| {
        let mut graph = Vec::new();
        for _ in 0..count {
            let there = json!({"op": "sum", "args": ["b/embed_tokens.output[0, 0, 0]"]});
            let back = json!({"op": "sum", "args": ["a/logits[0, 0, 0]"]});
            graph.push(json!({"op": "set", "target": "a/logits[:, :, 0]", "value": there}));
            graph.push(json!({"op": "set", "target": "b/embed_tokens.output[:, :, 0]", "value": back}));
        }
        graph.push(json!({"op": "save", "value": "a/logits[:, :, 0]", "as": "a"}));
        graph.push(json!({"op": "save", "value": "b/logits[:, :, 0]", "as": "b"}));
        let rows = vec![vec![1; 60]; 500];
        json!({"inputs": {"a": rows, "b": rows}, "graph": graph})
    };
    assert!(plan_body(&body(400)).unwrap().passes.len() >= 400);
    grows_in_step(400, body);
}

/// Texts are looked for in every row.
#[test]
fn texts_by_the_thousand() {
    let rows = vec![format!("the {}", "word ".repeat(60)); 1000];
    let graph = |nodes: usize| -> Value {
        let index = format!("[:, [{}], 0]", vec!["'the'"; 64].join(","));
        let read = |i: usize| json!({"op": "save", "value": format!("layers.0.output{index}"), "as": format!("x{i}")});
        (0..nodes).map(read).collect()
    };
    let start = ThreadTime::now();
    plan_body(&json!({"input": rows, "graph": graph(10)})).unwrap();
    let problem = plan_body(&json!({"input": rows, "graph": graph(4000)})).unwrap_err();
    assert_eq!(problem.code, Code::TooLarge);
    assert!(problem.pointer.ends_with("/value"), "{problem}");
    let steer = json!({"op": "steer", "layers": 0, "vector": "@joy", "tokens": vec!["the"; 64]});
    let steers: Vec<Value> = vec![steer; 4000];
    assert_eq!(plan_body(&json!({"input": rows, "graph": steers})).unwrap_err().code, Code::TooLarge);
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
}

//! Checking takes a bounded time, however much of one thing a request has.

mod common;

use std::time::Duration;

use common::{plan, plan_body};
use cpu_time::ThreadTime;
use patchbay_graph::Code;
use serde_json::{Value, json};

/// What every answer has to come within, on a busy machine and without optimisation.
const LONG: Duration = Duration::from_secs(5);

#[track_caller]
fn taken_soon(graph: Value) {
    let start = ThreadTime::now();
    plan(graph).unwrap_or_else(|problem| panic!("{problem}"));
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
}

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

/// Many of anything at one place.
#[test]
fn gradients_by_the_thousand() {
    let sites = vec!["logits[0, 0, 0]"; 60_000];
    let grad = json!({"op": "grad", "of": "logits[0, 0, 1]", "wrt": sites});
    taken_soon(json!([save(json!({"op": "sum", "args": [grad]}))]));
    let grad = json!({"op": "grad", "of": "logits[0, 0, 1]", "wrt": vec!["logits[0, 0, 0]"; 28]});
    let node = |i: usize| json!({"op": "save", "value": {"op": "sum", "args": [grad]}, "as": format!("x{i}")});
    taken_soon((0..1365).map(node).collect());
}

#[test]
fn outputs_by_the_thousand() {
    let pieces = |sections: Value| {
        let split = json!({"op": "split", "args": [{"op": "zeros", "args": [60_000]}, sections], "id": "s"});
        let all: Vec<String> = (0..60_000).map(|i| format!("$s.{i}")).collect();
        json!([split, save(json!({"op": "cat", "args": [all]}))])
    };
    taken_soon(pieces(json!(1)));
    taken_soon(pieces(json!(vec![1; 60_000])));
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
    let (mut graph, last) = (Vec::new(), 400);
    for _ in 0..last {
        let there = json!({"op": "sum", "args": ["b/embed_tokens.output[0, 0, 0]"]});
        let back = json!({"op": "sum", "args": ["a/logits[0, 0, 0]"]});
        graph.push(json!({"op": "set", "target": "a/logits[:, :, 0]", "value": there}));
        graph.push(json!({"op": "set", "target": "b/embed_tokens.output[:, :, 0]", "value": back}));
    }
    graph.push(json!({"op": "save", "value": "a/logits[:, :, 0]", "as": "a"}));
    graph.push(json!({"op": "save", "value": "b/logits[:, :, 0]", "as": "b"}));
    let rows = vec![vec![1; 60]; 500];
    let start = ThreadTime::now();
    let plan = plan_body(&json!({"inputs": {"a": rows, "b": rows}, "graph": graph})).unwrap();
    assert!(plan.passes.len() >= last && start.elapsed() < LONG, "{:?}", start.elapsed());
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

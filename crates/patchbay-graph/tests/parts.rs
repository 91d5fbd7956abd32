//! Requests in parts: where rows are followed to, and what takes them together.

mod common;

use common::{Shelf, tree, words};
use patchbay_graph::ops::Join;
use patchbay_graph::{Context, Limits, Parts, Problem, Request, TokenRows, check, check_parts};
use serde_json::{Value, json};

/// Four rows of different lengths, and a row for all of them.
const TEXTS: [&str; 4] = ["The capital is", "A capital", "The capital was", "The"];

fn parts_of(graph: Value, most: impl Fn(u64) -> u64) -> Result<Parts, Problem> {
    let request = Request::parse(&json!({"inputs": {"a": TEXTS, "b": ["The capital"]}, "graph": graph}))?;
    let rows = |name: &str, texts: &[&str]| TokenRows {
        name: name.into(),
        rows: texts.iter().map(|text| words(text)).collect(),
    };
    let inputs = [rows("a", &TEXTS), rows("b", &["The capital"])];
    let limits = Limits::default();
    let context = Context { tree: &tree(), inputs: &inputs, store: &Shelf, limits: &limits };
    let whole = check(&request, &context)?.cost;
    let parts = check_parts(&|| true, &request, &context, most(whole.peak_bytes))?;
    // what is planned for a part can be had
    for (number, rows) in parts.rows.iter().enumerate() {
        let plan = parts.plan(number, &request, &context)?;
        assert_eq!(plan.inputs[0].lengths, inputs[0].lengths()[rows.clone()]);
        assert!(plan.cost.peak_bytes <= parts.cost.peak_bytes);
    }
    assert_eq!(parts.cost.result_bytes, whole.result_bytes);
    Ok(parts)
}

fn save(value: impl Into<Value>) -> Value {
    json!({"op": "save", "value": value.into(), "as": "x"})
}

/// How a result is put together.
fn join(value: Value) -> Result<Join, Problem> {
    parts_of(json!([save("a/layers.0.output"), {"op": "save", "value": value, "as": "y"}]), |peak| peak)
        .map(|parts| parts.results[1].join)
}

#[test]
fn rows_are_followed() {
    let last = "a/layers.1.output[:, -1]";
    for (value, expected) in [
        (json!("a/logits"), Some(0)),
        (json!("a/layers.*.output"), Some(1)),
        (json!("a/layers.*.output[:, -1, 2:5]"), Some(1)),
        (json!("b/logits"), None),
        (json!("weights.lm_head"), None),
        (json!({"op": "add", "args": [last, "b/layers.1.output[:, -1]"]}), Some(0)),
        (json!({"op": "sub", "args": [last, "b/layers.1.output[0, -1]"]}), Some(0)),
        (json!({"op": "mean", "args": ["a/layers.1.output"], "dim": 1}), Some(0)),
        (json!({"op": "transpose", "args": [last, 0, 1]}), Some(1)),
        (json!({"op": "reshape", "args": [last, -1, 2, 4]}), Some(0)),
        (json!({"op": "stack", "args": [[last, last]]}), Some(1)),
        (json!({"op": "matmul", "args": [last, {"op": "ones", "size": [8, 3]}]}), Some(0)),
        (json!({"op": "einsum", "args": ["rh,qh->qr", last, "b/layers.1.output[:, -1]"]}), Some(1)),
        (json!({"op": "call", "module": "layers.3", "args": ["a/layers.1.output"]}), Some(0)),
        (json!({"op": "project_on_vocab", "args": [last]}), Some(0)),
    ] {
        let expected = expected.map_or(Join::Same, Join::Along);
        assert_eq!(join(value.clone()).as_ref(), Ok(&expected), "{value}");
    }
}

#[test]
fn what_is_linear_in_a_sum_over_rows_is_summed_up() {
    let last = "a/layers.1.output[:, -1]";
    let sum = json!({"op": "sum", "args": [last], "dim": 0});
    let mean = json!({"op": "mean", "args": [last], "dim": 0});
    let metric = json!({"op": "sum", "args": ["a/logits[:, -1, 3]"]});
    let grad = |of: &Value, wrt: &str| json!({"op": "grad", "of": of, "wrt": wrt});
    let patched = json!({"op": "sum", "args": [{"op": "mul", "args": [grad(&metric, "a/layers.*.output"), "a/layers.*.output"]}]});
    for (value, expected) in [
        (sum.clone(), Join::Sum),
        (mean.clone(), Join::Mean),
        (json!({"op": "sum", "args": ["a/layers.1.output"]}), Join::Sum),
        (json!({"op": "neg", "args": [{"op": "mul", "args": [sum, "b/layers.1.output[0, -1]"]}]}), Join::Sum),
        (json!({"op": "sub", "args": [mean, "b/layers.1.output[0, -1]"]}), Join::Mean),
        (json!({"op": "einsum", "args": ["rh,rk->hk", last, last]}), Join::Sum),
        (
            json!({"op": "einsum", "args": ["hk,h->k", {"op": "einsum", "args": ["rh,rk->hk", last, last]}, "b/layers.1.output[0, -1]"]}),
            Join::Sum,
        ),
        (grad(&metric, "a/layers.*.output[:, -1]"), Join::Along(1)),
        (grad(&metric, "a/layers.0.self_attn.probs"), Join::Along(0)),
        (patched, Join::Sum),
        (grad(&json!({"op": "sum", "args": ["b/logits[:, -1, 3]"]}), "b/layers.0.output"), Join::Same),
    ] {
        assert_eq!(join(value.clone()).as_ref(), Ok(&expected), "{value}");
    }
}

#[test]
fn rows_that_are_taken_together_are_found() {
    let last = "a/layers.1.output[:, -1]";
    for value in [
        json!({"op": "sub", "args": [last, {"op": "mean", "args": [last], "dim": 0}]}),
        json!({"op": "exp", "args": [{"op": "sum", "args": [last]}]}),
        json!({"op": "add", "args": [{"op": "sum", "args": [last]}, 1]}),
        json!({"op": "add", "args": [{"op": "sum", "args": [last]}, {"op": "mean", "args": [last]}]}),
        // of tokens, of which rows have different numbers
        json!({"op": "mean", "args": ["a/layers.1.output"]}),
        json!({"op": "var", "args": [last]}),
        json!({"op": "grad", "of": {"op": "mean", "args": [last]}, "wrt": "a/layers.0.output"}),
        json!({"op": "grad", "of": {"op": "exp", "args": [{"op": "sum", "args": [last]}]}, "wrt": "a/layers.0.output"}),
        json!({"op": "grad", "of": {"op": "sum", "args": [last]}, "wrt": "a/layers.0.output[1]"}),
        json!({"op": "softmax", "args": [last], "dim": 0}),
        json!({"op": "add", "args": [last, {"op": "ones", "size": [4, 8]}]}),
        json!({"op": "matmul", "args": [last, {"op": "transpose", "args": [last, 0, 1]}]}),
        json!({"op": "reshape", "args": [last, 4, 2, 4]}),
        json!({"op": "reshape", "args": [last, -1]}),
        json!({"op": "cat", "args": [[last, last]], "dim": 0}),
        json!("a/logits[1]"),
        json!("a/logits[[2, 0], -1]"),
        json!("a/logits[1:, -1]"),
        json!({"op": "index_select", "args": [last, 0, [1]]}),
        // a row is no sequence
        json!({"op": "call", "module": "layers.3", "args": [last]}),
    ] {
        let problem = join(value.clone()).unwrap_err();
        assert!(problem.pointer.starts_with("/graph/1") || problem.pointer == "/graph", "{value}: {problem}");
        assert_eq!(problem.code, patchbay_graph::Code::TooLarge, "{value}: {problem}");
    }
}

#[test]
fn writes_go_to_their_own_rows() {
    let with = |node: Value| parts_of(json!([node, save("a/logits")]), |peak| peak);
    let set = |target: &str, value: Value| with(json!({"op": "set", "target": target, "value": value}));
    let good = [
        set("a/layers.1.output[:, -1]", json!("b/layers.1.output[:, -1]")),
        set("a/layers.1.output[:, -1]", json!("a/layers.0.output[:, 0]")),
        set("a/layers.1.output", json!(0)),
        with(json!({"op": "skip", "input": "a", "layers": 2, "with": "a/layers.0.output"})),
        with(json!({"op": "steer", "input": "a", "layers": [1], "vector": [1, 2, 3, 4, 5, 6, 7, 8], "factor": 2})),
    ];
    good.into_iter().for_each(|parts| drop(parts.unwrap()));
    let seen = |target: &str, value: Value| {
        parts_of(
            json!([{"op": "set", "target": target, "value": value}, save("a/logits"),
                        {"op": "save", "value": "b/logits", "as": "y"}]),
            |peak| peak,
        )
    };
    for bad in [
        set("a/layers.1.output[0]", json!(0)),
        set("a/layers.1.output[:, -1]", json!([[1], [2], [3], [4]])),
        // the last row's goes to the only one
        seen(
            "b/layers.1.output[:, -1]",
            json!({"op": "max", "args": ["a/layers.1.output[:, -1]", 0], "out": "values"}),
        ),
    ] {
        assert!(bad.unwrap_err().pointer.starts_with("/graph/0"));
    }
}

#[test]
fn parts_are_as_large_as_they_may_be() {
    let graph = json!([save("a/layers.*.output")]);
    let parts = |share: u64| parts_of(graph.clone(), |peak| peak * share / 100).unwrap();
    // three, two, three tokens and one: half of what they take together is for two rows at most
    assert_eq!(parts(100).rows, [0..1, 1..2, 2..4]);
    assert_eq!(parts(60).rows, [0..1, 1..2, 2..3, 3..4]);
    assert_eq!(parts(60).inputs, [true, false]);
    let problem = parts_of(graph.clone(), |peak| peak / 100).unwrap_err();
    assert!(problem.detail.starts_with("row 0 alone would hold"), "{problem}");
    // what takes the room has nothing to do with the rows
    let problem = parts_of(json!([save("b/logits")]), |peak| peak - 1).unwrap_err();
    assert!(problem.detail.starts_with("row 0 alone would hold"), "{problem}");
}

//! Everything that can be wrong: its code, the JSON pointer to it, and what is said about mending it.

mod common;

use common::{plan, plan_body, plan_pair, plan_within};
use patchbay_graph::{Code, Limits, Problem};
use serde_json::{Value, json};

fn save() -> Value {
    json!({"op": "save", "value": "logits[:, -1]", "as": "x"})
}

fn save_of(value: Value) -> Value {
    json!([{"op": "save", "value": value, "as": "x"}])
}

#[track_caller]
fn assert_problem(problem: &Problem, code: Code, pointer: &str, hint: &str) {
    assert_eq!((problem.code, problem.pointer.as_str()), (code, pointer), "{problem}");
    let found = problem.hint.as_deref().unwrap_or("");
    assert!(found.contains(hint), "{problem}: the hint has no {hint:?}");
}

/// What is wrong with a graph on one row of three tokens.
fn graphs() -> Vec<(Value, Code, &'static str, &'static str)> {
    let last = json!("logits[:, -1]");
    vec![
        (json!([7]), Code::Malformed, "/graph/0", "save"),
        (json!([{"op": "save", "value": last, "as": "x", "sa": 1}]), Code::UnknownField, "/graph/0/sa", "`as`"),
        (json!([{"op": "save", "value": last}]), Code::MissingField, "/graph/0", "`to`"),
        (json!([{"op": "save", "as": "x"}]), Code::MissingField, "/graph/0", ""),
        (json!([{"op": "softmx", "args": [last, -1]}]), Code::UnknownOp, "/graph/0/op", "`softmax`"),
        (save_of(json!("layers.99.output")), Code::UnknownSite, "/graph/0/value", "this model has layers 0 to 3"),
        (save_of(json!("layers[-5].output")), Code::UnknownSite, "/graph/0/value", "this model has layers 0 to 3"),
        (save_of(json!("layer.3.output")), Code::UnknownSite, "/graph/0/value", "`layers.3.output`"),
        (save_of(json!("layers.3.outputs")), Code::UnknownSite, "/graph/0/value", "`output`"),
        (save_of(json!("layers.3.self_attn.prob")), Code::UnknownSite, "/graph/0/value", "`self_attn.probs`"),
        (save_of(json!("layers.3")), Code::UnknownSite, "/graph/0/value", "layers.5.output"),
        (save_of(json!("layers.3.mlp.router.probs")), Code::UnknownSite, "/graph/0/value", "it has input"),
        (save_of(json!("logit")), Code::UnknownSite, "/graph/0/value", "`logits`"),
        (save_of(json!("other/logits")), Code::UnknownInput, "/graph/0/value", "`input`"),
        (save_of(json!("$a")), Code::UnknownNode, "/graph/0/value", ""),
        (
            save_of(json!({"op": "grad", "of": {"op": "sum", "args": ["layers.0.output"]}, "wrt": "logits"})),
            Code::NoGradient,
            "/graph/0/value/wrt",
            "before this one",
        ),
        (save_of(json!("@yoy")), Code::UnknownTensor, "/graph/0/value", "`joy`"),
        (save_of(json!("logits[:, -1")), Code::BadIndex, "/graph/0/value", "as in NumPy"),
        (save_of(json!("logits[0, 0, 0, 0]")), Code::BadIndex, "/graph/0/value", "leave out 1"),
        (save_of(json!("logits[[0, 0], [0, 1, 2]]")), Code::BadIndex, "/graph/0/value", "paired"),
        (save_of(json!("logits[:, :, 'The']")), Code::BadIndex, "/graph/0/value", "token axis"),
        (save_of(json!("logits[:, 3]")), Code::IndexOutOfRange, "/graph/0/value", "places go from -3 to 2"),
        (save_of(json!("logits[:, ' France']")), Code::TextNotFound, "/graph/0/value", "spaces included"),
        (
            save_of(json!({"op": "add", "args": ["logits", "embed_tokens.output"]})),
            Code::ShapeMismatch,
            "/graph/0/value",
            "equal or 1",
        ),
        (
            json!([{"op": "set", "target": "layers.0.output", "value": [1.0, 2.0]}, save()]),
            Code::ShapeMismatch,
            "/graph/0/value",
            "equal or 1",
        ),
        (
            json!([{"op": "steer", "layers": 0, "vector": [1.0, 2.0]}, save()]),
            Code::ShapeMismatch,
            "/graph/0/vector",
            "equal or 1",
        ),
        (
            json!([{"op": "top_tokens", "value": "embed_tokens.output", "as": "x"}]),
            Code::ShapeMismatch,
            "/graph/0/value",
            "project_on_vocab",
        ),
        (save_of(json!([[1.0, 2.0], [3.0]])), Code::ShapeMismatch, "/graph/0/value/1", ""),
        (save_of(json!({"op": "mean", "args": [[1, 2]]})), Code::DtypeMismatch, "/graph/0/value", "floats"),
        (
            save_of(json!({"op": "add", "args": [1.0, {"dtype": "f33", "data": [1]}]})),
            Code::DtypeMismatch,
            "/graph/0/value/args/1/dtype",
            "`f32`",
        ),
        (save_of(json!({"dtype": "u8", "data": [256]})), Code::DtypeMismatch, "/graph/0/value/data", "0 to 255"),
        (save_of(json!(9_007_199_254_740_993_i64)), Code::DtypeMismatch, "/graph/0/value", "whole numbers"),
        (
            json!([{"op": "top_tokens", "value": last, "k": 12, "as": "x"}]),
            Code::BadArgument,
            "/graph/0/k",
            "take 1 to 11",
        ),
        (save_of(json!({"op": "softmax", "args": [last, "x"]})), Code::BadArgument, "/graph/0/value/args/1", ""),
        (save_of(json!({"op": "softmax", "args": [last, 5]})), Code::IndexOutOfRange, "/graph/0/value", "-2 to 1"),
        (save_of(json!({"op": "abs", "args": [last, 5]})), Code::BadArgument, "/graph/0/value/args/1", "abs(input)"),
        (save_of(json!(null)), Code::MissingField, "/graph/0", ""),
        (
            json!([{"op": "abs", "args": [1], "id": "a"}, {"op": "abs", "args": [2], "id": "a"}]),
            Code::DuplicateId,
            "/graph/1/id",
            "another id",
        ),
        (json!([save(), save()]), Code::DuplicateResult, "/graph/1/as", "another name"),
        (
            json!([{"op": "add", "args": [1, {"op": "neg", "args": ["$b"]}], "id": "a"},
                   {"op": "abs", "args": ["$a"], "id": "b"}, save()]),
            Code::Cycle,
            "/graph/1/args/0",
            "before it",
        ),
        (
            json!([{"op": "set", "target": "layers.1.output", "value": "layers.2.output"}, save()]),
            Code::BackwardFlow,
            "/graph/0",
            "second input",
        ),
        (json!([save(), {"op": "abs", "args": [1]}]), Code::UnusedNode, "/graph/1", "leave it out"),
        (
            json!([save(), {"op": "set", "target": "logits[:, -1]", "value": 0}]),
            Code::UnreachableWrite,
            "/graph/1",
            "save something after it",
        ),
        (
            json!([{"op": "save", "value": "layers.0.output", "as": "x"}, {"op": "skip", "layers": 2}]),
            Code::UnreachableWrite,
            "/graph/1",
            "logits",
        ),
        (
            json!([{"op": "skip", "layers": [1, 2]}, {"op": "save", "value": "layers.1.mlp.up", "as": "y"}, save()]),
            Code::SkippedBlock,
            "/graph/1/value",
            "layers.2.output",
        ),
        (
            json!([{"op": "skip", "layers": [1, 2]}, {"op": "skip", "layers": 2}, save()]),
            Code::SkippedBlock,
            "/graph/1/layers",
            "one node",
        ),
        (json!([{"op": "skip", "layers": [2, 1]}, save()]), Code::BadArgument, "/graph/0/layers", "[first, last]"),
        (
            json!([{"op": "set", "target": "logits[:, 5:]", "value": 0}, save()]),
            Code::EmptyWrite,
            "/graph/0/target",
            "slices",
        ),
        (json!([{"op": "steer", "layers": [], "vector": "@joy"}, save()]), Code::EmptyWrite, "/graph/0/layers", ""),
        (
            json!([{"op": "steer", "layers": [0, 9], "vector": "@joy"}, save()]),
            Code::UnknownSite,
            "/graph/0/layers",
            "layers 0 to 3",
        ),
        (
            json!([{"op": "steer", "layers": 0, "vector": "@joy", "rows": 4, "tokens": 0}, save()]),
            Code::IndexOutOfRange,
            "/graph/0/rows",
            "-1 to 0",
        ),
        (
            json!([{"op": "steer", "layers": 0, "vector": "@joy", "rows": 0, "tokens": 9}, save()]),
            Code::IndexOutOfRange,
            "/graph/0/tokens",
            "-3 to 2",
        ),
        (
            json!([{"op": "steer", "layers": 0, "vector": "@joy", "site": "mlp.neurons"}, save()]),
            Code::UnknownSite,
            "/graph/0/site",
            "`",
        ),
        (
            json!([{"op": "set", "target": "next_token_probs", "value": 0}, save()]),
            Code::UnknownSite,
            "/graph/0/target",
            "`logits`",
        ),
        (json!([{"op": "set", "target": "$a", "value": 0}]), Code::BadArgument, "/graph/0/target", "a site"),
        (json!([]), Code::NothingSaved, "/graph", "save"),
    ]
}

#[test]
fn graphs_are_refused_with_place_and_remedy() {
    for (graph, code, pointer, hint) in graphs() {
        let problem = plan(graph.clone()).expect_err(&graph.to_string());
        assert_problem(&problem, code, pointer, hint);
    }
}

#[test]
fn bodies_are_refused_with_place_and_remedy() {
    let graph = || json!([save()]);
    for (body, code, pointer, hint) in [
        (json!([]), Code::Malformed, "", ""),
        (json!({"input": "x"}), Code::MissingField, "", ""),
        (json!({"graph": graph()}), Code::MissingField, "", "\"input\""),
        (json!({"input": [1, 2], "graph": graph()}), Code::Malformed, "/input", "[[…]]"),
        (json!({"input": [[1, -2]], "graph": graph()}), Code::Malformed, "/input/0/1", ""),
        (json!({"input": ["a", 3], "graph": graph()}), Code::Malformed, "/input/1", ""),
        (json!({"input": [], "graph": graph()}), Code::Malformed, "/input", "a row is"),
        (json!({"input": {"text": ["a", 3]}, "graph": graph()}), Code::Malformed, "/input/text/1", ""),
        (json!({"input": {"texts": "a"}, "graph": graph()}), Code::MissingField, "/input", ""),
        (json!({"input": ["a", {"text": "b", "x": 1}], "graph": graph()}), Code::UnknownField, "/input/1/x", ""),
        (json!({"inputs": {"a": "x", "b": [[], [1]]}, "graph": graph()}), Code::Malformed, "/inputs/b/0", "one token"),
        (json!({"input": [["x"]], "graph": graph()}), Code::Malformed, "/input/0/0", ""),
        (json!({"inputs": {"a/b": "x"}, "graph": graph()}), Code::BadArgument, "/inputs/a~1b", "letters"),
        (json!({"input": "x", "inputs": {"a": "x"}, "graph": graph()}), Code::Malformed, "/inputs", ""),
        (json!({"input": "x", "graph": graph(), "grph": 1}), Code::UnknownField, "/grph", "`graph`"),
        (json!({"input": "x", "graph": graph(), "sweep": {"l": [1]}}), Code::UnusedNode, "/sweep/l", "{l}"),
        (json!({"input": "x", "graph": graph(), "sweep": [1]}), Code::BadArgument, "/sweep", ""),
        (json!({"input": "x", "graph": graph(), "async": 1}), Code::BadArgument, "/async", ""),
        (json!({"input": "x", "graph": graph(), "timeout_ms": 0}), Code::BadArgument, "/timeout_ms", ""),
        (json!({"input": "x", "graph": graph(), "timeout_ms": 1.5}), Code::BadArgument, "/timeout_ms", ""),
        (json!({"input": "x", "graph": graph(), "timeout_ms": "1s"}), Code::BadArgument, "/timeout_ms", ""),
        (json!({"input": "x", "graph": graph(), "timeout": 1}), Code::UnknownField, "/timeout", "`timeout_ms`"),
        (
            json!({"input": "x", "graph": graph(), "output": {"encoding": "jsn"}}),
            Code::BadArgument,
            "/output/encoding",
            "`json`",
        ),
        (
            json!({"input": "x", "graph": graph(), "output": {"dtype": "i64"}}),
            Code::DtypeMismatch,
            "/output/dtype",
            "`f",
        ),
    ] {
        let problem = plan_body(&body).expect_err(&body.to_string());
        assert_problem(&problem, code, pointer, hint);
    }
    let problem = plan_pair(graph()).unwrap_err();
    assert_problem(&problem, Code::UnknownInput, "/graph/0/value", "`clean/…`");
}

#[test]
fn limits_are_named() {
    let limits =
        Limits { max_nodes: 2, max_cells: 3, max_rows: 2, max_tokens: 5, max_result_bytes: 200, max_peak_bytes: 1500 };
    let nested = json!([{"op": "save", "value": {"op": "abs", "args": [{"op": "neg", "args": [1]}]}, "as": "x"}]);
    for (input, graph, pointer, hint) in [
        (json!("a b"), nested, "/graph", "max_nodes"),
        (json!(["a", "b", "c"]), json!([save()]), "", "max_rows"),
        (json!("a b c d e f"), json!([save()]), "", "max_tokens"),
        (json!("a b c d e"), save_of(json!("logits")), "/graph", "max_result_bytes"),
        (json!("a b c d e"), save_of(json!("logits[:, :, [0, 0, 0, 0, 0, 0]]")), "/graph", "max_peak_bytes"),
        (json!("a"), save_of(json!({"shape": [1000, 1000, 1000], "data": []})), "/graph/0/value/data", ""),
        (json!("a"), save_of(json!({"op": "add", "args": [vec![[0; 8]; 99], 1]})), "/graph/0/value/args/0", "max_peak"),
    ] {
        let body = json!({"input": input, "graph": graph});
        let problem = plan_within(&body, &limits).expect_err(&body.to_string());
        assert_eq!(problem.pointer, pointer, "{problem}");
        assert!(problem.hint.as_deref().unwrap_or("").contains(hint), "{problem}");
    }
    let long = json!({"input": {"text": ["a", vec!["a"; 65].join(" ")]}, "graph": [save()]});
    assert_problem(&plan_body(&long).unwrap_err(), Code::TooLarge, "/input/text/1", "cut the row");
}

#[test]
fn every_code_is_met() {
    let mut met: Vec<Code> = graphs().into_iter().map(|(_, code, ..)| code).collect();
    // these are met by bodies and limits
    met.extend([Code::Unsupported, Code::TooLarge]);
    for code in Code::ALL {
        assert!(met.contains(&code), "no graph is refused with {code:?}");
        assert!((400..500).contains(&code.status()));
    }
    let mut names: Vec<&str> = Code::ALL.iter().map(|code| code.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Code::ALL.len());
}

/// A field that is not there cannot be pointed to.
#[test]
fn an_input_that_is_not_named_is_missed_where_it_would_stand() {
    for node in [json!({"op": "steer", "layers": 0, "vector": "@joy"}), json!({"op": "skip", "layers": 0})] {
        let problem = plan_pair(json!([node, {"op": "save", "value": "clean/logits", "as": "x"}])).unwrap_err();
        assert_eq!((problem.code, problem.pointer.as_str()), (Code::UnknownInput, "/graph/0"));
        assert_eq!(problem.hint.as_deref(), Some("add \"input\": \"clean\""));
    }
}

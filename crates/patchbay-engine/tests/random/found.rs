//! What random graphs found, as small as it can be.

use serde_json::json;

use crate::common::{Lab, assert_close, numbers};

/// `clean` is finished with the first pass; its skip is not for the second, which has rows of `third` alone.
#[test]
fn a_skip_is_only_for_rows_that_are_there() {
    let lab = Lab::golden("llama-gqa-tied");
    let graph = json!([
        {"op": "skip", "layers": [0, 2], "input": "clean", "with": "@joy"},
        {"op": "set", "target": "third/embed_tokens.output", "value": "clean/layers.0.output"},
        {"op": "save", "value": "third/layers.2.output", "as": "x"},
    ]);
    let ran = lab.run(&json!({"inputs": {"clean": [[64, 16, 46]], "third": [[83, 27, 73]]}, "graph": graph}));
    assert_eq!(ran.outcome.usage.passes, 2);
    let alone = json!([
        {"op": "set", "target": "embed_tokens.output", "value": "@joy"},
        {"op": "save", "value": "layers.2.output", "as": "x"},
    ]);
    let alone = lab.trace(&json!([[83, 27, 73]]), alone);
    assert_close(&ran.tensor("x"), &alone.tensor("x"), 1e-6, "the stream that begins with @joy");
}

/// GPT-2's final norm has a bias, which padding does not get.
#[test]
fn projected_padding_is_zero() {
    let lab = Lab::golden("gpt2");
    let project = json!({"op": "project_on_vocab", "args": ["layers.1.output"]});
    let graph = json!([{"op": "save", "value": project, "as": "x"}]);
    let found = lab.trace(&json!([[1, 2, 3], [4]]), graph).tensor("x");
    let padding = found.narrow(0, 1, 1).unwrap().narrow(1, 0, 2).unwrap();
    assert!(numbers(&padding).iter().all(|x| *x == 0.0));
}

#[test]
fn halves_are_projected() {
    let lab = Lab::golden("llama-gqa-tied");
    for dtype in ["f16", "bf16", "f64"] {
        let half = json!({"op": "cast", "args": ["layers.1.output", dtype]});
        let project = |x| json!({"op": "project_on_vocab", "args": [x]});
        let graph = json!([
            {"op": "save", "value": project(half), "as": "half"},
            {"op": "save", "value": project(json!("layers.1.output")), "as": "whole"},
        ]);
        let ran = lab.trace(&json!([[1, 2, 3]]), graph);
        assert_close(&ran.tensor("half"), &ran.tensor("whole"), 0.02, dtype);
    }
}

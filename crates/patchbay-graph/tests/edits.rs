//! Named edits: where their nodes stand, what requests may say to them, and what is refused.

mod common;

use std::sync::Arc;

use common::{Shelf, tree, words};
use patchbay_graph::{Code, Context, Edit, Limits, Plan, Problem, Request, TokenRows, check, check_sweep};
use serde_json::{Value, json};

fn edit(name: &str, body: Value) -> (String, Arc<Edit>) {
    (name.into(), Arc::new(Edit::parse(&body).expect("an edit")))
}

fn calm() -> (String, Arc<Edit>) {
    let graph = json!([
        {"op": "mul", "id": "v", "args": ["@joy", "{factor}"]},
        {"op": "set", "target": "layers.{layer}.output", "value": {"op": "add", "args": ["layers.{layer}.output", "$v"]}},
    ]);
    let parameters = json!({"factor": {"default": 0.5, "min": -1, "max": 2}, "layer": 1});
    edit("calm", json!({"graph": graph, "parameters": parameters}))
}

/// A request with edits, checked as a trace of its inputs.
fn edited(edits: &[(String, Arc<Edit>)], body: Value) -> Result<(Request, Plan), Problem> {
    let mut request = Request::parse(&body)?;
    request.edit(edits)?;
    let rows = |name: &str| TokenRows { name: name.into(), rows: vec![words("The capital is")] };
    let inputs: Vec<TokenRows> = request.inputs.iter().map(|input| rows(&input.name)).collect();
    let context = Context { tree: &tree(), inputs: &inputs, store: &Shelf, limits: &Limits::default() };
    let plan = match &request.sweep {
        None => check(&request, &context)?,
        Some(sweep) => {
            check_sweep(&request, sweep, &context)?;
            check(&patchbay_graph::cell(&request, sweep, 0)?, &context)?
        }
    };
    Ok((request, plan))
}

fn writes(plan: &Plan) -> Vec<(usize, String)> {
    plan.writes.iter().map(|write| (write.node, write.site.to_string())).collect()
}

const READ: &str = "save logits[:, -1] as x";

#[test]
fn edits_stand_first_in_their_order_and_their_ids_are_their_own() {
    let flat = edit("flat", json!({"graph": "v = zeros(8)\nlayers.2.mlp.output = $v"}));
    let graph = "v = zeros(8)\nlayers.3.output = $v\nsave logits as x";
    let (request, plan) = edited(&[calm(), flat], json!({"input": "x", "graph": graph})).unwrap();
    let sites = ["layers.1.output", "layers.2.mlp.output", "layers.3.output"].map(String::from);
    assert_eq!(writes(&plan), [1, 3, 5].into_iter().zip(sites).collect::<Vec<_>>());
    let located: Vec<_> = plan.writes.iter().map(|write| request.edits.locate(write.node)).collect();
    assert_eq!(located, [(Some("calm"), 1), (Some("flat"), 1), (None, 1)]);
}

#[test]
fn every_input_is_edited() {
    let body = json!({"inputs": {"a": "x", "b": "y"}, "graph": "save a/logits as a\nsave b/logits as b"});
    let (request, plan) = edited(&[calm()], body).unwrap();
    assert_eq!(plan.writes.iter().map(|write| write.input).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(plan.writes.iter().map(|w| request.edits.locate(w.node)).collect::<Vec<_>>(), [(Some("calm"), 1); 2]);
}

#[test]
fn a_sweep_is_edited_in_every_cell() {
    let body = json!({
        "input": "x", "sweep": {"layer": [0, 2]},
        "graph": [{"op": "set", "target": "layers.{layer}.output", "value": 0}, {"op": "save", "value": "logits", "as": "x"}]
    });
    let (_, plan) = edited(&[calm()], body).unwrap();
    assert_eq!(writes(&plan), [(1, "layers.1.output".into()), (2, "layers.0.output".into())]);
}

#[test]
fn arguments_fill_parameters_within_their_bounds() {
    let ask = |arguments: Value| edited(&[calm()], json!({"input": "x", "graph": READ, "edit_args": arguments}));
    let (_, plan) = ask(json!({"calm": {"layer": 2, "factor": -1}})).unwrap();
    assert_eq!(writes(&plan), [(1, "layers.2.output".into())]);
    for (arguments, code, pointer) in [
        (json!({"calm": {"factor": 2.5}}), Code::BadArgument, "/edit_args/calm/factor"),
        (json!({"calm": {"factor": "much"}}), Code::BadArgument, "/edit_args/calm/factor"),
        (json!({"calm": {"facto": 1}}), Code::UnknownField, "/edit_args/calm/facto"),
        (json!({"calm": 1}), Code::Malformed, "/edit_args/calm"),
        (json!({"clam": {}}), Code::BadArgument, "/edit_args/clam"),
        (json!([]), Code::BadArgument, "/edit_args"),
        // the edit itself is at fault, with these numbers
        (json!({"calm": {"layer": 9}}), Code::UnknownSite, "/edits/calm/graph/1/target"),
        (json!({"calm": {"layer": 1.5}}), Code::UnknownSite, "/edits/calm/graph/1/target"),
    ] {
        let problem = ask(arguments.clone()).unwrap_err();
        assert_eq!((problem.code, problem.pointer.as_str()), (code, pointer), "{arguments}: {problem}");
    }
    assert!(ask(json!({"calm": {"layer": 9}})).unwrap_err().detail.starts_with("in the edit `calm`: "));
}

#[test]
fn what_is_wrong_in_a_text_has_its_line() {
    let far = edit("far", json!({"graph": "layers.0.output += @joy\nlayers.99.output = 0"}));
    let problem = edited(&[far], json!({"input": "x", "graph": READ})).unwrap_err();
    assert_eq!((problem.line, problem.pointer.as_str()), (Some(2), "/edits/far/graph"));
    let problem = Edit::parse(&json!({"graph": "layers.0.output += @joy\nsave logits as x"})).unwrap_err();
    assert_eq!((problem.line, problem.code), (Some(2), Code::Unsupported));
}

#[test]
fn what_nothing_read_can_see_is_left_out_and_told() {
    let graph = json!([{"op": "set", "target": "layers.1.output", "value": 0}, {"op": "skip", "layers": [2, 3]}]);
    let two = edit("two", json!({"graph": graph}));
    let (request, plan) = edited(&[two], json!({"input": "x", "graph": "save layers.1.output as x"})).unwrap();
    assert_eq!(plan.idle, [1]);
    assert_eq!(request.edits.untouched(&[1])[0].split(':').next(), Some("/edits/two/graph/1 touches nothing"));
    let steps = plan.passes.iter().flat_map(|pass| &pass.steps).count();
    assert_eq!(steps, 2, "the write, and the read");
    // an edit that reads far ahead does not make the request go there
    let ahead = edit("ahead", json!({"graph": "layers.3.output = layers.2.output * 2"}));
    let (_, plan) = edited(&[ahead], json!({"input": "x", "graph": "save layers.0.output as x"})).unwrap();
    assert_eq!((plan.idle.as_slice(), plan.cost.layers_run), (&[0][..], 1));
}

#[test]
fn in_a_trace_an_edit_acts_as_at_step_0() {
    let graph = json!([
        {"op": "set", "target": "layers.1.output", "value": 0, "steps": "new"},
        {"op": "set", "target": "layers.2.output", "value": 0, "steps": "prompt"},
        {"op": "zeros", "id": "v", "size": [8]},
        {"op": "set", "target": "layers.2.output", "value": "$v", "steps": {"from": 3}},
    ]);
    let steps = edit("steps", json!({"graph": graph}));
    let (_, plan) = edited(&[steps], json!({"input": "x", "graph": READ})).unwrap();
    assert_eq!((writes(&plan), plan.idle), (vec![(1, "layers.2.output".into())], vec![0, 3]));
    let own = json!([{"op": "set", "target": "layers.1.output", "value": 0, "steps": "new"}]);
    assert_eq!(edited(&[calm()], json!({"input": "x", "graph": own})).unwrap_err().pointer, "/graph/0/steps");
}

#[test]
fn what_is_no_edit_is_refused() {
    let set = json!({"op": "set", "target": "layers.1.output", "value": "{x}"});
    for (body, code, pointer) in [
        (json!([]), Code::Malformed, ""),
        (json!({}), Code::MissingField, ""),
        (json!({"graph": []}), Code::EmptyWrite, "/graph"),
        (json!({"graph": [{"op": "zeros", "id": "x", "size": [1]}]}), Code::EmptyWrite, "/graph"),
        (json!({"graph": [set], "parameters": {"x": "much"}}), Code::BadArgument, "/parameters/x"),
        (json!({"graph": [set], "parameters": {"x": {"min": 1}}}), Code::MissingField, "/parameters/x"),
        (
            json!({"graph": [set], "parameters": {"x": {"default": 1, "min": 2}}}),
            Code::BadArgument,
            "/parameters/x/default",
        ),
        (json!({"graph": [set], "parameters": {"x": {"default": 1, "mi": 2}}}), Code::UnknownField, "/parameters/x/mi"),
        (json!({"graph": [set], "parameters": {"x": 1, "y": 1}}), Code::UnusedNode, "/parameters/y"),
        (json!({"graph": [set], "parameters": {"x-y": 1}}), Code::BadArgument, "/parameters/x-y"),
        (json!({"graph": [set], "parameters": 3}), Code::BadArgument, "/parameters"),
        (json!({"graph": [set], "input": []}), Code::Malformed, "/input"),
        (json!({"graph": [set], "inputs": {"a": "x"}}), Code::UnknownField, "/inputs"),
        (json!({"graph": [{"op": "set", "target": "a/logits", "value": 0}]}), Code::UnknownInput, "/graph/0"),
        (json!({"graph": [{"op": "set", "target": "logits", "value": "a/logits"}]}), Code::UnknownInput, "/graph/0"),
        (json!({"graph": [{"op": "skip", "layers": 1, "input": "a"}]}), Code::UnknownInput, "/graph/0"),
        (json!({"graph": [{"op": "top_tokens", "value": "logits", "as": "x"}]}), Code::Unsupported, "/graph/0"),
    ] {
        let problem = Edit::parse(&body).unwrap_err();
        assert_eq!((problem.code, problem.pointer.as_str()), (code, pointer), "{body}: {problem}");
    }
    let many: serde_json::Map<String, Value> = (0..17).map(|i| (format!("p{i}"), json!(1))).collect();
    assert_eq!(Edit::parse(&json!({"graph": [set], "parameters": many})).unwrap_err().code, Code::TooLarge);
}

#[test]
fn alone_an_edit_is_checked_in_its_own_words() {
    let alone = |body: Value| {
        let edit = Edit::parse(&body).unwrap();
        let row = TokenRows { name: "input".into(), rows: vec![words("The capital is")] };
        let request = Request::parse(&json!({"input": "x", "graph": []})).unwrap();
        let input = request.inputs.into_iter().next().unwrap();
        let context = Context { tree: &tree(), inputs: &[row], store: &Shelf, limits: &Limits::default() };
        check(&edit.alone(input)?, &context)
    };
    assert_eq!(alone(json!({"graph": "layers.1.output *= 2"})).unwrap().writes.len(), 1);
    let problem = alone(json!({"graph": [{"op": "set", "target": "layers.99.output", "value": 0}]})).unwrap_err();
    assert_eq!((problem.code, problem.pointer.as_str()), (Code::UnknownSite, "/graph/0/target"), "{problem}");
    assert!(!problem.detail.contains("edit"), "{problem}");
    let problem = alone(json!({"graph": "layers.1.output *= 2\nlayers.99.output *= 2"})).unwrap_err();
    assert_eq!((problem.line, problem.pointer.as_str()), (Some(2), "/graph"), "{problem}");
    let steps = json!([{"op": "set", "target": "layers.1.output", "value": 0, "steps": "new"}]);
    assert_eq!(alone(json!({"graph": steps})).unwrap().idle, [0]);
}

//! Sweeps: which axes each result depends on, and what is refused before a cell runs.

mod common;

use std::time::Duration;

use common::{Shelf, tree, words};
use cpu_time::ThreadTime;
use patchbay_graph::{Code, Context, Limits, Problem, Request, SweepPlan, TokenRows, check_sweep};
use serde_json::{Value, json};

/// What every answer has to come within, on a busy machine and without optimisation.
const LONG: Duration = Duration::from_secs(10);

fn sweep_of(sweep: Value, graph: Value) -> Result<SweepPlan, Problem> {
    let request = Request::parse(&json!({
        "inputs": {"clean": "The capital is", "corrupt": "A capital was"}, "graph": graph, "sweep": sweep
    }))?;
    let rows = |name: &str, text: &str| TokenRows { name: name.into(), rows: vec![words(text)] };
    let inputs = [rows("clean", "The capital is"), rows("corrupt", "A capital was")];
    let limits = Limits { max_cells: 1000, ..Limits::default() };
    let context = Context { tree: &tree(), inputs: &inputs, store: &Shelf, limits: &limits };
    let sweep = request.sweep.clone().expect("the request is a sweep");
    check_sweep(&request, &sweep, &context)
}

#[test]
fn results_gain_the_axes_they_depend_on_and_only_those() {
    let plan = sweep_of(
        json!({"layer": {"range": [0, 4]}, "pos": [0, 1, 2], "factor": [1, 2.5]}),
        json!([
            {"op": "set", "target": "corrupt/layers.{layer}.output[:, {pos}]", "value": "clean/layers.{layer}.output[:, {pos}]"},
            {"op": "save", "value": "corrupt/logits[:, -1]", "as": "patched"},
            {"op": "save", "value": "corrupt/embed_tokens.output", "as": "before"},
            {"op": "save", "value": "clean/logits[:, -1]", "as": "clean"},
            {"op": "save", "value": {"op": "mul", "args": ["clean/logits[0, -1]", "{factor}"]}, "as": "scaled"},
            {"op": "save", "value": "clean/layers.{layer}.output[:, -1]", "as": "here"},
            {"op": "top_tokens", "value": "corrupt/logits[:, -1]", "k": 2, "as": "top"},
            {"op": "save", "value": "corrupt/layers.0.output", "as": "first"},
        ]),
    )
    .unwrap();
    let found: Vec<(&str, &[usize], &[usize])> = plan
        .results
        .iter()
        .map(|r| (r.saved.name.as_str(), r.axes.as_slice(), r.saved.shape.dims.as_slice()))
        .collect();
    assert_eq!(
        found,
        [
            ("patched", &[0, 1][..], &[4, 3, 1, 11][..]),
            ("before", &[], &[1, 3, 8]),
            ("clean", &[], &[1, 11]),
            ("scaled", &[2], &[2, 11]),
            ("here", &[0], &[4, 1, 8]),
            ("top", &[0, 1], &[4, 3, 1, 11]),
            // written in the cells of layer 0 alone
            ("first", &[0, 1], &[4, 3, 1, 3, 8]),
        ]
    );
    assert_eq!((plan.cells, plan.passes), (24, 24));
}

#[test]
fn axes_pass_through_values_skips_and_gradients() {
    let plan = sweep_of(
        json!({"a": [0, 1], "b": [1, 2]}),
        json!([
            {"op": "skip", "layers": "{a}", "input": "clean"},
            {"op": "sum", "args": ["clean/logits"], "id": "m"},
            {"op": "grad", "of": "$m", "wrt": "clean/embed_tokens.output", "id": "g"},
            {"op": "save", "value": "$g", "as": "g"},
            {"op": "mul", "args": ["clean/layers.2.output", "{b}"], "id": "scaled"},
            {"op": "set", "target": "corrupt/layers.3.output", "value": "$scaled"},
            {"op": "save", "value": "corrupt/ln_final.output", "as": "end"},
            {"op": "save", "value": "corrupt/layers.3.mlp.output", "as": "untouched"},
        ]),
    )
    .unwrap();
    let axes: Vec<&[usize]> = plan.results.iter().map(|result| result.axes.as_slice()).collect();
    assert_eq!(axes, [&[0][..], &[0, 1], &[]]);
}

#[test]
fn what_cannot_run_in_some_cell_is_refused_with_the_cell() {
    let save = json!({"op": "save", "value": "clean/layers.{layer}.output", "as": "x"});
    let problem = sweep_of(json!({"layer": {"range": [0, 5]}}), json!([save])).unwrap_err();
    assert_eq!((problem.code, problem.pointer.as_str()), (Code::UnknownSite, "/graph/0/value"));
    assert!(problem.detail.contains("layer = 4"), "{problem}");
    assert_eq!(problem.hint.as_deref(), Some("this model has layers 0 to 3"));
    // what is wrong within a value of an axis is not in the graph as it was sent
    let inside = json!([{"op": "save", "value": {"op": "neg", "args": ["{n}"]}, "as": "x"}]);
    let sum = json!({"op": "sum", "args": [{"op": "nobody"}]});
    for values in [json!([1, sum]), json!([sum]), json!([1, {"op": "sum", "args": ["@nobody"]}])] {
        assert_eq!(sweep_of(json!({"n": values}), inside.clone()).unwrap_err().pointer, "/graph/0/value/args/0");
    }
    let shapes = json!([{"op": "save", "value": "clean/layers.0.output[:, :{n}]", "as": "x"}]);
    assert_eq!(sweep_of(json!({"n": [1, 2]}), shapes).unwrap_err().code, Code::ShapeMismatch);
    let names = json!([{"op": "save", "value": "clean/layers.{n}.output", "as": "x{n}"}]);
    assert_eq!(sweep_of(json!({"n": [1, 2]}), names).unwrap_err().code, Code::DuplicateResult);
}

#[test]
fn giant_sweeps_are_refused_by_their_number_of_cells() {
    let save = json!({"op": "save", "value": "clean/layers.{a}.output[:, {b}]", "as": "x"});
    for axis in [json!({"range": [0, 1_000_000]}), json!({"range": [i64::MIN, i64::MAX]})] {
        let problem = sweep_of(json!({"a": [0], "b": axis}), json!([save])).unwrap_err();
        assert_eq!((problem.code, problem.pointer.as_str()), (Code::TooLarge, "/sweep"));
        assert!(problem.detail.contains("the limit is 1000"), "{problem}");
    }
}

/// Nothing that a sweep can hold takes long or much memory, cells with much in them included.
#[test]
fn giant_cells_are_refused() {
    let refused = |sweep: Value, graph: Value| {
        let start = ThreadTime::now();
        let problem = sweep_of(sweep, graph).expect_err("it is too much");
        assert!(start.elapsed() < LONG, "{problem} after {:?}", start.elapsed());
        assert_eq!((problem.code, problem.pointer.as_str()), (Code::TooLarge, "/sweep"), "{problem}");
    };
    let save = |value: Value| json!([{"op": "save", "value": value, "as": "x"}]);
    // a value that is written many times is many times as much
    refused(json!({"a": ["x".repeat(1 << 18)]}), save(json!("{a}".repeat(1 << 18))));
    refused(json!({"a": [vec![0; 1 << 18]]}), save(json!(vec!["{a}"; 1 << 18])));
    // many cells with much in each
    let list = vec![0.5; 20_000];
    refused(json!({"a": vec![0; 1000], "b": [0]}), save(json!({"op": "add", "args": [list, "{a}"], "alpha": "{b}"})));
    let many = json!({"op": "cat", "args": [vec!["clean/logits[0, 0, [{a}]]"; 30_000]]});
    refused(json!({"a": vec![0; 1000]}), save(json!({"op": "sum", "args": [many]})));
    let steer = json!({"op": "steer", "layers": vec!["{a}"; 20_000], "vector": 0, "input": "clean"});
    let graph = json!([steer, {"op": "save", "value": "clean/logits[0, 0, 0]", "as": "x"}]);
    refused(json!({"a": vec![0; 1000]}), graph);
}

#[test]
fn braces_that_name_nothing_are_looked_at_once() {
    let start = ThreadTime::now();
    for text in ["{".repeat(2 << 20), format!("{}}}", "{".repeat(2 << 20)), "{a".repeat(1 << 18)] {
        let save = json!({"op": "save", "value": format!("{text}{{a}}"), "as": "x"});
        sweep_of(json!({"a": [0]}), json!([save])).unwrap_err();
    }
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
}

#[test]
fn many_strings_that_name_an_axis() {
    let start = ThreadTime::now();
    let read = json!({"op": "cat", "args": [vec!["clean/logits[0, 0, [{a}]]"; 20_000]]});
    let steer = json!({"op": "steer", "layers": vec!["{a}"; 5000], "vector": "{b}", "input": "clean"});
    let save = json!({"op": "save", "value": {"op": "sum", "args": [read]}, "as": "x"});
    let plan = sweep_of(
        json!({"a": [0, 1], "b": [0, 1], "c": [0]}),
        json!([steer, save, {"op": "save", "value": "{c}", "as": "c"}]),
    );
    assert_eq!(plan.unwrap().results[0].axes, [0, 1]);
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
}

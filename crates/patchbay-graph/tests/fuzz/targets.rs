//! What is fuzzed. The test beside this file and the folder `fuzz/` of the repository call the same functions.
//!
//! A target panics where a promise is broken: bytes are read or refused, never with a panic, soon, and with a pointer to what
//! is wrong.

use std::collections::BTreeSet;
use std::time::Duration;

use cpu_time::ThreadTime;
use patchbay_graph::node::Node;
use patchbay_graph::plan::Source;
use patchbay_graph::text::{TextGraph, print};
use patchbay_graph::{Code, Context, DType, Limits, Plan, Problem, Request, Store, TokenRows, check, check_sweep};
use serde_json::{Value, json};

use super::common::{Sizes, tokenize};

/// Larger inputs are cut off by the server, and teach a fuzzer little.
const LONGEST: usize = 64 << 10;
/// What an answer has to come within: far more than it takes, as the machine may be busy with other things.
const LONG: Duration = Duration::from_secs(10);

/// The sizes of the golden model `llama-gqa-tied`, so that its requests are right.
const SIZES: Sizes = Sizes { layers: 3, hidden: 32, heads: 4, kv_heads: 2, mlp: 40, vocab: 96 };

/// `@joy`, as wide as the model, and `@pair.a`.
struct Shelf;

impl Store for Shelf {
    fn describe(&self, name: &str, key: Option<&str>) -> Result<(DType, Vec<usize>), Problem> {
        match (name, key) {
            ("joy", None) => Ok((DType::F32, vec![SIZES.hidden])),
            ("pair", Some("a")) => Ok((DType::I64, vec![2, 3])),
            _ => Err(Problem::new(Code::UnknownTensor, format!("there is no tensor `@{name}`"))),
        }
    }
}

/// Small limits, so that what goes beyond them is not large.
fn limits() -> Limits {
    Limits {
        max_nodes: 256,
        max_cells: 64,
        max_rows: 64,
        max_tokens: 1024,
        max_result_bytes: 1 << 24,
        max_peak_bytes: 1 << 26,
    }
}

/// What came of an input.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It is not even JSON, or not UTF-8.
    Unread,
    /// Something is wrong with it.
    Refused(Problem),
    /// It can run. What it does, in a few words.
    Taken(String),
}

/// The body of a trace, from its bytes to its plan.
pub(crate) fn request(bytes: &[u8]) -> Answer {
    let start = ThreadTime::now();
    let Ok(body) = serde_json::from_slice::<Value>(bytes.get(..LONGEST).unwrap_or(bytes)) else {
        return Answer::Unread;
    };
    let answer = answer(&body);
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
    if let Answer::Refused(problem) = &answer {
        assert_points_into(problem, &body);
    }
    answer
}

/// The text form: what is read is written and read again as the same nodes.
pub(crate) fn text(bytes: &[u8]) -> Answer {
    let start = ThreadTime::now();
    let Ok(source) = std::str::from_utf8(bytes.get(..LONGEST).unwrap_or(bytes)) else { return Answer::Unread };
    let problem = match TextGraph::parse(source) {
        Ok(read) => {
            let written = print(&read.nodes).unwrap_or_else(|problem| panic!("it cannot be written: {problem}"));
            let again = TextGraph::parse(&written).unwrap_or_else(|problem| panic!("{written:?}: {problem}"));
            assert_eq!(again.nodes, read.nodes, "{written:?}");
            assert_eq!(print(&again.nodes).as_ref(), Ok(&written));
            None
        }
        Err(problem) => Some(problem),
    };
    let body = match source.contains("clean/") || source.contains("corrupt/") {
        true => json!({"inputs": {"clean": "The capital is", "corrupt": ["A capital was", "it"]}, "graph": source}),
        false => json!({"input": ["The capital is", [1, 2]], "graph": source}),
    };
    let answer = answer(&body);
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
    let answered = match &answer {
        Answer::Refused(problem) => Some(problem),
        _ => None,
    };
    for problem in problem.iter().chain(answered) {
        assert_brief(problem);
        assert_eq!(problem.pointer, "/graph", "{problem}");
        if let Some(line) = problem.line {
            let line = source.split('\n').nth(line - 1).unwrap_or_else(|| panic!("there is no line {line}: {problem}"));
            let column = problem.column.unwrap_or_default();
            assert!((1..=line.chars().count() + 1).contains(&column), "there is no column {column}: {problem}");
        }
    }
    assert!(problem.is_none() || answered.is_some());
    answer
}

fn answer(body: &Value) -> Answer {
    check_body(body).map_or_else(Answer::Refused, Answer::Taken)
}

fn check_body(body: &Value) -> Result<String, Problem> {
    let request = Request::parse(body)?;
    let (tree, limits) = (SIZES.tree(), limits());
    let inputs: Vec<TokenRows> = request.inputs.iter().map(tokenize).collect();
    let context = Context { tree: &tree, inputs: &inputs, store: &Shelf, limits: &limits };
    if let Some(sweep) = &request.sweep {
        let plan = check_sweep(&request, sweep, &context)?;
        assert!(plan.cells <= limits.max_cells && plan.cost.result_bytes <= limits.max_result_bytes);
        return Ok(format!("sweep of {} axes", sweep.axes.len()));
    }
    let plan = check(&request, &context)?;
    assert_whole(&plan, &limits);
    // written out, the graph is the same
    let written: Vec<Value> = request.graph.iter().map(Node::to_json).collect();
    let mut body = body.clone();
    body["graph"] = json!(written);
    let again = Request::parse(&body).and_then(|request| check(&request, &context));
    let again = again.unwrap_or_else(|problem| panic!("{} is refused: {problem}", body["graph"]));
    assert_eq!(shapes(&again), shapes(&plan), "{}", body["graph"]);
    Ok(deeds(&plan))
}

/// What a plan does.
fn deeds(plan: &Plan) -> String {
    let source = |source: &Source| match source {
        Source::Op { spec, .. } => spec.name,
        Source::Literal(_) => "literal",
        Source::Stored { .. } => "stored",
        Source::Read(_) => "read",
        Source::Index { .. } => "index",
        Source::Stack(_) => "stack of sites",
        Source::Call { .. } => "call",
        Source::Grad { .. } => "grad",
        Source::Weight(_) => "weight",
        Source::Project { .. } => "project",
    };
    let deeds: BTreeSet<&str> = plan.values.iter().map(|value| source(&value.source)).collect();
    format!("{} passes, {} writes, {} skips, {deeds:?}", plan.passes.len(), plan.writes.len(), plan.skips.len())
}

/// A plan that exists is valid.
fn assert_whole(plan: &Plan, limits: &Limits) {
    for (id, value) in plan.values.iter().enumerate() {
        assert!(value.args().iter().all(|arg| *arg < id), "value {id} comes before what it is made of");
        assert!(value.shape.elements().is_some() && value.bytes() <= limits.max_peak_bytes);
        for (axis, lengths) in value.shape.ragged.iter().flat_map(|ragged| &ragged.axes) {
            assert!(lengths.iter().all(|length| *length <= value.shape.dims[*axis]), "{}", value.shape);
        }
    }
    assert!(plan.cost.result_bytes <= limits.max_result_bytes && plan.cost.peak_bytes <= limits.max_peak_bytes);
    assert!(plan.cost.flops.is_finite() && plan.cost.flops >= 0.0);
}

fn shapes(plan: &Plan) -> Vec<String> {
    let value = |id: usize| format!("{} {}", plan.values[id].dtype, plan.values[id].shape);
    let results = plan.results.iter().map(|result| format!("{} {}", result.name, value(result.value)));
    let kept = plan.kept.iter().map(|(name, id)| format!("@{name} {}", value(*id)));
    let writes = plan.writes.iter().map(|write| format!("{} {} {}", write.site, write.selection.shape(), write.input));
    results.chain(kept).chain(writes).chain([format!("{} passes", plan.passes.len())]).collect()
}

fn assert_points_into(problem: &Problem, body: &Value) {
    assert_brief(problem);
    let there = body.pointer(&problem.pointer).is_some();
    assert!(there, "it points nowhere: {} {problem}", problem.pointer);
}

fn assert_brief(problem: &Problem) {
    assert!(!problem.detail.is_empty() && problem.detail.len() < 4096, "{} bytes", problem.detail.len());
    assert!(Code::ALL.contains(&problem.code));
}

//! Random graphs: what is right runs and gives what was planned, what is broken is refused with a pointer to what is broken.
#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

mod breaking;
#[path = "../common/mod.rs"]
mod common;
mod found;
mod generate;
mod operations;
mod prefixes;
mod writes;

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use common::{Lab, Ran, Random, numbers, same_bits};
use generate::{Generator, Graph};
use patchbay_engine::Answer;
use serde_json::{Value, json};

const MODELS: [&str; 3] = ["llama-gqa-tied", "gpt2", "llama-bias"];

/// Random graphs of each model; `PATCHBAY_RANDOM_GRAPHS` runs more.
fn count(default: u64) -> u64 {
    std::env::var("PATCHBAY_RANDOM_GRAPHS").map_or(default, |text| text.parse().unwrap())
}

fn candle(dtype: patchbay_graph::DType) -> DType {
    use patchbay_graph::DType as G;
    match dtype {
        G::Bool | G::U8 => DType::U8,
        G::U32 => DType::U32,
        G::I64 => DType::I64,
        G::F16 => DType::F16,
        G::Bf16 => DType::BF16,
        G::F32 => DType::F32,
        G::F64 => DType::F64,
    }
}

#[track_caller]
fn as_planned(ran: &Ran, graph: &Graph) {
    let (plan, outcome, body) = (&ran.plan, &ran.outcome, &graph.body);
    assert_eq!(outcome.results.len(), graph.results.len(), "{body}");
    for (planned, (name, answer)) in plan.results.iter().zip(&outcome.results) {
        let value = &plan.values[planned.value];
        let (_, dims) = graph.results.iter().find(|(known, _)| known == name).unwrap();
        match answer {
            Answer::Tensor { tensor, shape, dtype } => {
                assert_eq!((shape, *dtype), (&value.shape, value.dtype), "{name}: {body}");
                assert_eq!((tensor.dims(), tensor.dtype()), (&value.shape.dims[..], candle(*dtype)), "{name}: {body}");
                assert!(tensor.is_contiguous(), "{name}: {body}");
                if let Some(dims) = dims {
                    assert_eq!((tensor.dims(), &shape.ragged), (&dims[..], &None), "{name}: {body}");
                }
                assert_padding_is_zero(tensor, &value.shape, &format!("{name}: {body}"));
            }
            Answer::Tokens { dims: found, tokens } => {
                let places = &value.shape.dims[..value.shape.rank() - 1];
                assert_eq!(found, places, "{name}: {body}");
                assert_eq!(tokens.len(), places.iter().product::<usize>(), "{name}: {body}");
                if let Some(dims) = dims {
                    assert_eq!(found, dims, "{name}: {body}");
                    assert!(tokens.iter().all(|tokens| Some(tokens.len()) == planned.top_tokens), "{name}: {body}");
                }
            }
        }
    }
    assert_eq!(outcome.receipts.len(), plan.writes.len(), "{body}");
    assert_eq!(outcome.receipts.len(), graph.writes, "{body}");
    for receipt in &outcome.receipts {
        assert!(
            receipt.rows > 0
                && receipt.positions >= receipt.rows
                && (receipt.delta_norm >= 0.0 || receipt.delta_norm.is_nan()),
            "{receipt:?}: {body}"
        );
        let node = &body["graph"][receipt.node]["op"];
        assert!(node == "set" || node == "steer", "{receipt:?}: {body}");
    }
    assert_eq!(outcome.usage.passes, plan.passes.len(), "{body}");
    assert_eq!(outcome.usage.layers_run, plan.cost.layers_run, "{body}");
}

/// Rows are padded on the left.
fn assert_padding_is_zero(tensor: &Tensor, shape: &patchbay_graph::Shape, what: &str) {
    let Some(ragged) = &shape.ragged else { return };
    for (axis, lengths) in &ragged.axes {
        for (row, length) in lengths.iter().enumerate() {
            let row = tensor.narrow(ragged.rows, row, 1).unwrap();
            let padding = row.narrow(*axis, 0, shape.dims[*axis] - length).unwrap();
            assert!(numbers(&padding).iter().all(|x| *x == 0.0), "{what}");
        }
    }
}

fn assert_same(a: &Ran, b: &Ran, body: &Value) {
    for ((name, a), (_, b)) in a.outcome.results.iter().zip(&b.outcome.results) {
        match (a, b) {
            (Answer::Tensor { tensor: a, .. }, Answer::Tensor { tensor: b, .. }) => {
                assert!(same_bits(a, b), "{name} is not twice the same: {body}");
            }
            (Answer::Tokens { tokens: a, .. }, Answer::Tokens { tokens: b, .. }) => assert_eq!(a, b, "{name}: {body}"),
            _ => panic!("{name} has two forms: {body}"),
        }
    }
}

#[test]
fn what_is_right_runs_as_planned() {
    let mut ops: BTreeMap<String, usize> = BTreeMap::new();
    for (number, model) in MODELS.iter().enumerate() {
        let lab = Lab::golden(model);
        for seed in 0..count(150) {
            let graph = Generator::graph(lab.tree(), seed * 10 + number as u64, false);
            let ran = lab.run(&graph.body);
            as_planned(&ran, &graph);
            if seed % 3 == 0 {
                assert_same(&lab.run(&graph.body), &ran, &graph.body);
            }
            let text = graph.body.to_string();
            for op in text.split("\"op\":\"").skip(1).filter_map(|rest| rest.split('"').next()) {
                *ops.entry(op.to_owned()).or_default() += 1;
            }
        }
    }
    let nodes = ["set", "steer", "skip", "call", "project_on_vocab", "grad", "top_tokens", "einsum", "topk", "split"];
    let rare: Vec<&&str> = nodes.iter().filter(|op| ops.get(**op).copied().unwrap_or(0) < 5).collect();
    assert!(rare.is_empty(), "hardly ever made: {rare:?} of {ops:?}");
}

#[test]
fn a_row_is_the_row_alone() {
    for (number, model) in MODELS.iter().enumerate() {
        let lab = Lab::golden(model);
        for seed in 0..count(60) {
            let graph = Generator::graph(lab.tree(), seed * 10 + number as u64, true);
            let together = lab.run(&graph.body);
            as_planned(&together, &graph);
            let mut changed = vec![0.0f64; together.outcome.receipts.len()];
            for row in 0..graph.body["input"].as_array().unwrap().len() {
                let mut body = graph.body.clone();
                body["input"] = json!([graph.body["input"][row]]);
                let alone = lab.run(&body);
                assert_row(&together, &alone, row, &graph.body);
                let norms = alone.outcome.receipts.iter().map(|receipt| receipt.delta_norm);
                changed.iter_mut().zip(norms).for_each(|(all, norm)| *all = all.hypot(norm));
            }
            for (receipt, changed) in together.outcome.receipts.iter().zip(changed) {
                let near = receipt.delta_norm == changed || (receipt.delta_norm - changed).abs() <= 1e-6 * changed;
                assert!(near || changed.is_nan(), "{receipt:?}, and {changed} row by row: {}", graph.body);
            }
        }
    }
}

fn assert_row(together: &Ran, alone: &Ran, row: usize, body: &Value) {
    for ((name, a), (_, b)) in together.outcome.results.iter().zip(&alone.outcome.results) {
        match (a, b) {
            (Answer::Tensor { tensor, shape, .. }, Answer::Tensor { tensor: alone, shape: own, .. }) => {
                // what has no rows does not depend on them; layers are stacked before them
                let axis = (0..shape.rank()).find(|axis| shape.dims[*axis] != own.dims[*axis]);
                let of_rows = shape.ragged.as_ref().map(|ragged| ragged.rows);
                let mut part = tensor.clone();
                if let Some(rows) = of_rows.or(axis) {
                    part = part.narrow(rows, row, 1).unwrap();
                    for (axis, lengths) in shape.ragged.iter().flat_map(|ragged| &ragged.axes) {
                        part = part.narrow(*axis, shape.dims[*axis] - lengths[row], lengths[row]).unwrap();
                    }
                }
                assert!(same_bits(&part.contiguous().unwrap(), alone), "{name} of row {row}: {body}");
            }
            (Answer::Tokens { tokens, .. }, Answer::Tokens { tokens: alone, .. }) => {
                assert_eq!(tokens[row], alone[0], "{name} of row {row}: {body}");
            }
            _ => panic!("{name} has two forms: {body}"),
        }
    }
}

/// The same graph on ids that begin as everybody else's do: each row has a token of its own at a place of its own.
fn alike(body: &Value, number: usize) -> Value {
    let row = |row: usize, ids: &Value| -> Value {
        let id = |token: usize| if token == 2 + (number + row) % 5 { 36 + number % 3 } else { (7 * token + 3) % 36 };
        (0..ids.as_array().unwrap().len()).map(id).collect()
    };
    let rows = |input: &Value| -> Value {
        match input.as_array() {
            Some(rows) => rows.iter().enumerate().map(|(number, ids)| row(number, ids)).collect(),
            None => input.clone(),
        }
    };
    let mut body = body.clone();
    if let Some(input) = body.get_mut("input") {
        *input = rows(input);
    }
    for (_, input) in body.get_mut("inputs").and_then(Value::as_object_mut).into_iter().flatten() {
        *input = rows(input);
    }
    body
}

#[test]
fn requests_in_company_are_what_they_are_alone() {
    for (number, model) in ["llama-gqa-tied", "gpt2", "gemma3", "mixtral", "llama-dynamic"].iter().enumerate() {
        let lab = Lab::golden(model);
        let body = |seed: u64| {
            let seed = seed * 10 + number as u64;
            alike(&Generator::graph(lab.tree(), seed, false).body, seed as usize)
        };
        let bodies: Vec<Value> = (0..count(60)).map(body).collect();
        let alone: Vec<Ran> = bodies.iter().map(|body| lab.run(body)).collect();
        // the others wait behind the first
        let long = json!({"input": [vec![5; 10]], "graph": [
            {"op": "save", "value": "layers.*.self_attn.heads", "as": "x"}]});
        let jobs: Vec<_> = bodies.iter().map(|body| lab.job(body).unwrap()).collect();
        let first: Vec<_> = (0..20).map(|_| lab.submit(&long).unwrap()).collect();
        let together: Vec<_> = jobs.into_iter().map(|job| lab.start(job).unwrap()).collect();
        first.into_iter().for_each(|running| drop(running.wait().unwrap()));
        let together: Vec<Ran> = together.into_iter().map(|running| running.wait().unwrap()).collect();
        let most = together.iter().map(|ran| ran.outcome.usage.co_batched).max();
        assert!(most > Some(4), "{model}: hardly any request had company: {most:?}");
        for ((together, alone), body) in together.iter().zip(&alone).zip(&bodies) {
            assert_same(together, alone, body);
            let receipts = |ran: &Ran| format!("{:?}", ran.outcome.receipts);
            assert_eq!(receipts(together), receipts(alone), "{body}");
        }
    }
}

#[test]
fn what_is_broken_is_refused_where_it_is_broken() {
    let lab = Lab::golden("llama-gqa-tied");
    let mut random = Random(1);
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..count(300) {
        let graph = Generator::graph(lab.tree(), seed, false);
        lab.plan(&graph.body).unwrap_or_else(|problem| panic!("{problem}: {}", graph.body));
        for _ in 0..6 {
            let Some(broken) = breaking::broken(&graph.body, &mut random) else { continue };
            let body = &broken.body;
            let Err(problem) = lab.plan(body) else { panic!("{} is taken: {body}", broken.what) };
            let node = format!("/graph/{}", broken.node);
            let inside = problem.pointer == node || problem.pointer.starts_with(&format!("{node}/"));
            assert!(inside, "{} at {node}, found at {}: {problem}: {body}", broken.what, problem.pointer);
            assert!(body.pointer(&problem.pointer).is_some(), "{} points nowhere: {body}", problem.pointer);
            assert!(broken.codes.contains(&problem.code), "{}: {:?} {problem}: {body}", broken.what, problem.code);
            assert!(problem.hint.is_some() || !broken.hinted, "{} has no hint: {problem}: {body}", broken.what);
            *found.entry(broken.what).or_default() += 1;
        }
    }
    let rare: Vec<_> = found.iter().filter(|(_, count)| **count < 3).collect();
    assert!(found.len() == breaking::KINDS && rare.is_empty(), "{found:?}");
}

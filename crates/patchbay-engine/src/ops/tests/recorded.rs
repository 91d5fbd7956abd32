//! What PyTorch made of every operation: values, gradients, refusals (`tests/golden/ops`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor, Var};
use patchbay_graph::DType as GraphType;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Shelf, elements, plan, run};
use crate::values::candle_dtype;

#[derive(Deserialize)]
struct Recorded {
    tolerance: f64,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    node: Value,
    #[serde(default)]
    expect: BTreeMap<String, String>,
    grad: Option<Gradients>,
    #[serde(default)]
    refused: bool,
    #[serde(default)]
    by_value: bool,
    tolerance: Option<f64>,
}

#[derive(Deserialize)]
struct Gradients {
    cotangent: Value,
    args: BTreeMap<String, String>,
}

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "..", "tests", "golden", "ops"].iter().collect()
}

fn tensors() -> BTreeMap<String, (GraphType, Tensor)> {
    let bytes = std::fs::read(folder().join("tensors.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let dtype = match view.dtype() {
            Dtype::BOOL => GraphType::Bool,
            Dtype::U8 => GraphType::U8,
            Dtype::U32 => GraphType::U32,
            Dtype::I64 => GraphType::I64,
            Dtype::F16 => GraphType::F16,
            Dtype::BF16 => GraphType::Bf16,
            Dtype::F32 => GraphType::F32,
            Dtype::F64 => GraphType::F64,
            other => panic!("{name} is {other:?}"),
        };
        let tensor = Tensor::from_raw_buffer(view.data(), candle_dtype(dtype), view.shape(), &Device::Cpu).unwrap();
        (name, (dtype, tensor))
    };
    file.tensors().into_iter().map(tensor).collect()
}

/// What differs between a case and what we make of it.
fn differences(case: &Case, tensors: &BTreeMap<String, (GraphType, Tensor)>, tolerance: f64) -> Result<(), String> {
    let mut shelf = Shelf::default();
    let mut vars = BTreeMap::new();
    for key in named(&case.node) {
        let (dtype, tensor) = &tensors[&key];
        let held = match dtype.is_float() {
            true => {
                let var = Var::from_tensor(tensor).unwrap();
                let held = var.as_tensor().clone();
                vars.insert(key.clone(), var);
                held
            }
            false => tensor.clone(),
        };
        shelf.put(&key, *dtype, held);
    }
    let mut node = case.node.clone();
    node["id"] = json!("n");
    let mut graph = vec![node];
    let outs: Vec<&str> = if case.refused { vec![""] } else { case.expect.keys().map(String::as_str).collect() };
    for out in &outs {
        let value = if out.is_empty() { "$n".to_owned() } else { format!("$n.{out}") };
        graph.push(json!({"op": "save", "value": value, "as": out}));
    }
    let planned = plan(&json!(graph), &shelf);
    if case.refused {
        return match planned {
            Err(_) => Ok(()),
            Ok(plan) if case.by_value => match run(&plan, &shelf) {
                Err(error) if super::super::Refused::find(&error).is_some() => Ok(()),
                Err(error) => Err(format!("is refused by value, fails with {}", first_line(&error))),
                Ok(_) => Err("is refused by value, and was taken".into()),
            },
            Ok(plan) => Err(format!("is refused, and was planned as {}", plan.values[plan.results[0].value].shape)),
        };
    }
    let plan = planned.map_err(|problem| format!("was refused: {problem}"))?;
    let values = run(&plan, &shelf).map_err(|error| format!("failed: {}", first_line(&error)))?;
    let mut loss: Option<Tensor> = None;
    for (result, out) in plan.results.iter().zip(&outs) {
        let (value, tensor) = (&plan.values[result.value], &values[result.value]);
        let (dtype, expected) = &tensors[&case.expect[*out]];
        if value.dtype != *dtype || value.shape.dims != expected.dims() || tensor.dims() != expected.dims() {
            return Err(format!("`{out}` is {} {}, expected {dtype} {:?}", value.dtype, value.shape, expected.dims()));
        }
        if tensor.dtype() != candle_dtype(*dtype) {
            return Err(format!("`{out}` is held as {:?}", tensor.dtype()));
        }
        compare(&format!("`{out}`"), tensor, expected, if dtype.is_float() { tolerance } else { 0.0 })?;
        let cotangent = case.grad.as_ref().and_then(|grad| match &grad.cotangent {
            Value::Object(parts) => parts.get(*out).and_then(Value::as_str).map(str::to_owned),
            key if outs[0] == *out || *out == "values" => key.as_str().map(str::to_owned),
            _ => None,
        });
        if let Some(key) = cotangent {
            let wide = |tensor: &Tensor| tensor.to_dtype(DType::F64);
            let part = wide(tensor).and_then(|t| (t * wide(&tensors[&key].1)?)?.sum_all()).unwrap();
            loss = Some(match loss {
                None => part,
                Some(loss) => (loss + part).unwrap(),
            });
        }
    }
    let Some(grad) = &case.grad else { return Ok(()) };
    let grads = loss.unwrap().backward().map_err(|error| format!("backward failed: {}", first_line(&error)))?;
    for (key, expected) in &grad.args {
        let expected = &tensors[expected].1;
        let found = match grads.get(vars[key].as_tensor()) {
            Some(found) => found.clone(),
            None => expected.zeros_like().unwrap(),
        };
        compare(&format!("gradient of @{key}"), &found, expected, tolerance.max(1e-7))?;
    }
    Ok(())
}

/// Keys of the tensors that a node names.
fn named(node: &Value) -> Vec<String> {
    match node {
        Value::String(text) => text.strip_prefix('@').map(str::to_owned).into_iter().collect(),
        Value::Array(items) => items.iter().flat_map(named).collect(),
        Value::Object(fields) => fields.values().flat_map(named).collect(),
        _ => Vec::new(),
    }
}

/// The error without its backtrace.
fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

fn compare(what: &str, found: &Tensor, expected: &Tensor, tolerance: f64) -> Result<(), String> {
    if found.dims() != expected.dims() {
        return Err(format!("{what} has shape {:?}, expected {:?}", found.dims(), expected.dims()));
    }
    let (found, expected) = (elements(found), elements(expected));
    let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * (1.0 + b.abs());
    match found.iter().zip(&expected).position(|(a, b)| !same(*a, *b)) {
        None => Ok(()),
        Some(at) => Err(format!("{what}[{at}] is {}, expected {}", found[at], expected[at])),
    }
}

#[test]
fn everything_is_as_pytorch_has_it() {
    let text = std::fs::read_to_string(folder().join("cases.json")).unwrap();
    let recorded: Recorded = serde_json::from_str(&text).unwrap();
    let tensors = tensors();
    let mut seen = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in &recorded.cases {
        let op = case.node["op"].as_str().unwrap().to_owned();
        *seen.entry(op).or_insert(0) += 1;
        let tolerance = case.tolerance.unwrap_or(recorded.tolerance);
        if let Err(difference) = differences(case, &tensors, tolerance) {
            wrong.push(format!("{}: {difference}", case.node));
        }
    }
    let ops = patchbay_graph::ops::all().map(|spec| spec.name);
    let unseen: Vec<&str> = ops.filter(|name| !["ceil", "randn"].contains(name) && !seen.contains_key(*name)).collect();
    assert!(unseen.is_empty(), "not recorded: {unseen:?}");
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), recorded.cases.len(), wrong.join("\n"));
}

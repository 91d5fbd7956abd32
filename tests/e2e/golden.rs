//! Every recorded case of every golden model, asked for over HTTP.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use crate::server::{Server, golden};

/// What was recorded of one model.
pub(crate) struct Golden {
    pub(crate) cases: Vec<Value>,
    tensors: HashMap<String, Tensor>,
}

impl Golden {
    pub(crate) fn read(folder: &Path) -> Self {
        let golden: Value = serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
        let tensors = candle_core::safetensors::load(folder.join("golden.safetensors"), &Device::Cpu).unwrap();
        Self { cases: golden["cases"].as_array().unwrap().clone(), tensors }
    }

    /// Compares an answer with what was recorded under `expect`, or under the name of another reference.
    pub(crate) fn compare(&self, case: &Value, answer: &Value, reference: &str) {
        let name = &case["name"];
        for (result, key) in case[reference].as_object().unwrap() {
            let expected = &self.tensors[key.as_str().unwrap()];
            let found = &answer["results"][result];
            assert_eq!(found["shape"], json!(expected.dims()), "{name}: {result}");
            let expected = flat(expected);
            let found = numbers(&found["data"]);
            let tolerance = &case["tolerance"];
            let share = tolerance[result].as_f64().or(tolerance["of_largest"].as_f64()).unwrap();
            let largest = case["largest"][result].as_f64().unwrap_or_else(|| largest(&expected));
            assert_eq!(found.len(), expected.len(), "{name}: {result}");
            for (found, expected) in found.iter().zip(&expected) {
                let close = found == expected || (found - expected).abs() <= share * largest;
                assert!(close, "{name}: {result} has {found}, not {expected}; the largest is {largest}");
            }
        }
        if let Some(tokens) = case["expect_tokens"].as_object() {
            for (result, rows) in tokens {
                compare_tokens(&format!("{name}: {result}"), &answer["results"][result]["tokens"], rows);
            }
        }
        if let Some(ids) = case["ids"].as_object() {
            for (input, ids) in ids {
                assert_eq!(&answer["inputs"][input]["ids"], ids, "{name}: {input}");
            }
        }
    }
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn largest(numbers: &[f64]) -> f64 {
    numbers.iter().filter(|x| x.is_finite()).fold(0.0, |largest, x| x.abs().max(largest))
}

/// The numbers of nested lists, in order.
pub(crate) fn numbers(data: &Value) -> Vec<f64> {
    match data {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        Value::String(text) if text == "NaN" => vec![f64::NAN],
        Value::String(text) if text == "Infinity" => vec![f64::INFINITY],
        Value::String(text) if text == "-Infinity" => vec![f64::NEG_INFINITY],
        Value::Bool(flag) => vec![f64::from(u8::from(*flag))],
        number => vec![number.as_f64().unwrap()],
    }
}

/// Ids and texts are equal, scores nearly so.
fn compare_tokens(name: &str, found: &Value, expected: &Value) {
    match (found, expected) {
        (Value::Array(found), Value::Array(expected)) => {
            assert_eq!(found.len(), expected.len(), "{name}");
            found.iter().zip(expected).for_each(|(found, expected)| compare_tokens(name, found, expected));
        }
        (Value::Object(found), Value::Object(expected)) => {
            for (field, expected) in expected {
                match expected.as_f64().filter(|_| field != "id") {
                    Some(score) => {
                        let apart = (found[field].as_f64().unwrap() - score).abs();
                        assert!(
                            apart <= 1e-3 * score.abs().max(1.0),
                            "{name}: {field} {} is not {score}",
                            found[field]
                        );
                    }
                    None => assert_eq!(&found[field], expected, "{name}: {field}"),
                }
            }
        }
        _ => panic!("{name}: {found} is not {expected}"),
    }
}

#[tokio::test]
async fn every_case_of_every_golden_model() {
    let mut cases = 0;
    for model in models() {
        let server = Server::with(&model).await;
        let recorded = Golden::read(&golden(&model));
        eprintln!("{model}");
        for case in &recorded.cases {
            let answer = server.trace(&case["request"]).await;
            recorded.compare(case, &answer, "expect");
            check_plan(&server, &case["request"], &answer).await;
            cases += 1;
        }
    }
    assert!(cases > 150, "{cases} cases were found");
}

/// The names of the golden folders that hold a model.
fn models() -> Vec<String> {
    let folders = std::fs::read_dir(golden("gpt2").parent().unwrap()).unwrap().map(|entry| entry.unwrap());
    let models = folders.filter(|folder| folder.path().join("config.json").is_file());
    let mut names: Vec<_> = models.map(|folder| folder.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What was promised before is what came: shapes, passes, layers, and a receipt for every write.
async fn check_plan(server: &Server, request: &Value, answer: &Value) {
    let response = server.post("/v1/validate", request).await;
    assert_eq!(response.status(), 200);
    let promised: Value = response.json().await.unwrap();
    for (name, result) in promised["results"].as_object().unwrap() {
        let found = &answer["results"][name];
        if result.get("top_tokens").is_none() {
            assert_eq!((&result["shape"], &result["dtype"]), (&found["shape"], &found["dtype"]), "{name}: {request}");
        }
    }
    for field in ["passes", "layers_run", "layer_count"] {
        assert_eq!(promised["plan"][field], answer["usage"][field], "{field}: {request}");
    }
    let writes =
        request["graph"].as_array().unwrap().iter().filter(|node| node["op"] == "set" || node["op"] == "steer");
    let receipts = answer["receipts"].as_array().unwrap();
    assert!(receipts.len() >= writes.count(), "{request}: {receipts:?}");
    assert!(receipts.iter().all(|receipt| receipt["positions"].as_u64() > Some(0)), "{receipts:?}");
}

//! What recipes find in real models is what nnterp finds.

use candle_core::{DType, Device};
use serde_json::{Value, json};

use super::cook;
use crate::golden::numbers;
use crate::server::{Server, golden, real_model};

#[tokio::test]
async fn recipes_find_what_nnterp_finds() {
    let folder = golden("recipes");
    let recorded: Value = serde_json::from_slice(&std::fs::read(folder.join("recipes.json")).unwrap()).unwrap();
    let tensors = candle_core::safetensors::load(folder.join("recipes.safetensors"), &Device::Cpu).unwrap();
    let cut = recorded["cut"].as_u64().unwrap() as usize;
    for (model, file) in [("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"), ("gemma3", "gemma3-270m")] {
        let Some(path) = real_model(file) else { continue };
        let server = Server::start(&["--model", &format!("{model}={}", path.display())]);
        server.ready().await;
        for (number, case) in recorded[model].as_array().unwrap().iter().enumerate() {
            let name = case["recipe"].as_str().unwrap();
            let mut body = case["body"].clone();
            body["output"] = json!({"encoding": "json"});
            let answer = cook(&server, name, &body).await;
            if let Some(tokens) = case.get("target_tokens") {
                assert_eq!(&answer["target_tokens"], tokens, "{model} {case}");
            }
            for result in case["results"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()) {
                let expected = &tensors[&format!("{model}.{number}.{result}")];
                let step = match result {
                    "probs" => cut,
                    "activations" | "vector" => cut / 20,
                    _ => 1,
                };
                let found = every(&answer["results"][result]["data"], expected.rank(), step);
                let largest =
                    if step == cut { 1.0 } else { numbers(&found).iter().fold(1.0, |most, x| x.abs().max(most)) };
                let expected: Vec<f64> =
                    expected.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
                let found = numbers(&found);
                assert_eq!(found.len(), expected.len(), "{model} {name}: {result}");
                let apart = found.iter().zip(&expected).fold(0.0f64, |most, (a, b)| most.max((a - b).abs()));
                assert!(apart <= 1e-4 * largest, "{model} {case}: {result} is {apart:.1e} off");
            }
        }
    }
}

/// Every so many numbers of the last axis.
fn every(data: &Value, rank: usize, step: usize) -> Value {
    let items = data.as_array().unwrap();
    match rank {
        1 => items.iter().step_by(step).cloned().collect(),
        rank => items.iter().map(|item| every(item, rank - 1, step)).collect(),
    }
}

//! A step with the keys of those before it is what a trace of the whole text computes, interventions included.

use serde_json::{Value, json};

use crate::common::Random;
use crate::golden::numbers;
use crate::server::Server;

/// Models that differ in how keys are kept: all or a window of them, by rotation or by bias, latent or shared by heads, from
/// other layers.
pub(super) const MODELS: [&str; 8] =
    ["llama-gqa-tied", "gemma3", "gpt2", "bloom", "deepseek_v2", "mistral", "falcon-new", "qwen3_moe"];

/// An edit at a site of the residual stream that changes each token by itself.
struct Edit {
    layer: usize,
    /// Positions from the newest or the first token; all where nothing stands here.
    at: Option<i64>,
    steps: Value,
    factor: f64,
}

impl Edit {
    fn random(random: &mut Random, layers: usize, prompt: usize, new: usize) -> Self {
        let steps = match random.below(6) {
            0 => json!("prompt"),
            1 => json!("new"),
            2 => json!([0, 1 + random.below(new - 1)]),
            3 => json!({"from": random.below(new), "to": new}),
            _ => json!("all"),
        };
        let first = steps.as_array().is_some() || steps == json!("prompt") || steps == json!("all");
        let at = match random.below(4) {
            0 => Some(-1),
            1 if first => Some(random.below(prompt) as i64),
            _ => None,
        };
        Self { layer: random.below(layers), at, steps, factor: 0.5 + random.below(20) as f64 / 10.0 }
    }

    fn contains(&self, step: usize) -> bool {
        match &self.steps {
            Value::String(word) => match word.as_str() {
                "prompt" => step == 0,
                "new" => step > 0,
                _ => true,
            },
            Value::Array(steps) => steps.contains(&json!(step)),
            range => range["from"].as_u64().unwrap() as usize <= step,
        }
    }

    fn node(&self) -> Value {
        let index = self.at.map_or(String::new(), |at| format!("[:, {at}]"));
        let site = format!("layers.{}.output{index}", self.layer);
        let value = json!({"op": "mul", "args": [site, self.factor]});
        json!({"op": "set", "target": site, "value": value, "steps": self.steps})
    }

    /// The same edit of the whole text: of every position when it was computed.
    fn whole(&self, prompt: usize, tokens: usize) -> Option<Value> {
        let step = |position: usize| (position + 1).saturating_sub(prompt);
        let edited = |position: &usize| {
            let newest = if step(*position) == 0 { prompt - 1 } else { *position };
            let meant = match self.at {
                None => true,
                Some(-1) => *position == newest,
                Some(at) => *position == at as usize,
            };
            self.contains(step(*position)) && meant
        };
        let positions: Vec<usize> = (0..tokens).filter(edited).collect();
        if positions.is_empty() {
            return None;
        }
        let site = format!("layers.{}.output[:, {positions:?}]", self.layer);
        Some(json!({"op": "set", "target": site, "value": {"op": "mul", "args": [site, self.factor]}}))
    }
}

pub(super) fn saves() -> Vec<Value> {
    let save = |value: &str, name: &str| json!({"op": "save", "value": value, "as": name});
    vec![
        save("layers.*.output", "stream"),
        save("layers[-1].self_attn.probs", "probs"),
        save("layers[0].self_attn.k", "keys"),
        save("logits", "logits"),
        json!({"op": "top_tokens", "value": "logits", "k": 2, "as": "likely"}),
    ]
}

pub(super) fn close(found: &Value, expected: &Value, what: &str) {
    assert_eq!(found["shape"], expected["shape"], "{what}");
    let (found, expected) = (numbers(&found["data"]), numbers(&expected["data"]));
    let largest = expected.iter().filter(|x| x.is_finite()).fold(0.0f64, |most, x| most.max(x.abs()));
    for (found, expected) in found.iter().zip(&expected) {
        let same = found == expected || (found - expected).abs() <= 1e-4 * largest;
        assert!(same, "{what}: {found}, not {expected}; the largest is {largest}");
    }
}

async fn check(model: &str, rounds: u64) {
    let server = Server::with(model).await;
    let facts: Value = server.get(&format!("/v1/models/{model}")).await.json().await.unwrap();
    let layers = facts["layers"].as_u64().unwrap() as usize;
    let vocab = facts["vocab"].as_u64().unwrap() as usize;
    for seed in 0..rounds {
        let mut random = Random(seed);
        let (prompt, new) = (1 + random.below(6), 2 + random.below(7));
        let ids: Vec<usize> = (0..prompt).map(|_| random.below(vocab)).collect();
        let edits: Vec<Edit> = (0..random.below(4)).map(|_| Edit::random(&mut random, layers, prompt, new)).collect();
        let graph: Vec<Value> = edits.iter().map(Edit::node).chain(saves()).collect();
        let body = json!({
            "input": [ids], "graph": graph, "max_new_tokens": new, "ignore_eos": true, "temperature": 1.5, "seed": seed,
        });
        let generated = server.generate(&body).await;
        let text: Vec<usize> = serde_json::from_value(generated["outputs"][0]["ids"].clone()).unwrap();
        let whole = [&ids[..], &text[..new - 1]].concat();
        let graph: Vec<Value> =
            edits.iter().filter_map(|edit| edit.whole(prompt, whole.len())).chain(saves()).collect();
        let traced = server.trace(&json!({"input": [whole], "graph": graph})).await;
        for name in ["stream", "probs", "keys", "logits"] {
            close(&generated["results"][name], &traced["results"][name], &format!("{model} {seed}: {name} of {body}"));
        }
        let likely = |answer: &Value| -> Vec<Value> {
            let places = answer["results"]["likely"]["tokens"][0].as_array().unwrap();
            places.iter().map(|place| place[0]["id"].clone()).collect()
        };
        assert_eq!(likely(&generated), likely(&traced), "{model} {seed}: {body}");
    }
}

#[tokio::test]
async fn cached_is_recomputed() {
    for model in MODELS {
        check(model, 12).await;
    }
}

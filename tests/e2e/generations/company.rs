//! Whoever else is there, a generation is what it is alone.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::server::Server;

/// What comes of a body, less what depends on the company.
async fn told(server: &Server, body: &Value) -> Value {
    let mut answer = server.generate(body).await;
    let answer = answer.as_object_mut().unwrap();
    answer.remove("usage");
    answer.remove("id");
    json!(answer)
}

/// Sampled and greedy, steered and not, of different lengths, with traces between them.
fn bodies() -> Vec<Value> {
    let body = |number: usize| {
        let graph = match number % 3 {
            0 => json!([]),
            1 => json!([
                {"op": "set", "target": "layers.1.output[:, -1]", "value": {"op": "mul", "args": ["layers.1.output[:, -1]", 3.0]}},
                {"op": "save", "value": "layers[-1].output[:, -1, :4]", "as": "h"}
            ]),
            _ => json!([
                {"op": "steer", "layers": [0, 2], "vector": [1.0], "factor": number as f64, "steps": "new"},
                {"op": "save", "value": "layers.0.self_attn.probs[0, 0]", "as": "looks"}
            ]),
        };
        let prompt: Vec<usize> = (0..1 + number % 5).map(|token| (7 * token + 3 * (number % 4)) % 60).collect();
        json!({
            "input": [prompt, [5, 6, 7]], "graph": graph, "max_new_tokens": 3 + number % 9, "seed": number % 7,
            "temperature": if number.is_multiple_of(2) { 1.0 } else { 0.0 }, "top_p": 0.9, "n": 1 + number % 2,
        })
    };
    (0..32).map(body).collect()
}

#[tokio::test]
async fn thirty_two_at_once() {
    let server = Server::with("llama-gqa-tied").await;
    let bodies = bodies();
    let mut alone = Vec::new();
    for body in &bodies {
        alone.push(told(&server, body).await);
    }
    let trace = json!({"input": [[1, 2, 3, 4]], "graph": [{"op": "save", "value": "logits", "as": "x"}]});
    let traces = async {
        let mut company = 0;
        for _ in 0..40 {
            company = company.max(server.trace(&trace).await["usage"]["co_batched"].as_u64().unwrap());
        }
        company
    };
    let together = join_all(bodies.iter().map(|body| told(&server, body)));
    let (together, company) = tokio::join!(together, traces);
    assert!(company > 1, "traces share waves with generations");
    for ((alone, together), body) in alone.iter().zip(&together).zip(&bodies) {
        assert_eq!(alone, together, "{body}");
    }
}

#[tokio::test]
async fn samples_of_a_row_differ_and_come_again() {
    let server = Server::with("llama-gqa-tied").await;
    let body = json!({"input": [[1, 2, 3]], "n": 6, "max_new_tokens": 8, "temperature": 2.0, "ignore_eos": true});
    let answer = server.generate(&body).await;
    let outputs = answer["outputs"].as_array().unwrap();
    assert_eq!(outputs.len(), 6);
    assert!((1..6).any(|other| outputs[other] != outputs[0]), "{outputs:?}");
    let mut again = body.clone();
    again["seed"] = answer["seed"].clone();
    assert_eq!(server.generate(&again).await["outputs"], answer["outputs"]);
    // a prompt's samples share its pass
    assert_eq!(answer["usage"]["prompt_tokens"], 3);
    assert!(answer["usage"]["shared"].as_u64().unwrap() > 0);
    // those of one row do not depend on how many others there are
    let mut fewer = again.clone();
    fewer["n"] = json!(2);
    let fewer = server.generate(&fewer).await;
    assert_eq!(fewer["outputs"].as_array().unwrap()[..], outputs[..2]);
}

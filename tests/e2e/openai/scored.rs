//! How likely the tokens of prompts are, beside what traces say of them.

use serde_json::{Value, json};

use crate::server::Server;

#[tokio::test]
async fn as_traces_say() {
    let server = Server::with("llama-gqa-tied").await;
    let rows = json!([[1, 2, 3, 4, 5, 6], [9, 8], [7], [30, 20, 10]]);
    let edit = "layers[1].output += 0.5";
    for graph in [json!([]), json!(edit)] {
        let body = json!({"input": rows, "max_new_tokens": 2, "prompt_logprobs": 3, "n": 2, "seed": 1, "temperature": 1, "graph": graph});
        let answer = server.generate(&body).await;
        assert_eq!(answer["results"], json!({}), "nothing else is told");
        for (number, row) in rows.as_array().unwrap().iter().enumerate() {
            let save = "save log_softmax(logits, -1) as x";
            let graph = if graph.is_string() { json!([edit, save]) } else { json!([save]) };
            let trace = server.trace(&json!({"input": [row], "graph": graph})).await;
            let expected = &trace["results"]["x"]["data"][0];
            for sample in 0..2 {
                let scored = answer["outputs"][2 * number + sample]["prompt_logprobs"].as_array().unwrap();
                assert_eq!(scored.len(), row.as_array().unwrap().len());
                assert_eq!(scored[0], Value::Null);
                for (place, scored) in scored.iter().enumerate().skip(1) {
                    let logprobs: Vec<f64> = serde_json::from_value(expected[place - 1].clone()).unwrap();
                    let near = |token: &Value| {
                        let (id, logprob) =
                            (token["id"].as_u64().unwrap() as usize, token["logprob"].as_f64().unwrap());
                        assert!((logprobs[id] - logprob).abs() < 1e-5, "{token} is {}", logprobs[id]);
                        logprob
                    };
                    assert_eq!(scored["id"], row[place]);
                    near(scored);
                    let top: Vec<f64> = scored["top"].as_array().unwrap().iter().map(near).collect();
                    let highest = logprobs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    assert!(top.len() == 3 && top.is_sorted_by(|a, b| a >= b) && (top[0] - highest).abs() < 1e-5);
                }
            }
        }
    }
}

//! What a trace answers: the same bits in every form, for every batch a row stands in, and with writes that change nothing.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use crate::golden::numbers;
use crate::server::Server;

const SAFETENSORS: &str = "application/vnd.safetensors";

/// One result in the safetensors form: type, shape, bytes.
type Stored = (Dtype, Vec<usize>, Vec<u8>);

/// A trace's safetensors answer: the tensors, and the rest of the response.
async fn safetensors_of(server: &Server, body: &Value) -> (BTreeMap<String, Stored>, Value) {
    let request = server.request(Method::POST, "/v1/trace").header("accept", SAFETENSORS).json(body);
    let response = request.send().await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["content-type"]), (200, &SAFETENSORS.parse().unwrap()));
    let bytes = response.bytes().await.unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let rest = serde_json::from_str(&header.metadata().as_ref().unwrap()["response"]).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let stored =
        file.iter().map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec())));
    (stored.collect(), rest)
}

/// The bytes that the numbers of a JSON answer stand for.
fn bytes_of(result: &Value) -> Vec<u8> {
    let data = numbers(&result["data"]).into_iter();
    match result["dtype"].as_str().unwrap() {
        "f64" => data.flat_map(f64::to_le_bytes).collect(),
        "f32" => data.flat_map(|x| (x as f32).to_le_bytes()).collect(),
        "f16" => data.flat_map(|x| half::f16::from_f64(x).to_le_bytes()).collect(),
        "bf16" => data.flat_map(|x| half::bf16::from_f64(x).to_le_bytes()).collect(),
        "i64" => data.flat_map(|x| (x as i64).to_le_bytes()).collect(),
        "u32" => data.flat_map(|x| (x as u32).to_le_bytes()).collect(),
        "u8" | "bool" => data.map(|x| x as u8).collect(),
        other => panic!("{other}"),
    }
}

fn save(value: Value, name: &str) -> Value {
    json!({"op": "save", "value": value, "as": name})
}

/// Sites of every form, numbers of every type, and some that are not finite.
fn graph() -> Value {
    let special = json!({"dtype": "f32", "data": ["NaN", "Infinity", "-Infinity", -0.0, 1e-45, 3.402_823_5e38, 0.1]});
    json!([
        save(json!("layers.*.output"), "stream"),
        save(json!("layers.0.self_attn.scores"), "scores"),
        save(json!("layers.2.self_attn.probs[:, :, -1]"), "probs"),
        save(json!("logits[:, -1]"), "logits"),
        save(special, "special"),
        save(json!({"dtype": "f16", "data": [0.1, 65504.0, 6e-8]}), "f16"),
        save(json!({"dtype": "bf16", "data": [[0.1], [3.0]]}), "bf16"),
        save(json!({"dtype": "f64", "data": [0.1, 1e300]}), "f64"),
        save(json!({"dtype": "u32", "data": [0, 4_294_967_295_u32]}), "u32"),
        save(json!({"dtype": "u8", "data": [0, 255]}), "u8"),
        save(json!([[1, -2], [3, 4]]), "i64"),
        save(json!([true, false]), "bool"),
        save(json!(2.5), "scalar"),
        save(json!({"dtype": "f32", "shape": [2, 0, 3], "data": []}), "empty"),
        {"op": "top_tokens", "value": "logits[:, -1]", "k": 3, "as": "top"},
    ])
}

#[tokio::test]
async fn every_form_carries_the_same_bits() {
    let server = Server::with("llama-rope3").await;
    let input = json!([[5, 9, 200, 31], [7]]);
    for dtype in [None, Some("f16"), Some("bf16"), Some("f32"), Some("f64")] {
        let output = |encoding: &str| json!({"encoding": encoding, "dtype": dtype});
        let body = |encoding: &str| json!({"input": input, "graph": graph(), "output": output(encoding)});
        let lists = server.trace(&body("json")).await;
        let base64 = server.trace(&body("base64")).await;
        let accepted = json!({"input": input, "graph": graph(), "output": {"dtype": dtype}});
        let (stored, rest) = safetensors_of(&server, &accepted).await;
        let named = safetensors_of(&server, &body("safetensors")).await;
        assert!(stored == named.0, "asked for by header or by field");
        assert_eq!(stored.len(), 14);
        for (name, result) in lists["results"].as_object().unwrap().iter().filter(|(name, _)| *name != "top") {
            let (kind, shape, bytes) = &stored[name];
            assert!(bytes == &bytes_of(result), "{name} as {dtype:?}");
            let coded = &base64["results"][name];
            assert_eq!(&STANDARD.decode(coded["b64"].as_str().unwrap()).unwrap(), bytes, "{name} as {dtype:?}");
            assert_eq!(result["shape"], json!(shape), "{name}");
            assert_eq!(format!("{kind:?}").to_lowercase(), result["dtype"].as_str().unwrap(), "{name}");
            for other in [coded, &rest["results"][name]] {
                assert_eq!((&other["dtype"], &other["shape"]), (&result["dtype"], &result["shape"]), "{name}");
                assert_eq!(other.get("lengths"), result.get("lengths"), "{name}");
            }
            assert!(rest["results"][name].get("data").is_none() && coded.get("data").is_none());
            let float = ["f16", "bf16", "f32", "f64"].contains(&result["dtype"].as_str().unwrap());
            assert!(!float || dtype.is_none_or(|dtype| result["dtype"] == dtype), "{name}: {}", result["dtype"]);
        }
        for other in [&base64, &rest] {
            assert_eq!(other["results"]["top"], lists["results"]["top"]);
            assert_eq!((&other["inputs"], &other["receipts"]), (&lists["inputs"], &lists["receipts"]));
            assert_eq!(other["model"], "llama-rope3");
        }
    }
}

#[tokio::test]
async fn numbers_without_a_form_in_json() {
    let server = Server::with("llama-rope3").await;
    let body = json!({"input": [[5, 9]], "graph": graph()});
    let results = server.trace(&body).await["results"].clone();
    let found = &results["special"]["data"];
    assert_eq!(found.to_string(), r#"["NaN","Infinity","-Infinity",-0.0,1e-45,3.4028235e+38,0.1]"#);
    assert_eq!(results["scores"]["data"][0][0][0][1], "-Infinity", "what attention may not see");
    assert_eq!(results["scalar"], json!({"dtype": "f32", "shape": [], "data": 2.5}));
    assert_eq!(results["empty"]["data"], json!([[], []]));
    // of receipts and of tokens too
    let body = json!({"input": [[5, 9]], "graph": [
        {"op": "set", "target": "logits[:, -1]", "value": {"data": "NaN"}},
        {"op": "top_tokens", "value": "logits[:, -1]", "k": 1, "as": "top"},
    ]});
    let answer = server.trace(&body).await;
    assert_eq!(answer["receipts"][0]["delta_norm"], "NaN");
    let token = &answer["results"]["top"]["tokens"][0][0];
    assert_eq!((&token["prob"], &token["logit"]), (&json!("NaN"), &json!("NaN")));
}

#[tokio::test]
async fn results_keep_their_names_and_their_order() {
    let server = Server::with("gpt2").await;
    let names = ["z", "a", "with space", "dots.and/slashes", "ä→ü", "\"quoted\"", "response", "", "__metadata__"];
    let nodes: Vec<Value> = names.iter().map(|name| save(json!(1.0), name)).collect();
    let body = json!({"input": [[1]], "graph": nodes});
    let answer = server.trace(&body).await;
    assert_eq!(answer["results"].as_object().unwrap().keys().collect::<Vec<_>>(), names);
    let body = json!({"input": [[1]], "graph": nodes[..8]});
    assert_eq!(safetensors_of(&server, &body).await.0.len(), 8);
    let reserved = json!({"input": [[1]], "graph": nodes, "output": {"encoding": "safetensors"}});
    assert_eq!(server.refused("/v1/trace", &reserved, 422).await["code"], "bad_name");
}

/// The part of a ragged result that belongs to one row: its first axis is of rows, the second of tokens.
fn row_of(result: &Value, row: usize, length: usize) -> Vec<Value> {
    let tokens = result["data"][row].as_array().unwrap();
    tokens[tokens.len() - length..].to_vec()
}

#[tokio::test]
async fn a_row_of_a_batch_is_the_row_alone() {
    for model in ["llama-rope3", "gpt2"] {
        let server = Server::with(model).await;
        let rows: Vec<Vec<u32>> =
            [7, 1, 12, 3].iter().map(|length| (0..*length).map(|i| 5 + (i * i * 7 + length) % 50).collect()).collect();
        let graph = json!([
            save(json!("layers.1.output"), "stream"),
            save(json!("logits"), "logits"),
            save(json!("logits[:, -1]"), "last"),
            save(json!("layers.0.self_attn.q"), "q"),
            {"op": "top_tokens", "value": "logits[:, -1]", "as": "top"},
        ]);
        let together = server.trace(&json!({"input": rows, "graph": graph})).await;
        let results = &together["results"];
        assert_eq!(results["logits"]["lengths"], json!({"1": [7, 1, 12, 3]}), "{model}");
        assert_eq!(results["q"]["lengths"], json!({"2": [7, 1, 12, 3]}), "{model}");
        assert_eq!(together["inputs"]["input"]["lengths"], json!([7, 1, 12, 3]));
        for (i, row) in rows.iter().enumerate() {
            let alone = server.trace(&json!({"input": [row], "graph": graph})).await;
            for name in ["stream", "logits"] {
                let alone = alone["results"][name]["data"][0].as_array().unwrap().clone();
                assert!(row_of(&results[name], i, row.len()) == alone, "{model}: row {i} of {name}");
                let padding = &results[name]["data"][i].as_array().unwrap()[..12 - row.len()];
                assert!(padding.iter().all(|token| numbers(token).iter().all(|x| *x == 0.0)), "{model}: {name}");
            }
            assert!(results["last"]["data"][i] == alone["results"]["last"]["data"][0], "{model}: row {i}");
            assert!(results["top"]["tokens"][i] == alone["results"]["top"]["tokens"][0], "{model}: row {i}");
        }
    }
}

#[tokio::test]
async fn writes_that_change_nothing() {
    let server = Server::with("llama-rope3").await;
    let input = json!([[5, 9, 200, 31], [7, 8], [301]]);
    let run = async |writes: Vec<Value>| {
        let graph: Vec<Value> = writes.into_iter().chain([save(json!("logits"), "logits")]).collect();
        server.trace(&json!({"input": input, "graph": graph})).await
    };
    let plain = run(vec![]).await["results"]["logits"].clone();
    let tree: Value = server.get("/v1/models/llama-rope3/tree").await.json().await.unwrap();
    let names: Vec<String> = tree["sites"]
        .as_array()
        .unwrap()
        .iter()
        .map(|site| site["name"].as_str().unwrap().replace(".i.", ".1."))
        .collect();
    assert!(names.len() > 25, "{names:?}");
    for name in &names {
        let own = run(vec![json!({"op": "set", "target": name, "value": name})]).await;
        assert!(own["results"]["logits"] == plain, "its own value at {name}");
        assert_eq!(own["receipts"].as_array().unwrap().len(), 1, "{name}");
        assert_eq!((&own["receipts"][0]["site"], &own["receipts"][0]["delta_norm"]), (&json!(name), &json!(0.0)));
    }
    let every: Vec<Value> = names.iter().map(|name| json!({"op": "set", "target": name, "value": name})).collect();
    assert!(run(every).await["results"]["logits"] == plain, "every site's own value at once");
    let steer = run(vec![json!({"op": "steer", "layers": [0, 1, 2], "vector": vec![3.5; 24], "factor": 0})]).await;
    assert!(steer["results"]["logits"] == plain, "steering by nothing");
    let steer = run(vec![json!({"op": "steer", "layers": [0, 1, 2], "vector": vec![3.5; 24], "factor": 1e-3})]).await;
    assert!(steer["results"]["logits"] != plain, "steering by something");
}

#[tokio::test]
async fn every_write_has_a_receipt() {
    let server = Server::with("llama-rope3").await;
    let graph = json!([
        {"op": "set", "target": "layers.0.output[0, 1:3]", "value": 0},
        save(json!("layers.0.output"), "before"),
        {"op": "steer", "layers": [1, 2], "vector": vec![1.0; 24], "factor": 2, "rows": [0, 2], "tokens": -1},
        {"op": "set", "target": "layers.1.self_attn.z[:, 2]", "value": 1.0},
        save(json!("logits"), "x"),
    ]);
    let answer = server.trace(&json!({"input": [[5, 9, 200, 31], [7, 8], [301]], "graph": graph})).await;
    let receipts: Vec<(u64, &str, u64, u64)> = answer["receipts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|receipt| {
            let number = |field: &str| receipt[field].as_u64().unwrap();
            assert_eq!(receipt["input"], "input");
            (number("node"), receipt["site"].as_str().unwrap(), number("rows"), number("positions"))
        })
        .collect();
    assert_eq!(
        receipts,
        [
            (0, "layers.0.output", 1, 2),
            (2, "layers.1.output", 2, 2),
            (2, "layers.2.output", 2, 2),
            (3, "layers.1.self_attn.z", 3, 7)
        ]
    );
    // two rows of 24 ones, doubled
    let steered = answer["receipts"][1]["delta_norm"].as_f64().unwrap();
    assert!((steered - (2.0 * 24.0 * 4.0_f64).sqrt()).abs() < 1e-4, "{steered}");
    assert_eq!(answer["usage"]["prompt_tokens"], 7);
}

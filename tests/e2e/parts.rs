//! Requests that hold too much at once: their rows run in parts, and the answer is that of all rows together.

use serde_json::{Value, json};

use crate::common::Random;
use crate::graphs::{Generator, put_joy, tree};
use crate::server::Server;

const MODEL: &str = "llama-gqa-tied";

/// Bytes that the small server's requests may hold.
const SMALL: u64 = 150_000;

/// One server with room for everything, and one with hardly any.
async fn servers() -> [Server; 2] {
    servers_of(SMALL).await
}

async fn servers_of(bytes: u64) -> [Server; 2] {
    let small = ["--memory", &bytes.to_string()];
    [Server::with(MODEL).await, Server::with_flags(MODEL, &small).await]
}

/// Rows of different lengths.
fn rows(count: usize) -> Vec<Vec<usize>> {
    let row = |row: usize| (0..2 + row * 5 % 7).map(|token| (row * 13 + token * 7 + 1) % 90).collect();
    (0..count).map(row).collect()
}

/// The answer of both, and in how many parts the second one ran.
async fn both(servers: &[Server; 2], body: &Value) -> ([Value; 2], u64) {
    let [whole, parts] = [servers[0].trace(body).await, servers[1].trace(body).await];
    assert_eq!(whole["usage"]["parts"], Value::Null, "{body}");
    let count = parts["usage"]["parts"].as_u64().unwrap_or(1);
    ([whole, parts], count)
}

/// Whether two tensors are the same to float error.
fn near(found: &Value, expected: &Value) -> bool {
    fn numbers(value: &Value) -> Vec<f64> {
        match value {
            Value::Array(items) => items.iter().flat_map(numbers).collect(),
            value => value.as_f64().into_iter().collect(),
        }
    }
    let [found, expected] = [found, expected].map(|tensor| (&tensor["shape"], numbers(&tensor["data"])));
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-5 * (1.0 + b.abs());
    found.0 == expected.0 && found.1.len() == expected.1.len() && found.1.iter().zip(&expected.1).all(near)
}

#[tokio::test]
async fn the_answer_is_that_of_all_rows_together() {
    let servers = servers().await;
    let mean = json!({"op": "mean", "args": ["corrupt/layers.1.output"], "dim": 1});
    let logit = json!({"op": "sub", "args": ["corrupt/logits[:, -1, 3]", "corrupt/logits[:, -1, 5]"]});
    let product = json!({"op": "einsum", "args": ["bth,h->bt", "corrupt/layers.2.output", vec![0.5; 32]]});
    let body = json!({
        "inputs": {"corrupt": rows(40), "clean": [[5, 6, 7]]},
        "graph": [
            {"op": "set", "target": "corrupt/layers.1.output[:, -1]", "value": "clean/layers.1.output[:, -1]"},
            {"op": "steer", "input": "corrupt", "layers": [2], "vector": vec![0.5; 32], "factor": 2.0},
            {"op": "set", "target": "clean/layers.0.mlp.output", "value": 0.0},
            {"op": "save", "value": "corrupt/layers.*.output", "as": "stream"},
            {"op": "save", "value": "corrupt/layers.0.self_attn.probs", "as": "probs"},
            {"op": "save", "value": "corrupt/logits[:, -1]", "as": "logits"},
            {"op": "save", "value": "clean/logits", "as": "clean"},
            {"op": "save", "value": {"op": "transpose", "args": [mean, 0, 1]}, "as": "mean"},
            {"op": "save", "value": logit, "as": "difference"},
            {"op": "save", "value": product, "as": "product"},
            {"op": "save", "value": {"op": "argmax", "args": ["corrupt/logits"], "dim": -1}, "as": "next"},
            {"op": "top_tokens", "value": "corrupt/logits", "k": 2, "as": "top"},
        ]
    });
    let ([whole, mut parts], count) = both(&servers, &body).await;
    assert!(count > 3, "{count} parts");
    for (name, result) in whole["results"].as_object().unwrap() {
        let found = &parts["results"][name];
        // products of a graph's own are made of all rows at once, in an order that depends on how many they are
        let same = if name == "product" { near(found, result) } else { found == result };
        assert!(same, "{name} is not the same: {found} for {result}");
    }
    assert_eq!(
        (&parts["inputs"], &parts["usage"]["prompt_tokens"]),
        (&whole["inputs"], &whole["usage"]["prompt_tokens"])
    );
    for (found, expected) in
        parts["receipts"].as_array_mut().unwrap().iter_mut().zip(whole["receipts"].as_array().unwrap())
    {
        let [norm, known] = [found["delta_norm"].as_f64().unwrap(), expected["delta_norm"].as_f64().unwrap()];
        assert!((norm - known).abs() <= 1e-6 * known, "{found} for {expected}");
        found["delta_norm"] = expected["delta_norm"].clone();
    }
    assert_eq!(parts["receipts"], whole["receipts"]);

    // what is planned is what comes
    let planned: Value = servers[1].post("/v1/validate", &body).await.json().await.unwrap();
    assert_eq!(planned["plan"]["parts"], json!(count));
    assert!(planned["cost"]["peak_bytes"].as_u64().unwrap() <= SMALL, "{planned}");
    let of_all: Value = servers[0].post("/v1/validate", &body).await.json().await.unwrap();
    assert_eq!((&planned["results"], &of_all["plan"]["parts"]), (&of_all["results"], &Value::Null));
    assert!(of_all["cost"]["peak_bytes"].as_u64().unwrap() > SMALL);
    // as a job it tells of its parts
    let mut body = body;
    body["async"] = json!(true);
    let job: Value = servers[1].post("/v1/trace", &body).await.json().await.unwrap();
    let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    let end = format!("{path}/events");
    assert!(servers[1].get(&end).await.text().await.unwrap().contains("event: done"));
    let job: Value = servers[1].get(&path).await.json().await.unwrap();
    assert_eq!((&job["done"], &job["of"]), (&json!(count), &json!(count)), "{job}");
}

/// Attribution over many prompts: gradients of what is summed over them, and what all of them come to.
#[tokio::test]
async fn gradients_and_sums_are_those_of_all_rows() {
    let servers = servers_of(4 * SMALL).await;
    let metric = json!({"op": "sum", "args": [{"op": "sub", "args": ["a/logits[:, -1, 3]", "a/logits[:, -1, 5]"]}]});
    let attributed = json!({"op": "mul", "args": ["$g", {"op": "sub", "args": ["b/layers.*.output[:, -1]", "a/layers.*.output[:, -1]"]}]});
    let save = |value: Value, name: &str| json!({"op": "save", "value": value, "as": name});
    let body = json!({
        "inputs": {"a": rows(40), "b": rows(40), "one": [[7, 8, 9]]},
        "graph": [
            {"op": "set", "target": "a/layers.0.mlp.output[:, -1]", "value": "one/layers.0.mlp.output[:, -1]"},
            {"op": "grad", "of": metric, "wrt": "a/layers.*.output[:, -1]", "id": "g"},
            {"op": "grad", "of": metric, "wrt": ["a/layers.1.self_attn.probs", "a/layers.2.mlp.output", "one/layers.0.mlp.output"], "id": "more"},
            save(metric, "metric"),
            save(json!("$g"), "stream"),
            save(json!("$more.0"), "probs"),
            save(json!("$more.1"), "mlp"),
            save(json!("$more.2"), "one"),
            save(json!({"op": "sum", "args": [attributed], "dim": [1, 2]}), "attributed"),
            save(json!({"op": "mean", "args": ["b/layers.2.output[:, -1]"], "dim": 0}), "direction"),
            save(json!({"op": "einsum", "args": ["rh,rk->hk", "b/layers.2.output[:, -1, :4]", "b/layers.2.output[:, -1, :4]"]}), "covariance"),
            {"op": "save", "value": {"op": "mean", "args": ["b/layers.1.output[:, -1]"], "dim": 0}, "to": "@direction"},
        ]
    });
    let ([whole, parts], count) = both(&servers, &body).await;
    assert!(count > 2, "{count} parts");
    for (name, result) in whole["results"].as_object().unwrap() {
        let found = &parts["results"][name];
        // one number of many rows is added up in another order
        let added = ["metric", "one", "attributed", "direction", "covariance"].contains(&name.as_str());
        let same = if added { near(found, result) } else { found == result };
        assert!(same, "{name} is not the same: {found} for {result}");
    }
    let steer = json!({"input": [[1, 2]], "graph": [save(json!("@direction"), "x")]});
    let [whole, parts] = [servers[0].trace(&steer).await, servers[1].trace(&steer).await];
    assert!(near(&parts["results"]["x"], &whole["results"]["x"]), "{parts} for {whole}");
}

#[tokio::test]
async fn what_is_kept_is_put_together() {
    let servers = servers().await;
    let graph = json!([
        {"op": "save", "value": "layers.*.output[:, -1]", "to": "@ends"},
        {"op": "save", "value": "layers.1.output", "to": "@all"},
        {"op": "save", "value": "logits[:, -1]", "as": "x"},
    ]);
    let (_, count) = both(&servers, &json!({"input": rows(40), "graph": graph})).await;
    assert!(count > 2, "{count} parts");
    let again = json!({"input": [[1, 2]], "graph": [
        {"op": "save", "value": "@ends[:, 7:9]", "as": "ends"}, {"op": "save", "value": "@all[35:]", "as": "all"}]});
    let [whole, parts] = [servers[0].trace(&again).await, servers[1].trace(&again).await];
    assert!(whole["results"] == parts["results"]);
    assert_eq!(parts["results"]["all"]["shape"], json!([5, 8, 32]));
}

/// Whatever a graph is: it is answered as where there is room, or refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_graphs() {
    let [roomy, small] = servers().await;
    let tree = tree(MODEL).await;
    put_joy(&roomy, &tree).await;
    put_joy(&small, &tree).await;
    let (mut split, mut refused, mut random) = (0, 0, Random(5));
    for seed in 0..240 {
        let mut body = Generator::graph(&tree, 4000 + seed, seed % 3 > 0).body;
        if let Some(rows) = body.get_mut("input").and_then(Value::as_array_mut) {
            // more rows of the same lengths
            for copy in 0..random.below(40) {
                let row = rows[copy % 2 % rows.len()].as_array().unwrap().clone();
                rows.push(row.iter().map(|id| json!((id.as_u64().unwrap() + copy as u64) % 90)).collect());
            }
        }
        let answer = small.post("/v1/trace", &body).await;
        let status = answer.status().as_u16();
        let answer: Value = answer.json().await.unwrap();
        match status {
            200 => {
                let expected = roomy.post("/v1/trace", &body).await.json::<Value>().await.unwrap();
                assert!(answer["results"] == expected["results"], "it has another answer in parts: {body}");
                split += u64::from(answer["usage"]["parts"].as_u64().is_some());
            }
            413 => refused += 1,
            // some graphs are for so many rows
            _ => assert_eq!(roomy.post("/v1/trace", &body).await.status().as_u16(), status, "{answer}"),
        }
    }
    eprintln!("{split} ran in parts, {refused} were refused");
    assert!(split > 20, "{split} ran in parts, {refused} were refused");
}

#[tokio::test]
async fn what_takes_rows_together_is_refused_with_its_place() {
    let [_, server] = servers().await;
    let refused = async |inputs: Value, graph: Value| {
        let problem = server.refused("/v1/trace", &json!({"inputs": inputs, "graph": graph}), 413).await;
        assert_eq!((&problem["code"], &problem["pointer"]), (&json!("too_large"), &json!("/graph")));
        let detail = problem["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(&format!("all requests together may hold {SMALL}")), "{problem}");
        detail.split("its rows cannot run in parts: ").nth(1).unwrap_or_else(|| panic!("{problem}")).to_owned()
    };
    let save = |value: Value| json!({"op": "save", "value": value, "as": "x"});
    let big = json!({"op": "save", "value": "a/layers.*.output", "as": "big"});
    let many = json!({"a": rows(200)});
    for (nodes, why) in [
        (
            json!([big, save(json!({"op": "softmax", "args": ["a/logits[:, -1]"], "dim": 0}))]),
            "together at /graph/1/value",
        ),
        (json!([big, save(json!("a/logits[3, -1]"))]), "by their numbers at /graph/1/value"),
        (json!([big, {"op": "set", "target": "a/layers.0.output[0]", "value": 0}]), "by their numbers at /graph/1"),
        (
            json!([big, {"op": "set", "target": "a/layers.0.output[:, -1]", "value": vec![vec![0.5; 32]; 200]}]),
            "of its own",
        ),
        (
            json!([
                big,
                save(
                    json!({"op": "grad", "of": {"op": "mean", "args": ["a/logits[:, -1]"]}, "wrt": "a/layers.0.output"})
                )
            ]),
            "that of a `sum` does not at /graph/1/value/wrt",
        ),
    ] {
        let found = refused(many.clone(), nodes).await;
        assert!(found.contains(why), "{found}");
    }
    let long = json!({"a": [(0..64).collect::<Vec<_>>()]});
    assert_eq!(refused(long.clone(), json!([save(json!("a/layers.*.self_attn.probs"))])).await, "there is one row");
    let two = json!({"a": [long["a"][0], long["a"][0]]});
    let found = refused(two, json!([save(json!("a/layers.*.self_attn.probs"))])).await;
    assert!(found.contains("row 0 alone would hold"), "{found}");
    // and a sweep says what it is
    let body = json!({"input": rows(200), "sweep": {"n": [1, 2]}, "graph": [
        {"op": "steer", "layers": [1], "vector": vec![0.5; 32], "factor": "{n}"},
        {"op": "save", "value": "layers.*.output", "as": "x"}]});
    assert_eq!(server.refused("/v1/trace", &body, 413).await["code"], json!("too_large"));
}

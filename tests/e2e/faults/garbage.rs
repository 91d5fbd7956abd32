//! Bodies made by chance: whatever they are, the answer is a result or a refusal, and never a fault of the server.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use reqwest::Method;
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use super::Calm;

/// How many bodies of each kind; `PROPTEST_CASES` asks for more.
const CASES: u32 = 400;

fn runner() -> TestRunner {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    TestRunner::new(Config { cases: asked.unwrap_or(CASES), failure_persistence: None, ..Config::default() })
}

/// Sends a body, and fails where the answer is none that a client can cause.
async fn send(calm: &Calm, method: Method, path: &str, body: Vec<u8>) -> Result<(u16, Value), TestCaseError> {
    let request = calm.server.request(method, path).header("content-type", "application/json").body(body);
    let response = request.send().await.map_err(|error| TestCaseError::fail(format!("{path}: {error:?}")))?;
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let answer: Value =
        serde_json::from_str(&text).map_err(|_| TestCaseError::fail(format!("{path}: {status} {text}")))?;
    prop_assert!(status < 500, "{path}: {status} {answer}");
    prop_assert!(status < 300 || answer["code"].is_string(), "{path}: {status} {answer}");
    Ok((status, answer))
}

#[test]
fn bytes() {
    let runtime = Runtime::new().unwrap();
    let calm = runtime.block_on(Calm::start(&[]));
    let good = calm.recorded.cases[0]["request"].to_string().into_bytes();
    let changed =
        (any::<prop::sample::Index>(), any::<u8>(), any::<prop::sample::Index>()).prop_map(move |(at, byte, cut)| {
            let mut bytes = good.clone();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.truncate(cut.index(bytes.len()).max(at + 1));
            bytes
        });
    let any_bytes = prop::collection::vec(any::<u8>(), 0..200);
    runner()
        .run(&prop_oneof![any_bytes, changed], |bytes| {
            runtime.block_on(async {
                for (method, path) in [
                    (Method::POST, "/v1/trace"),
                    (Method::POST, "/v1/tokenize"),
                    (Method::POST, "/v1/detokenize"),
                    (Method::PUT, "/v1/tensors/a"),
                    (Method::PUT, "/v1/models/a+b"),
                ] {
                    send(&calm, method, path, bytes.clone()).await?;
                }
                let put = calm.server.request(Method::PUT, "/v1/tensors/a");
                let put = put.header("content-type", "application/vnd.safetensors").body(bytes);
                prop_assert!(put.send().await.unwrap().status().as_u16() < 500);
                Ok(())
            })
        })
        .unwrap();
    runtime.block_on(calm.still());
}

/// Numbers at the edges of what types hold.
fn number() -> impl Strategy<Value = Value> {
    let edges = [
        json!(0),
        json!(-1),
        json!(1),
        json!(2),
        json!(3),
        json!(24),
        json!(-0.0),
        json!(0.5),
        json!(1e308),
        json!(1e-45),
    ];
    let far =
        [json!(i64::MIN), json!(i64::MAX), json!(u64::MAX), json!(1 << 20), json!(-1e308), json!(2_147_483_648_u32)];
    prop_oneof![3 => select(edges.to_vec()), 1 => select(far.to_vec())]
}

fn word() -> impl Strategy<Value = Value> {
    let sites = [
        "logits",
        "logits[:, -1]",
        "layers.0.output",
        "layers[-1].output[0, 1:]",
        "layers.*.output",
        "layers.1.self_attn.probs",
        "layers.1.self_attn.scores[..., -1]",
        "layers.2.mlp.neurons",
        "layers.[0, 2].attn_add",
        "embed_tokens.output[:, ::-1]",
        "next_token_probs",
        "ln_final.input[None]",
        "layers.0.self_attn.z[:, [0, 1]]",
        "layers.0.output[5:2]",
        "layers_output[1]",
        "layers.0.self_attn.heads",
        "logits[:, [0, 0], 1]",
        "lm_head.output[:, -2:]",
    ];
    let others = [
        "$a",
        "$b",
        "@joy",
        "@joy[1:]",
        "@many.k",
        "NaN",
        "Infinity",
        "-Infinity",
        "",
        "f32",
        "i64",
        "bool",
        "x",
        "ij,jk->ik",
        "[",
        "tanh",
    ];
    prop_oneof![4 => select(sites.to_vec()), 1 => select(others.to_vec())].prop_map(Value::from)
}

fn value() -> impl Strategy<Value = Value> {
    let literal = prop_oneof![
        Just(json!({"dtype": "f32", "shape": [2, 0, 3], "data": []})),
        Just(json!({"dtype": "f16", "data": [1.0, 65504.0, "NaN"]})),
        Just(json!({"dtype": "i64", "data": [[1, 2], [3, 4]]})),
        Just(json!({"dtype": "u8", "data": [0, 255]})),
        Just(json!([true, false])),
        Just(json!(vec![0.5; 24])),
        Just(json!([[[1.0], [2.0]]])),
    ];
    let leaf = prop_oneof![6 => number(), 10 => word(), 4 => literal, 1 => Just(json!(true)), 1 => Just(Value::Null)];
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![9 => node(inner.clone().boxed()), 1 => prop::collection::vec(inner, 0..3).prop_map(Value::Array)]
    })
}

/// Operations by how many values they take.
const ONE: &[&str] = &[
    "neg",
    "abs",
    "sqrt",
    "rsqrt",
    "exp",
    "log",
    "sin",
    "cos",
    "tanh",
    "sigmoid",
    "relu",
    "gelu",
    "silu",
    "clamp",
    "floor",
    "round",
    "sign",
    "sum",
    "mean",
    "std",
    "norm",
    "max",
    "min",
    "argmax",
    "argmin",
    "prod",
    "sort",
    "logical_not",
    "squeeze",
    "detach",
    "tril",
    "triu",
    "project_on_vocab",
    "zeros",
    "ones",
    "eye",
    "arange",
    "randn",
    "cat",
    "stack",
];
const TWO: &[&str] = &[
    "add",
    "sub",
    "mul",
    "div",
    "pow",
    "maximum",
    "minimum",
    "matmul",
    "dot",
    "outer",
    "cosine_similarity",
    "cross_entropy",
    "kl_div",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "logical_and",
    "logical_or",
    "softmax",
    "log_softmax",
    "logsumexp",
    "cumsum",
    "topk",
    "unsqueeze",
    "reshape",
    "permute",
    "expand",
    "repeat",
    "flip",
    "full",
    "one_hot",
    "cast",
    "sum",
    "mean",
    "einsum",
];
const THREE: &[&str] = &[
    "where",
    "transpose",
    "index_select",
    "gather",
    "masked_fill",
    "split",
    "einsum",
    "sum",
    "clamp",
    "grad",
    "call",
    "add",
];

const FIELDS: &[&str] = &[
    "dim",
    "keepdim",
    "alpha",
    "min",
    "max",
    "k",
    "shape",
    "size",
    "dtype",
    "approximate",
    "rounding_mode",
    "other",
    "input",
    "index",
    "start",
    "end",
    "step",
    "n",
    "m",
    "seed",
    "diagonal",
    "offset",
    "equation",
    "repeats",
    "dims",
    "module",
    "of",
    "wrt",
    "sizes",
    "num_classes",
    "value",
    "correction",
    "p",
    "descending",
    "largest",
    "dim0",
    "dim1",
    "target",
    "split_size",
];

fn node(value: BoxedStrategy<Value>) -> impl Strategy<Value = Value> {
    let of = |ops: &'static [&'static str], count: usize| (select(ops), prop::collection::vec(value.clone(), count));
    let called = prop_oneof![4 => of(ONE, 1), 5 => of(TWO, 2), 1 => of(THREE, 3), 1 => of(THREE, 0)];
    let field = (select(FIELDS), value.clone());
    let fields = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(field, 1..3)];
    (called, fields).prop_map(|((op, args), fields)| {
        let mut node = Map::from_iter([("op".to_owned(), json!(op)), ("args".to_owned(), json!(args))]);
        node.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Value::Object(node)
    })
}

/// Nodes of a graph, most of which are of the right form.
fn statement() -> impl Strategy<Value = Value> {
    let target = word();
    prop_oneof![
        12 => (value(), select(vec!["v", "w", "x", "y", "z"])).prop_map(|(value, name)| json!({"op": "save", "value": value, "as": name})),
        1 => value().prop_map(|value| json!({"op": "save", "value": value, "to": "@kept"})),
        1 => value().prop_map(|value| json!({"op": "top_tokens", "value": value, "k": 2, "as": "top"})),
        3 => (target, value()).prop_map(|(target, value)| json!({"op": "set", "target": target, "value": value})),
        1 => (number(), value(), value()).prop_map(|(layers, vector, factor)| {
            json!({"op": "steer", "layers": layers, "vector": vector, "factor": factor})
        }),
        1 => (number(), number()).prop_map(|(first, last)| json!({"op": "skip", "layers": [first, last]})),
        1 => node(value().boxed()).prop_map(|mut node| {
            node["id"] = json!("a");
            node
        }),
    ]
}

fn input() -> impl Strategy<Value = Value> {
    select(vec![
        json!([[1, 2, 3]]),
        json!([[5, 6], [7, 8, 9, 10]]),
        json!([[1]]),
        json!([[4, 4], [5, 5]]),
        json!("the cat"),
    ])
}

#[test]
fn graphs() {
    let runtime = Runtime::new().unwrap();
    let calm = runtime.block_on(Calm::start(&["--max-peak-bytes", "100000000"]));
    runtime.block_on(calm.server.put("/v1/tensors/joy", &json!(vec![0.25; 24])));
    runtime.block_on(calm.server.put("/v1/tensors/many", &json!({"k": [[1.0, 2.0]], "l": 3})));
    let bodies = (input(), prop::collection::vec(statement(), 1..4))
        .prop_map(|(input, graph)| json!({"input": input, "graph": graph}));
    let ran = Cell::new(0);
    let outcome = runner().run(&bodies, |body| {
        let bytes = body.to_string().into_bytes();
        let (promised, found) = runtime.block_on(async {
            let promised = send(&calm, Method::POST, "/v1/validate", bytes.clone()).await?;
            Ok::<_, TestCaseError>((promised, send(&calm, Method::POST, "/v1/trace", bytes).await?))
        })?;
        if std::env::var_os("PATCHBAY_SHOW").is_some() {
            println!("{} {} {}", found.0, found.1["code"], found.1["detail"]);
        }
        if promised.0 != 200 {
            prop_assert_eq!(promised, found, "trace and validate refuse alike");
            return Ok(());
        }
        prop_assert_eq!(found.0, 200, "what validates runs: {}", found.1);
        ran.set(ran.get() + 1);
        for (name, planned) in promised.1["results"].as_object().unwrap() {
            let result = &found.1["results"][name];
            let same = planned.get("top_tokens").is_some()
                || (&planned["shape"], &planned["dtype"], planned.get("lengths"))
                    == (&result["shape"], &result["dtype"], result.get("lengths"));
            prop_assert!(same, "{}: promised {}, found {}", name, planned, result);
        }
        Ok(())
    });
    outcome.unwrap();
    println!("{} graphs ran", ran.get());
    assert!(ran.get() > 10, "hardly one of the graphs was right");
    runtime.block_on(calm.still());
}

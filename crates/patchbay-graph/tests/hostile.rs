//! Nothing that a request can hold panics or takes long.

mod common;

use std::time::Duration;

use common::{plan, plan_body};
use cpu_time::ThreadTime;
use patchbay_graph::index::Index;
use patchbay_graph::ops::{self, Kind, Param};
use patchbay_graph::path::SitePath;
use patchbay_graph::{Code, Problem, Request};
use proptest::prelude::*;
use serde_json::{Value, json};

/// What every answer has to come within, on a busy machine and without optimisation.
const LONG: Duration = Duration::from_secs(5);

#[track_caller]
fn refused_soon(graph: Value) -> Problem {
    let start = ThreadTime::now();
    let problem = plan(graph).expect_err("it is too much");
    assert!(start.elapsed() < LONG, "{problem} after {:?}", start.elapsed());
    assert!(problem.detail.len() < 4096, "the answer is brief: {} bytes", problem.detail.len());
    problem
}

#[track_caller]
fn taken_soon(graph: Value) -> patchbay_graph::Plan {
    let start = ThreadTime::now();
    let plan = plan(graph);
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
    plan.unwrap_or_else(|problem| panic!("{problem}"))
}

fn save(value: Value) -> Value {
    json!({"op": "save", "value": value, "as": "x"})
}

/// A request that uses most of the language, to be spoiled.
fn valid() -> Value {
    json!({
        "model": "m",
        "inputs": {"clean": ["The capital of France", [1, 2]], "corrupt": {"text": ["a b", "c"]}},
        "output": {"encoding": "json", "dtype": "f32"},
        "graph": [
            {"op": "steer", "layers": [0, -1], "vector": "@joy", "factor": 2.5, "tokens": "-1", "rows": [0], "input": "clean"},
            {"op": "set", "target": "corrupt/layers.1.output[:, -1]", "value": "clean/layers.0.output[:, -1]"},
            {"op": "skip", "layers": [2, 2], "input": "corrupt"},
            {"id": "p", "op": "softmax", "args": [{"op": "add", "args": ["corrupt/logits[..., [0, 3]]", 1]}, -1]},
            {"op": "save", "value": "$p[0]", "as": "probs", "to": "@kept"},
            {"id": "s", "op": "topk", "args": [{"op": "reshape", "args": ["@joy", 2, 4]}, 2], "largest": false},
            {"op": "save", "value": {"op": "cat", "args": [["$s", "$s.values"], 1]}, "as": "cat"},
            {"op": "save", "value": {"op": "einsum", "args": ["i,j->ij", "@joy", "@joy"]}, "as": "outer"},
            {"op": "save", "value": {"op": "gather", "args": ["@joy", 0, [0, 1]]}, "as": "gathered"},
            {"op": "save", "value": {"op": "full", "args": [[2, 3], 1.5], "dtype": "f16"}, "as": "full"},
            {"op": "save", "value": {"op": "split", "args": ["@joy", [3, 5], 0], "out": 1}, "as": "part"},
            {"op": "save", "value": {"op": "sum", "args": ["clean/layers.*.mlp.up", 3], "keepdim": true}, "as": "ups"},
            {"op": "top_tokens", "value": {"op": "project_on_vocab", "args": ["clean/layers.3.output"]}, "k": 2, "as": "t"},
        ],
    })
}

/// Values that programs forget about.
fn spoiled() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        Just(json!(i64::MIN)),
        Just(json!(i64::MAX)),
        Just(json!(u64::MAX)),
        Just(json!(f64::MAX)),
        Just(json!(-0.0)),
        any::<i16>().prop_map(|n| json!(n)),
    ];
    let ends = || prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(0), -9i64..9];
    let index = (ends(), ends(), ends(), ends()).prop_map(|(a, b, c, d)| format!("[{a}:{b}:{c}, {d}]"));
    let text = prop_oneof![
        index.clone().prop_map(|index| format!("clean/layers.0.output{index}")),
        index.clone().prop_map(|index| format!("$p{index}")),
        index.prop_map(|index| format!("@joy{index}")),
        ends().prop_map(|layer| format!("layers[{layer}].output")),
        "[\\PC]{0,12}",
        "(clean/)?(layers|layers_output|logits|\\$p|@joy)?[\\[\\]\\.\\*,:'\"0-9é -]{0,12}",
    ];
    let leaf = prop_oneof![number.clone(), text.prop_map(Value::from), Just(Value::Null), Just(json!(true))];
    leaf.prop_recursive(3, 8, 3, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"op": "mul", "args": [a, b]})),
            (inner.clone(), inner.clone())
                .prop_map(|(shape, data)| json!({"dtype": "i64", "shape": shape, "data": data})),
            inner.prop_map(|b64| json!({"dtype": "f16", "shape": [u32::MAX, u32::MAX, 2], "b64": b64})),
        ]
    })
}

/// Every place of a value, as JSON pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| places(item, &format!("{at}/{i}"), found));
        }
        Value::Object(fields) => fields.iter().for_each(|(key, item)| places(item, &format!("{at}/{key}"), found)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn spoiled_requests_are_answered(spoils in prop::collection::vec((any::<prop::sample::Index>(), spoiled()), 1..4)) {
        let mut body = valid();
        for (which, spoil) in spoils {
            let mut found = Vec::new();
            places(&body, "", &mut found);
            if let Some(place) = body.pointer_mut(which.get(&found).as_str()) {
                *place = spoil;
            }
        }
        if let Err(problem) = plan_body(&body) {
            // what is absent is pointed to by the object that lacks it
            prop_assert!(body.pointer(&problem.pointer).is_some(), "{} points nowhere in {}", problem, body);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,20}", sites in "[layers_outpi.\\[\\]\\*0-9,é'-]{0,20}") {
        for text in [&text, &sites] {
            let _ = Index::parse(text);
            let _ = Index::parse(&format!("[{text}"));
            let _ = SitePath::parse(text);
            let _ = plan(json!([save(json!(text))]));
            let _ = Request::parse(&json!({"input": text, "graph": text}));
        }
    }
}

#[test]
fn the_request_that_is_spoiled_is_right() {
    plan_body(&valid()).unwrap();
}

#[test]
fn long_chains_of_nodes() {
    let chain = |count: usize, op: &str| {
        let mut graph = vec![save(json!("$n0"))];
        graph.extend((0..count).map(|i| {
            let next = if i + 1 == count { json!("layers.0.output[:, 0, 0]") } else { json!(format!("$n{}", i + 1)) };
            json!({"id": format!("n{i}"), "op": op, "args": if op == "add" { json!([next, next]) } else { json!([next]) }})
        }));
        json!(graph)
    };
    assert_eq!(taken_soon(chain(4095, "neg")).values.len(), 4096);
    taken_soon(chain(4095, "add"));
    assert_eq!(refused_soon(chain(4096, "neg")).code, Code::TooLarge);
    // at the end of the chain a value that would have to flow backwards
    let mut backward = chain(4094, "add");
    backward[0] = json!({"op": "set", "target": "embed_tokens.output", "value": "$n0"});
    backward.as_array_mut().unwrap().push(save(json!("logits")));
    assert_eq!(refused_soon(backward).code, Code::BackwardFlow);
}

#[test]
fn giant_tensors() {
    let node = |op: &str, args: Value| json!([save(json!({"op": op, "args": args}))]);
    let big = i64::MAX;
    let many = 1u64 << 33;
    let long = vec![0.5; 600];
    let flat = vec![[0.5; 2]; 8];
    for (op, args) in [
        ("zeros", json!([big])),
        ("zeros", json!([[1 << 20, 1 << 20, 1 << 20, 1 << 20]])),
        ("zeros", json!([0, big, big, 16])),
        ("ones", json!(vec![1; 17])),
        ("zeros", json!(vec![1; 100_000])),
        ("full", json!([[many], 1])),
        ("eye", json!([big])),
        ("eye", json!([1, many])),
        ("arange", json!([1e300])),
        ("arange", json!([i64::MIN, big])),
        ("arange", json!([0, 1, 1e-300])),
        ("one_hot", json!([[0], big])),
        ("expand", json!(["@joy", big, big, 8])),
        ("expand", json!([1, vec![1; 100_000]])),
        ("repeat", json!(["@joy", big])),
        ("repeat", json!(["@joy", 1 << 30, 1 << 30, 1 << 30])),
        ("reshape", json!(["@joy", 0, big, big])),
        ("reshape", json!(["@joy", -1, big, big])),
        ("einsum", json!(["a,b,c,d->abcd", long, long, long, long])),
        ("einsum", json!([",".repeat(5000), 1.0])),
        ("outer", json!([{"op": "zeros", "args": [1 << 20]}, {"op": "zeros", "args": [1 << 20]}])),
        ("split", json!([{"op": "zeros", "args": [1 << 20]}, 1])),
        ("split", json!(["@joy", i64::MIN])),
        ("split", json!(["@joy", vec![0; 70_000]])),
        ("split", json!(["@joy", [big, big, 10]])),
        ("unsqueeze", json!(["@joy", i64::MIN])),
        ("flip", json!(["@joy", i64::MIN])),
        ("permute", json!(["@joy", i64::MIN])),
        ("transpose", json!(["@joy", i64::MIN, big])),
        ("index_select", json!(["@joy", i64::MIN, [0]])),
        ("topk", json!(["@joy", big])),
        ("topk", json!(["@joy", i64::MIN])),
        ("round", json!([1.5])),
    ] {
        if op == "round" {
            refused_soon(json!([save(json!({"op": op, "args": args, "decimals": i64::MIN}))]));
        } else {
            refused_soon(node(op, args));
        }
    }
    // the result is small, and what lies on the way is not
    let wide = json!({"op": "zeros", "args": [1, 1 << 15]});
    let tall = json!({"op": "zeros", "args": [1 << 15, 1]});
    let through = json!(["ab,bc,ad,dc->ac", wide, tall, wide, tall]);
    taken_soon(node("einsum", through));
    let large = json!({"op": "zeros", "args": [1 << 28, 2]});
    refused_soon(node("einsum", json!(["ai,bi,ci->abc", flat, flat, large])));
    taken_soon(node("tril", json!([[[1]], i64::MIN])));
    taken_soon(node("einsum", json!([vec!["a"; 64].join(","), vec!["@joy"; 64]])));
    refused_soon(node("einsum", json!([vec!["a"; 65].join(","), vec!["@joy"; 65]])));
    refused_soon(node("einsum", json!([vec!["a"; 4000].join(","), vec!["@joy"; 4000]])));
    taken_soon(node("cat", json!([vec!["@joy"; 4000]])));
}

#[test]
fn deep_nesting() {
    let nest = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!({"op": "neg", "args": [inner]}));
    taken_soon(json!([save(nest(64))]));
    assert_eq!(refused_soon(json!([save(nest(65))])).code, Code::TooLarge);
    assert_eq!(refused_soon(json!([save((0..100).fold(json!(1), |inner, _| json!([inner])))])).code, Code::TooLarge);
}

#[test]
fn giant_names_and_lists() {
    let name = "n".repeat(200_000);
    refused_soon(
        json!([save(json!(format!("${name}"))), {"op": "neg", "args": [1], "id": name.replacen('n', "m", 1)}]),
    );
    refused_soon(json!([save(json!(name))]));
    refused_soon(json!([{"op": name, "args": []}]));
    refused_soon(json!([{"op": "neg", name: 1, "args": [1]}]));
    let list = |count: usize| format!("[{}]", vec!["0"; count].join(","));
    refused_soon(json!([save(json!(format!("layers.{}.output", list(100_000))))]));
    refused_soon(json!([save(json!(format!("logits[:, {}]", list(100_000))))]));
    refused_soon(json!([save(json!(format!("layers.{}.output[:, {}]", list(1000), list(60_000))))]));
    refused_soon(json!([save(json!(format!("logits[:, [{}]]", vec!["'a'"; 65].join(","))))]));
    refused_soon(json!([save(json!(format!("logits[{}]", vec!["None"; 14].join(","))))]));
    let steer = json!({"op": "steer", "layers": vec![0; 70_000], "vector": "@joy"});
    refused_soon(json!([steer, save(json!("logits"))]));
}

/// Every number of every operation is one that programs forget about.
#[test]
fn odd_numbers_for_every_operation() {
    let odd = [
        json!("NaN"),
        json!("Infinity"),
        json!("-Infinity"),
        json!(1e308),
        json!(5e-324),
        json!(i64::MIN),
        json!(u64::MAX),
    ];
    let mut answered = 0;
    for spec in ops::all() {
        let value = |param: &Param, odd: &Value| match param.kind {
            Kind::Tensor => json!("@joy"),
            Kind::Tensors => json!(["@joy", odd]),
            Kind::Ints | Kind::Axes | Kind::Sections => json!([odd, odd]),
            Kind::Text => json!("i,i->i"),
            Kind::Word(words) => json!(words[0]),
            Kind::Type => json!("i64"),
            Kind::Flag => json!(true),
            Kind::Axis | Kind::Int | Kind::Number | Kind::Order | Kind::Scalar => odd.clone(),
        };
        for odd in &odd {
            let mut node = json!({"op": spec.name});
            spec.params.iter().for_each(|param| node[param.name] = value(param, odd));
            // as values, and as every other argument
            let values = json!({"op": spec.name, "args": [odd, odd]});
            for node in [node, values] {
                let start = ThreadTime::now();
                let problem = plan(json!([save(node.clone())])).err();
                assert!(start.elapsed() < LONG, "{node}: {:?}", start.elapsed());
                assert!(problem.is_none_or(|problem| problem.pointer.starts_with("/graph/0")), "{node}");
                answered += 1;
            }
        }
    }
    assert!(answered > 1000);
    // what no whole number can be
    for dtype in ["i64", "u8", "bool"] {
        refused_soon(json!([save(json!({"dtype": dtype, "data": ["NaN"]}))]));
        refused_soon(json!([save(json!({"dtype": dtype, "data": ["-Infinity"]}))]));
    }
}

#[test]
fn wildcards_in_each_other() {
    for text in [
        "layers.*.*.output",
        "layers.*.layers.*.output",
        "layers.*",
        "layers.*.self_attn.*",
        "*",
        "layers.[0,*].output",
        "clean/*/logits",
        "weights.layers.*.*",
        "weights.*.W_O",
    ] {
        assert_eq!(refused_soon(json!([save(json!(text))])).pointer, "/graph/0/value", "{text}");
    }
    // each is four reads, and four times four values stacked
    let many = json!({"op": "stack", "args": vec!["layers.*.output[:, 0, 0]"; 10_000]});
    taken_soon(json!([save(many)]));
    let more = json!({"op": "stack", "args": vec!["layers.*.output[:, 0, 0]"; 20_000]});
    assert_eq!(refused_soon(json!([save(more)])).code, Code::TooLarge);
    let repeated = format!("layers.[{}].output[:, 0, 0]", vec!["-1"; 1024].join(","));
    taken_soon(json!([save(json!(repeated))]));
}

#[test]
fn numbers_at_the_ends_of_their_types() {
    for index in ["[:, -9223372036854775808]", "[:, 9223372036854775807]"] {
        assert_eq!(refused_soon(json!([save(json!(format!("logits{index}")))])).code, Code::IndexOutOfRange);
    }
    let slice = "logits[:, 9223372036854775807:-9223372036854775808:-9223372036854775808]";
    assert_eq!(taken_soon(json!([save(json!(slice))])).values[0].shape.dims, [1, 1, 11]);
    for value in [
        json!({"dtype": "f32", "shape": [0, u64::MAX, 16], "data": []}),
        json!({"dtype": "f32", "shape": [u64::MAX], "b64": ""}),
    ] {
        refused_soon(json!([save(value)]));
    }
    for graph in [
        json!([{"op": "top_tokens", "value": "logits", "k": u64::MAX, "as": "x"}]),
        json!([{"op": "skip", "layers": [i64::MIN, i64::MAX]}, save(json!("logits"))]),
        json!([{"op": "steer", "layers": i64::MIN, "vector": "@joy"}, save(json!("logits"))]),
        json!([save(json!({"op": "sum", "args": ["logits", i64::MIN]}))]),
        json!([save(json!({"op": "softmax", "args": ["logits", i64::MAX]}))]),
    ] {
        refused_soon(graph);
    }
}

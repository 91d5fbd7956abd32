//! A graph that is written out and read again is the same graph.

use patchbay_graph::node::Node;
use patchbay_graph::text::{TextGraph, print};
use patchbay_graph::{Problem, Request};
use proptest::prelude::*;
use serde_json::{Value, json};

fn index() -> impl Strategy<Value = String> {
    let end = prop_oneof![Just(String::new()), any::<i64>().prop_map(|end| end.to_string())];
    let text = "[a-z \\[\\],:/'\"\\\\é\n]{0,6}"
        .prop_map(|text| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")));
    let coord = prop_oneof![any::<i64>().prop_map(|place| place.to_string()), text];
    let item = prop_oneof![
        coord.clone(),
        Just("None".to_owned()),
        (end.clone(), end, 1i64..9).prop_map(|(start, stop, step)| format!("{start} : {stop}:{step}")),
        prop::collection::vec(coord, 0..4).prop_map(|coords| format!("[{}]", coords.join(","))),
    ];
    (prop::collection::vec(item, 1..4), any::<bool>()).prop_map(|(mut items, dots)| {
        if dots {
            items.push("...".into());
        }
        format!("[{}]", items.join(", "))
    })
}

fn site() -> impl Strategy<Value = String> {
    let layer = prop_oneof![
        Just("layers.*.".to_owned()),
        any::<i8>().prop_map(|layer| format!("layers[{layer}].")),
        any::<i8>().prop_map(|layer| format!("layers.[{layer}].")),
        (any::<i8>(), any::<i8>()).prop_map(|(a, b)| format!("layers.[{a},{b}].")),
        Just(String::new()),
    ];
    let name = prop_oneof![Just("output"), Just("self_attn.probs"), Just("logits"), Just("é")];
    let alias = any::<i8>().prop_map(|layer| format!("attention_probabilities[{layer}]"));
    let path = prop_oneof![4 => (layer, name).prop_map(|(layer, name)| format!("{layer}{name}")), 1 => alias];
    let input = prop_oneof![Just(""), Just("clean/"), Just("é-1/")];
    (input, path, prop::option::of(index()))
        .prop_map(|(input, path, index)| format!("{input}{path}{}", index.unwrap_or_default()))
}

fn literal() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-1000i64..1000).prop_map(|number| json!(number)),
        (-1e9f64..1e9).prop_map(|number| json!(number)),
        any::<bool>().prop_map(|flag| json!(flag)),
        Just(json!("-Infinity")),
        Just(json!([[1, 2.5], [-3, "Infinity"]])),
        Just(json!([[], []])),
        Just(json!({"dtype": "u8", "shape": [2, 1], "data": [7, 255]})),
        Just(json!({"dtype": "bf16", "shape": [1], "b64": "wD8="})),
        Just(json!({"shape": [0, 3], "data": []})),
    ]
}

fn operand() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        literal(),
        site().prop_map(Value::from),
        ("[a-zé]{1,3}(\\.(values|indices|0|7))?", prop::option::of(index()))
            .prop_map(|(id, at)| json!(format!("${id}{}", at.unwrap_or_default()))),
        ("@[a-z]{1,3}(\\.[a-z.]{1,4})?", prop::option::of(index()))
            .prop_map(|(name, at)| json!(format!("{name}{}", at.unwrap_or_default()))),
    ];
    leaf.prop_recursive(4, 16, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"op": "sub", "args": [a, b], "alpha": 2})),
            inner.clone().prop_map(|a| json!({"op": "softmax", "input": a, "dim": -1})),
            inner.clone().prop_map(|a| json!({"op": "sum", "args": [a, [0, -1], true]})),
            inner.clone().prop_map(|a| json!({"op": "clamp", "args": [a], "min": -0.5, "max": null})),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"op": "div", "args": [a, b, "floor"]})),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"op": "cat", "args": [[a, b], -1]})),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"op": "stack", "args": [a, b, "$x"], "dim": 1})),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"op": "einsum", "args": ["i,i", a, b, "$x"]})),
            inner.clone().prop_map(|a| json!({"op": "einsum", "equation": "ii", "operands": [a]})),
            inner.clone().prop_map(|a| json!({"op": "reshape", "args": [a, 2, -1]})),
            inner.clone().prop_map(|a| json!({"op": "topk", "args": [a, 3], "largest": false, "out": "indices"})),
            inner.clone().prop_map(|a| json!({"op": "split", "args": [a, [1, 2], 0], "out": 1})),
            inner.clone().prop_map(|a| json!({"op": "split", "args": [a, 2], "axis": -1})),
            inner.clone().prop_map(|a| json!({"op": "norm", "args": [a, "-Infinity"], "dim": [0]})),
            inner.clone().prop_map(|a| json!({"op": "norm", "args": [a, "fro"], "keepdims": true})),
            inner.clone().prop_map(|a| json!({"op": "cast", "args": [a, "bf16"]})),
            inner.clone().prop_map(|a| json!({"op": "max", "args": [a, "$x"]})),
            Just(json!({"op": "full", "args": [[2, 3], "Infinity"], "dtype": "f64"})),
            Just(json!({"op": "full", "args": [[], false]})),
            Just(json!({"op": "arange", "args": [0, 1.0, 0.25]})),
            Just(json!({"op": "randn", "args": [2, 3], "seed": i64::MIN})),
            inner.prop_map(|a| json!({"op": "project_on_vocab", "args": [a], "output_transform": true})),
        ]
    })
}

fn node() -> impl Strategy<Value = Value> {
    let places = || {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(|place| json!(place)),
            Just(json!([0, " Fr'ance\\", -1])),
            Just(json!("2:-1:3")),
            Just(json!("[1, ' x']")),
            Just(json!("'é'")),
        ]
    };
    prop_oneof![
        (operand(), "[a-z]{1,3}").prop_map(|(value, name)| json!({"op": "save", "value": value, "as": name})),
        operand().prop_map(|value| json!({"op": "save", "value": value, "to": "@kept", "id": "é"})),
        (site(), operand()).prop_map(|(target, value)| json!({"op": "set", "target": target, "value": value})),
        (operand(), operand(), places(), places()).prop_map(|(vector, factor, tokens, rows)| {
            json!({"op": "steer", "layers": [1, -2], "vector": vector, "factor": factor, "tokens": tokens, "rows": rows,
                   "input": "clean", "site": "resid_mid"})
        }),
        operand().prop_map(|with| json!({"op": "skip", "layers": [1, 3], "with": with})),
        Just(json!({"op": "skip", "layers": -1, "input": "clean"})),
        operand().prop_map(|value| json!({"op": "call", "module": "layers.5.mlp", "args": [value], "id": "logits"})),
        (operand(), site()).prop_map(|(of, wrt)| json!({"op": "grad", "of": of, "wrt": wrt, "id": "abc"})),
        (operand(), prop::collection::vec(site(), 1..4))
            .prop_map(|(of, wrt)| json!({"op": "grad", "of": of, "wrt": wrt})),
        (operand(), 0usize..9).prop_map(|(value, k)| json!({"op": "top_tokens", "value": value, "k": k, "as": "t"})),
        operand(),
    ]
    .prop_filter("operands that are no nodes", Value::is_object)
    .prop_filter("tensors are no nodes", |node| node.get("op").is_some())
}

fn parse(graph: &Value) -> Result<Vec<Node>, Problem> {
    Request::parse(&json!({"input": "x", "graph": graph})).map(|request| request.graph)
}

fn write(graph: &[Node]) -> Value {
    graph.iter().map(Node::to_json).collect()
}

proptest! {
    #[test]
    fn what_is_written_reads_back(graph in prop::collection::vec(node(), 1..5)) {
        let graph = Value::Array(graph);
        let first = parse(&graph).unwrap_or_else(|problem| panic!("{graph}: {problem}"));
        let written = write(&first);
        let second = parse(&written).unwrap_or_else(|problem| panic!("{written}: {problem}"));
        prop_assert_eq!(&write(&second), &written);
        // written out, arguments stand under their names: from there on the places are equal too
        prop_assert_eq!(&parse(&write(&second)).unwrap(), &second);
        for (first, second) in first.iter().zip(&second) {
            prop_assert_eq!((&first.id, first.op()), (&second.id, second.op()));
        }
    }

    #[test]
    fn the_text_form_says_the_same(graph in prop::collection::vec(node(), 1..5)) {
        let written: Vec<Value> = write(&parse(&json!(graph)).unwrap()).as_array().unwrap().clone();
        for nodes in [graph, written] {
            let text = print(&nodes).unwrap();
            let read = TextGraph::parse(&text).unwrap_or_else(|problem| panic!("{text}{problem}"));
            prop_assert_eq!(&read.nodes, &nodes, "{}", text);
            prop_assert_eq!(&print(&read.nodes).unwrap(), &text);
            prop_assert_eq!(parse(&json!(text)).unwrap(), parse(&json!(nodes)).unwrap());
        }
    }
}

#[test]
fn aliases_are_written_by_their_names() {
    for (given, written) in [
        ("layers_output[-1][:, -1]", "layers.-1.output[:, -1]"),
        ("clean/mlps_input[2]", "clean/layers.2.mlp.input"),
        ("layers[5].output", "layers.5.output"),
        ("layers.[3,9].output", "layers.[3, 9].output"),
        ("layers.[3].output", "layers.[3].output"),
        ("layers[*].output", "layers.*.output"),
        ("logits[ 0 , 2 : 5 ]", "logits[0, 2:5]"),
        ("logits[:, \"it's\"]", "logits[:, 'it\\'s']"),
    ] {
        let graph = parse(&json!([{"op": "save", "value": given, "as": "x"}])).unwrap();
        assert_eq!(write(&graph), json!([{"op": "save", "value": written, "as": "x"}]));
    }
}

//! The text form: what its lines mean, and that it says the same as the JSON.

use patchbay_graph::Request;
use patchbay_graph::text::{TextGraph, print};

use proptest::prelude::*;
use serde_json::{Value, json};

/// The only node of a text.
#[track_caller]
fn node(text: &str) -> Value {
    let mut nodes = TextGraph::parse(text).unwrap_or_else(|problem| panic!("{problem}")).nodes;
    assert_eq!(nodes.len(), 1, "{text}");
    nodes.remove(0)
}

/// A text means this node, and is written from it as it stands here.
#[track_caller]
fn same(text: &str, json: Value) {
    assert_eq!(node(text), json);
    assert_eq!(print(&[json]).as_deref(), Ok(format!("{text}\n").as_str()));
}

/// A text means this node, which is written otherwise.
#[track_caller]
fn reads(text: &str, json: Value, written: &str) {
    assert_eq!(node(text), json);
    same(written, json);
}

#[test]
fn lines() {
    same(
        "layers[10].output[:, -1] += 0.5 * @joy",
        json!({"op": "set", "target": "layers[10].output[:, -1]", "value": {"op": "add", "args": [
            "layers[10].output[:, -1]", {"op": "mul", "args": [0.5, "@joy"]}]}}),
    );
    same("save logits[:, -1] as x", json!({"op": "save", "value": "logits[:, -1]", "as": "x"}));
    same(
        "save layers.*.self_attn.probs[0, :, -1] as looks_at",
        json!({"op": "save", "value": "layers.*.self_attn.probs[0, :, -1]", "as": "looks_at"}),
    );
    same("p = softmax(logits[:, -1], -1)", json!({"op": "softmax", "id": "p", "args": ["logits[:, -1]", -1]}));
    same(
        "save layers.[3,9].output as \"two layers\" to @kept-1",
        json!({"op": "save", "value": "layers.[3,9].output", "as": "two layers", "to": "@kept-1"}),
    );
    same(
        "steer layers=[5, 10] vector=@joy factor=0.5 tokens=[1, -1] input=\"clean\"",
        json!({"op": "steer", "layers": [5, 10], "vector": "@joy", "factor": 0.5, "tokens": [1, -1], "input": "clean"}),
    );
    same(
        "skip layers=[10, 20] with=layers.3.output",
        json!({"op": "skip", "layers": [10, 20], "with": "layers.3.output"}),
    );
    same(
        "top_tokens(logits[:, -1], k=3) as next",
        json!({"op": "top_tokens", "value": "logits[:, -1]", "k": 3, "as": "next"}),
    );
    same(
        "h = project_on_vocab(layers.-1.output, output_transform=true)",
        json!({"op": "project_on_vocab", "id": "h", "args": ["layers.-1.output"], "output_transform": true}),
    );
    same("logits[:, ' France'] = 0", json!({"op": "set", "target": "logits[:, ' France']", "value": 0}));
    same("logits *= 2", json!({"op": "set", "target": "logits", "value": {"op": "mul", "args": ["logits", 2]}}));
    same("\"clean-2/logits\" = 0", json!({"op": "set", "target": "clean-2/logits", "value": 0}));
    same(
        "logits = logits == 1",
        json!({"op": "set", "target": "logits", "value": {"op": "eq", "args": ["logits", 1]}}),
    );
    same(
        "logits = 0 id=\"s\" steps={\"from\": 0, \"to\": 3}",
        json!({"op": "set", "target": "logits", "value": 0, "id": "s", "steps": {"from": 0, "to": 3}}),
    );
    same("clean/layers.5.output[0] + 1", json!({"op": "add", "args": ["clean/layers.5.output[0]", 1]}));
    same("{\"op\": 5}", json!({"op": 5}));
    same(r"logits[:, 'it\'s ]'] = 0", json!({"op": "set", "target": r"logits[:, 'it\'s ]']", "value": 0}));
    same("(save(1, as=\"x\") + 1)", json!({"op": "add", "args": [{"op": "save", "value": 1, "as": "x"}, 1]}));
    same(
        "(save(1, as=\"x\") + 1 + 2)",
        json!({"op": "add", "args": [{"op": "add", "args": [
        {"op": "save", "value": 1, "as": "x"}, 1]}, 2]}),
    );
    same("save {layer} as h{layer}", json!({"op": "save", "value": "{layer}", "as": "h{layer}"}));
    same(
        "layers.{layer}.output[:, {pos}] = @v",
        json!({"op": "set", "target": "layers.{layer}.output[:, {pos}]", "value": "@v"}),
    );
}

#[test]
fn other_ways_to_write() {
    let saved = json!({"op": "save", "value": "logits", "as": "x"});
    for text in [
        "save logits as x",
        "  save\tlogits  as  x  # the whole of it\r\n\r\n",
        "# first\n\n\nsave(logits) as 'x'",
        "save (logits) as \"x\"",
        "save value=logits as=x",
        "save (\n  logits # within brackets a line goes on\n) as x",
        "{op: 'save', value: \"logits\", \"as\": 'x'}",
    ] {
        reads(text, saved.clone(), "save logits as x");
    }
    reads(
        "x = sum(\n  logits,\n  dim=[0, -1,],\n  keepdim=True\n)",
        json!({"op": "sum", "id": "x", "args": ["logits"], "dim": [0, -1], "keepdim": true}),
        "x = sum(logits, dim=[0, -1], keepdim=true)",
    );
    reads(
        "logits = logits + 1",
        json!({"op": "set", "target": "logits", "value": {"op": "add", "args": ["logits", 1]}}),
        "logits += 1",
    );
    reads("abs(1) steps=new", json!({"op": "abs", "args": [1], "steps": "new"}), "abs(1, steps=\"new\")");
    reads("div(1, 2, floor)", json!({"op": "div", "args": [1, 2, "floor"]}), "div(1, 2, \"floor\")");
    reads("1-2", json!({"op": "sub", "args": [1, 2]}), "1 - 2");
}

#[test]
fn names_of_values() {
    let text = "p = abs(1)\n$logits = p + logits\n$\"a b\" = p[0] - $logits\nsave \"$a b\" as p\n";
    let nodes = TextGraph::parse(text).unwrap().nodes;
    assert_eq!(
        nodes,
        [
            json!({"op": "abs", "args": [1], "id": "p"}),
            json!({"op": "add", "args": ["$p", "logits"], "id": "logits"}),
            json!({"op": "sub", "args": ["$p[0]", "$logits"], "id": "a b"}),
            json!({"op": "save", "value": "$a b", "as": "p"}),
        ]
    );
    assert_eq!(print(&nodes).unwrap(), text);
    // a name may be used before its line, stands for itself where a word is wanted, and does so in quotes
    let text = "save [q.indices, 1] as q\nsteer layers=1 vector=q input=\"q\"\nsave \"q\" as r\nq = topk(logits)\n";
    let nodes = TextGraph::parse(&text.replace("\"q\"\n", "q\n")).unwrap().nodes;
    assert_eq!(nodes[0]["value"], json!(["$q.indices", 1]));
    assert_eq!(nodes[1], json!({"op": "steer", "layers": 1, "vector": "$q", "input": "q"}));
    assert_eq!(nodes[2]["value"], json!("q"));
    assert_eq!(print(&nodes).unwrap(), text);
}

#[test]
fn signs() {
    let op = |op: &str, args: Value| json!({"op": op, "args": args});
    let (a, b, c) = (json!("@a"), json!("@b"), json!("@c"));
    same("@a - @b - @c", op("sub", json!([op("sub", json!([a, b])), c])));
    same("@a - (@b - @c)", op("sub", json!([a, op("sub", json!([b, c]))])));
    same("@a + @b * @c", op("add", json!([a, op("mul", json!([b, c]))])));
    same("(@a + @b) / @c", op("div", json!([op("add", json!([a, b])), c])));
    same("@a ** @b ** @c", op("pow", json!([a, op("pow", json!([b, c]))])));
    same("(@a ** @b) ** @c", op("pow", json!([op("pow", json!([a, b])), c])));
    same("-@a ** 2", op("neg", json!([op("pow", json!([a, 2]))])));
    same("(-@a) ** 2", op("pow", json!([op("neg", json!([a])), 2])));
    same("-2 ** 2", op("neg", json!([op("pow", json!([2, 2]))])));
    same("(-2) ** -2", op("pow", json!([-2, -2])));
    same("2 ** -@a * @b", op("mul", json!([op("pow", json!([2, op("neg", json!([a]))])), b])));
    same("-(@a * @b)", op("neg", json!([op("mul", json!([a, b]))])));
    same("-@a * @b", op("mul", json!([op("neg", json!([a])), b])));
    same("--@a", op("neg", json!([op("neg", json!([a]))])));
    same("neg(2)", op("neg", json!([2])));
    same("neg(-2)", op("neg", json!([-2])));
    same("@a - -1", op("sub", json!([a, -1])));
    same("-Infinity / -9223372036854775808", op("div", json!(["-Infinity", i64::MIN])));
    same("(-Infinity) ** NaN", op("pow", json!(["-Infinity", "NaN"])));
    same("(@a < @b) == (@b >= 1)", op("eq", json!([op("lt", json!([a, b])), op("ge", json!([b, 1]))])));
    same("@a / 2", op("div", json!([a, 2])));
    reads("@a/2", op("div", json!([a, 2])), "@a / 2");
    reads("clean/logits/2", op("div", json!(["clean/logits", 2])), "clean/logits / 2");
    reads(
        "layers.5.output/layers.4.output",
        op("div", json!(["layers.5.output", "layers.4.output"])),
        "layers.5.output / layers.4.output",
    );
    reads("-(5)+x-1", op("sub", json!([op("add", json!([-5, "x"])), 1])), "-5 + x - 1");
    same("-@joy-1", op("neg", json!(["@joy-1"])));
    reads("$p-1", op("sub", json!(["$p", 1])), "$p - 1");
}

#[test]
fn constants() {
    reads(
        "abs([True, false, NaN, -Infinity, 1.0, 1e3, None])",
        json!({"op": "abs", "args": [
        [true, false, "NaN", "-Infinity", 1.0, 1000.0, null]]}),
        "abs([true, false, NaN, -Infinity, 1.0, 1000.0, null])",
    );
    same("save \"true\" as 5", json!({"op": "save", "value": "true", "as": "5"}));
    same(
        "abs(tensor([[1, 2]], dtype=\"f32\", shape=[2]))",
        json!({"op": "abs", "args": [{"data": [[1, 2]], "dtype": "f32", "shape": [2]}]}),
    );
    same(
        "abs(tensor(b64=\"AADAPw==\", dtype=\"f32\", shape=[1]))",
        json!({"op": "abs", "args": [{"b64": "AADAPw==", "dtype": "f32", "shape": [1]}]}),
    );
    same("abs({}, {\"data\": 1, \"x\": \"logits\"})", json!({"op": "abs", "args": [{}, {"data": 1, "x": "logits"}]}));
    reads(
        r#"save '\u00e9\ud83d\ude00\'\n\/' as x"#,
        json!({"op": "save", "value": "é😀'\n/", "as": "x"}),
        r#"save "é😀'\n/" as x"#,
    );
}

#[test]
fn modules_gradients_and_weights() {
    same("g = grad(m, logits)", json!({"op": "grad", "id": "g", "of": "m", "wrt": "logits"}));
    same("grad([logits], x=\"logits\")", json!({"op": "grad", "of": ["logits"], "x": "logits"}));
    same("grad(wrt=[logits, weights.W_E])", json!({"op": "grad", "wrt": ["logits", "weights.W_E"]}));
    same("call(logits, module=\"layers.5.mlp\")", json!({"op": "call", "args": ["logits"], "module": "layers.5.mlp"}));
    same(
        "einsum(\"ij,jk->ik\", weights.layers.5.self_attn.o_proj, @b)",
        json!({"op": "einsum", "args": [
        "ij,jk->ik", "weights.layers.5.self_attn.o_proj", "@b"]}),
    );
    same("cat([logits, [1, 2], @b], 0)", json!({"op": "cat", "args": [["logits", [1, 2], "@b"], 0]}));
}

/// Any string, with a liking for those that mean something.
fn string() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "p",
        "q",
        "$p",
        "$q[0]",
        "$p.indices",
        "$",
        "@joy",
        "@joy-1.a[0]",
        "@",
        "logits",
        "save",
        "as",
        "to",
        "true",
        "NaN",
        "Infinity",
        "-Infinity",
        "{x}",
        "{",
        "p/logits",
        "clean/logits",
        "logits/p",
        "layers.*.output[:, ' a]\\'']",
        "tensor",
        "op",
        "args",
        "add",
        "layers",
        "weights.W_E",
        "x{y}z",
        "5",
        "-5",
        "é",
        "",
    ]);
    prop_oneof![3 => known.prop_map(String::from), 1 => "\\PC{0,8}", 1 => "[a-z$@.\\[\\]/{}'\"\\\\ \n\r\t#=-]{0,8}"]
}

/// Any JSON, with a liking for nodes.
fn any_json() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        string().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |x| x.is_finite()).prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
    ];
    let nested = leaf.prop_recursive(5, 40, 4, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from);
        let fields = prop::collection::vec((string(), inner.clone()), 0..3);
        let object = fields.prop_map(|fields| Value::Object(fields.into_iter().collect()));
        prop_oneof![1 => list, 1 => object, 4 => any_node(inner)]
    });
    nested.boxed()
}

fn any_node(inner: impl Strategy<Value = Value> + Clone) -> impl Strategy<Value = Value> {
    let op = prop::sample::select(vec![
        "add",
        "sub",
        "mul",
        "div",
        "pow",
        "neg",
        "eq",
        "lt",
        "softmax",
        "save",
        "set",
        "steer",
        "skip",
        "top_tokens",
        "grad",
        "tensor",
        "sum",
        "NaN",
        "é",
        "a b",
        "{x}",
        "true",
    ]);
    let field = prop::sample::select(vec![
        "id", "as", "to", "value", "target", "layers", "input", "dim", "other", "steps", "x y", "data", "é", "op",
    ]);
    let args = prop::option::of(prop::collection::vec(inner.clone(), 0..3));
    let fields = prop::collection::vec((field, prop_oneof![inner, string().prop_map(Value::from)]), 0..4);
    (op, args, fields).prop_map(|(op, args, fields)| {
        let mut node = json!({"op": op});
        args.into_iter().for_each(|args| node["args"] = json!(args));
        fields.into_iter().filter(|(key, _)| *key != "op").for_each(|(key, value)| node[key] = value);
        node
    })
}

/// A write that `+=` and its kind may stand for.
fn any_write() -> impl Strategy<Value = Value> {
    let op = prop::sample::select(vec!["add", "sub", "mul", "div", "pow", "eq", "neg"]);
    (string(), string(), op, any_json(), any::<bool>()).prop_map(|(target, other, op, value, same)| {
        let left = if same { target.clone() } else { other };
        json!({"op": "set", "target": target, "value": {"op": op, "args": [left, value]}})
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_objects_come_back(nodes in prop::collection::vec(prop_oneof![any_node(any_json()), any_write()], 0..5)) {
        let text = print(&nodes).unwrap();
        let read = TextGraph::parse(&text).unwrap_or_else(|problem| panic!("{text}{problem}"));
        prop_assert_eq!(&read.nodes, &nodes, "{}", text);
        prop_assert_eq!(print(&read.nodes).unwrap(), text);
    }
}

/// The blocks of a page that are fenced with a language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).map(|rest| &rest[..rest.find("```").expect("an end")]).collect()
}

#[test]
fn the_page_is_right() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/text-form.md")).unwrap();
    let (texts, jsons) = (blocks(&page, "text"), blocks(&page, "json"));
    assert_eq!(texts.len(), jsons.len());
    assert!(texts.len() > 7);
    for (text, json) in texts.into_iter().zip(jsons) {
        let nodes: Vec<Value> = serde_json::from_str(json).unwrap();
        assert_eq!(TextGraph::parse(text).unwrap().nodes, nodes, "{text}");
        assert_eq!(print(&nodes).unwrap(), text);
    }
    let cells = |row: &str| {
        row.strip_prefix("| `")?.strip_suffix("` |")?.split_once("` | `").map(|(a, b)| [a, b].map(String::from))
    };
    let rows: Vec<[String; 2]> = page.lines().filter_map(cells).collect();
    assert!(rows.len() > 30);
    for [text, value] in rows {
        let value: Value = serde_json::from_str(&value).unwrap();
        same(&format!("save {text} as x"), json!({"op": "save", "value": value, "as": "x"}));
    }
    for text in blocks(&page, "also") {
        let written = print(&TextGraph::parse(text).unwrap_or_else(|problem| panic!("{problem}")).nodes).unwrap();
        assert_ne!(written, text, "this is not another way to write it");
    }
    for text in blocks(&page, "refused") {
        let (source, said) = text.split_once("---\n").unwrap();
        assert_eq!(TextGraph::parse(source).unwrap_err().detail, said.trim_end_matches('\n'));
    }
}

#[test]
fn a_request_takes_text() {
    let request = |graph: Value| Request::parse(&json!({"input": "x", "graph": graph})).unwrap();
    let text = request(json!("save logits as x\nlogits += 1\n"));
    let list = request(json!([
        {"op": "save", "value": "logits", "as": "x"},
        {"op": "set", "target": "logits", "value": {"op": "add", "args": ["logits", 1]}},
    ]));
    assert_eq!(text.graph, list.graph);
    assert_eq!(text.text.unwrap().locate("/graph/1/value/args/1"), Some((2, 11)));
    assert_eq!(list.text, None);
}

#[test]
fn a_name_for_a_value_is_a_clone() {
    for (text, value) in [
        ("p = logits[:, -1]", json!("logits[:, -1]")),
        ("p = clean/layers.3.output", json!("clean/layers.3.output")),
        ("p = tensor([1])", json!({"data": [1]})),
        ("p = 3", json!(3)),
    ] {
        let nodes = TextGraph::parse(text).unwrap().nodes;
        assert_eq!(nodes, [json!({"op": "clone", "args": [value], "id": "p"})], "{text}");
        assert_eq!(TextGraph::parse(&print(&nodes).unwrap()).unwrap().nodes, nodes);
    }
}

#[test]
fn the_lines_may_come_as_a_list() {
    let request = |graph: Value| Request::parse(&json!({"input": "x", "graph": graph}));
    let text = "p = softmax(\n  logits[:, -1],\n  dim=-1)\nsave p as probs";
    let whole = request(json!(text)).unwrap();
    for lines in [json!(text.lines().collect::<Vec<_>>()), json!(["", "# first", "", text])] {
        assert_eq!(request(lines).unwrap().graph, whole.graph);
    }
    let problem = request(json!(["p = abs(logits)", "save p *", "   as x"])).unwrap_err();
    assert_eq!((problem.pointer.as_str(), problem.line, problem.column), ("/graph", Some(2), Some(9)), "{problem}");
    let mixed = request(json!([{"op": "save", "value": "logits", "as": "x"}, "save logits as y"])).unwrap_err();
    assert_eq!((mixed.pointer.as_str(), mixed.line), ("/graph/1", None), "{mixed}");
}

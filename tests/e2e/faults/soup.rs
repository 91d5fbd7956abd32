//! Traces made by chance out of the words of the language: most of them are refused, and some run.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

/// Sites, with and without an index.
const SITES: &str = "logits|logits[:, -1]|logits[0, -1, 7]|layers.0.output|layers[-1].output[0, 1:]|layers.*.output|\
    layers.1.self_attn.probs|layers.1.self_attn.scores[..., -1]|layers.2.mlp.neurons|layers.[0, 2].attn_add|\
    embed_tokens.output[:, ::-1]|next_token_probs|ln_final.input[None]|layers.0.self_attn.z[:, [0, 1]]|layers.0.output[5:2]|\
    layers_output[1]|layers.0.self_attn.heads|logits[:, [0, 0], 1]|lm_head.output[:, -2:]|clean/logits|clean/layers.2.output|\
    layers.{l}.output|layers.{l}.output[:, {p}]|layers.1.{s}|{l}|weights.lm_head|weights.layers.1.W_O[0]|weights.layers.*.W_in";

/// What else may stand in a string.
const WORDS: &str =
    "$a|$b|$a.0|$a[0]|@joy|@joy[1:]|@many.k|NaN|Infinity|-Infinity||f32|i64|bool|x|ij,jk->ik|...i,j->i|[|tanh|mean";

/// Operations by how many values they take.
const ONE: &str = "neg abs sqrt rsqrt exp log sin cos tanh sigmoid relu gelu silu clamp floor round sign sum mean std norm max \
    min argmax argmin prod sort logical_not squeeze detach tril triu project_on_vocab zeros ones eye arange randn cat stack";
const TWO: &str = "add sub mul div pow maximum minimum matmul dot outer cosine_similarity cross_entropy kl_div eq ne lt le gt ge \
    logical_and logical_or softmax log_softmax logsumexp cumsum topk unsqueeze reshape permute expand repeat flip full one_hot \
    cast sum mean einsum";
const THREE: &str = "where transpose index_select gather masked_fill split scatter_add einsum sum clamp add cat";

const FIELDS: &str = "dim keepdim alpha min max k shape size dtype approximate rounding_mode other input index start end step n m \
    seed diagonal offset equation repeats dims module of wrt sizes num_classes value correction p descending largest dim0 dim1 \
    target split_size out";

const MODULES: &str =
    "layers.1|layers.{l}|layers.0.mlp|layers.0.self_attn|layers.1.mlp_norm|ln_final|lm_head|embed_tokens|layers.9|x";

fn one_of(list: &'static str, between: char) -> impl Strategy<Value = &'static str> {
    let items: Vec<&str> = list.split(between).map(str::trim).collect();
    select(items)
}

fn op(list: &'static str) -> impl Strategy<Value = &'static str> {
    select(list.split_whitespace().collect::<Vec<_>>())
}

/// Numbers at the edges of what types hold.
fn number() -> impl Strategy<Value = Value> {
    let near = json!([0, -1, 1, 2, 3, 24, -0.0, 0.5, 1e-45]);
    let far = json!([i64::MIN, i64::MAX, u64::MAX, 1 << 20, -1e308, 1e308, 2_147_483_648_u32]);
    let [near, far] = [near, far].map(|list| list.as_array().unwrap().clone());
    prop_oneof![3 => select(near), 1 => select(far)]
}

fn word() -> impl Strategy<Value = Value> {
    prop_oneof![4 => one_of(SITES, '|'), 1 => one_of(WORDS, '|')].prop_map(Value::from)
}

fn literal() -> impl Strategy<Value = Value> {
    select(vec![
        json!({"dtype": "f32", "shape": [2, 0, 3], "data": []}),
        json!({"dtype": "f16", "data": [1.0, 65504.0, "NaN"]}),
        json!({"dtype": "i64", "data": [[1, 2], [3, 4]]}),
        json!({"dtype": "u8", "data": [0, 255]}),
        json!({"dtype": "bf16", "data": 3.5}),
        json!([true, false]),
        json!(vec![0.5; 24]),
        json!([[[1.0], [2.0]]]),
        json!([0, 1]),
    ])
}

fn value() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![6 => number(), 10 => word(), 4 => literal(), 1 => Just(json!(true)), 1 => Just(Value::Null)];
    let inside = |inner: BoxedStrategy<Value>| {
        let list = prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array);
        prop_oneof![9 => operation(inner.clone()), 1 => call(inner.clone()), 1 => gradient(inner), 1 => list]
    };
    leaf.prop_recursive(3, 16, 3, inside).boxed()
}

fn operation(value: BoxedStrategy<Value>) -> impl Strategy<Value = Value> {
    let of = |ops: &'static str, count: usize| (op(ops), prop::collection::vec(value.clone(), count));
    let called = prop_oneof![4 => of(ONE, 1), 5 => of(TWO, 2), 2 => of(THREE, 3), 1 => of(ONE, 0)];
    let fields = prop::collection::vec((op(FIELDS), value.clone()), 1..3);
    let fields = prop_oneof![3 => Just(Vec::new()), 1 => fields];
    (called, fields).prop_map(|((op, args), fields)| {
        let mut node = Map::from_iter([("op".to_owned(), json!(op)), ("args".to_owned(), json!(args))]);
        node.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Value::Object(node)
    })
}

fn call(value: BoxedStrategy<Value>) -> impl Strategy<Value = Value> {
    let modules = one_of(MODULES, '|');
    (modules, value).prop_map(|(module, value)| json!({"op": "call", "module": module, "args": [value]}))
}

fn gradient(value: BoxedStrategy<Value>) -> impl Strategy<Value = Value> {
    let sum = value.prop_map(|value| json!({"op": "sum", "args": [value]}));
    let of = prop_oneof![3 => Just(json!("logits[0, -1, 7]")), 2 => sum];
    (of, word()).prop_map(|(of, wrt)| json!({"op": "grad", "of": of, "wrt": wrt}))
}

/// Nodes of a graph, most of which are of the right form.
fn statement() -> impl Strategy<Value = Value> {
    let save = (value(), select(vec!["v", "w", "x", "y", "z"]));
    prop_oneof![
        12 => save.prop_map(|(value, name)| json!({"op": "save", "value": value, "as": name})),
        1 => value().prop_map(|value| json!({"op": "save", "value": value, "to": "@kept"})),
        1 => value().prop_map(|value| json!({"op": "top_tokens", "value": value, "k": 2, "as": "top"})),
        3 => (word(), value()).prop_map(|(target, value)| json!({"op": "set", "target": target, "value": value})),
        1 => (number(), value(), value()).prop_map(|(layers, vector, factor)| {
            json!({"op": "steer", "layers": layers, "vector": vector, "factor": factor})
        }),
        1 => (number(), number()).prop_map(|(first, last)| json!({"op": "skip", "layers": [first, last]})),
        1 => operation(value()).prop_map(|mut node| {
            node["id"] = json!("a");
            node
        }),
    ]
}

fn inputs() -> impl Strategy<Value = Value> {
    select(vec![
        json!({"input": [[1, 2, 3]]}),
        json!({"input": [[5, 6], [7, 8, 9, 10]]}),
        json!({"input": [[1]]}),
        json!({"input": [[4, 4], [5, 5]]}),
        json!({"input": "the cat"}),
        json!({"inputs": {"clean": [[1, 2, 3]], "corrupt": [[4, 5, 6]]}}),
    ])
}

fn sweep() -> impl Strategy<Value = Value> {
    let both = json!({"l": {"range": [0, 3]}, "p": [0, -1], "s": ["output", "mlp.up"]});
    let some = select(vec![
        both,
        json!({"l": [2, 0], "p": [0]}),
        json!({"l": {"range": [3, 0]}}),
        json!({"l": {"range": [0, 1_000_000_000_i64]}}),
        json!({"l": ["logits", "@joy", 1.5]}),
        json!({"l": []}),
        json!(5),
    ]);
    prop_oneof![4 => Just(Value::Null), 1 => some]
}

/// The body of a trace.
pub(super) fn body() -> impl Strategy<Value = Value> {
    (inputs(), prop::collection::vec(statement(), 1..4), sweep()).prop_map(|(mut body, graph, sweep)| {
        body["graph"] = json!(graph);
        if !sweep.is_null() {
            body["sweep"] = sweep;
        }
        body
    })
}

//! Values that the model itself gives: its weights, its modules, gradients.

mod common;

use common::{plan, plan_body};
use patchbay_graph::{Code, DType};
use serde_json::{Value, json};

fn dims(value: Value) -> Vec<usize> {
    let graph = json!([{"op": "save", "value": value, "as": "x"}, {"op": "save", "value": "logits", "as": "y"}]);
    let plan = plan(graph).unwrap_or_else(|problem| panic!("{value}: {problem}"));
    let value = &plan.values[plan.results[0].value];
    assert_eq!(value.dtype, DType::F32);
    value.shape.dims.clone()
}

fn refused(value: Value) -> (Code, String, String) {
    let graph = json!([{"op": "save", "value": value, "as": "x"}, {"op": "save", "value": "logits", "as": "y"}]);
    let problem = plan(graph).map(|_| ()).expect_err("a value that cannot be is refused");
    (problem.code, problem.pointer, problem.hint.unwrap_or_default())
}

#[test]
fn weights_have_one_name_and_the_literatures_views() {
    for (name, shape) in [
        ("weights.embed_tokens", &[11, 8][..]),
        ("weights.W_E", &[11, 8]),
        ("weights.lm_head", &[11, 8]),
        ("weights.W_U", &[8, 11]),
        ("weights.W_U[:, 3]", &[8]),
        ("weights.ln_final", &[8]),
        ("weights.layers.1.self_attn.q_proj", &[8, 8]),
        ("weights.layers.1.self_attn.k_proj.weight", &[4, 8]),
        ("weights.layers[1].W_Q", &[2, 8, 4]),
        ("weights.layers.-1.W_K", &[1, 8, 4]),
        ("weights.layers.1.self_attn.W_V[0]", &[8, 4]),
        ("weights.layers.1.W_O", &[2, 4, 8]),
        ("weights.layers.*.W_O[1]", &[4, 4, 8]),
        ("weights.layers.[0,2].mlp_norm", &[2, 8]),
        ("weights.layers.1.W_in", &[8, 12]),
        ("weights.layers.1.mlp.W_gate", &[8, 12]),
        ("weights.layers.1.W_out", &[12, 8]),
        ("weights.layers.1.mlp.down_proj", &[8, 12]),
    ] {
        assert_eq!(dims(json!(name)), shape, "{name}");
    }
    let (code, pointer, hint) = refused(json!("weights.layers.1.self_attn.o_prj"));
    assert_eq!((code, pointer.as_str()), (Code::UnknownSite, "/graph/0/value"));
    assert_eq!(hint, "did you mean `weights.layers.1.self_attn.o_proj`?");
    assert_eq!(refused(json!("weights.layers.9.W_Q")).2, "this model has layers 0 to 3");
    assert!(refused(json!("weights.W_pos")).2.contains("W_"), "a model without such a table does not have it");
    assert_eq!(refused(json!("weights.layers.1.W_Q[2]")).0, Code::IndexOutOfRange);
}

#[test]
fn modules_are_applied_to_values() {
    let call = |module: &str, value: Value| json!({"op": "call", "module": module, "args": [value]});
    for (module, value, shape) in [
        ("layers.2", json!("layers.0.output"), &[1, 3, 8][..]),
        ("layers[-1].self_attn", json!("layers.0.output"), &[1, 3, 8]),
        ("layers.2.mlp", json!("layers.0.output[0, -1]"), &[8]),
        ("layers.2.mlp_norm", json!("@joy"), &[8]),
        ("ln_final", json!("layers.*.output[:, -1]"), &[4, 1, 8]),
        ("lm_head", json!("layers.0.output[:, -1]"), &[1, 11]),
        ("embed_tokens", json!([[1, 2, 3]]), &[1, 3, 8]),
    ] {
        assert_eq!(dims(call(module, value)), shape, "{module}");
    }
    let refuse = |module: &str, value: Value| refused(call(module, value));
    let (code, pointer, hint) = refuse("layers.2.mpl", json!("@joy"));
    assert_eq!((code, pointer.as_str()), (Code::UnknownSite, "/graph/0/value/module"));
    assert_eq!(hint, "did you mean `layers.2.mlp`?");
    assert_eq!(refuse("layers.4", json!("layers.0.output")).2, "this model has layers 0 to 3");
    assert_eq!(refuse("layers.0", json!("@joy")).1, "/graph/0/value/args/0");
    let (code, pointer, hint) = refuse("embed_tokens", json!([3, 11]));
    assert_eq!((code, pointer.as_str()), (Code::IndexOutOfRange, "/graph/0/value/args/0"));
    assert_eq!(hint, "the vocabulary has ids 0 to 10");
    for (module, value) in [("ln_final", json!("logits")), ("lm_head", json!([1, 2])), ("embed_tokens", json!([0.5]))] {
        assert_eq!(refuse(module, value).0, Code::ShapeMismatch, "{module}");
    }
}

#[test]
fn sequences_keep_their_lengths() {
    let graph =
        json!([{"op": "save", "as": "x", "value": {"op": "call", "module": "layers.0", "args": ["layers.1.output"]}}]);
    let plan = plan_body(&json!({"input": ["a b c", "d"], "graph": graph})).unwrap();
    let shape = &plan.values[plan.results[0].value].shape;
    assert_eq!((shape.to_string().as_str(), shape.is_ragged(1)), ("[2, 1..3, 8]", true));
    // heads before tokens are no sequences
    let graph = json!([{"op": "save", "as": "x", "value":
        {"op": "call", "module": "layers.0", "args": ["layers.1.self_attn.heads"]}}]);
    assert!(plan_body(&json!({"input": "a b", "graph": graph})).is_ok());
}

#[test]
fn gradients_that_do_not_exist_are_refused() {
    let grad = |of: Value, wrt: Value| refused(json!({"op": "grad", "of": of, "wrt": wrt}));
    let sum = |of: &str| json!({"op": "sum", "args": [of]});
    let (code, pointer, hint) = grad(sum("layers.1.output"), json!("layers.2.output"));
    assert_eq!((code, pointer.as_str()), (Code::NoGradient, "/graph/0/value/wrt"));
    assert!(hint.contains("before"), "{hint}");
    let rounded = json!({"op": "sum", "args": [{"op": "round", "args": ["logits"]}]});
    assert!(grad(rounded, json!("layers.2.output")).2.contains("`round`"));
    assert_eq!(grad(sum("@joy"), json!(["logits"])).1, "/graph/0/value/wrt/0");
    let twice = json!({"op": "sum", "args": [{"op": "grad", "of": sum("logits"), "wrt": "layers.0.output"}]});
    assert_eq!(grad(twice, json!("layers.0.output")).0, Code::NoGradient);
    assert_eq!(grad(json!("logits[:, -1]"), json!("layers.0.output")).0, Code::ShapeMismatch);
    assert_eq!(grad(sum("logits"), json!("@joy")).0, Code::BadArgument);
    assert_eq!(grad(sum("logits"), json!([])).0, Code::BadArgument);
    assert_eq!(grad(sum("logits"), json!("next_token_probs")).0, Code::UnknownSite);
    assert_eq!(grad(sum("logits"), json!("layers.9.output")).2, "this model has layers 0 to 3");
}

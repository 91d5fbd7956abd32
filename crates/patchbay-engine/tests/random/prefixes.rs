//! What follows a prompt is the same whether its keys are computed or were left by earlier requests.

use patchbay_engine::{EngineSettings, Memory};
use patchbay_graph::{Axis, Packing, Site, Tree};
use serde_json::{Value, json};

use crate::common::{Lab, Ran, Random};
use crate::{assert_same, count};

const MODELS: [&str; 6] = ["llama-gqa-tied", "gpt2", "gemma3", "mixtral", "deepseek_v2", "bloom"];

fn lab(model: &str, prefix_bytes: u64) -> Lab {
    Lab::golden_with(model, EngineSettings { prefix_bytes, ..EngineSettings::default() })
}

/// Rows, each of which begins in one of three ways that part from each other at some token.
fn rows(random: &mut Random) -> Value {
    let count = 1 + random.below(3);
    let row = |_| -> Value {
        let way = random.below(3);
        let begin = (0..14).map(|token| if token >= 9 && way > 0 { 11 + way } else { (5 * token + 3) % 36 });
        let begin: Vec<usize> = begin.collect();
        begin.into_iter().chain((0..3 + random.below(3)).map(|_| random.below(36))).collect()
    };
    (0..count).map(row).collect()
}

/// A few reads and writes of the last tokens, or of any.
fn graph(random: &mut Random, tree: &Tree) -> Value {
    let sites: Vec<Site> = tree.sites().collect();
    let part = |random: &mut Random, input: &str| {
        let site = *random.of(&sites);
        let tokens = tree.packing(site).unwrap().axes().iter().position(|axis| *axis == Axis::Tokens).unwrap();
        let whole = matches!(tree.packing(site), Some(Packing::Pairs { .. }));
        let last =
            if whole && random.below(5) > 0 { "0:0" } else { *random.of(&["-1", "-2:", "-3", "-1", "8", "-1:"]) };
        format!("{input}/{site}[{}{last}]", ":, ".repeat(tokens))
    };
    let mut nodes = Vec::new();
    for number in 0..1 + random.below(2) {
        nodes.push(json!({"op": "save", "value": part(random, "a"), "as": format!("a{number}")}));
    }
    if random.once_in(2) {
        nodes.push(json!({"op": "set", "target": part(random, "a"), "value": 0.25}));
    }
    if random.once_in(3) {
        nodes.push(json!({"op": "set", "target": "a/layers.1.output[0, -1]", "value": "b/layers.1.output[0, -1]"}));
    }
    nodes.push(json!({"op": "save", "value": "a/logits[:, -1]", "as": "a"}));
    nodes.push(json!({"op": "save", "value": "b/logits[:, -1]", "as": "b"}));
    json!({"inputs": {"a": rows(random), "b": rows(random)}, "graph": nodes})
}

fn receipts(ran: &Ran) -> String {
    format!("{:?}", ran.outcome.receipts)
}

#[test]
fn keys_that_were_left_are_those_that_are_computed() {
    for (number, model) in MODELS.iter().enumerate() {
        let (fresh, keeping) = (lab(model, 0), lab(model, 1 << 20));
        let (mut recalled, mut ran) = (0, 0);
        for seed in 0..count(80) {
            let body = graph(&mut Random(seed * 10 + number as u64), fresh.tree());
            // nothing is written where nothing is, and not every site can be written
            let Ok(expected) = fresh.try_run(&body) else { continue };
            let found = keeping.run(&body);
            assert_same(&found, &expected, &body);
            assert_eq!(receipts(&found), receipts(&expected), "{body}");
            assert_eq!(expected.outcome.usage.cached_tokens, None);
            let (a, b) = (found.outcome.usage, expected.outcome.usage);
            assert_eq!(a.token_layers + a.shared, b.token_layers + b.shared, "{body}");
            assert_eq!(a.cached_tokens.is_some(), a.token_layers < b.token_layers, "{a:?}, {b:?}: {body}");
            recalled += usize::from(a.cached_tokens.is_some());
            ran += 1;
        }
        eprintln!("{model}: {recalled} of {ran} took what was left");
        assert!(recalled > ran / 3 && ran > 30, "{model}: {recalled} of {ran} took what was left");
    }
}

/// A prompt, and what comes after it.
fn ask(lab: &Lab, prompt: &[u32], last: u32, graph: &Value) -> Ran {
    let row = [prompt, &[last]].concat();
    lab.trace(&json!([row]), graph.clone())
}

#[test]
fn a_prompt_is_computed_once() {
    let lab = Lab::golden("llama-gqa-tied");
    let prompt: Vec<u32> = (0..40).map(|token| (token * 7 + 1) % 90).collect();
    let logits = json!([{"op": "save", "value": "logits[:, -1]", "as": "x"}]);
    let usage = |ran: &Ran| (ran.outcome.usage.cached_tokens, ran.outcome.usage.token_layers);
    let layers = lab.tree().layers.len();
    // of the tokens before the last one the last layer makes keys alone
    let whole = 40 * (layers - 1) + layers;
    assert_eq!(usage(&ask(&lab, &prompt, 1, &logits)), (None, whole));
    assert_eq!(usage(&ask(&lab, &prompt, 2, &logits)), (Some(40), layers));
    // what is looked at is computed, and takes the keys of what comes before
    let looked = json!([{"op": "save", "value": "layers.1.output[:, 30]", "as": "y"}, logits[0]]);
    assert_eq!(usage(&ask(&lab, &prompt, 3, &looked)).0, Some(39));
    // what follows a write is not what the prompt alone would be
    let patched = json!([{"op": "set", "target": "layers.0.output[:, 20]", "value": 0}, logits[0]]);
    assert_eq!(usage(&ask(&lab, &prompt, 4, &patched)).0, Some(20));
    assert_eq!(usage(&ask(&lab, &prompt, 5, &logits)).0, Some(40));
    // a shallow look leaves shallow keys
    let other: Vec<u32> = prompt.iter().map(|id| id + 3).collect();
    let shallow = json!([{"op": "save", "value": "layers.0.output[:, -1]", "as": "x"}]);
    assert_eq!(usage(&ask(&lab, &other, 1, &shallow)).0, None);
    assert_eq!(usage(&ask(&lab, &other, 2, &shallow)).0, Some(40));
    assert_eq!(usage(&ask(&lab, &other, 3, &logits)).0, None);
    assert_eq!(usage(&ask(&lab, &other, 4, &logits)).0, Some(40));
    // a gradient goes through everything
    let gradient = json!([{"op": "grad", "of": {"op": "sum", "args": ["logits[:, -1]"]}, "wrt": "layers.0.output", "id": "g"},
                          {"op": "save", "value": "$g", "as": "g"}]);
    assert_eq!(usage(&ask(&lab, &other, 5, &gradient)).0, None);
}

#[test]
fn what_was_left_yields() {
    let memory = Memory::new(4 << 20);
    let settings = EngineSettings { memory: memory.clone(), prefix_bytes: 1 << 20, ..EngineSettings::default() };
    let lab = Lab::golden_with("llama-gqa-tied", settings);
    let logits = json!([{"op": "save", "value": "logits[:, -1]", "as": "x"}]);
    let prompt = |number: u32| (0..40).map(|token| (token * 7 + number) % 90).collect::<Vec<_>>();
    let cached = |number: u32| ask(&lab, &prompt(number), 1, &logits).outcome.usage.cached_tokens;
    assert_eq!((cached(0), cached(1), cached(0), cached(1)), (None, None, Some(40), Some(40)));
    // somebody else needs nearly everything
    drop(memory.hold(4 << 20));
    assert_eq!((cached(0), cached(0)), (None, Some(40)));
    // and as long as they have it there is no room for more
    let held = memory.hold((4 << 20) - 200_000);
    let many: Vec<_> = (0..40).map(|number| cached(number + 2)).collect();
    assert!(many.iter().all(Option::is_none), "{many:?}");
    drop(held);
    // those that were looked at least lately go first
    assert_eq!(cached(41), Some(40));
    assert_eq!(cached(0), None);
}

//! What a wave computes: each token that is asked for, once, as far as it is asked for, and no other.
#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

mod common;

use common::{plan_body, tree};
use patchbay_graph::wave::lanes::Lane;
use patchbay_graph::wave::mark::Mark;
use patchbay_graph::wave::recall::Known;
use patchbay_graph::wave::{Asked, Wave};
use patchbay_graph::{Plan, Site};
use serde_json::{Value, json};

/// A request with its ids, of which each input is one list of rows.
struct Asking {
    plan: Plan,
    ids: Vec<Vec<Vec<u32>>>,
}

impl Asking {
    fn first(&self) -> Asked<'_> {
        Asked { plan: &self.plan, pass: &self.plan.passes[0], ids: &self.ids, past: &[], keeps: 0 }
    }
}

fn asking(body: &Value) -> Asking {
    let inputs = match body.get("inputs").and_then(Value::as_object) {
        Some(inputs) => inputs.values().cloned().collect(),
        None => vec![body["input"].clone()],
    };
    let ids = inputs.into_iter().map(|rows| serde_json::from_value(rows).unwrap()).collect();
    Asking { plan: plan_body(body).unwrap(), ids }
}

fn wave(asking: &[Asking]) -> Wave {
    let passes: Vec<Asked<'_>> = asking.iter().map(Asking::first).collect();
    Wave::new(&passes, &tree(), false)
}

/// How many tokens go into each layer, and how many go on after keys and values are made.
fn tokens(wave: &Wave) -> Vec<(usize, usize)> {
    let layers = tree().layers.len();
    let mut computed = wave.embedded();
    let mut counts = Vec::new();
    for layer in 0..layers {
        let (before, rows) = wave.before(layer, &computed).unwrap();
        assert_eq!(rows.len(), before.tokens());
        let course = wave.course(layer, &before);
        counts.push((course.running.tokens(), course.onward.tokens()));
        for lane in course.onward.lanes() {
            let keys: usize = course.running.keys(*lane, wave.lanes()).unwrap().iter().map(|keys| keys.len).sum();
            let Lane { position, ids, .. } = &wave.lanes()[*lane];
            assert_eq!(keys, position + ids.len(), "a token looks on every token before it");
        }
        let lanes = [course.onward.lanes(), &course.parked].concat();
        computed = patchbay_graph::wave::matrix::Matrix::new(lanes, wave.lanes());
    }
    counts
}

fn save(value: &str) -> Value {
    json!({"op": "save", "value": value, "as": "x"})
}

fn counts(bodies: &[Value]) -> Vec<(usize, usize)> {
    tokens(&wave(&bodies.iter().map(asking).collect::<Vec<_>>()))
}

#[test]
fn keys_that_are_known_are_not_made_again() {
    let ids: Vec<u32> = (1..=5).collect();
    let recalled = |body: Value, layers: usize| {
        let asking = asking(&body);
        let known = [Known { ids: &[1, 2, 9, 4], layers: 4 }, Known { ids: &ids, layers }];
        let wave = Wave::recalling(&[asking.first()], &tree(), false, &known);
        let (taken, recalled) = wave.recalled(1, 2);
        (tokens(&wave), taken, recalled[0])
    };
    let last = |graph: Value| json!({"input": [[1, 2, 3, 4, 5]], "graph": graph});
    // the last token alone, and the keys of those before it
    let (counts, taken, tokens) = recalled(last(json!([save("logits[:, -1]")])), 4);
    assert_eq!((counts, taken, tokens), (vec![(1, 1); 4], vec![true, true], 4));
    // what is looked at is computed
    let looked = json!([save("logits[:, -1]"), {"op": "save", "value": "layers.0.output[:, 1]", "as": "y"}]);
    let (counts, _, tokens) = recalled(last(looked), 4);
    assert_eq!((counts, tokens), (vec![(2, 2), (2, 2), (2, 2), (2, 1)], 3));
    // keys of fewer layers than are needed are none, and so are those after a write
    assert_eq!(recalled(last(json!([save("logits[:, -1]")])), 2).2, 2);
    let written = json!([{"op": "set", "target": "layers.1.output[:, 1]", "value": 0}, save("logits[:, -1]")]);
    assert_eq!(recalled(last(written), 4).2, 1);
}

#[test]
fn only_keys_are_made_of_tokens_that_nobody_looks_at_after_the_last_layer() {
    let last = json!({"input": [[1, 2, 3, 4, 5]], "graph": [save("logits[:, -1]")]});
    assert_eq!(counts(&[last]), [(5, 5), (5, 5), (5, 5), (5, 1)]);
    let middle = json!({"input": [[1, 2, 3, 4, 5]], "graph": [save("logits[:, 2]")]});
    assert_eq!(counts(&[middle]), [(3, 3), (3, 3), (3, 3), (3, 1)], "later tokens are looked at by nobody");
    let keys = json!({"input": [[1, 2, 3]], "graph": [save("layers.1.self_attn.k")]});
    assert_eq!(counts(&[keys]), [(3, 3), (3, 0), (0, 0), (0, 0)]);
    let input = json!({"input": [[1, 2, 3]], "graph": [save("layers.2.input[:, 1]")]});
    assert_eq!(counts(&[input]), [(2, 2), (2, 1), (0, 0), (0, 0)]);
}

#[test]
fn what_begins_alike_is_computed_once() {
    let rows = json!({"input": [[1, 2, 3], [1, 2, 4], [1, 2, 3]], "graph": [save("logits")]});
    assert_eq!(counts(std::slice::from_ref(&rows)), [(4, 4); 4]);
    let other = json!({"input": [[1, 2, 3, 9]], "graph": [save("layers.1.output")]});
    assert_eq!(counts(&[rows, other]), [(5, 5), (5, 5), (4, 4), (4, 4)]);
}

#[test]
fn a_row_parts_from_others_where_it_is_changed() {
    let clean = json!({"input": [[1, 2, 3, 4]], "graph": [save("logits[:, -1]")]});
    let cell = |layer: usize, token: usize| {
        let set = json!({"op": "set", "target": format!("layers.{layer}.output[:, {token}]"), "value": 0});
        json!({"input": [[1, 2, 3, 4]], "graph": [set, save("logits[:, -1]")]})
    };
    // a cell computes the layers after its write, from the token that it writes on
    assert_eq!(counts(&[clean.clone(), cell(1, 2)]), [(4, 4), (4, 4), (6, 6), (6, 2)]);
    assert_eq!(counts(&[clean.clone(), cell(2, 3)]), [(4, 4), (4, 4), (4, 4), (5, 2)]);
    let all: Vec<Value> = (0..3).flat_map(|layer| (0..4).map(move |token| cell(layer, token))).collect();
    assert_eq!(counts(&all), [(4, 4), (14, 14), (24, 24), (33, 12)]);
    // inside of a block the row parts before it; whole matrices are looked at in one piece
    let inside = json!({"op": "set", "target": "layers.1.self_attn.z[:, :, 2]", "value": 0});
    let inside = json!({"input": [[1, 2, 3, 4]], "graph": [inside, save("logits[:, -1]")]});
    assert_eq!(counts(&[clean.clone(), inside]), [(4, 4), (6, 6), (6, 6), (6, 2)]);
    let probs = json!({"op": "set", "target": "layers.1.self_attn.probs[:, 0, -1]", "value": 0});
    let probs = json!({"input": [[1, 2, 3, 4]], "graph": [probs, save("logits[:, -1]")]});
    assert_eq!(counts(&[clean, probs]), [(4, 4), (8, 8), (8, 8), (8, 5)]);
}

#[test]
fn a_row_that_is_given_what_it_has_does_not_part() {
    let patch = |site: &str, more: &[Value]| {
        let set = json!({"op": "set", "target": format!("b/{site}"), "value": format!("a/{site}")});
        let graph = [more, &[set, save("b/logits[:, -1]")]].concat();
        json!({"inputs": {"a": [[1, 2, 3, 4]], "b": [[1, 2, 9, 4]]}, "graph": graph})
    };
    let bare = json!({"inputs": {"a": [[1, 2, 3, 4]], "b": [[1, 2, 9, 4]]}, "graph": [save("b/logits[:, -1]")]});
    assert_eq!(counts(std::slice::from_ref(&bare)), [(4, 4), (4, 4), (4, 4), (4, 1)]);
    // up to the token in which they differ, both rows are one
    assert_eq!(counts(&[patch("layers.1.output[:, 1]", &[])]), [(4, 4), (4, 4), (4, 4), (4, 1)]);
    assert_eq!(counts(&[bare.clone(), patch("layers.1.output[:, 1]", &[])]), [(4, 4), (4, 4), (4, 4), (4, 1)]);
    assert_eq!(counts(&[patch("layers.1.output[:, 2]", &[])]), [(5, 5), (5, 5), (4, 4), (4, 1)]);
    // of many tokens only those from there on change
    assert_eq!(counts(&[patch("layers.1.output", &[])]), [(6, 6), (6, 6), (4, 4), (4, 1)]);
    assert_eq!(counts(&[patch("layers.1.mlp.output[:, :2]", &[])]), [(4, 4), (4, 4), (4, 4), (4, 1)]);
    // nor does it matter how long they are, where the same tokens are meant
    let longer = |site: &str| {
        let set = json!({"op": "set", "target": format!("b/{site}"), "value": format!("a/{site}")});
        json!({"inputs": {"a": [[1, 2, 3, 4, 5]], "b": [[1, 2, 9, 4]]}, "graph": [set, save("b/logits[:, -1]")]})
    };
    for (place, layer) in [("1", (4, 4)), (":2", (4, 4)), ("-3", (7, 7)), ("2", (6, 6))] {
        assert_eq!(counts(&[bare.clone(), longer(&format!("layers.1.output[:, {place}]"))])[2], layer, "{place}");
    }
    // what is no longer as the model makes it is another value
    let apart = |body: Value| counts(&[bare.clone(), body])[2];
    assert_eq!(apart(patch("layers.1.output[:, 1]", &[])), (4, 4));
    let source = json!({"op": "set", "target": "a/layers.0.output[:, 1]", "value": 0});
    assert_eq!(apart(patch("layers.1.output[:, 1]", &[source])), (7, 7));
    let skip = json!({"op": "skip", "layers": 1, "input": "a"});
    assert_eq!(apart(patch("layers.1.output[:, 1]", &[skip])), (7, 7));
    // and so is that of another place, and what is made of it
    let made = json!({"op": "mul", "args": ["a/layers.1.output[:, 1]", 2]});
    for value in [json!("a/layers.1.output[:, 0]"), made] {
        let node = json!({"op": "set", "target": "b/layers.1.output[:, 1]", "value": value});
        let inputs = json!({"a": [[1, 2, 3, 4]], "b": [[1, 2, 9, 4]]});
        assert_eq!(apart(json!({"inputs": inputs, "graph": [node, save("b/logits[:, -1]")]})), (7, 7));
    }
}

#[test]
fn skipped_blocks_are_passed_by() {
    let skip = json!({"op": "skip", "layers": [1, 2]});
    let body = json!({"input": [[1, 2, 3]], "graph": [skip, save("logits[:, -1]")]});
    assert_eq!(counts(&[body]), [(3, 3), (0, 0), (0, 0), (3, 1)]);
}

#[test]
fn who_leaves_takes_along_what_only_they_need() {
    let steer = |factor: f64| {
        let steer = json!({"op": "steer", "layers": [0], "vector": "@joy", "factor": factor});
        asking(&json!({"input": [[1, 2, 3]], "graph": [steer, save("logits[:, -1]")]}))
    };
    let mut wave = wave(&[steer(1.0), steer(2.0)]);
    assert_eq!(tokens(&wave), [(3, 3), (6, 6), (6, 6), (6, 2)]);
    wave.keep(|request| request == 1);
    assert_eq!(tokens(&wave), [(3, 3), (3, 3), (3, 3), (3, 1)]);
    wave.keep(|_| false);
    assert_eq!(wave.embedded().tokens(), 0);
}

#[test]
fn lengths_part_sequences_where_values_depend_on_them() {
    let short = asking(&json!({"input": [[1, 2, 3]], "graph": [save("logits")]}));
    let long = asking(&json!({"input": [[1, 2, 3, 4]], "graph": [save("logits")]}));
    let passes = [short.first(), long.first()];
    assert_eq!(Wave::new(&passes, &tree(), false).embedded().tokens(), 4);
    assert_eq!(Wave::new(&passes, &tree(), true).embedded().tokens(), 7);
}

#[test]
fn moments_of_sites_are_in_their_order() {
    let sites: Vec<Site> = tree().sites().collect();
    for pair in sites.windows(2) {
        let block = |site: &Site| matches!(site, Site::Layer(..));
        let (first, second) = (Mark::of(pair[0], 4), Mark::of(pair[1], 4));
        // queries come between keys and values, and are needed by what goes on alone
        assert!(first <= second || block(&pair[0]) && first == Mark::handed(pair[0].layer().unwrap() + 1), "{pair:?}");
    }
}

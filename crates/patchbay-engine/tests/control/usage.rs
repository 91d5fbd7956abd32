//! `token_layers` and `shared`, counted by hand. The model has three blocks.

use patchbay_engine::EngineSettings;
use serde_json::{Value, json};

use super::common::Ran;
use super::{Place, last};

/// Six tokens, and six others that begin with the same four.
const ROW: [u32; 6] = [3, 1, 4, 1, 5, 9];
const PARTS: [u32; 6] = [3, 1, 4, 1, 6, 2];

fn trace(graph: Value) -> Value {
    json!({"input": [ROW], "graph": graph})
}

fn save(value: &str) -> Value {
    json!({"op": "save", "value": value, "as": value})
}

fn usage(ran: &Ran) -> (usize, usize) {
    (ran.outcome.usage.token_layers, ran.outcome.usage.shared)
}

#[test]
fn one_request() {
    let place = Place::new(EngineSettings::default());
    let patch = |layer: usize, token: usize| {
        json!({"inputs": {"clean": [ROW], "corrupt": [ROW]}, "graph": [
            {"op": "set", "target": format!("corrupt/layers.{layer}.output[:, {token}]"), "value": 0},
            save("clean/layers.2.output"), save("corrupt/layers.2.output")]})
    };
    for (what, body, token_layers, shared) in [
        ("all tokens", last(&[&ROW]), 18, 0),
        ("one block", trace(json!([save("layers.0.output")])), 6, 0),
        ("keys alone from the others, in the last block", trace(json!([save("logits[:, -1]")])), 13, 0),
        ("tokens after the last one looked at", trace(json!([save("layers.2.output[:, 2]")])), 2 * 3 + 1, 0),
        ("a block left out", trace(json!([{"op": "skip", "layers": [1, 1]}, save("layers.2.output")])), 12, 0),
        ("two equal rows", last(&[&ROW, &ROW]), 18, 18),
        ("two rows that begin alike", last(&[&ROW, &PARTS]), 3 * (6 + 2), 3 * 4),
        ("one that is the beginning of another", last(&[&ROW, &ROW[..4]]), 18, 12),
        ("a patch after the first block", patch(0, 4), 6 + 2 * (6 + 2), 6 + 2 * 4),
        ("a patch after the second", patch(1, 4), 2 * 6 + 6 + 2, 2 * 6 + 4),
        ("a patch of the first token", patch(1, 0), 2 * 6 + 6 + 6, 2 * 6),
    ] {
        assert_eq!(usage(&place.lab.run(&body)), (token_layers, shared), "{what}");
    }
}

#[test]
fn requests_together_share_in_equal_parts() {
    let place = Place::new(EngineSettings::default());
    for (what, bodies, expected) in [
        ("equal ones", vec![last(&[&ROW]), last(&[&ROW])], vec![(9, 9), (9, 9)]),
        (
            "three that begin alike",
            vec![last(&[&ROW]), last(&[&PARTS]), last(&[&[3, 1, 4, 1, 7, 7]])],
            vec![(4 + 6, 8), (4 + 6, 8), (4 + 6, 8)],
        ),
        (
            "one that stops early",
            vec![last(&[&ROW]), trace(json!([save("layers.0.output")]))],
            vec![(3 + 12, 3), (3, 3)],
        ),
        ("strangers", vec![last(&[&ROW]), last(&[&[8, 8, 8]])], vec![(18, 0), (9, 0)]),
    ] {
        let ran = place.together(&bodies);
        assert!(ran.iter().all(|ran| ran.outcome.usage.co_batched == bodies.len()), "{what}");
        assert_eq!(ran.iter().map(usage).collect::<Vec<_>>(), expected, "{what}");
    }
}

//! What holds between the parts of any decoder, whatever its weights.
#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

mod common;

use candle_core::{D, Tensor};
use common::{Lab, assert_close, numbers, same_bits};
use patchbay_graph::{Packing, Site};
use serde_json::{Value, json};

const MODELS: [&str; 6] = ["gpt2", "gpt2-untied", "llama-mha-untied", "llama-gqa-tied", "llama-bias", "llama-rope3"];

/// How far sums of float32 may be off, as a share of the largest.
const SUMS: f64 = 2e-5;

/// Runs a test on every golden model, and on SmolLM2 where it is at hand.
fn on_every_model(test: impl Fn(&Lab, &Value, &str)) {
    for model in MODELS {
        test(&Lab::golden(model), &json!([[7, 3, 90, 12, 55], [1, 2, 3, 40, 5]]), model);
    }
    if let Some(lab) = Lab::smollm2() {
        test(&lab, &json!([[504, 3575, 282, 4649, 314], [504, 3575, 282, 8046, 314]]), "smollm2");
    }
}

fn save(value: impl Into<Value>, name: &str) -> Value {
    json!({"op": "save", "value": value.into(), "as": name})
}

fn is_there(lab: &Lab, site: &str) -> bool {
    lab.tree().sites().any(|there| there.to_string() == site)
}

#[test]
fn heads_and_the_bias_add_up_to_attention() {
    on_every_model(|lab, input, model| {
        for layer in 0..lab.tree().layers.len().min(3) {
            let at = |name: &str| format!("layers.{layer}.self_attn.{name}");
            let mut graph = vec![save(at("heads"), "heads"), save(at("output"), "output")];
            let bias = at("o_proj.bias");
            let biased = lab.tree().weights.contains_key(&bias);
            if biased {
                graph.push(save(format!("weights.{bias}"), "bias"));
            }
            let ran = lab.trace(input, json!(graph));
            let mut sum = ran.tensor("heads").sum(1).unwrap();
            if biased {
                sum = sum.broadcast_add(&ran.tensor("bias")).unwrap();
            }
            assert_close(&sum, &ran.tensor("output"), SUMS, &format!("{model}, layer {layer}"));
        }
    });
}

#[test]
fn what_is_added_adds_up_to_the_stream() {
    on_every_model(|lab, input, model| {
        let mut graph = vec![
            save("layers.0.input", "first"),
            save("embed_tokens.output", "embeddings"),
            save("layers.*.attn_add", "attn"),
            save("layers.*.mlp_add", "mlp"),
            save("ln_final.input", "last"),
        ];
        let learned = lab.tree().weights.contains_key("embed_positions");
        if learned {
            graph.push(save("weights.W_pos[:5]", "positions"));
        }
        let ran = lab.trace(input, json!(graph));
        let parts = (ran.tensor("attn").sum(0).unwrap() + ran.tensor("mlp").sum(0).unwrap()).unwrap();
        let mut start = ran.tensor("embeddings");
        if learned {
            start = start.broadcast_add(&ran.tensor("positions")).unwrap();
        }
        assert_close(&start, &ran.tensor("first"), SUMS, model);
        assert_close(&(start + parts).unwrap(), &ran.tensor("last"), SUMS, model);
    });
}

#[test]
fn probabilities_mix_values() {
    on_every_model(|lab, input, model| {
        let at = |name: &str| format!("layers.1.self_attn.{name}");
        let graph = ["probs", "v", "z", "scores"].map(|name| save(at(name), name));
        let ran = lab.trace(input, json!(graph));
        let sizes = &lab.tree().layers[1];
        // each key/value head serves a run of heads
        let group = sizes.heads / sizes.kv_heads;
        let (rows, _, tokens, dim) = ran.tensor("v").dims4().unwrap();
        let values = ran.tensor("v").unsqueeze(2).unwrap().expand((rows, sizes.kv_heads, group, tokens, dim)).unwrap();
        let values = values.contiguous().unwrap().reshape((rows, sizes.heads, tokens, dim)).unwrap();
        let mixed = ran.tensor("probs").contiguous().unwrap().matmul(&values).unwrap();
        assert_close(&mixed, &ran.tensor("z"), SUMS, model);
        let softmax = candle_nn::ops::softmax(&ran.tensor("scores"), D::Minus1).unwrap();
        assert_close(&softmax, &ran.tensor("probs"), SUMS, model);
    });
}

#[test]
fn the_lens_at_the_end_is_the_logits() {
    on_every_model(|lab, input, model| {
        let project = json!({"op": "project_on_vocab", "args": ["layers.-1.output"], "output_transform": true});
        let call = json!({"op": "call", "module": "lm_head", "args": [{"op": "call", "module": "ln_final", "args": ["ln_final.input"]}]});
        let graph = json!([
            save(project, "lens"),
            save("logits", "logits"),
            save(call, "modules"),
            save("lm_head.output", "raw")
        ]);
        let ran = lab.trace(input, graph);
        assert_close(&ran.tensor("lens"), &ran.tensor("logits"), SUMS, model);
        assert_close(&ran.tensor("modules"), &ran.tensor("raw"), SUMS, model);
    });
}

/// The stream out of a block, patched whole, is all that later blocks see.
#[test]
fn everything_patched_from_clean_is_clean() {
    on_every_model(|lab, input, model| {
        let corrupt = json!([[9, 9, 9, 1, 2], [4, 5, 6, 7, 8]]);
        for layer in 0..lab.tree().layers.len().min(3) {
            let site = format!("layers.{layer}.output");
            let graph = json!([
                {"op": "set", "target": format!("corrupt/{site}"), "value": format!("clean/{site}")},
                save("clean/logits", "clean"),
                save("corrupt/logits", "patched"),
            ]);
            let ran = lab.run(&json!({"inputs": {"clean": input, "corrupt": corrupt}, "graph": graph}));
            assert!(same_bits(&ran.raw("patched"), &ran.raw("clean")), "{model}, layer {layer}");
        }
    });
}

/// What changes nothing changes no bit.
#[test]
fn writes_that_change_nothing() {
    on_every_model(|lab, input, model| {
        let plain = lab.trace(input, json!([save("logits", "x")])).raw("x");
        let unchanged = |write: Value| {
            let ran = lab.trace(input, json!([write, save("logits", "x")]));
            assert!(same_bits(&ran.raw("x"), &plain), "{model}: {write}");
            assert!(ran.outcome.receipts.iter().all(|receipt| receipt.delta_norm == 0.0), "{model}: {write}");
        };
        let small = lab.tree().layers.len() <= 4;
        for site in lab.tree().sites().filter(|site| small || site.layer().is_none_or(|layer| layer == 1)) {
            // reading or writing heads makes them, and their sum is another sum than the projection's
            if site.to_string().ends_with("heads") {
                continue;
            }
            unchanged(json!({"op": "set", "target": site.to_string(), "value": site.to_string()}));
            let part = match lab.tree().packing(site).unwrap() {
                Packing::Channels { .. } => "[:, [-1, 0], 1:]",
                Packing::Heads { .. } | Packing::Pairs { .. } => "[1, 0, 2:, 1]",
            };
            unchanged(json!({"op": "set", "target": format!("{site}{part}"), "value": format!("{site}{part}")}));
        }
        for site in ["output", "attn_add", "mlp_add", "resid_mid", "input"] {
            if is_there(lab, &format!("layers.1.{site}")) {
                unchanged(json!({"op": "steer", "layers": [0, -1], "vector": "@joy", "factor": 0, "site": site}));
                unchanged(json!({"op": "steer", "layers": 1, "vector": 0, "tokens": -1, "site": site}));
            }
        }
    });
}

#[test]
fn skipping() {
    on_every_model(|lab, input, model| {
        let last = lab.tree().layers.len() - 1;
        let without = |node: Value| {
            lab.trace(input, json!([node, save("logits", "x"), save(format!("layers.{last}.output"), "h")]))
        };
        // every block skipped: the embeddings go to the head
        let ran = without(json!({"op": "skip", "layers": [0, last]}));
        let lens = json!({"op": "project_on_vocab", "args": ["layers.0.input"], "output_transform": true});
        assert_close(&ran.tensor("x"), &lab.value(input, lens), SUMS, model);
        assert_eq!(ran.outcome.usage.layers_run, 0);
        // a block that is skipped with its own output has run
        let plain = lab.trace(input, json!([save("layers.1.output", "h"), save("logits", "x")]));
        let kept = json!({"dtype": "f32", "shape": plain.raw("h").dims(), "data": numbers(&plain.raw("h"))});
        if plain.raw("h").elem_count() < 2000 {
            let ran = without(json!({"op": "skip", "layers": 1, "with": kept}));
            assert!(same_bits(&ran.raw("x"), &plain.raw("x")), "{model}");
            assert_eq!(ran.outcome.usage.layers_run, last);
        }
        // and one that adds nothing is skipped
        let ran = lab.trace(
            input,
            json!([
                {"op": "set", "target": "layers.1.attn_add", "value": 0},
                {"op": "set", "target": "layers.1.mlp_add", "value": 0},
                save("logits", "x"),
            ]),
        );
        assert!(same_bits(&ran.raw("x"), &without(json!({"op": "skip", "layers": 1})).raw("x")), "{model}");
    });
}

/// A module called on what it received gives what it gave.
#[test]
fn modules_repeat_themselves() {
    on_every_model(|lab, input, model| {
        let sites: Vec<Site> = lab.tree().sites().collect();
        assert!(!sites.is_empty());
        for (module, from, to) in [
            ("layers.1", "layers.1.input", "layers.1.output"),
            ("layers.1.self_attn", "layers.1.self_attn.input", "layers.1.self_attn.output"),
            ("layers.1.mlp", "layers.1.mlp.input", "layers.1.mlp.output"),
            ("ln_final", "ln_final.input", "ln_final.output"),
            ("lm_head", "ln_final.output", "lm_head.output"),
        ] {
            let call = json!({"op": "call", "module": module, "args": [from]});
            let ran = lab.trace(input, json!([save(call, "called"), save(to, "was")]));
            assert_close(&ran.tensor("called"), &ran.tensor("was"), SUMS, &format!("{model}: {module}"));
        }
    });
}

/// Rows of a batch are the rows alone, to the bit, whatever stands beside them.
#[test]
fn rows_have_no_neighbours() {
    on_every_model(|lab, _, model| {
        let rows = [json!([1, 2, 3]), json!([7, 6, 5, 4, 3, 2, 1]), json!([9])];
        let graph = json!([save("logits[:, -1]", "x"), save("layers.1.self_attn.probs[:, :, -1, -1]", "p")]);
        let together = lab.trace(&json!(rows), graph.clone());
        for (i, row) in rows.iter().enumerate() {
            let alone = lab.trace(&json!([row]), graph.clone());
            let narrow = |name: &str| -> Tensor { together.raw(name).narrow(0, i, 1).unwrap().contiguous().unwrap() };
            assert!(
                same_bits(&narrow("x"), &alone.raw("x")) && same_bits(&narrow("p"), &alone.raw("p")),
                "{model}: {row}"
            );
        }
    });
}

/// A logit has the same bits whether it is made alone or among all, and so has what follows from it.
#[test]
fn logits_that_are_made_alone() {
    on_every_model(|lab, input, model| {
        let few = [
            save("logits[:, -1, [5, 2, 5]]", "list"),
            save("lm_head.output[:, [0, -1], [7, 95]]", "pairs"),
            save("logits[0, :, 90:94]", "span"),
            save("ln_final.output[:, 1]", "before"),
            save(json!({"op": "grad", "of": "logits[0, -1, 5]", "wrt": "layers.1.output"}), "gradient"),
        ];
        let all = [save("lm_head.output", "raw"), save("logits", "all")];
        let (_, narrow) = lab.plan(&json!({"input": input, "graph": few})).unwrap();
        let ids = narrow.passes[0].vocab.as_deref().unwrap();
        assert_eq!(ids, [2, 5, 7, 90, 91, 92, 93, 95]);
        let ran = lab.trace(input, json!(few));
        let beside = lab.trace(input, json!([&few[..], &all].concat()));
        for name in ["list", "pairs", "span", "before"] {
            assert!(same_bits(&ran.raw(name), &beside.raw(name)), "{model}: {name}");
        }
        assert_close(&ran.tensor("gradient"), &beside.tensor("gradient"), SUMS, &format!("{model}: gradient"));
        let logit = |row: usize, token: usize, id: usize| -> f64 {
            let of = |tensor: Tensor| tensor.get(row).unwrap().get(token).unwrap().get(id).unwrap();
            of(beside.tensor("all")).to_scalar().unwrap()
        };
        let expected: Vec<f64> = [5, 2, 5].iter().map(|id| logit(1, 4, *id)).collect();
        assert_eq!(numbers(&ran.tensor("list").get(1).unwrap()), expected, "{model}");
        assert_eq!(numbers(&ran.tensor("span").get(2).unwrap()), [90, 91, 92, 93].map(|id| logit(0, 2, id)), "{model}");
    });
}

/// A copy of what is there already is a write like any other, to the bit, though nothing is computed anew after it.
#[test]
fn a_copy_changes_what_is_another_value_and_nothing_else() {
    on_every_model(|lab, _, model| {
        let rows = json!([[7, 3, 90, 40, 55], [1, 2, 3, 4]]);
        // what nobody writes to shares its tokens with what is written
        let equal = json!([[7, 3, 90, 12, 55], [1, 2, 8, 4]]);
        let longer = json!([[7, 3, 90, 12, 55, 2], [1, 2, 8, 4]]);
        let run = |given: &Value, site: &str, change: &[Value], value: Value| {
            let inputs = json!({"a": given, "b": rows, "bystander": rows});
            let set = json!({"op": "set", "target": format!("b/{site}"), "value": value});
            let saves = [
                save("b/logits[:, -1]", "x"),
                save("b/layers.*.output[0]", "h"),
                save("bystander/logits[:, -1]", "plain"),
            ];
            let graph = [change, &[set], &saves].concat();
            lab.run(&json!({"inputs": inputs, "graph": graph}))
        };
        let change = json!({"op": "set", "target": "a/layers.0.output[:, 1]", "value": 0.5});
        let sites = ["input", "output", "self_attn.q", "self_attn.z", "self_attn.output", "mlp.output", "attn_add"];
        for (site, part) in sites.iter().flat_map(|site| ["0, 1", "0, 3", "0, 1:4", ":, 1"].map(|part| (site, part))) {
            let site = format!("layers.1.{site}");
            let heads = site.ends_with(".q") || site.ends_with(".z");
            let place = if heads { part.replacen(", ", ", :, ", 1) } else { part.to_owned() };
            let at = format!("{site}[{place}]");
            for (given, change) in [(&equal, &[][..]), (&equal, std::slice::from_ref(&change)), (&longer, &[][..])] {
                let copied = run(given, &at, change, json!(format!("a/{at}")));
                let made = run(given, &at, change, json!({"op": "mul", "args": [format!("a/{at}"), 1]}));
                for name in ["x", "h", "plain"] {
                    assert!(same_bits(&copied.raw(name), &made.raw(name)), "{model}: {name} after {at}");
                }
                assert_eq!(copied.outcome.receipts, made.outcome.receipts, "{model}: {at}");
            }
        }
    });
}

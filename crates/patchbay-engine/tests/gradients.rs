//! Gradients against what they are by definition: one-hot, a row of the unembedding, the limit of differences.
#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

mod common;

use candle_core::Tensor;
use common::{Lab, Random, apart, assert_close, numbers};
use patchbay_graph::Site;
use serde_json::{Value, json};

const MODELS: [&str; 4] = ["gpt2", "llama-gqa-tied", "llama-bias", "llama-rope3"];

fn input() -> Value {
    json!([[7, 3, 90, 12, 55], [1, 2, 3, 40, 5]])
}

fn on_every_model(test: impl Fn(&Lab, &Value, &str)) {
    for model in MODELS {
        test(&Lab::golden(model), &input(), model);
    }
    if let Some(lab) = Lab::smollm2() {
        test(&lab, &json!([[504, 3575, 282, 4649, 314], [504, 3575, 282, 8046, 314]]), "smollm2");
    }
}

fn save(value: impl Into<Value>, name: &str) -> Value {
    json!({"op": "save", "value": value.into(), "as": name})
}

fn grad(of: impl Into<Value>, wrt: &str) -> Value {
    json!({"op": "grad", "of": of.into(), "wrt": wrt})
}

#[test]
fn a_logit_with_respect_to_the_logits_is_one_hot() {
    on_every_model(|lab, input, model| {
        for site in ["logits", "lm_head.output"] {
            let found = numbers(&lab.value(input, grad("logits[1, 2, 17]", site)));
            let (tokens, vocab) = (5, lab.tree().vocab);
            let place = (tokens + 2) * vocab + 17;
            assert!(found.iter().enumerate().all(|(i, x)| *x == f64::from(u8::from(i == place))), "{model}: {site}");
        }
    });
}

#[test]
fn a_logit_with_respect_to_the_heads_input_is_a_row_of_the_unembedding() {
    on_every_model(|lab, input, model| {
        let graph = json!([
            save(grad("logits[0, -1, 17]", "ln_final.output[0, -1]"), "grad"),
            save("weights.W_U[:, 17]", "row"),
        ]);
        let ran = lab.trace(input, graph);
        assert_close(&ran.tensor("grad"), &ran.tensor("row"), 1e-6, model);
    });
}

#[test]
fn the_sum_over_rows_gives_each_row_its_own() {
    on_every_model(|lab, _, model| {
        let rows = [json!([1, 2, 3]), json!([7, 6, 5, 4, 3, 2, 1]), json!([9, 40])];
        let graph = json!([save(grad(json!({"op": "sum", "args": ["logits[:, -1, 17]"]}), "layers.1.input"), "g")]);
        let together = lab.trace(&json!(rows), graph.clone()).tensor("g");
        let longest = together.dim(1).unwrap();
        for (i, row) in rows.iter().enumerate() {
            let alone = lab.trace(&json!([row]), graph.clone()).tensor("g");
            let length = alone.dim(1).unwrap();
            let own = together.narrow(0, i, 1).unwrap();
            assert_close(&own.narrow(1, longest - length, length).unwrap(), &alone, 1e-5, &format!("{model}: {row}"));
            if length < longest {
                let padding = own.narrow(1, 0, longest - length).unwrap();
                assert!(numbers(&padding).iter().all(|x| *x == 0.0), "{model}: {row}");
            }
        }
    });
}

/// A graph whose number changes as a site is moved: the part that is moved, what else the graph does, the number.
struct Moved {
    name: String,
    body: Value,
    site: String,
    of: Value,
}

/// A number that depends on everything, smoothly.
fn score(input: &str) -> Value {
    let logits = format!("{input}logits[:, -1]");
    let scaled = json!({"op": "mul", "args": [logits, 0.1]});
    json!({"op": "sum", "args": [{"op": "sin", "args": [scaled]}]})
}

impl Moved {
    /// The gradient, and the number with the site moved by `step` along `direction`.
    fn gradient(&self, lab: &Lab) -> Tensor {
        let mut body = self.body.clone();
        body["graph"].as_array_mut().unwrap().push(save(grad(self.of.clone(), &self.site), "g"));
        lab.run(&body).tensor("g")
    }

    fn number(&self, lab: &Lab, direction: &Tensor, step: f64) -> f64 {
        let mut body = self.body.clone();
        let data: Vec<f64> = numbers(direction).iter().map(|x| x * step).collect();
        let moved = json!({"dtype": "f32", "shape": direction.dims(), "data": data});
        let graph = body["graph"].as_array_mut().unwrap();
        let set = json!({"op": "set", "target": self.site, "value": {"op": "add", "args": [self.site, moved]}});
        // first, so that whatever reads the site reads it moved
        graph.insert(0, set);
        graph.push(save(json!({"op": "cast", "args": [self.of, "f64"]}), "y"));
        lab.run(&body).number("y")
    }

    /// The slope along a random direction, by the gradient and by differences, is the same.
    fn check(&self, lab: &Lab, random: &mut Random) {
        let gradient = self.gradient(lab);
        let count = gradient.elem_count();
        let data: Vec<f64> = (0..count).map(|_| random.below(2001) as f64 / 1000.0 - 1.0).collect();
        let direction = Tensor::from_vec(data, gradient.dims(), gradient.device()).unwrap();
        let slope: f64 = numbers(&(&gradient * &direction).unwrap()).iter().sum();
        // of several steps one is neither too rough nor too fine for float32
        let difference =
            |step: f64| (self.number(lab, &direction, step) - self.number(lab, &direction, -step)) / (2.0 * step);
        let found: Vec<f64> = [3e-2, 1e-2, 3e-3, 1e-3].into_iter().map(difference).collect();
        let scale = numbers(&gradient).iter().map(|x| x * x).sum::<f64>().sqrt();
        let best = found.iter().map(|found| (found - slope).abs()).fold(f64::INFINITY, f64::min);
        assert!(
            scale > 0.0 && best <= 0.01 * slope.abs().max(0.2 * scale),
            "{}: {slope}, by differences {found:?}",
            self.name
        );
    }
}

/// Every site of a block and outside of blocks, of two architectures.
#[test]
fn gradients_are_the_limits_of_differences() {
    let mut random = Random(11);
    for model in ["gpt2", "llama-gqa-tied"] {
        let lab = Lab::golden(model);
        let sites =
            lab.tree().sites().filter(|site| site.layer().is_none_or(|layer| layer == 1) && *site != Site::Logits);
        for site in sites.map(|site| site.to_string()) {
            // a mask cannot be moved: what attends to what is there is
            let part = if site.ends_with("scores") { "[:, :, -1]" } else { "" };
            let body = json!({"input": input(), "graph": []});
            let moved = Moved { name: format!("{model} {site}"), body, site: format!("{site}{part}"), of: score("") };
            moved.check(&lab, &mut random);
        }
    }
}

/// Through writes, operations, other inputs, skips and modules.
#[test]
fn gradients_pass_through_whatever_the_graph_does() {
    let mut random = Random(12);
    let lab = Lab::golden("llama-gqa-tied");
    let one = |name: &str, graph: Value, site: &str, of: Value| Moved {
        name: name.into(),
        body: json!({"input": input(), "graph": graph}),
        site: site.into(),
        of,
    };
    let two = |name: &str, graph: Value, site: &str| Moved {
        name: name.into(),
        body: json!({"inputs": {"clean": input(), "corrupt": [[9, 8, 7, 6, 5], [4, 3, 2, 1, 0]]}, "graph": graph}),
        site: site.into(),
        of: score("corrupt/"),
    };
    let cases = [
        one(
            "a part written over",
            json!([{"op": "set", "target": "layers.1.output[:, 2]", "value": 0}]),
            "layers.0.output",
            score(""),
        ),
        one(
            "a steer",
            json!([{"op": "steer", "layers": 2, "vector": "@joy", "factor": 2}]),
            "layers.1.mlp.up",
            score(""),
        ),
        one(
            "an own earlier site",
            json!([{"op": "set", "target": "layers.2.mlp.output", "value": "layers.0.mlp.output"}]),
            "layers.0.mlp.neurons",
            score(""),
        ),
        one(
            "an operation between",
            json!([{"op": "set", "target": "layers.1.output[:, -1]", "value": {"op": "tanh", "args": ["layers.0.output[:, 1]"]}}]),
            "layers.0.output[:, 1]",
            score(""),
        ),
        one("a skip", json!([{"op": "skip", "layers": 1}]), "layers.0.output", score("")),
        one(
            "a skip with an earlier site",
            json!([{"op": "skip", "layers": [1, 2], "with": {"op": "mul", "args": ["layers.0.mlp.output", 0.5]}}]),
            "layers.0.mlp.output",
            score(""),
        ),
        one(
            "a number of probabilities",
            json!([]),
            "layers.1.self_attn.q_rot[:, 1, -1]",
            json!({"op": "sum", "args": [{"op": "log", "args": ["layers.1.self_attn.probs[:, 1, -1]"]}]}),
        ),
        one(
            "a loss",
            json!([]),
            "layers.0.attn_add",
            json!({"op": "cross_entropy", "args": ["logits[:, -1]", [3, 17]]}),
        ),
        one(
            "a module",
            json!([]),
            "layers.0.output[:, 1:4]",
            json!({"op": "sum", "args": [{"op": "sin", "args": [{"op": "call", "module": "layers.2", "args": ["layers.0.output"]}]}]}),
        ),
        one(
            "the lens",
            json!([]),
            "layers.1.resid_mid",
            json!({"op": "mean", "args": [{"op": "softmax", "args": [{"op": "project_on_vocab", "args": ["layers.1.output[:, -1, :]"]}, -1]}]}),
        ),
        two(
            "a patch",
            json!([{"op": "set", "target": "corrupt/layers.1.output[:, 2]", "value": "clean/layers.1.output[:, 2]"}]),
            "clean/layers.0.output",
        ),
        two(
            "a patch of heads",
            json!([{"op": "set", "target": "corrupt/layers.1.self_attn.z[:, 1]", "value": "clean/layers.1.self_attn.z[:, 1]"}]),
            "clean/layers.1.self_attn.v",
        ),
        two(
            "a patch to an earlier site",
            json!([{"op": "set", "target": "corrupt/layers.0.output[:, -1]", "value": "clean/layers.2.output[:, -1]"}]),
            "clean/layers.1.mlp_add",
        ),
        two(
            "a patch to the same input's other rows",
            json!([{"op": "set", "target": "corrupt/layers.1.output[0]", "value": "corrupt/layers.0.output[1]"}]),
            "corrupt/layers.0.output[1]",
        ),
    ];
    for case in cases.iter().filter(|case| case.name != "the lens") {
        case.check(&lab, &mut random);
    }
    // the mean of probabilities is always the same
    assert!(numbers(&cases[9].gradient(&lab)).iter().all(|x| x.abs() < 1e-6));
}

/// What attribution patching leaves out goes with the square of the step.
#[test]
fn the_error_of_attribution_patching_is_quadratic() {
    for (model, site) in
        [("gpt2", "layers.1.output"), ("llama-gqa-tied", "layers.0.mlp.output"), ("llama-bias", "layers.1.attn_add")]
    {
        let lab = Lab::golden(model);
        let body = json!({"input": input(), "graph": []});
        let moved = Moved { name: model.into(), body, site: site.into(), of: score("") };
        let gradient = moved.gradient(&lab);
        let mut random = Random(5);
        let data: Vec<f64> = (0..gradient.elem_count()).map(|_| random.below(2001) as f64 / 1000.0 - 1.0).collect();
        let direction = Tensor::from_vec(data, gradient.dims(), gradient.device()).unwrap();
        let slope: f64 = numbers(&(&gradient * &direction).unwrap()).iter().sum();
        let start = moved.number(&lab, &direction, 0.0);
        let error = |step: f64| moved.number(&lab, &direction, step) - start - slope * step;
        // both ways together, so that the cubic part is not there
        let square = |step: f64| error(step) + error(-step);
        let ratio = square(0.1) / square(0.05);
        assert!((3.5..4.5).contains(&ratio), "{model}: {ratio}");
    }
}

/// A gradient is the same whether its site is named alone, among others, or in part.
#[test]
fn the_same_gradient_however_it_is_asked_for() {
    on_every_model(|lab, input, model| {
        let graph = json!([
            {"op": "sum", "args": ["logits[:, -1, 3]"], "id": "y"},
            save(grad("$y", "layers.1.output"), "alone"),
            {"op": "grad", "of": "$y", "wrt": ["layers.0.output", "layers.1.output"], "id": "g"},
            save("$g.1", "among"),
            save(grad("$y", "layers.1.output[:, -1]"), "part"),
        ]);
        let ran = lab.trace(input, graph);
        assert!(apart(&ran.tensor("among"), &ran.tensor("alone")) < 1e-6, "{model}");
        let last = ran.tensor("alone").narrow(1, 4, 1).unwrap().squeeze(1).unwrap();
        assert!(apart(&ran.tensor("part"), &last) < 1e-6, "{model}");
    });
}

//! The price of a trace against what it takes when it runs, for graphs that differ in kind.

#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

mod measure;
mod model;
mod operations;

use measure::{measure, turn, warm_up};
use model::{
    Model, Shelf, apertus, bloom, deepseek_v2, gemma3, gpt_neox, gpt_oss, gpt2, job, llama, llama4, qwen2_moe, qwen3,
    rows,
};
use serde_json::{Value, json};

/// How far a price may be from what runs, as a part of what runs.
const MARGIN: f64 = 0.2;
/// Bytes that every job takes besides: a thread, a channel, a plan's lists.
const SLACK: f64 = 1e5;

/// The traces of one kind, on one model, that were priced wrongly.
struct Prices {
    model: Model,
    /// Whether the kernels are those of other devices.
    plain: bool,
    shelf: Shelf,
    wrong: Vec<String>,
}

impl Prices {
    fn new(model: Model) -> Self {
        warm_up();
        Self { model, plain: false, shelf: Shelf::default(), wrong: Vec::new() }
    }

    /// Prices a trace and runs it.
    fn trace(&mut self, name: &str, input: Value, graph: Value) {
        self.body(name, &json!({"input": input, "graph": graph}));
    }

    fn body(&mut self, name: &str, body: &Value) {
        let decoder = if self.plain { &self.model.plain } else { &self.model.fast };
        let job = job(decoder.tree(), body, &self.shelf);
        let price = job.plan.cost;
        let found = measure(decoder, self.plain, job);
        let off = |price: f64, found: f64| if price == found { 0.0 } else { price / found - 1.0 };
        let (flops, peak) =
            (off(price.flops, found.flops), off(price.peak_bytes as f64 + SLACK, found.peak_bytes as f64 + SLACK));
        let line = format!(
            "{} {name:24} {:9.3e} FLOPs {flops:+.2}, {:9.3e} bytes {peak:+.2}, {} bytes of results",
            decoder.spec().model_type,
            found.flops,
            found.peak_bytes as f64,
            found.result_bytes
        );
        if flops.abs() > MARGIN || peak.abs() > MARGIN || price.result_bytes != found.result_bytes {
            self.wrong.push(line);
        }
    }

    /// # Panics
    /// Where something was priced wrongly.
    fn check(&self) {
        assert!(self.wrong.is_empty(), "priced wrongly:\n{}", self.wrong.join("\n"));
    }
}

fn save(value: &str) -> Value {
    json!([{"op": "save", "value": value, "as": "x"}])
}

#[test]
fn reads() {
    let _turn = turn();
    for decoder in [llama(), gpt2()] {
        let mut prices = Prices::new(decoder);
        let one = || rows(&[400]);
        prices.trace("last logits", one(), save("logits[:, -1]"));
        prices.trace("all logits", one(), save("logits"));
        prices.trace("few logits", one(), save("logits[:, :, 5:105]"));
        let before = json!({"op": "save", "value": "ln_final.output", "as": "y"});
        prices.trace("few rows of logits", one(), json!([save("logits[:, -20:]")[0], before]));
        prices.trace("every layer", one(), save("layers.*.output"));
        prices.trace("every layer of a few", rows(&[200, 90, 150]), save("layers.*.output"));
        prices.trace("last token, every layer", one(), save("layers.*.output[:, -1]"));
        prices.trace("probs", one(), save("layers.*.self_attn.probs"));
        prices.trace("scores of one layer", one(), save("layers.2.self_attn.scores"));
        prices.trace("heads", one(), save("layers.1.self_attn.heads"));
        prices.trace("z of a few", rows(&[200, 90]), save("layers.1.self_attn.z"));
        prices.trace("early stop", one(), save("layers.0.output[:, -1]"));
        prices.trace("neurons", one(), save("layers.*.mlp.neurons[:, :, 5:9]"));
        prices.trace("top tokens", one(), json!([{"op": "top_tokens", "value": "logits", "k": 5, "as": "x"}]));
        prices.check();
    }
}

#[test]
fn writes() {
    let _turn = turn();
    for decoder in [llama(), gpt2()] {
        let mut prices = Prices::new(decoder);
        prices.shelf =
            Shelf::default().with("joy", &[256]).with("stream", &[1, 400, 256]).with("short", &[1, 300, 256]);
        let logits = || json!({"op": "save", "value": "logits[:, -1]", "as": "x"});
        let steer = json!([{"op": "steer", "layers": [0, 1, 2, 3], "vector": "@joy", "factor": 2}, logits()]);
        prices.trace("steer", rows(&[400]), steer.clone());
        prices.trace("steer a few", rows(&[200, 90, 150]), steer);
        let patch = json!({"inputs": {"clean": rows(&[300]), "corrupt": rows(&[300])}, "graph": [
            {"op": "set", "target": "corrupt/layers.1.output[:, 10:20]", "value": "clean/layers.1.output[:, 10:20]"},
            {"op": "save", "value": "corrupt/logits[:, -1]", "as": "x"}]});
        prices.body("patch", &patch);
        let back = json!({"inputs": {"clean": rows(&[300]), "corrupt": rows(&[300])}, "graph": [
            {"op": "set", "target": "corrupt/layers.0.output[:, 5]", "value": "clean/layers.3.output[:, 5]"},
            {"op": "save", "value": "corrupt/logits[:, -1]", "as": "x"}]});
        prices.body("several passes", &back);
        let apart = json!({"inputs": {"clean": rows(&[300]), "corrupt": rows(&[400])}, "graph": [
            {"op": "skip", "input": "clean", "layers": [1, 1], "with": "@short"},
            {"op": "set", "target": "corrupt/layers.0.output[:, 5]", "value": "clean/layers.3.output[:, 5]"},
            {"op": "save", "value": "corrupt/logits[:, -1]", "as": "x"}]});
        prices.body("skip in the first pass", &apart);
        prices.trace("skip", rows(&[400]), json!([{"op": "skip", "layers": [1, 2]}, logits()]));
        prices.trace("skip with", rows(&[400]), json!([{"op": "skip", "layers": [1, 2], "with": "@stream"}, logits()]));
        let heads = json!([{"op": "set", "target": "layers.2.self_attn.heads[:, 1]", "value": 0}, logits()]);
        prices.trace("a head away", rows(&[400]), heads);
        let probs = json!([{"op": "set", "target": "layers.2.self_attn.probs[:, 1]", "value": 0}, logits()]);
        prices.trace("attention of a head away", rows(&[400]), probs);
        prices.check();
    }
}

/// The kernels of other devices, which hold whole attention matrices.
#[test]
fn plain_kernels() {
    let _turn = turn();
    for decoder in [llama(), gpt2()] {
        let mut prices = Prices { plain: true, ..Prices::new(decoder) };
        prices.trace("last logits", rows(&[400]), save("logits[:, -1]"));
        prices.trace("a few", rows(&[200, 150]), save("layers.*.output"));
        prices.trace("probs", rows(&[400]), save("layers.*.self_attn.probs"));
        prices.check();
    }
}

/// Experts: those that the router chooses, and all of them where a write may.
#[test]
fn experts() {
    let _turn = turn();
    for plain in [false, true] {
        let mut prices = Prices { plain, ..Prices::new(qwen2_moe()) };
        prices.trace("last logits", rows(&[400]), save("logits[:, -1]"));
        prices.trace("ragged probs", rows(&[200, 150]), save("layers.2.mlp.router.probs"));
        prices.trace("ragged out", rows(&[200, 150]), save("layers.*.output"));
        prices.trace("ragged logits", rows(&[200, 150]), save("logits[:, -1]"));
        prices.trace("ragged attn", rows(&[200, 150]), save("layers.*.self_attn.output"));
        prices.trace("one token", rows(&[1]), save("logits"));
        let all = json!([
            {"op": "set", "target": "layers.2.mlp.router.probs", "value": 0.0625},
            {"op": "save", "value": "logits[:, -1]", "as": "x"}]);
        prices.trace("every expert", rows(&[400]), all);
        let called = json!({"op": "call", "module": "layers.2.mlp", "args": ["layers.1.output"]});
        prices.trace("called", rows(&[400]), json!([{"op": "save", "value": called, "as": "x"}]));
        let grad = json!({"op": "grad", "of": {"op": "sum", "args": ["logits[:, -1, 5]"]}, "wrt": "layers.*.output"});
        prices.trace("gradient", rows(&[300]), json!([{"op": "save", "as": "x", "value": grad}]));
        prices.check();
    }
}

/// Blocks that differ from LLaMA's: windows, chunks, latents, norms on heads and after modules, attention and MLP side by side.
#[test]
fn other_blocks() {
    let _turn = turn();
    for decoder in [gemma3(), qwen3(), gpt_neox(), bloom(), deepseek_v2(), llama4(), apertus(), gpt_oss()] {
        let mut plainly = Prices { plain: true, ..Prices::new(decoder.clone()) };
        plainly.trace("ragged", rows(&[200, 150]), save("layers.*.output"));
        plainly.trace("one", rows(&[350]), save("layers.*.output"));
        plainly.check();
        let mut prices = Prices::new(decoder);
        prices.trace("last logits", rows(&[400]), save("logits[:, -1]"));
        prices.trace("probs", rows(&[400]), save("layers.1.self_attn.probs"));
        let grad = json!({"op": "grad", "of": {"op": "sum", "args": ["logits[:, -1, 5]"]}, "wrt": "layers.*.output"});
        prices.trace("gradient", rows(&[300]), json!([{"op": "save", "as": "x", "value": grad}]));
        prices.check();
    }
}

#[test]
fn computing() {
    let _turn = turn();
    let mut prices = Prices::new(llama());
    prices.shelf = Shelf::default().with("probe", &[256, 4096]).with("a", &[800, 800]);
    let one = || rows(&[400]);
    let saved = |node: Value| json!([{"op": "save", "value": node, "as": "x"}]);
    prices.trace(
        "einsum",
        one(),
        saved(json!({"op": "einsum", "args": ["bsd,btd->bst", "layers.1.output", "layers.3.output"]})),
    );
    prices.trace("matmul", one(), saved(json!({"op": "matmul", "args": ["layers.1.output", "@probe"]})));
    let chain = json!({"op": "matmul", "args": ["@a", {"op": "matmul", "args": ["@a", {"op": "matmul", "args": ["@a", "@a"]}]}]});
    prices.trace("matmuls", rows(&[3]), saved(chain));
    let probs = json!({"op": "softmax", "args": ["logits"], "dim": -1});
    prices.trace("next-token probs", one(), saved(json!({"op": "mean", "args": [probs], "dim": 1})));
    let lens = json!({"op": "project_on_vocab", "args": ["layers.*.output[:, -1]"]});
    prices.trace("lens", one(), saved(json!({"op": "softmax", "args": [lens], "dim": -1})));
    let whole = json!({"op": "project_on_vocab", "args": ["layers.*.output"]});
    prices.trace("lens of all tokens", one(), json!([{"op": "top_tokens", "value": whole, "k": 3, "as": "x"}]));
    for module in ["layers.2", "layers.2.self_attn", "layers.2.mlp", "ln_final", "lm_head", "layers.1.mlp_norm"] {
        prices.trace(module, one(), saved(json!({"op": "call", "module": module, "args": ["layers.1.output"]})));
    }
    prices.trace(
        "call of a few",
        rows(&[200, 90]),
        saved(json!({"op": "call", "module": "layers.2", "args": ["layers.1.output"]})),
    );
    prices.trace("weights", rows(&[3]), save("weights.layers.*.W_O"));
    let circuit = json!({"op": "einsum", "args": ["hdm,hmk,kv->hdv", "weights.layers.1.W_V", "weights.layers.1.W_O[:2]", "weights.W_U"]});
    prices.trace("circuit", rows(&[3]), saved(circuit));
    prices.check();
}

#[test]
fn gradients() {
    let _turn = turn();
    for decoder in [llama(), gpt2()] {
        let mut prices = Prices::new(decoder);
        let grad = |wrt: Value| json!([{"op": "save", "as": "x", "value": {"op": "grad", "of": {"op": "sum", "args": ["logits[:, -1, 5]"]}, "wrt": wrt}}]);
        prices.trace("gradient, all layers", rows(&[300]), grad(json!("layers.*.output")));
        prices.trace("gradient, a few", rows(&[120, 90, 60]), grad(json!("layers.*.output")));
        prices.trace("gradient, embeddings", rows(&[300]), grad(json!("embed_tokens.output")));
        prices.trace("gradient, probs", rows(&[300]), grad(json!("layers.1.self_attn.probs")));
        prices.trace("gradient, last layer", rows(&[300]), grad(json!("layers.3.output")));
        let whole = json!([{"op": "save", "as": "x", "value": {"op": "grad", "of": {"op": "mean", "args": [{"op": "logsumexp", "args": ["logits"], "dim": -1}]}, "wrt": "layers.0.output"}}]);
        prices.trace("gradient of all logits", rows(&[300]), whole);
        prices.check();
    }
}

//! The price of a trace against what it takes when it runs, for graphs that differ in kind.

#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

mod measure;
mod model;

use measure::measure;
use model::{Shelf, gpt2, job, llama, rows};
use patchbay_model::Decoder;
use serde_json::{Value, json};

/// How far a price may be from what runs, as a part of what runs.
const MARGIN: f64 = 0.2;

/// The traces of one kind, on one model, that were priced wrongly.
struct Prices {
    decoder: Decoder,
    shelf: Shelf,
    wrong: Vec<String>,
}

impl Prices {
    fn new(decoder: Decoder) -> Self {
        Self { decoder, shelf: Shelf::default(), wrong: Vec::new() }
    }

    /// Prices a trace and runs it.
    fn trace(&mut self, name: &str, input: Value, graph: Value) {
        self.body(name, &json!({"input": input, "graph": graph}));
    }

    fn body(&mut self, name: &str, body: &Value) {
        let job = job(&self.decoder, body, &self.shelf);
        let price = job.plan.cost;
        let found = measure(&self.decoder, job);
        let off = |price: f64, found: f64| if price == found { 0.0 } else { price / found - 1.0 };
        let (flops, peak) = (off(price.flops, found.flops), off(price.peak_bytes as f64, found.peak_bytes as f64));
        let line = format!(
            "{name:24} {:9.3e} FLOPs {flops:+.2}, {:9.3e} bytes {peak:+.2}, {} bytes of results",
            found.flops, found.peak_bytes as f64, found.result_bytes
        );
        println!("{line}");
        if flops.abs() > MARGIN || peak.abs() > MARGIN || price.result_bytes != found.result_bytes {
            self.wrong.push(line);
        }
    }
}

impl Drop for Prices {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.wrong.is_empty(), "priced wrongly:\n{}", self.wrong.join("\n"));
        }
    }
}

fn save(value: &str) -> Value {
    json!([{"op": "save", "value": value, "as": "x"}])
}

#[test]
fn reads() {
    for decoder in [llama(), gpt2()] {
        let mut prices = Prices::new(decoder);
        let one = || rows(&[400]);
        prices.trace("last logits", one(), save("logits[:, -1]"));
        prices.trace("all logits", one(), save("logits"));
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
    }
}

#[test]
fn writes() {
    for decoder in [llama(), gpt2()] {
        let mut prices = Prices::new(decoder);
        prices.shelf = Shelf::default().with("joy", &[256]).with("stream", &[1, 400, 256]);
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
        prices.trace("skip", rows(&[400]), json!([{"op": "skip", "layers": [1, 2]}, logits()]));
        prices.trace("skip with", rows(&[400]), json!([{"op": "skip", "layers": [1, 2], "with": "@stream"}, logits()]));
        let heads = json!([{"op": "set", "target": "layers.2.self_attn.heads[:, 1]", "value": 0}, logits()]);
        prices.trace("a head away", rows(&[400]), heads);
        let probs = json!([{"op": "set", "target": "layers.2.self_attn.probs[:, 1]", "value": 0}, logits()]);
        prices.trace("attention of a head away", rows(&[400]), probs);
    }
}

#[test]
fn computing() {
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
}

#[test]
fn gradients() {
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
    }
}

#[test]
fn zz_ops() {
    let mut prices = Prices::new(llama());
    prices.shelf = Shelf::default().with("a", &[1000, 1000]).with("b", &[1000, 1000]).with("v", &[1000000]).with("r", &[1000]);
    let i = json!({"op": "cast", "args": ["@a"], "dtype": "i64"});
    let _ = &i;
    let mut run = |name: &str, node: Value| {
        let job = job(&prices.decoder, &json!({"input": rows(&[3]), "graph": [{"op": "save", "value": node, "as": "x"}]}), &prices.shelf);
        let price = job.plan.cost.peak_bytes as f64 / 4e6;
        let result = job.plan.cost.result_bytes as f64 / 4e6;
        let found = measure(&prices.decoder, job).peak_bytes as f64 / 4e6;
        println!("OP {name:20} result {result:.2} priced {price:.2} found {found:.2}");
    };
    let classes = || json!({"op": "arange", "args": [1000]});
    run("cross_entropy", json!({"op": "cross_entropy", "args": ["@a", classes()]}));
    run("cross_entropy none", json!({"op": "cross_entropy", "args": ["@a", "@b"], "reduction": "none"}));
    run("kl_div", json!({"op": "kl_div", "args": ["@a", "@b"]}));
    run("kl_div none", json!({"op": "kl_div", "args": ["@a", "@b"], "reduction": "none"}));
    run("reshape", json!({"op": "reshape", "args": ["@a", [500, 2000]]}));
    run("transpose", json!({"op": "transpose", "args": ["@a", 0, 1]}));
    run("permute", json!({"op": "permute", "args": ["@a", [1, 0]]}));
    run("unsqueeze", json!({"op": "unsqueeze", "args": ["@a", 0]}));
    run("expand", json!({"op": "expand", "args": ["@r", [1000, 1000]]}));
    run("repeat", json!({"op": "repeat", "args": ["@r", [1000, 1]]}));
    run("flip", json!({"op": "flip", "args": ["@a", [0]]}));
    run("cat", json!({"op": "cat", "args": [["@a", "@b"]]}));
    run("cat 1", json!({"op": "cat", "args": [["@a", "@b"]], "dim": 1}));
    run("stack", json!({"op": "stack", "args": [["@a", "@b"]]}));
    run("split", json!({"op": "split", "args": ["@a", 500], "dim": 1}));
    run("tril", json!({"op": "tril", "args": ["@a"]}));
    run("index_select", json!({"op": "index_select", "args": ["@a", 0, classes()]}));
    let index = || json!({"op": "zeros", "args": [1000, 1000], "dtype": "i64"});
    run("index", index());
    run("gather", json!({"op": "gather", "args": ["@a", 1, index()]}));
    run("scatter_add", json!({"op": "scatter_add", "args": ["@a", 1, index(), "@b"]}));
    run("one_hot", json!({"op": "one_hot", "args": [classes(), 1000]}));
    run("zeros", json!({"op": "zeros", "args": [1000, 1000]}));
    run("full", json!({"op": "full", "args": [[1000, 1000], 2.5]}));
    run("eye", json!({"op": "eye", "args": [1000]}));
    run("arange", json!({"op": "arange", "args": [0, 1000000]}));
    run("arange f", json!({"op": "arange", "args": [0, 1000000], "dtype": "f32"}));
    run("randn", json!({"op": "randn", "args": [1000, 1000], "seed": 1}));
    run("cast f16", json!({"op": "cast", "args": ["@a"], "dtype": "f16"}));
    run("cast i64", i.clone());
    run("cast f32", json!({"op": "cast", "args": ["@a"], "dtype": "f32"}));
    run("add i64", json!({"op": "add", "args": [i.clone(), i.clone()]}));
    run("sum i64", json!({"op": "sum", "args": [i.clone()]}));
    run("matmul i64", json!({"op": "matmul", "args": [i.clone(), i.clone()]}));
    run("index read", json!("@a[:, 3]"));
    run("index rows", json!("@a[::2]"));
    run("index cols", json!("@a[:, ::2]"));
}

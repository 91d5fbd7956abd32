//! What recipes do is what the graphs do that they say they are, and what graphs written by hand do.

use serde_json::{Value, json};

use super::{close, cook, explained};
use crate::server::Server;

const MODEL: &str = "llama-rope3";

/// A body for every recipe, for a model of 3 layers, 24 wide, with 3 heads, and a tokenizer.
pub(super) fn bodies() -> Vec<(&'static str, Value)> {
    let input = json!([[1, 2, 3, 4], [5, 6, 7]]);
    let (clean, corrupt) = (json!([[1, 2, 3, 4]]), json!([[1, 9, 3, 4]]));
    let metric = json!({"logit_diff": [7, 9]});
    let contrast = json!({"positive": [[1, 2], [3]], "negative": [[4], [5, 6]], "layer": 0});
    let labelled: Vec<Value> = (0..12).map(|i| json!({"text": [i, 2 * i + 1], "label": i % 2})).collect();
    let words = json!([{"text": [1, 2], "targets": {"a": "x", "b": ["y", "zz"]}}, {"text": [3], "targets": {"a": "u", "b": "v"}}]);
    vec![
        ("next-token-probs", json!({"input": input})),
        ("next-token-probs", json!({"input": input, "k": 3})),
        ("logit-lens", json!({"input": input, "layers": [0, -1]})),
        ("logit-lens", json!({"input": input, "k": 2})),
        ("activations", json!({"input": input, "layers": [2], "index": 0, "site": "mlp.neurons"})),
        ("activations", json!({"input": input, "site": "self_attn.z"})),
        ("patchscope", json!({"input": input, "target": {"prompt": "ab c", "index": -1}})),
        ("patchscope", json!({"input": input, "layers": [1], "k": 2})),
        ("patchscope", json!({"latents": vec![vec![vec![0.5; 24]; 2]; 3]})),
        (
            "patchscope-generate",
            json!({"input": input, "layers": [0, 2], "target": {"prompt": "ab c"}, "max_new_tokens": 3}),
        ),
        ("patchscope-generate", json!({"latents": vec![vec![vec![0.5; 24]; 2]; 3], "temperature": 1, "seed": 3})),
        ("object-attention-lens", json!({"sources": input, "targets": input, "index": 1, "num_patches": 2})),
        ("steer", json!({"input": input, "layers": [1], "vector": contrast, "factor": 3})),
        ("steer", json!({"input": input, "layers": [0, 2], "vector": vec![0.1; 24], "tokens": [-1], "k": 1})),
        ("steering-sweep", json!({"input": input, "vector": contrast, "factors": [-1, 0, 2], "metric": metric})),
        ("steering-sweep", json!({"input": input, "layers": [1], "vector": contrast, "metric": {"kl": "base"}})),
        ("targets", json!({"prompts": words})),
        ("targets", json!({"prompts": words, "through": "logit-lens"})),
        (
            "targets",
            json!({"prompts": words, "through": {"recipe": "steer", "layers": [1], "vector": [1.0], "factor": 2}}),
        ),
        ("patching-sweep", json!({"clean": clean, "corrupt": corrupt, "metric": metric})),
        (
            "patching-sweep",
            json!({"clean": clean, "corrupt": corrupt, "heads": "all", "layers": [0, 1], "metric": {"prob": 7}}),
        ),
        (
            "patching-sweep",
            json!({"clean": clean, "corrupt": corrupt, "site": "mlp.output", "positions": [1, -1], "metric": {"kl": "clean"}}),
        ),
        ("attribution-patching", json!({"clean": clean, "corrupt": corrupt, "metric": metric})),
        ("attribution-patching", json!({"clean": clean, "corrupt": corrupt, "heads": [0, 2], "metric": metric})),
        (
            "attribution-patching",
            json!({"clean": clean, "corrupt": corrupt, "site": "self_attn.v", "positions": [0, 1], "metric": metric}),
        ),
        ("direct-logit-attribution", json!({"input": input, "tokens": [7, 9], "per": "head"})),
        ("tuned-lens", json!({"input": input, "lens": "@lens", "layers": [0, 2]})),
        ("sae", json!({"input": input, "sae": "@sae", "layer": 1})),
        ("sae", json!({"input": input, "sae": "@sae", "layer": 1, "action": "top", "k": 2})),
        ("sae", json!({"input": input, "sae": "@sae", "layer": 1, "action": "decode"})),
        ("sae", json!({"input": input, "sae": "@sae", "layer": 1, "action": "clamp", "clamp": {"3": 8.5, "0": 0}})),
        ("sae", json!({"input": input, "sae": "@jump", "layer": 0, "site": "mlp.output", "top_k": 2})),
        ("probe", json!({"prompts": labelled})),
        ("attention-patterns", json!({"input": [[1, 2, 1, 2, 1], [3, 3]], "layers": [1, 2]})),
        ("attention-patterns", json!({"input": input, "patterns": false, "scores": ["previous_token"]})),
    ]
}

/// A model, and what its recipes name in the store.
pub(super) async fn server() -> Server {
    let server = Server::with(MODEL).await;
    let random = |shape: Value, seed: u64| json!({"op": "randn", "size": shape, "seed": seed});
    let keep = |name: &str, seed: u64, threshold: bool| {
        let mut parts = vec![
            ("W_enc", random(json!([24, 6]), seed)),
            ("b_enc", random(json!([6]), seed + 1)),
            ("W_dec", random(json!([6, 24]), seed + 2)),
            ("b_dec", random(json!([24]), seed + 3)),
        ];
        if threshold {
            parts.push(("threshold", json!({"op": "full", "size": [6], "fill_value": 0.5})));
        }
        (name.to_owned(), parts)
    };
    let lens = (0..3).flat_map(|layer: u64| {
        [
            (format!("{layer}.weight"), random(json!([24, 24]), layer)),
            (format!("{layer}.bias"), random(json!([24]), 9 + layer)),
        ]
    });
    let mut files = vec![("lens".to_owned(), lens.collect::<Vec<_>>())];
    for (name, parts) in [keep("sae", 20, false), keep("jump", 30, true)] {
        files.push((name, parts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()));
    }
    for (name, parts) in files {
        let graph: Vec<Value> =
            parts.iter().map(|(key, value)| json!({"op": "save", "value": value, "as": key})).collect();
        let answer = server.trace(&json!({"input": [[1]], "graph": graph})).await;
        assert!(server.put(&format!("/v1/tensors/{name}"), &answer["results"]).await.status().is_success(), "{name}");
    }
    server
}

#[tokio::test]
async fn a_recipe_is_the_trace_that_it_says_it_is() {
    let server = server().await;
    for (name, body) in bodies() {
        let found = cook(&server, name, &body).await;
        let trace = explained(&server, name, &body).await;
        assert!(trace["graph"][0].is_string(), "the graph is in the text form: {trace}");
        if trace.get("grow").is_some() {
            is_the_generation(&found, &server.generate(&trace).await);
            continue;
        }
        let by_hand = server.trace(&trace).await;
        assert_eq!(found["results"], by_hand["results"], "{name} {body}");
        assert!(!found["results"].as_object().unwrap().is_empty());
    }
}

/// The rows of text are those of the generation that it says it is, by prompt and layer.
fn is_the_generation(found: &Value, by_hand: &Value) {
    for (name, field) in [("text", "text"), ("tokens", "tokens"), ("ids", "ids")] {
        let nested = found["results"][name].as_array().unwrap();
        let flat: Vec<&Value> = nested.iter().flat_map(|prompt| prompt.as_array().unwrap()).collect();
        let outputs = by_hand["outputs"].as_array().unwrap();
        assert_eq!(nested.len(), 2);
        assert_eq!(flat, outputs.iter().map(|output| &output[field]).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_patchscopes_text_is_that_of_each_layer_alone() {
    let server = Server::with(MODEL).await;
    let input = json!([[1, 2, 3, 4], [5, 6, 7]]);
    let body = json!({"input": input, "target": {"prompt": "ab c"}, "max_new_tokens": 4, "ignore_eos": true});
    let found = cook(&server, "patchscope-generate", &body).await;
    for layer in 0..3 {
        let kept = json!({"input": input, "graph": format!("save layers.{layer}.output[:, -1] to @kept")});
        server.trace(&kept).await;
        let set = json!({"op": "set", "target": format!("layers.{layer}.output[:, -1]"), "value": "@kept", "steps": "prompt"});
        let alone = json!({"input": ["ab c", "ab c"], "graph": [set], "max_new_tokens": 4, "ignore_eos": true});
        let alone = server.generate(&alone).await;
        for prompt in 0..2 {
            assert_eq!(found["results"]["ids"][prompt][layer], alone["outputs"][prompt]["ids"]);
        }
    }
}

#[tokio::test]
async fn every_recipe_is_known_and_tried() {
    let server = Server::with(MODEL).await;
    let list: Value = server.get("/v1/recipes").await.json().await.unwrap();
    for name in list["data"].as_array().unwrap() {
        assert!(bodies().iter().any(|(tried, _)| tried == name), "{name}");
    }
}

/// Results of a recipe and those of a graph that was written by hand.
async fn alike(server: &Server, name: &str, body: Value, trace: Value) {
    let (found, expected) = (cook(server, name, &body).await, server.trace(&trace).await);
    for (result, expected) in expected["results"].as_object().unwrap() {
        close(&found["results"][result], expected, &format!("{name} {body}: {result}"));
    }
}

#[tokio::test]
async fn grids_are_those_of_graphs_by_hand() {
    let server = server().await;
    let runs = json!({"clean": [[1, 2, 3, 4]], "corrupt": [[1, 9, 3, 4]]});
    let with = |more: Value| {
        let mut body = runs.clone();
        more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        body
    };
    let grid = |graph: &str, axes: Value| json!({"inputs": runs, "sweep": axes, "graph": graph});
    let metric = "save corrupt/logits[0, -1, 7] - corrupt/logits[0, -1, 9] as grid";
    alike(
        &server,
        "patching-sweep",
        with(json!({"metric": {"logit_diff": [7, 9]}})),
        grid(
            &format!("corrupt/layers.{{l}}.output[:, {{p}}] = clean/layers.{{l}}.output[:, {{p}}]\n{metric}"),
            json!({"l": [0, 1, 2], "p": [0, 1, 2, 3]}),
        ),
    )
    .await;
    alike(
        &server,
        "patching-sweep",
        with(json!({"heads": [2, 0], "layers": [1], "metric": {"op": "sum", "args": ["logits[0, -1, :5]"]}})),
        grid(
            "corrupt/layers.{l}.self_attn.z[:, {h}] = clean/layers.{l}.self_attn.z[:, {h}]\nsave sum(corrupt/logits[0, -1, :5]) as grid",
            json!({"l": [1], "h": [2, 0]}),
        ),
    )
    .await;
    let kl = "a = log_softmax(clean/logits[0, -1], -1)\nb = log_softmax(corrupt/logits[0, -1], -1)\nsave sum(exp(a) * (a - b)) as grid";
    alike(
        &server,
        "patching-sweep",
        with(json!({"site": "resid_mid", "positions": [-1], "metric": {"kl": "clean"}})),
        grid(
            &format!("corrupt/layers.{{l}}.resid_mid[:, {{p}}] = clean/layers.{{l}}.resid_mid[:, {{p}}]\n{kl}"),
            json!({"l": [0, 1, 2], "p": [-1]}),
        ),
    )
    .await;
    let slope = "m = corrupt/logits[0, -1, 7] - corrupt/logits[0, -1, 9]\ng = grad(m, corrupt/layers.*.output)\n";
    alike(
        &server,
        "attribution-patching",
        with(json!({"metric": {"logit_diff": [7, 9]}})),
        json!({"inputs": runs, "graph": format!(
            "{slope}save sum($g[:, 0] * (clean/layers.*.output[0] - corrupt/layers.*.output[0]), -1) + m as grid"
        )}),
    )
    .await;
}

/// The gradient's estimate is what patching gives where little is patched: its error falls with the square.
#[tokio::test]
async fn the_estimate_is_the_slope_of_patching() {
    let server = server().await;
    let nearly = |share: f64| {
        let set = json!({"graph": format!("layers.0.input[:, 1] *= {share}"), "input": [[1, 2, 3, 4]]});
        (share, set)
    };
    let mut apart = Vec::new();
    for (share, edit) in [nearly(0.96), nearly(0.98)] {
        // the corrupt run is the clean one with a little less of a token
        assert!(server.put("/v1/edits/less", &edit).await.status().is_success());
        let low =
            json!({"model": format!("{MODEL}+less"), "input": [[1, 2, 3, 4]], "graph": "save logits[0, -1, 7] as x"});
        let clean = json!({"model": MODEL, "input": [[1, 2, 3, 4]], "graph": "save logits[0, -1, 7] as x\nm = sum(logits[0, -1, 7])\ng = grad(m, layers.0.input)\nsave sum($g[0, 1] * layers.0.input[0, 1]) as slope"});
        let (low, high) = (server.trace(&low).await, server.trace(&clean).await);
        let number = |answer: &Value, name: &str| answer["results"][name]["data"].as_f64().unwrap();
        let change = number(&high, "x") - number(&low, "x");
        apart.push((change - (1.0 - share) * number(&high, "slope")).abs());
    }
    assert!(apart[1] < 0.5 * apart[0], "{apart:?}");
}

#[tokio::test]
async fn lenses_and_dictionaries_are_those_of_graphs_by_hand() {
    let server = server().await;
    let input = json!([[1, 2, 3, 4], [5, 6, 7]]);
    let hand = |graph: &str| json!({"input": input, "graph": graph});
    let lens = "a = layers.1.output[:, -1] + matmul(layers.1.output[:, -1], transpose(@lens.1.weight, 0, 1)) + @lens.1.bias\n\
                save unsqueeze(softmax(project_on_vocab(a), -1), 1) as probs";
    alike(&server, "tuned-lens", json!({"input": input, "lens": "@lens", "layers": [1]}), hand(lens)).await;
    let sae = "f = relu(matmul(layers.1.output - @sae.b_dec, @sae.W_enc) + @sae.b_enc)\n";
    let asked = |more: Value| {
        let mut body = json!({"input": input, "sae": "@sae", "layer": 1});
        more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        body
    };
    alike(&server, "sae", asked(json!({})), hand(&format!("{sae}save f as features"))).await;
    let clamp = format!(
        "{sae}layers.1.output += unsqueeze(8 - $f[:, :, 3], -1) * @sae.W_dec[3]\nsave softmax(logits[:, -1], -1) as probs"
    );
    alike(&server, "sae", asked(json!({"action": "clamp", "clamp": {"3": 8}})), hand(&clamp)).await;
    let jump = "p = matmul(layers.1.output, @jump.W_enc) + @jump.b_enc\nsave where(p > 0.5, p, 0 * p) as features";
    alike(&server, "sae", asked(json!({"sae": "@jump"})), hand(jump)).await;
    let sweep =
        json!({"input": input, "layers": [0, 2], "vector": vec![0.5; 24], "factors": [1, -2], "metric": {"prob": 7}});
    let by_hand = json!({
        "input": input, "sweep": {"l": [0, 2], "f": [1, -2]},
        "graph": "layers.{l}.output += 0.5 * {f}\np = softmax(logits[:, -1], -1)\nsave mean($p[:, 7]) as grid"
    });
    alike(&server, "steering-sweep", sweep, by_hand).await;
}

#[tokio::test]
async fn heads_are_scored_by_where_they_look() {
    let server = server().await;
    // 1 2 1 2 1: tokens 2, 3, 4 have come before, at 0, 1, and 0 and 2; behind these stand 1, 2, and 1 and 3
    let body = json!({"input": [[1, 2, 1, 2, 1], [3, 3]], "layers": [1, 2]});
    let graph = "p = layers.[1, 2].self_attn.probs[0]\n\
                 q = layers.[1, 2].self_attn.probs[1]\n\
                 save stack([($p[:, :, 1, 0] + $p[:, :, 2, 1] + $p[:, :, 3, 2] + $p[:, :, 4, 3]) / 4, $q[:, :, 1, 0]], 0) as previous_token\n\
                 save stack([($p[:, :, 2, 0] + $p[:, :, 3, 1] + $p[:, :, 4, 0] + $p[:, :, 4, 2]) / 3, $q[:, :, 1, 0]], 0) as duplicate_token\n\
                 save stack([($p[:, :, 2, 1] + $p[:, :, 3, 2] + $p[:, :, 4, 1] + $p[:, :, 4, 3]) / 3, $q[:, :, 1, 1]], 0) as induction\n\
                 save layers.[1, 2].self_attn.probs as patterns";
    alike(&server, "attention-patterns", body.clone(), json!({"input": body["input"], "graph": graph})).await;
}

//! What is wrong is said of the recipe's own fields.

use serde_json::{Value, json};

use crate::server::Server;

#[tokio::test]
async fn problems_point_into_the_recipe() {
    let server = Server::with("llama-rope3").await;
    let input = json!([[1, 2, 3], [4, 5]]);
    let diff = json!({"logit_diff": [7, 9]});
    let runs = |more: Value| {
        let mut body = json!({"clean": [[1, 2, 3]], "corrupt": [[1, 4, 3]], "metric": diff});
        more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        body
    };
    let labelled: Vec<Value> = (0..6).map(|i| json!({"text": [i], "label": i % 2})).collect();
    for (name, body, status, code, pointer) in [
        ("logit-lense", json!({"input": input}), 404, "unknown_recipe", ""),
        ("logit-lens", json!([]), 400, "malformed", ""),
        ("logit-lens", json!({}), 400, "missing_field", ""),
        ("logit-lens", json!({"input": input, "layer": [1]}), 400, "unknown_field", "/layer"),
        ("logit-lens", json!({"input": input, "layers": [1, 99]}), 422, "unknown_site", "/layers/1"),
        ("logit-lens", json!({"input": input, "layers": []}), 422, "bad_argument", "/layers"),
        ("logit-lens", json!({"input": [[1], [1000]]}), 422, "index_out_of_range", "/input/1/0"),
        ("logit-lens", json!({"input": input, "k": 0}), 422, "bad_argument", "/k"),
        ("logit-lens", json!({"input": input, "model": "nobody"}), 404, "unknown_model", "/model"),
        ("logit-lens", json!({"input": input, "output": {"encoding": "xml"}}), 422, "bad_argument", "/output/encoding"),
        ("logit-lens", json!({"input": input, "async": 1}), 422, "bad_argument", "/async"),
        ("activations", json!({"input": input, "site": "outptu"}), 422, "unknown_site", "/site"),
        ("activations", json!({"input": input, "index": 5}), 422, "index_out_of_range", "/site"),
        (
            "patchscope",
            json!({"input": input, "target": {"prompt": "a b", "index": 99}}),
            422,
            "index_out_of_range",
            "/target",
        ),
        ("patchscope", json!({"input": input, "target": {"promt": "a"}}), 400, "missing_field", "/target"),
        ("patchscope", json!({"input": input, "target": [{"prompt": "a"}]}), 422, "shape_mismatch", "/target"),
        ("patchscope", json!({"input": input, "latents": "@x"}), 422, "bad_argument", "/latents"),
        ("patchscope", json!({"latents": "@nobody"}), 404, "unknown_tensor", "/latents"),
        ("patchscope", json!({"latents": [[1, 2]]}), 422, "shape_mismatch", "/latents"),
        ("patchscope", json!({"input": vec![[1]; 1000]}), 413, "too_large", "/target"),
        ("object-attention-lens", json!({"sources": [[1]], "targets": input}), 422, "shape_mismatch", "/sources"),
        (
            "object-attention-lens",
            json!({"sources": input, "targets": input, "index": 9}),
            422,
            "index_out_of_range",
            "/index",
        ),
        (
            "object-attention-lens",
            json!({"sources": input, "targets": input, "num_patches": 0}),
            422,
            "empty_write",
            "/num_patches",
        ),
        ("steer", json!({"input": input, "vector": [1.0]}), 400, "missing_field", ""),
        ("steer", json!({"input": input, "layers": [1], "vector": "@nobody"}), 404, "unknown_tensor", "/vector"),
        ("steer", json!({"input": input, "layers": [1], "vector": {"positive": "a"}}), 400, "missing_field", "/vector"),
        ("steer", json!({"input": input, "layers": [1], "vector": [1.0, 2.0]}), 422, "shape_mismatch", "/vector"),
        (
            "steer",
            json!({"input": input, "layers": [1], "vector": [1.0], "tokens": [50]}),
            422,
            "index_out_of_range",
            "/tokens",
        ),
        ("targets", json!({"prompts": []}), 422, "bad_argument", "/prompts"),
        ("targets", json!({"prompts": [{"text": "a"}]}), 400, "missing_field", "/prompts/0"),
        (
            "targets",
            json!({"prompts": [{"text": "a", "targets": {"x": 3}}]}),
            422,
            "bad_argument",
            "/prompts/0/targets/x",
        ),
        (
            "targets",
            json!({"prompts": [{"text": "a", "targets": "b"}], "through": "probe"}),
            422,
            "bad_argument",
            "/through",
        ),
        (
            "targets",
            json!({"prompts": [{"text": "a", "targets": "b"}], "through": {"recipe": "logit-lens", "layers": [9]}}),
            422,
            "unknown_site",
            "/through/layers/0",
        ),
        (
            "targets",
            json!({"prompts": [{"text": "a", "targets": "b"}], "through": {"recipe": "steer", "layers": [1], "vector": [1.0, 2.0]}}),
            422,
            "shape_mismatch",
            "/through/vector",
        ),
        (
            "targets",
            json!({"prompts": [{"text": [1000], "targets": "b"}], "through": "logit-lens"}),
            422,
            "index_out_of_range",
            "/prompts/0/0",
        ),
        ("patching-sweep", runs(json!({"metric": {"logit_diff": [7]}})), 422, "bad_argument", "/metric/logit_diff"),
        ("patching-sweep", runs(json!({"metric": {"prob": "two words"}})), 422, "bad_argument", "/metric/prob"),
        ("patching-sweep", runs(json!({"metric": {"kl": "corrupt"}})), 422, "unknown_input", "/metric/kl"),
        ("patching-sweep", runs(json!({"metric": {"bits": 1}})), 422, "bad_argument", "/metric"),
        ("patching-sweep", runs(json!({"metric": {"op": "sum", "args": ["logitz"]}})), 422, "unknown_site", "/metric"),
        ("patching-sweep", runs(json!({"heads": [9]})), 422, "index_out_of_range", "/heads"),
        ("patching-sweep", runs(json!({"heads": [0], "site": "output"})), 422, "bad_argument", "/heads"),
        ("patching-sweep", runs(json!({"positions": [7]})), 422, "index_out_of_range", "/positions"),
        ("patching-sweep", runs(json!({"positions": [0], "heads": [0]})), 422, "bad_argument", "/heads"),
        ("attribution-patching", runs(json!({"positions": [7]})), 422, "index_out_of_range", "/positions"),
        ("direct-logit-attribution", json!({"input": input, "tokens": [1, 2, 3]}), 422, "bad_argument", "/tokens"),
        (
            "direct-logit-attribution",
            json!({"input": input, "tokens": [1, 5000]}),
            422,
            "index_out_of_range",
            "/tokens/1",
        ),
        (
            "direct-logit-attribution",
            json!({"input": input, "tokens": 1, "per": "neuron"}),
            422,
            "bad_argument",
            "/per",
        ),
        ("tuned-lens", json!({"input": input, "lens": "@nobody"}), 404, "unknown_tensor", "/lens"),
        ("sae", json!({"input": input, "layer": 1, "sae": "@nobody"}), 404, "unknown_tensor", "/sae"),
        ("sae", json!({"input": input, "layer": 7, "sae": "@nobody"}), 422, "unknown_site", "/layer"),
        ("probe", json!({"prompts": labelled}), 422, "bad_argument", "/prompts"),
        ("probe", json!({"prompts": [{"text": "a", "label": []}]}), 422, "bad_argument", "/prompts/0/label"),
        ("attention-patterns", json!({"input": input, "scores": ["prev"]}), 422, "bad_argument", "/scores"),
        (
            "attention-patterns",
            json!({"input": input, "patterns": false, "scores": []}),
            422,
            "nothing_saved",
            "/scores",
        ),
    ] {
        let problem = server.refused(&format!("/v1/recipes/{name}"), &body, status).await;
        let found = problem.get("pointer").map_or("", |pointer| pointer.as_str().unwrap());
        assert_eq!((problem["code"].as_str().unwrap(), found), (code, pointer), "{name} {body}\n{problem}");
    }
}

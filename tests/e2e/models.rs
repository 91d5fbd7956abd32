//! The models of a server: listed, described, loaded, unloaded, and what is said of those that cannot be loaded.

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use reqwest::Method;
use serde_json::{Value, json};

use crate::folder::Folder;
use crate::server::{Server, golden, patchbay};

fn source(model: &str) -> Value {
    json!({"source": golden(model).display().to_string()})
}

/// Waits until a model is loaded, or cannot be.
async fn settled(server: &Server, name: &str) -> Value {
    let begin = Instant::now();
    loop {
        let view: Value = server.get(&format!("/v1/models/{name}")).await.json().await.unwrap();
        if view["status"] != "loading" {
            return view;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{view}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn from_put_to_delete() {
    let server = Server::start(&[]);
    assert_eq!(server.get("/readyz").await.status(), 200, "it was started with no model");
    let list: Value = server.get("/v1/models").await.json().await.unwrap();
    assert_eq!(list, json!({"object": "list", "data": []}));
    let put = server.put("/v1/models/tiny", &source("llama-rope3")).await;
    assert_eq!(put.status(), 202);
    let view: Value = put.json().await.unwrap();
    assert_eq!((&view["id"], &view["object"]), (&json!("tiny"), &json!("model")));
    let view = settled(&server, "tiny").await;
    for (field, value) in [
        ("status", json!("ready")),
        ("architecture", json!("llama")),
        ("parameters", json!(21096)),
        ("dtype", json!("f32")),
        ("device", json!("cpu")),
        ("context", json!(128)),
        ("layers", json!(3)),
        ("hidden", json!(24)),
        ("heads", json!(3)),
        ("kv_heads", json!(1)),
        ("vocab", json!(320)),
        ("tokenizer", json!(true)),
        ("chat_template", json!(true)),
        ("checks_passed", json!(true)),
        ("owned_by", json!("patchbay")),
    ] {
        assert_eq!(view[field], value, "{field}");
    }
    assert_eq!(server.put("/v1/models/tiny", &source("llama-rope3")).await.status(), 200, "it is there already");
    assert_eq!(server.put("/v1/models/tiny", &source("gpt2")).await.status(), 409, "the name is taken");
    let mut dtype = source("llama-rope3");
    dtype["dtype"] = json!("bf16");
    assert_eq!(server.put("/v1/models/tiny", &dtype).await.status(), 409, "the type is another");
    let list: Value = server.get("/v1/models").await.json().await.unwrap();
    assert_eq!(list["data"], json!([view]));
    let delete = || server.request(Method::DELETE, "/v1/models/tiny").send();
    assert_eq!(delete().await.unwrap().status(), 204);
    assert_eq!(delete().await.unwrap().status(), 404);
    let body = json!({"model": "tiny", "input": [[1]], "graph": []});
    assert_eq!(server.refused("/v1/trace", &body, 404).await["code"], "unknown_model");
    assert_eq!(server.put("/v1/models/tiny", &source("gpt2")).await.status(), 202, "the name is free again");
    assert_eq!(settled(&server, "tiny").await["architecture"], "gpt2");
}

#[tokio::test]
async fn trees_and_checks() {
    let server = Server::with("llama-rope3").await;
    let tree: Value = server.get("/v1/models/llama-rope3/tree").await.json().await.unwrap();
    assert_eq!((&tree["layer_count"], &tree["hidden"], &tree["vocab"]), (&json!(3), &json!(24), &json!(320)));
    let saves = |sites: &[Value]| -> Vec<Value> {
        sites
            .iter()
            .map(|site| {
                let value = site["name"].as_str().unwrap().replace(".i.", ".0.");
                json!({"op": "save", "value": value, "as": site["name"]})
            })
            .collect()
    };
    // the tree says what a trace gives: with 2 rows of 5 tokens
    let sites = tree["sites"].as_array().unwrap();
    let body = json!({"input": [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]], "graph": saves(sites)});
    let answer = server.trace(&body).await;
    for site in sites {
        let shape: Vec<Value> = site["shape"]
            .as_array()
            .unwrap()
            .iter()
            .map(|size| match size.as_str() {
                Some("B") => json!(2),
                Some("S") => json!(5),
                _ => size.clone(),
            })
            .collect();
        assert_eq!(answer["results"][site["name"].as_str().unwrap()]["shape"], json!(shape), "{site}");
        assert!(!site["about"].as_str().unwrap().is_empty());
    }
    let checks: Value = server.get("/v1/models/llama-rope3/checks").await.json().await.unwrap();
    assert_eq!((&checks["model"], &checks["passed"]), (&json!("llama-rope3"), &json!(true)));
    assert!(checks["checks"].as_array().unwrap().iter().all(|check| check["passed"] == true));
    let proof = &checks["proof"];
    assert_eq!((&proof["architecture"], &proof["status"]), (&json!("llama"), &json!("proven")));
    assert!(proof["proven"].as_array().unwrap().contains(&json!("layers.i.self_attn.z")), "{proof}");
    assert_eq!((&proof["unproven"], &checks["warnings"]), (&json!([]), &json!([])));
}

#[tokio::test]
async fn what_is_left_out_of_a_model_that_sees_images_is_said() {
    let server = Server::with("gemma3-vision").await;
    let checks: Value = server.get("/v1/models/gemma3-vision/checks").await.json().await.unwrap();
    assert_eq!((&checks["passed"], &checks["proof"]["status"]), (&json!(true), &json!("proven")));
    let warning = checks["warnings"][0].as_str().unwrap();
    assert!(warning.contains("vision part") && warning.contains("left out"), "{warning}");
    let answer =
        server.trace(&json!({"input": [[1, 2]], "graph": [{"op": "save", "value": "logits[:, -1]", "as": "x"}]})).await;
    assert_eq!(answer["warnings"], checks["warnings"]);
}

/// Models that cannot be loaded, and what has to be said of each: the file, and what in it is wrong.
fn damaged() -> Vec<(&'static str, Folder, Vec<&'static str>)> {
    let copy = || Folder::copy("llama-rope3");
    let up = "model.layers.1.mlp.up_proj.weight";
    let small = || Tensor::zeros((3, 5), DType::F32, &Device::Cpu).unwrap();
    vec![
        ("a missing tensor", copy().change(|all| drop(all.remove(up))), vec!["model.safetensors", up]),
        (
            "a wrong shape",
            copy().change(|all| drop(all.insert(up.into(), small()))),
            vec!["model.safetensors", up, "[3, 5]", "[40, 24]"],
        ),
        (
            "an embedding of another vocabulary",
            copy().configure("vocab_size", json!(321)),
            vec!["model.safetensors", "model.embed_tokens.weight", "[320, 24]", "[321, 24]"],
        ),
        (
            "an unknown architecture",
            copy().configure("model_type", json!("mamba")),
            vec!["config.json", "mamba", "llama"],
        ),
        ("no architecture", copy().configure("model_type", json!(null)), vec!["config.json", "model_type"]),
        (
            "weights cut off",
            copy().cut("model.safetensors", 50_000),
            vec!["model.safetensors", "50000 bytes", "cut off in tensor `model.layers."],
        ),
        ("a header cut off", copy().cut("model.safetensors", 100), vec!["model.safetensors"]),
        ("no weights", copy().remove("model.safetensors"), vec!["model.safetensors"]),
        ("no configuration", copy().remove("config.json"), vec!["config.json"]),
        ("a configuration that is not JSON", copy().write("config.json", "{"), vec!["config.json", "line 1"]),
        ("a tokenizer that is not JSON", copy().write("tokenizer.json", "{"), vec!["tokenizer.json"]),
        ("no heads", copy().configure("num_attention_heads", json!(0)), vec!["config.json", "num_attention_heads"]),
        (
            "heads in words",
            copy().configure("num_attention_heads", json!("three")),
            vec!["config.json", "num_attention_heads"],
        ),
        (
            "key/value heads that do not divide",
            copy().configure("num_key_value_heads", json!(2)),
            vec!["num_key_value_heads"],
        ),
        (
            "more layers than there are",
            copy().configure("num_hidden_layers", json!(4)),
            vec!["model.safetensors", "model.layers.3."],
        ),
        (
            "layers without end",
            copy().configure("num_hidden_layers", json!(1_u64 << 62)),
            vec!["config.json", "num_hidden_layers"],
        ),
        ("a width without end", copy().configure("hidden_size", json!(1_u64 << 62)), vec!["config.json"]),
        ("a width of nothing", copy().configure("hidden_size", json!(0)), vec!["config.json", "hidden_size"]),
        (
            "an unknown activation",
            copy().configure("hidden_act", json!("swish2")),
            vec!["config.json", "hidden_act", "swish2"],
        ),
        (
            "a missing shard",
            Folder::copy("llama-mha-untied").remove("model-00002-of-00003.safetensors"),
            vec!["model-00002-of-00003.safetensors"],
        ),
    ]
}

#[tokio::test]
async fn what_cannot_be_loaded_says_which_file_and_what_in_it() {
    let server = Server::with("gpt2").await;
    for (i, (what, folder, says)) in damaged().into_iter().enumerate() {
        let name = format!("damaged-{i}");
        let put = server.put(&format!("/v1/models/{name}"), &json!({"source": folder.source()})).await;
        assert_eq!(put.status(), 202, "{what}");
        let view = settled(&server, &name).await;
        let error = view["error"].as_str().unwrap_or_else(|| panic!("{what}: {view}"));
        assert_eq!(view["status"], "failed");
        let missing: Vec<_> = says.iter().filter(|part| !error.contains(*part)).collect();
        assert!(missing.is_empty(), "{what}: {missing:?} is not in: {error}");
        assert!(!error.contains("panicked"), "{what}: {error}");
        let body = json!({"model": name, "input": [[1]], "graph": []});
        let problem = server.refused("/v1/trace", &body, 503).await;
        assert_eq!(problem["code"], "model_failed");
        assert!(problem["detail"].as_str().unwrap().contains(says[0]), "{problem}");
        // the command line says the same
        let check = patchbay().args(["check", &folder.source()]).output().unwrap();
        let said = String::from_utf8(check.stderr).unwrap();
        assert_eq!((check.status.code(), check.stdout.as_slice()), (Some(1), b"".as_slice()), "{what}: {said}");
        assert!(said.starts_with("error: ") && said.lines().count() == 1, "{what}: {said}");
        assert!(says.iter().all(|part| said.contains(part)), "{what}: {said}");
    }
    let graph = json!([{"op": "save", "value": "logits[:, -1, 0]", "as": "x"}]);
    server.trace(&json!({"model": "gpt2", "input": [[1]], "graph": graph})).await;
    assert_eq!(server.get("/readyz").await.status(), 200, "it was not started with any of these");
}

#[tokio::test]
async fn a_model_that_failed_is_loaded_again_once_it_is_mended() {
    let folder = Folder::copy("gpt2").remove("config.json");
    let source = format!("m={}", folder.source());
    let server = Server::start(&["--model", &source]);
    assert_eq!(settled(&server, "m").await["status"], "failed");
    let unready = server.get("/readyz").await;
    assert_eq!(unready.status(), 503);
    let problem: Value = unready.json().await.unwrap();
    assert!(
        problem["code"] == "model_failed" && problem["detail"].as_str().unwrap().contains("config.json"),
        "{problem}"
    );
    assert_eq!(server.get("/healthz").await.status(), 200);
    std::fs::copy(golden("gpt2").join("config.json"), folder.file("config.json")).unwrap();
    assert_eq!(server.put("/v1/models/m", &json!({"source": folder.source()})).await.status(), 202);
    assert_eq!(settled(&server, "m").await["status"], "ready");
    assert_eq!(server.get("/readyz").await.status(), 200);
}

#[tokio::test]
async fn a_model_may_be_unloaded_while_it_loads() {
    let server = Server::start(&[]);
    for _ in 0..20 {
        assert_eq!(server.put("/v1/models/m", &source("llama-rope3")).await.status(), 202);
        assert_eq!(server.request(Method::DELETE, "/v1/models/m").send().await.unwrap().status(), 204);
        assert_eq!(server.get("/v1/models/m").await.status(), 404);
    }
    server.put("/v1/models/m", &source("llama-rope3")).await;
    assert_eq!(settled(&server, "m").await["status"], "ready");
}

#[tokio::test]
async fn other_types_to_compute_in() {
    let server = Server::start(&[]);
    for dtype in ["bf16", "f16", "f32", "auto"] {
        let mut body = source("llama-rope3");
        body["dtype"] = json!(dtype);
        server.put(&format!("/v1/models/{dtype}"), &body).await;
        let view = settled(&server, dtype).await;
        assert_eq!((&view["status"], &view["checks_passed"]), (&json!("ready"), &json!(true)), "{view}");
        assert_eq!(view["dtype"], if dtype == "auto" { "f32" } else { dtype });
    }
}

/// The golden gpt2 has 16,560 numbers of four bytes, or of two; its file has causal masks besides, which nobody reads.
#[tokio::test]
async fn weights_that_do_not_fit_are_refused_before_they_are_read() {
    let server = Server::start(&["--max-load-bytes", "60000"]);
    for (dtype, status) in [("f32", "failed"), ("bf16", "ready")] {
        let source = golden("gpt2").display().to_string();
        server.put(&format!("/v1/models/{dtype}"), &json!({"source": source, "dtype": dtype})).await;
        let view = settled(&server, dtype).await;
        assert_eq!(view["status"], status, "{view}");
        let error = view["error"].as_str().unwrap_or_default();
        assert_eq!(
            error.contains("max_load_bytes") && error.contains("60000") && error.contains("bf16"),
            status == "failed"
        );
    }
}

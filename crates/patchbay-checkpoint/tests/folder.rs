//! Hugging Face folders: one file or shards, with and without a tokenizer, and everything that can be wrong with them.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop the test, as tests do")]

mod common;

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use common::{fixture, fixture_json, open_path};
use patchbay_checkpoint::ChatOptions;
use serde_json::{Value, json};

fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

fn save(folder: &Path, name: &str, tensors: &[(&str, Tensor)]) {
    let tensors: HashMap<String, Tensor> =
        tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect();
    candle_core::safetensors::save(&tensors, folder.join(name)).unwrap();
}

fn write(folder: &Path, name: &str, value: &Value) {
    std::fs::write(folder.join(name), value.to_string()).unwrap();
}

/// A folder with a configuration, two shards and their index.
fn sharded(weight_map: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "config.json", &json!({"model_type": "llama"}));
    save(folder.path(), "model-1.safetensors", &[("a.weight", tensor(&[1., 2., 3., 4., 5., 6.], &[2, 3]))]);
    save(folder.path(), "model-2.safetensors", &[("b.weight", tensor(&[7.], &[1]))]);
    write(folder.path(), "model.safetensors.index.json", &json!({"metadata": {}, "weight_map": weight_map}));
    folder
}

fn error(folder: &Path) -> String {
    open_path(folder).unwrap_err().to_string()
}

#[test]
fn shards_are_one_set_of_weights() {
    let folder = sharded(&json!({"a.weight": "model-1.safetensors", "b.weight": "model-2.safetensors"}));
    let checkpoint = open_path(folder.path()).unwrap();
    assert!(checkpoint.tokenizer.is_none());
    assert_eq!(checkpoint.config.model_type().unwrap(), "llama");
    let weights = checkpoint.weights;
    assert_eq!(weights.names().collect::<Vec<_>>(), ["a.weight", "b.weight"]);
    assert_eq!((weights.total_bytes(), weights.parameters()), (28, 7));
    let read = weights.get("a.weight", &[2, 3], DType::F32, &Device::Cpu).unwrap();
    assert_eq!(read.to_vec2::<f32>().unwrap(), [[1., 2., 3.], [4., 5., 6.]]);
}

#[test]
fn stored_float_types_come_as_the_one_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "config.json", &json!({"model_type": "llama"}));
    let values = tensor(&[0.5, -1.25, 3.0], &[3]);
    let stored = [("f16", DType::F16), ("bf16", DType::BF16), ("f64", DType::F64), ("f8", DType::F8E4M3)];
    let tensors: Vec<_> = stored.iter().map(|(name, dtype)| (*name, values.to_dtype(*dtype).unwrap())).collect();
    save(folder.path(), "model.safetensors", &tensors);
    let weights = open_path(folder.path()).unwrap().weights;
    for (name, _) in stored {
        let read = weights.get(name, &[3], DType::F32, &Device::Cpu).unwrap();
        assert_eq!(read.to_vec1::<f32>().unwrap(), [0.5, -1.25, 3.0], "{name}");
        assert_eq!(weights.get(name, &[3], DType::BF16, &Device::Cpu).unwrap().dtype(), DType::BF16);
    }
}

#[test]
fn missing_and_misshapen_tensors_are_named_with_their_file() {
    let folder = sharded(&json!({"a.weight": "model-1.safetensors", "b.weight": "model-2.safetensors"}));
    let weights = open_path(folder.path()).unwrap().weights;
    let missing = weights.get("a.weigth", &[1], DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert!(missing.contains("no tensor `a.weigth`; the nearest are `a.weight`"), "{missing}");
    let shape = weights.get("a.weight", &[3, 2], DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert!(shape.contains("model-1.safetensors: tensor `a.weight` has shape [2, 3]"), "{shape}");
    assert!(shape.contains("[3, 2]"), "{shape}");
}

#[test]
fn a_shard_that_is_not_there_is_named() {
    let folder = sharded(&json!({"a.weight": "model-1.safetensors", "b.weight": "model-3.safetensors"}));
    let message = error(folder.path());
    assert!(message.contains("no model-3.safetensors"), "{message}");
}

#[test]
fn an_index_that_disagrees_with_its_shards_is_refused() {
    let folder = sharded(&json!({"a.weight": "model-1.safetensors", "c.weight": "model-2.safetensors"}));
    let message = error(folder.path());
    assert!(message.contains("puts tensor `c.weight` into model-2.safetensors, which lacks it"), "{message}");
    let folder = sharded(&json!({"a.weight": "model-1.safetensors", "b.weight": "model-2.safetensors"}));
    save(folder.path(), "model-2.safetensors", &[("b.weight", tensor(&[7.], &[1])), ("a.weight", tensor(&[1.], &[1]))]);
    let message = error(folder.path());
    assert!(message.contains("tensor `a.weight` is also in"), "{message}");
}

#[test]
fn an_index_cannot_reach_out_of_its_folder() {
    let outside = tempfile::tempdir().unwrap();
    save(outside.path(), "x.safetensors", &[("a.weight", tensor(&[1.], &[1]))]);
    let absolute = outside.path().join("x.safetensors");
    for shard in ["../x.safetensors", "sub/x.safetensors", "..\\x.safetensors", "C:x.safetensors", "x.bin", ""] {
        let folder = sharded(&json!({ "a.weight": shard }));
        let message = error(folder.path());
        assert!(message.contains("`weight_map.a.weight`") && message.contains("same folder"), "{shard}: {message}");
    }
    let folder = sharded(&json!({ "a.weight": absolute.to_str().unwrap() }));
    assert!(error(folder.path()).contains("same folder"));
    let folder = sharded(&json!(["model-1.safetensors"]));
    assert!(error(folder.path()).contains("`weight_map` is a list"));
}

#[test]
fn what_is_missing_is_said_with_a_way_to_mend_it() {
    let folder = tempfile::tempdir().unwrap();
    assert!(error(folder.path()).contains("there is no config.json"));
    std::fs::write(folder.path().join("config.json"), "{not json").unwrap();
    assert!(error(folder.path()).contains("config.json: this is not valid JSON"));
    write(folder.path(), "config.json", &json!({"model_type": "llama"}));
    let message = error(folder.path());
    assert!(message.contains("model.safetensors") && message.contains("save_pretrained"), "{message}");
    save(folder.path(), "model.safetensors", &[]);
    std::fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    let message = error(folder.path());
    assert!(message.contains("tokenizer.json: the tokenizer cannot be built"), "{message}");
}

#[test]
fn weights_quantised_in_ways_that_are_not_read_are_refused_before_anything_else() {
    let folder = tempfile::tempdir().unwrap();
    for (method, more) in [("gptq", json!(4)), ("awq", json!(4)), ("bitsandbytes", json!(null)), ("hqq", json!(2))] {
        let quantization = json!({"quant_method": method, "bits": more});
        write(folder.path(), "config.json", &json!({"model_type": "llama", "quantization_config": quantization}));
        // There are no weights to be found missing or malformed.
        let message = error(folder.path());
        assert!(message.contains(&format!("config.json: weights quantised with \"{method}\"")), "{message}");
        assert!(message.contains("Load the unquantised model they were made from, or a GGUF file"), "{message}");
    }
}

/// A word-level tokenizer with a post-processor that frames a text.
fn word_level() -> Value {
    json!({
        "version": "1.0",
        "added_tokens": [
            {"id": 0, "content": "<s>", "special": true, "single_word": false, "lstrip": false, "rstrip": false,
             "normalized": false},
            {"id": 1, "content": "</s>", "special": true, "single_word": false, "lstrip": false, "rstrip": false,
             "normalized": false}
        ],
        "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]},
                               "</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}
        },
        "decoder": null,
        "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "model": {"type": "WordLevel", "vocab": {"<s>": 0, "</s>": 1, "big": 2, "red": 3, "dog": 4, "[UNK]": 5},
                  "unk_token": "[UNK]"}
    })
}

/// A folder with that tokenizer and what stands beside it.
fn with_tokenizer(config: &Value, generation: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "config.json", &json!({"model_type": "llama", "eos_token_id": 1}));
    std::fs::copy(fixture("tiny-llama.safetensors"), folder.path().join("model.safetensors")).unwrap();
    write(folder.path(), "tokenizer.json", &word_level());
    write(folder.path(), "tokenizer_config.json", config);
    write(folder.path(), "generation_config.json", generation);
    folder
}

#[test]
fn the_post_processor_frames_a_text_and_truncation_is_off() {
    let config = json!({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": "inline"});
    let folder = with_tokenizer(&config, &json!({"eos_token_id": [1, 4]}));
    let tokenizer = open_path(folder.path()).unwrap().tokenizer.unwrap();
    let encoding = tokenizer.encode("big red dog big", true).unwrap();
    assert_eq!(encoding.ids, [0, 2, 3, 4, 2, 1]);
    assert_eq!(encoding.text, "big red dog big");
    assert_eq!(encoding.ends, [0, 3, 7, 11, 15, 15]);
    assert_eq!(tokenizer.describe_ids(&encoding.ids).unwrap(), encoding);
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.stop_ids()), (Some(0), Some(1), &[1, 4][..]));
    assert_eq!(tokenizer.chat_template(), Some("inline"));
}

#[test]
fn a_template_file_is_heard_before_the_config() {
    let config = json!({"bos_token": "<s>", "eos_token": "</s>", "chat_template": "inline"});
    let folder = with_tokenizer(&config, &json!({}));
    std::fs::write(folder.path().join("chat_template.jinja"), "{{ bos_token }}{{ messages[0].content }}").unwrap();
    let tokenizer = open_path(folder.path()).unwrap().tokenizer.unwrap();
    assert_eq!(tokenizer.encode("dog", true).unwrap().ids, [0, 4, 1]);
    assert_eq!(tokenizer.encode("dog", false).unwrap().ids, [4]);
    let messages = json!([{"role": "user", "content": "dog"}]);
    assert_eq!(tokenizer.apply_chat_template(&messages, &Default::default()).unwrap(), "<s>dog");
    assert_eq!(tokenizer.decode(&[0, 4, 1], true).unwrap(), "dog");
}

#[test]
fn named_templates_lie_in_a_folder_or_a_list() {
    let messages = json!([{"role": "user", "content": "dog"}]);
    let render = |folder: &Path, tools: Option<Value>| {
        let tokenizer = open_path(folder).unwrap().tokenizer.unwrap();
        let options = ChatOptions { tools, ..ChatOptions::default() };
        tokenizer.apply_chat_template(&messages, &options).map_err(|error| error.to_string())
    };
    let list = json!([{"name": "default", "template": "listed"}, {"name": "tool_use", "template": "listed tools"}]);
    let folder = with_tokenizer(&json!({"chat_template": list}), &json!({}));
    assert_eq!(render(folder.path(), None).unwrap(), "listed");
    assert_eq!(render(folder.path(), Some(json!([]))).unwrap(), "listed tools");
    let named = folder.path().join("additional_chat_templates");
    std::fs::create_dir(&named).unwrap();
    std::fs::write(named.join("rag.jinja"), "quoted").unwrap();
    let error = render(folder.path(), None).unwrap_err();
    assert!(error.contains("there are only `rag`, and none is `default`"), "{error}");
    std::fs::write(named.join("tool_use.jinja"), "filed tools").unwrap();
    std::fs::write(folder.path().join("chat_template.jinja"), "filed").unwrap();
    assert_eq!(render(folder.path(), None).unwrap(), "filed");
    assert_eq!(render(folder.path(), Some(json!([]))).unwrap(), "filed tools");
}

#[test]
fn special_tokens_have_their_names_in_templates() {
    let render = |folder: &Path| {
        let template = "{{ bos_token }}|{{ image_token }}|{{ mask_token }}|{{ think_token }}|{{ add_bos_token }}";
        std::fs::write(folder.join("chat_template.jinja"), template).unwrap();
        let tokenizer = open_path(folder).unwrap().tokenizer.unwrap();
        tokenizer.apply_chat_template(&json!([{"role": "user"}]), &ChatOptions::default()).unwrap()
    };
    let config = json!({"bos_token": {"content": "<s>"}, "image_token": "<i>", "add_bos_token": true,
                        "extra_special_tokens": {"think_token": "<t>"}, "mask_token": null});
    let folder = with_tokenizer(&config, &json!({}));
    assert_eq!(render(folder.path()), "<s>|<i>||<t>|");
    // What older models have in a file of its own comes before, unless the first file is a newer one.
    write(folder.path(), "special_tokens_map.json", &json!({"bos_token": "<b>", "mask_token": {"content": "<m>"}}));
    assert_eq!(render(folder.path()), "<b>|<i>|<m>|<t>|");
    let newer = json!({"bos_token": "<s>", "added_tokens_decoder": {}});
    write(folder.path(), "tokenizer_config.json", &newer);
    assert_eq!(render(folder.path()), "<s>||||");
}

#[test]
fn texts_are_framed_as_in_transformers() {
    let recorded = fixture_json("frames.json");
    let cases = recorded["cases"].as_array().unwrap();
    assert!(cases.len() > 200);
    for case in cases {
        let folder = with_tokenizer(&case["config"], &json!({}));
        write(folder.path(), "tokenizer.json", &recorded["tokenizers"][case["frame"].to_string().replace(',', ", ")]);
        let tokenizer = open_path(folder.path()).unwrap().tokenizer.unwrap();
        let plain = tokenizer.encode("a", false).unwrap().ids;
        let ids = |key: &str| serde_json::from_value::<Vec<u32>>(case[key].clone()).unwrap();
        let framed = [ids("before"), plain, ids("after")].concat();
        assert_eq!(tokenizer.encode("a", true).unwrap().ids, framed, "{case}");
    }
}

//! The `config.json` that a GGUF file does not have, made from its metadata and its tensors.

use serde_json::{Map, Value as Json, json};

use super::architectures::{ARCHITECTURES, Architecture};
use super::names::TensorNames;
use super::reader::{Number, Value};
use super::{GgufFile, rope};
use crate::{CheckpointError, Config};

/// A file's configuration under Hugging Face's keys, and the names of its tensors.
pub(crate) fn config(gguf: &GgufFile) -> Result<(Config, TensorNames), CheckpointError> {
    let architecture = architecture(gguf)?;
    let mut config = Map::from_iter([("model_type".to_owned(), json!(architecture.model_type))]);
    for key in architecture.keys.iter().copied().flatten() {
        let name = format!("{}.{}", architecture.name, key.gguf);
        match gguf.get(&name) {
            Some(Value::Number(Number::Int(number))) => config.insert(key.hf.to_owned(), json!(number)),
            Some(Value::Number(Number::Float(number))) => config.insert(key.hf.to_owned(), json!(number)),
            None if !key.required => None,
            _ => return Err(gguf.wrong(&name, "a number")),
        };
    }
    let embedding = gguf.tensor("token_embd.weight").ok_or_else(|| CheckpointError::MissingTensor {
        file: gguf.path().to_path_buf(),
        name: "token_embd.weight".to_owned(),
        nearest: Vec::new(),
    })?;
    config.insert("vocab_size".to_owned(), json!(embedding.shape.first()));
    config.insert("tie_word_embeddings".to_owned(), json!(gguf.tensor("output.weight").is_none()));
    for (id, key) in [("bos", "bos_token_id"), ("eos", "eos_token_id"), ("padding", "pad_token_id")] {
        if let Some(id) = gguf.uint(&format!("tokenizer.ggml.{id}_token_id")) {
            config.insert(key.to_owned(), json!(id));
        }
    }
    if architecture.rotary {
        add_heads(gguf, architecture, &mut config)?;
    }
    (architecture.finish)(&mut config);
    let config = Config::from_json(gguf.path(), Json::Object(config))?;
    let names = TensorNames::new(architecture, &config)?;
    Ok((config, names))
}

fn architecture(gguf: &GgufFile) -> Result<&'static Architecture, CheckpointError> {
    let found = gguf
        .text("general.architecture")
        .ok_or_else(|| gguf.wrong("general.architecture", "the name of an architecture, as \"llama\""))?;
    ARCHITECTURES.iter().find(|known| known.name == found).ok_or_else(|| CheckpointError::Unsupported {
        file: gguf.path().to_path_buf(),
        what: format!("GGUF architecture \"{found}\""),
        known: ARCHITECTURES.iter().map(|known| known.name.to_owned()).collect(),
    })
}

/// Head counts and sizes, biases and rotary positions of a decoder with rotary positions.
fn add_heads(
    gguf: &GgufFile,
    architecture: &Architecture,
    config: &mut Map<String, Json>,
) -> Result<(), CheckpointError> {
    let number = |config: &Map<String, Json>, key: &str| config.get(key).and_then(Json::as_u64);
    let heads = number(config, "num_attention_heads")
        .filter(|&heads| heads > 0)
        .ok_or_else(|| gguf.wrong(&format!("{}.attention.head_count", architecture.name), "a number above 0"))?;
    if !config.contains_key("num_key_value_heads") {
        config.insert("num_key_value_heads".to_owned(), json!(heads));
    }
    let head_dim = number(config, "head_dim").unwrap_or_else(|| number(config, "hidden_size").unwrap_or(0) / heads);
    config.insert("head_dim".to_owned(), json!(head_dim));
    let bias = |tensor: &str| gguf.tensor(&format!("blk.0.{tensor}.bias")).is_some();
    config.insert("attention_bias".to_owned(), json!(bias("attn_q")));
    config.insert("mlp_bias".to_owned(), json!(bias("ffn_up")));
    config.insert("rope_parameters".to_owned(), rope::parameters(gguf, architecture.name, head_dim)?);
    Ok(())
}

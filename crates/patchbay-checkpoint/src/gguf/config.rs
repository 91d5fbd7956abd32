//! The `config.json` that a GGUF file does not have, made from its metadata and its tensors.

use serde_json::{Value as Json, json};

use super::architectures::{ARCHITECTURES, Architecture, Rope};
use super::draft::Draft;
use super::names::TensorNames;
use super::{GgufFile, rope};
use crate::{CheckpointError, Config};

/// A file's configuration under Hugging Face's keys, and the names of its tensors.
pub(crate) fn config(gguf: &GgufFile) -> Result<(Config, TensorNames), CheckpointError> {
    let architecture = architecture(gguf)?;
    let mut draft = Draft::new(gguf, architecture)?;
    for keys in architecture.keys {
        draft.take(keys)?;
    }
    let embedding = gguf.tensor("token_embd.weight").ok_or_else(|| CheckpointError::MissingTensor {
        file: gguf.path().to_path_buf(),
        name: "token_embd.weight".to_owned(),
        nearest: Vec::new(),
    })?;
    draft.set("vocab_size", json!(embedding.shape.first()));
    draft.set("tie_word_embeddings", gguf.tensor("output.weight").is_none());
    for (id, key) in [("bos", "bos_token_id"), ("eos", "eos_token_id"), ("padding", "pad_token_id")] {
        if let Some(id) = gguf.uint(&format!("tokenizer.ggml.{id}_token_id")) {
            draft.set(key, id);
        }
    }
    if architecture.rope != Rope::None {
        add_heads(&mut draft)?;
    }
    (architecture.finish)(&mut draft)?;
    let sizes = draft.sizes;
    let config = Config::from_json(gguf.path(), Json::Object(draft.config))?;
    Ok((config, TensorNames::new(architecture, sizes)))
}

fn architecture(gguf: &GgufFile) -> Result<&'static Architecture, CheckpointError> {
    let found = gguf
        .text("general.architecture")
        .ok_or_else(|| gguf.wrong("general.architecture", "the name of an architecture, as \"llama\""))?;
    let marked = |known: &&Architecture| known.marker.is_none_or(|tensor| gguf.tensor(tensor).is_some());
    let of_name = |known: &&Architecture| known.name == found;
    ARCHITECTURES.iter().filter(of_name).find(marked).ok_or_else(|| CheckpointError::Unsupported {
        file: gguf.path().to_path_buf(),
        what: format!("GGUF architecture \"{found}\""),
        known: ARCHITECTURES.iter().filter(|row| row.marker.is_none()).map(|known| known.name.to_owned()).collect(),
    })
}

/// Head counts and sizes, biases and rotary positions of a decoder with rotary positions.
fn add_heads(draft: &mut Draft<'_>) -> Result<(), CheckpointError> {
    let sizes = draft.sizes;
    draft.set("num_key_value_heads", sizes.kv_heads);
    draft.set("head_dim", sizes.head_dim);
    draft.set("attention_bias", draft.has("attn_q.bias"));
    draft.set("mlp_bias", draft.has("ffn_up.bias"));
    draft.set("rope_parameters", rope::parameters(draft)?);
    Ok(())
}

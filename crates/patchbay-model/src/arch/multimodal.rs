//! Models that see images as well, of which the text part alone is described (and loaded): Gemma 3 from 4B on, Llama 4,
//! and Mistral Small 3.1 and Ministral 3.

use patchbay_checkpoint::{CheckpointError, Config};
use serde_json::{Value, json};

use super::{ARCHITECTURES, Describe};
use crate::spec::{Part, Spec};

type Result<T> = std::result::Result<T, CheckpointError>;

/// `model_type` "gemma3". As in transformers its logits are not capped, whatever the section says: only those of the decoder
/// alone are.
pub(super) fn gemma3(config: &Config) -> Result<Spec> {
    let spec = text_part(config, true, |section| {
        Ok((super::gemma::gemma3_text, section.with("model_type", json!("gemma3_text"))))
    })?;
    let mut head = spec.head.clone();
    head.transform.soft_cap = None;
    Ok(Spec { head, ..spec })
}

/// `model_type` "llama4".
pub(super) fn llama4(config: &Config) -> Result<Spec> {
    text_part(config, false, |section| {
        Ok((super::llama4::llama4_text, section.with("model_type", json!("llama4_text"))))
    })
}

/// `model_type` "mistral3", whose text part may be of any type.
pub(super) fn mistral3(config: &Config) -> Result<Spec> {
    text_part(config, true, |section| {
        let section = section.or(&[("model_type", json!("mistral"))]);
        let found = section.model_type()?;
        match ARCHITECTURES.iter().find(|(name, _)| *name == found && !WHOLES.contains(name)) {
            Some((_, describe)) => Ok((*describe, section)),
            None => {
                let known = ARCHITECTURES.iter().map(|(name, _)| *name).filter(|name| !WHOLES.contains(name));
                let known: Vec<_> = known.collect();
                Err(section.wrong("model_type", &format!("the type of a decoder: one of {}", known.join(", "))))
            }
        }
    })
}

/// The types that hold a decoder of another type.
const WHOLES: [&str; 3] = ["gemma3", "llama4", "mistral3"];

/// The decoder that `text_config` describes, told by `choose` how, and with which settings; `tied` is what a configuration
/// means that does not say whether embedding and unembedding are.
fn text_part(config: &Config, tied: bool, choose: impl FnOnce(Config) -> Result<(Describe, Config)>) -> Result<Spec> {
    let section = config.section("text_config").ok_or_else(|| config.wrong("text_config", "an object"))?;
    let (describe, section) = choose(section)?;
    let section = section.clone().or(&defaults(section.model_type()?));
    // What stands in the section is not looked at, as the head is the whole model's.
    let tied = config.flag("tie_word_embeddings", tied)?;
    let spec = describe(&section.with("tie_word_embeddings", json!(tied)))?;
    let part = Some(Part { name: "language_model", rest: "vision" });
    Ok(Spec { model_type: config.model_type()?.to_owned(), part, ..spec })
}

/// What a section that was written short leaves out: the sizes of the type's configuration class.
fn defaults(model_type: &str) -> Vec<(&'static str, Value)> {
    const KEYS: [&str; 5] =
        ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"];
    let sizes: [u32; 5] = match model_type {
        "gemma3_text" => [262_208, 2304, 9216, 26, 8],
        "llama4_text" => [202_048, 5120, 8192, 48, 40],
        "ministral3" => [131_072, 4096, 14_336, 34, 32],
        "mistral" => [32_000, 4096, 14_336, 32, 32],
        _ => return Vec::new(),
    };
    KEYS.into_iter().zip(sizes).map(|(key, size)| (key, json!(size))).collect()
}

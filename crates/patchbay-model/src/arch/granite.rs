//! Granite 3 (IBM 2024): Llama with a multiplier on embeddings, scores, what is added to the stream, and logits.

use patchbay_checkpoint::{CheckpointError, Config};

use super::llama::{Style, decoder, each_layer};
use crate::spec::Spec;

/// `model_type` "granite".
pub(super) fn granite(config: &Config) -> Result<Spec, CheckpointError> {
    let bias = config.flag("attention_bias", false)?;
    let mlp_bias = config.flag("mlp_bias", false)?;
    let spec = decoder(config, &Style { qkv_bias: bias, o_bias: bias, mlp_bias, ..Style::default() })?;
    let scale = config.f64_or("attention_multiplier", 1.0)?;
    let multiplier = config.f64_or("residual_multiplier", 1.0)?;
    let mut spec = each_layer(spec, |(_, mut layer)| {
        layer.attention.scale = scale;
        layer.multiplier = Some(multiplier);
        layer
    });
    spec.embedding.scale = Some(config.f64_or("embedding_multiplier", 1.0)?);
    let divisor = config.f64_or("logits_scaling", 1.0)?;
    if divisor == 0.0 {
        return Err(config.wrong("logits_scaling", "a number other than 0"));
    }
    spec.head.transform.scale = Some(1.0 / divisor);
    Ok(spec)
}

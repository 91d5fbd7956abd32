//! Seed-OSS (ByteDance 2025): Llama with biases on queries, keys and values.

use patchbay_checkpoint::{CheckpointError, Config};

use super::llama::{Style, decoder};
use crate::spec::Spec;

/// `model_type` "seed_oss".
pub(super) fn seed_oss(config: &Config) -> Result<Spec, CheckpointError> {
    let style = Style {
        qkv_bias: config.flag("attention_bias", true)?,
        o_bias: config.flag("attention_out_bias", false)?,
        mlp_bias: config.flag("mlp_bias", false)?,
        kv_heads: Some(8),
        head_dim: Some(128),
        context: 524_288,
        ..Style::default()
    };
    decoder(config, &style)
}

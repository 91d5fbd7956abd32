//! Ministral 3 (Mistral AI 2025): Mistral whose queries grow with their position after the rotation.

use patchbay_checkpoint::{CheckpointError, Config};
use serde_json::json;

use super::llama::{Style, decoder, each_layer};
use super::rotary::{original_context, section};
use super::settings::{layer_count, size, window};
use crate::spec::{PositionScale, Spec};

/// `model_type` "ministral3".
pub(super) fn ministral3(config: &Config) -> Result<Spec, CheckpointError> {
    let config = &completed(config);
    let style = Style {
        eps: ("rms_norm_eps", 1e-5),
        kv_heads: Some(8),
        head_dim: Some(128),
        context: 262_144,
        windows: vec![window(config, None)?; layer_count(config, "num_hidden_layers")?],
        ..Style::default()
    };
    let scale = position_scale(config)?;
    Ok(each_layer(decoder(config, &style)?, |(_, mut layer)| {
        layer.attention.position_scale = Some(scale);
        layer
    }))
}

/// With what the type takes where no rotation is described, and no longest sequence.
fn completed(config: &Config) -> Config {
    let config = config.clone().or(&[("max_position_embeddings", json!(262_144))]);
    let rotation = json!({"rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0,
        "original_max_position_embeddings": 16_384, "beta_fast": 32.0, "beta_slow": 1.0, "mscale_all_dim": 1.0,
        "mscale": 1.0, "llama_4_scaling_beta": 0.1});
    if section(&config).is_some() { config } else { config.with("rope_parameters", rotation) }
}

/// `get_llama_4_attn_scale` in transformers.
fn position_scale(config: &Config) -> Result<PositionScale, CheckpointError> {
    let section = section(config).ok_or_else(|| config.wrong("rope_parameters", "an object"))?;
    let factor = section.f64("llama_4_scaling_beta")?;
    let kind = section.opt_str("rope_type")?.or(section.opt_str("type")?);
    let period = match kind {
        Some("llama3" | "yarn" | "longrope") => original_context(config, &section)?,
        _ => size(&section, "original_max_position_embeddings")?,
    };
    Ok(PositionScale { factor, period: period as f64, offset: 0 })
}

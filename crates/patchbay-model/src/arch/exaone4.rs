//! EXAONE 4 (LG AI 2025): norms after each part alone, norms on each head, and windows in three of four blocks, which
//! are those that rotate.

use patchbay_checkpoint::{CheckpointError, Config};

use super::llama::{Style, decoder, each_layer, post_norms};
use super::settings::{layer_count, size_or, sliding_layers, window};
use crate::spec::Spec;

/// `model_type` "exaone4".
pub(super) fn exaone4(config: &Config) -> Result<Spec, CheckpointError> {
    let layers = layer_count(config, "num_hidden_layers")?;
    let window = window(config, Some(4096))?;
    let period = if window.is_some() { size_or(config, "sliding_window_pattern", 4)? } else { 1 };
    let sliding = sliding_layers(config, layers, |layer| !(layer + 1).is_multiple_of(period))?;
    let style = Style {
        eps: ("rms_norm_eps", 1e-5),
        head_norms: true,
        kv_heads: Some(32),
        windows: sliding.iter().map(|sliding| window.filter(|_| *sliding)).collect(),
        ..Style::default()
    };
    Ok(each_layer(decoder(config, &style)?, |(index, mut layer)| {
        layer.attention.rotary = layer.attention.rotary.filter(|_| window.is_none() || sliding[index]);
        post_norms(layer, index, "post_attention_layernorm", "post_feedforward_layernorm")
    }))
}

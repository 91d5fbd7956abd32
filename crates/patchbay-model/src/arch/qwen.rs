//! Qwen 2 and Qwen 3: Llama with biases on queries, keys and values, and with norms on each head in their place.

use patchbay_checkpoint::{CheckpointError, Config};

use super::llama::{Style, decoder};
use super::settings::{layer_count, sliding_layers, window};
use crate::spec::Spec;

/// `model_type` "qwen2".
pub(super) fn qwen2(config: &Config) -> Result<Spec, CheckpointError> {
    let windows = windows(config, |first, layer| layer >= first)?;
    decoder(config, &Style { qkv_bias: true, kv_heads: Some(32), context: 32_768, windows, ..Style::default() })
}

/// `model_type` "qwen3".
pub(super) fn qwen3(config: &Config) -> Result<Spec, CheckpointError> {
    let bias = config.flag("attention_bias", false)?;
    let windows = windows(config, |first, layer| layer >= first)?;
    let style = Style {
        qkv_bias: bias,
        o_bias: bias,
        head_norms: true,
        kv_heads: Some(32),
        head_dim: Some(128),
        context: 32_768,
        windows,
        ..Style::default()
    };
    decoder(config, &style)
}

/// The window of each block, if windows are used at all. Which ones have one hangs on `max_window_layers` and a block's number,
/// where `layer_types` does not say.
pub(super) fn windows(
    config: &Config,
    has_window: impl Fn(usize, usize) -> bool,
) -> Result<Vec<Option<usize>>, CheckpointError> {
    let layers = layer_count(config, "num_hidden_layers")?;
    if !config.flag("use_sliding_window", false)? {
        return Ok(Vec::new());
    }
    let Some(window) = window(config, Some(4096))? else { return Ok(Vec::new()) };
    let first = config.usize_or("max_window_layers", 28)?;
    let sliding = sliding_layers(config, layers, |layer| has_window(first, layer))?;
    Ok(sliding.into_iter().map(|sliding| sliding.then_some(window)).collect())
}

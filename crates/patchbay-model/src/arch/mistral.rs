//! Mistral (Jiang et al. 2023): Llama with a sliding window in every block.

use patchbay_checkpoint::{CheckpointError, Config};

use super::llama::{Style, decoder};
use super::settings::{layer_count, size};
use crate::spec::Spec;

/// `model_type` "mistral".
pub(super) fn mistral(config: &Config) -> Result<Spec, CheckpointError> {
    let window = match config.raw().get("sliding_window") {
        None => Some(4096),
        Some(value) if value.is_null() => None,
        Some(_) => Some(size(config, "sliding_window")?),
    };
    let windows = vec![window; layer_count(config, "num_hidden_layers")?];
    decoder(config, &Style { windows, ..Style::default() })
}

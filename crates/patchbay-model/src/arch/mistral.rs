//! Mistral (Jiang et al. 2023): Llama with a sliding window in every block.

use patchbay_checkpoint::{CheckpointError, Config};

use super::llama::{Style, decoder};
use super::settings::{layer_count, window};
use crate::spec::Spec;

/// `model_type` "mistral".
pub(super) fn mistral(config: &Config) -> Result<Spec, CheckpointError> {
    let windows = vec![window(config, Some(4096))?; layer_count(config, "num_hidden_layers")?];
    decoder(config, &Style { windows, kv_heads: Some(8), context: 131_072, ..Style::default() })
}

//! Mixtral (Jiang et al. 2024): Mistral with eight experts in the place of each MLP.

use patchbay_checkpoint::{CheckpointError, Config};

use super::experts::{Sizes, apart, with_experts};
use super::llama::{Style, decoder};
use super::rotary::RotaryDefaults;
use super::settings::{layer_count, window};
use crate::spec::{MlpSpec, Spec};

/// `model_type` "mixtral".
pub(super) fn mixtral(config: &Config) -> Result<Spec, CheckpointError> {
    let style = Style {
        eps: ("rms_norm_eps", 1e-5),
        kv_heads: Some(8),
        context: 131_072,
        rotary: RotaryDefaults { theta: 1e6, ..RotaryDefaults::default() },
        windows: vec![window(config, None)?; layer_count(config, "num_hidden_layers")?],
        ..Style::default()
    };
    let (counts, choices) = (&["num_local_experts", "num_experts"], &["num_experts_per_tok"]);
    let sizes = Sizes::read(config, (counts, 8), (choices, 2), "intermediate_size")?;
    let experts = |layer: usize, mlp: MlpSpec| {
        apart(&mlp, &format!("model.layers.{layer}.block_sparse_moe"), sizes, ["w1", "w3", "w2"])
    };
    Ok(with_experts(decoder(config, &style)?, |_| true, experts))
}

//! ERNIE 4.5 (Baidu 2025), dense: Llama with rotation of neighbouring channels.

use patchbay_checkpoint::{CheckpointError, Config};

use super::llama::{Style, decoder};
use super::rotary::RotaryDefaults;
use crate::rope::Pairing;
use crate::spec::Spec;

/// `model_type` "ernie4_5".
pub(super) fn ernie4_5(config: &Config) -> Result<Spec, CheckpointError> {
    let bias = config.flag("use_bias", false)?;
    let style = Style {
        eps: ("rms_norm_eps", 1e-5),
        qkv_bias: bias,
        o_bias: bias,
        mlp_bias: bias,
        kv_heads: Some(2),
        head_dim: Some(128),
        tied: true,
        context: 131_072,
        rotary: RotaryDefaults { theta: 500_000.0, part: 1.0 },
        pairing: Pairing::Neighbours,
        ..Style::default()
    };
    decoder(config, &style)
}

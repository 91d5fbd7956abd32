//! Nemotron and Minitron (NVIDIA 2024): Llama with LayerNorm whose files hold the weight minus 1, partial rotation, and
//! a plain MLP of squared ReLU.

use patchbay_checkpoint::{CheckpointError, Config};

use super::llama::{Style, decoder};
use super::rotary::RotaryDefaults;
use crate::spec::{NormSpec, Spec};

/// `model_type` "nemotron".
pub(super) fn nemotron(config: &Config) -> Result<Spec, CheckpointError> {
    let bias = config.flag("attention_bias", false)?;
    let style = Style {
        norm: |name, width, eps| NormSpec::layer(name, width, eps, true).minus_one(),
        eps: ("norm_eps", 1e-5),
        activation: ("hidden_act", "relu2"),
        gated: false,
        qkv_bias: bias,
        o_bias: bias,
        mlp_bias: config.flag("mlp_bias", false)?,
        context: 4096,
        rotary: RotaryDefaults { part: 0.5, ..RotaryDefaults::default() },
        ..Style::default()
    };
    decoder(config, &style)
}

//! HunYuan dense (Tencent 2025): Llama with norms on each head after the rotation.

use patchbay_checkpoint::{CheckpointError, Config};

use super::llama::{Style, decoder, each_layer};
use super::rotary::{RotaryDefaults, rotary, section};
use crate::rope::{Pairing, RotaryScaling};
use crate::spec::{NormSpec, Spec};

/// `model_type` "hunyuan_v1_dense".
pub(super) fn hunyuan_v1_dense(config: &Config) -> Result<Spec, CheckpointError> {
    let bias = config.flag("attention_bias", false)?;
    let style = Style { eps: ("rms_norm_eps", 1e-5), qkv_bias: bias, o_bias: bias, ..Style::default() };
    let spec = decoder(config, &style)?;
    let head_dim = spec.layers[0].attention.head_dim;
    let eps = config.f64_or("rms_norm_eps", 1e-5)?;
    let mut rotary = rotary(config, head_dim, RotaryDefaults::default(), Pairing::Halves)?;
    if let (RotaryScaling::Dynamic { .. }, Some(alpha)) = (&rotary.scaling, alpha(config)?) {
        rotary.theta *= alpha.powf(head_dim as f64 / (head_dim as f64 - 2.0));
        rotary.scaling = RotaryScaling::None;
    }
    Ok(each_layer(spec, |(index, mut layer)| {
        let norm = |part: &str| Some(NormSpec::rms(&format!("model.layers.{index}.self_attn.{part}"), head_dim, eps));
        layer.attention.q_norm = norm("query_layernorm");
        layer.attention.k_norm = norm("key_layernorm");
        layer.attention.norm_after_rotation = true;
        layer.attention.rotary = Some(rotary.clone());
        layer
    }))
}

/// What stretches the base once and for all, in a scaling that calls itself dynamic.
fn alpha(config: &Config) -> Result<Option<f64>, CheckpointError> {
    let Some(section) = section(config) else { return Ok(None) };
    match section.opt_f64("alpha")? {
        Some(alpha) if alpha < 0.0 => Err(section.wrong("alpha", "a number above 0")),
        alpha => Ok(alpha.filter(|alpha| *alpha != 0.0)),
    }
}

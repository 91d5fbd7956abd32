//! GLM-4 (Zeng et al. 2024) and GLM-4-0414: Llama with a fused gate and up projection and a partial rotation of
//! neighbouring channels. The second adds norms after each part.

use patchbay_checkpoint::{CheckpointError, Config};

use super::llama::{Style, decoder, each_layer, fused_gate_up};
use super::rotary::RotaryDefaults;
use crate::rope::Pairing;
use crate::spec::{LayerSpec, NormSpec, Spec};

/// `model_type` "glm".
pub(super) fn glm(config: &Config) -> Result<Spec, CheckpointError> {
    let style = Style {
        eps: ("rms_norm_eps", 1.5625e-7),
        qkv_bias: config.flag("attention_bias", true)?,
        kv_heads: Some(2),
        head_dim: Some(128),
        context: 131_072,
        rotary: RotaryDefaults { part: 0.5, ..RotaryDefaults::default() },
        pairing: Pairing::Neighbours,
        ..Style::default()
    };
    Ok(each_layer(decoder(config, &style)?, |(index, layer)| LayerSpec {
        mlp: layer.mlp.map_mlp(|mlp| fused_gate_up(mlp, &format!("model.layers.{index}.mlp.gate_up_proj"))),
        ..layer
    }))
}

/// `model_type` "glm4".
pub(super) fn glm4(config: &Config) -> Result<Spec, CheckpointError> {
    Ok(each_layer(glm(config)?, |(index, layer)| {
        let after = |norm: &Option<NormSpec>, part: &str| {
            let weights = vec![format!("model.layers.{index}.{part}.weight")];
            norm.clone().map(|norm| NormSpec { weights, ..norm })
        };
        LayerSpec {
            attn_post_norm: after(&layer.attn_norm, "post_self_attn_layernorm"),
            mlp_post_norm: after(&layer.mlp_norm, "post_mlp_layernorm"),
            ..layer
        }
    }))
}

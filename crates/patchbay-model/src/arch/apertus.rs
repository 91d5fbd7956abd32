//! Apertus (Swiss AI 2025): Llama with norms on each head and, in place of a gated MLP, xIELU with learned curvatures.

use patchbay_checkpoint::{CheckpointError, Config};
use serde_json::json;

use super::llama::{Style, decoder, each_layer};
use super::rotary::{RotaryDefaults, section};
use crate::spec::{ActivationSpec, LayerSpec, MlpSpec, NormSpec, Spec, XieluSpec};

/// `model_type` "apertus".
pub(super) fn apertus(config: &Config) -> Result<Spec, CheckpointError> {
    let config = &completed(config);
    const ACTIVATION: &str = "hidden_act";
    let learned = config.opt_str(ACTIVATION)?.is_none_or(|name| name == "xielu");
    let bias = config.flag("attention_bias", false)?;
    let style = Style {
        eps: ("rms_norm_eps", 1e-5),
        // a key that no configuration has, where the activation is not one of the fixed ones
        activation: (if learned { "" } else { ACTIVATION }, "silu"),
        gated: false,
        qkv_bias: bias,
        o_bias: bias,
        head_norms: true,
        context: 65_536,
        rotary: RotaryDefaults { theta: THETA, part: 1.0 },
        ..Style::default()
    };
    Ok(each_layer(decoder(config, &style)?, |(index, layer)| {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let renamed = |norm: Option<NormSpec>, part: &str| {
            norm.map(|norm| NormSpec { weights: vec![name(&format!("{part}.weight"))], ..norm })
        };
        let mlp = layer.mlp.map_mlp(|mlp| match learned {
            true => MlpSpec { activation: ActivationSpec::Xielu(XieluSpec::stored(&name("mlp.act_fn"))), ..mlp },
            false => mlp,
        });
        LayerSpec {
            attn_norm: renamed(layer.attn_norm, "attention_layernorm"),
            mlp_norm: renamed(layer.mlp_norm, "feedforward_layernorm"),
            mlp,
            ..layer
        }
    }))
}

/// Base of the frequencies in a configuration that does not say.
const THETA: f64 = 12e6;

/// With the rotation that the type takes where none is described.
fn completed(config: &Config) -> Config {
    let rotation = json!({"rope_type": "llama3", "rope_theta": THETA, "factor": 8.0,
        "original_max_position_embeddings": 8192, "low_freq_factor": 1.0, "high_freq_factor": 4.0});
    match section(config) {
        Some(_) => config.clone(),
        None => config.clone().with("rope_parameters", rotation),
    }
}

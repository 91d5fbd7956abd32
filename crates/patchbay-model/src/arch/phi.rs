//! Phi (Gunasekar et al. 2023): attention and MLP side by side after one LayerNorm, biases everywhere, partial rotation.

use patchbay_checkpoint::{CheckpointError, Config};

use super::llama::{Style, decoder, each_layer};
use super::rotary::RotaryDefaults;
use crate::spec::{AttentionSpec, LayerSpec, LinearSpec, MlpSpec, NormSpec, Residual, Spec};

/// `model_type` "phi".
pub(super) fn phi(config: &Config) -> Result<Spec, CheckpointError> {
    let style = Style {
        norm: |name, width, eps| NormSpec::layer(name, width, eps, true),
        eps: ("layer_norm_eps", 1e-5),
        activation: ("hidden_act", "gelu_new"),
        gated: false,
        qkv_bias: true,
        rotary: RotaryDefaults { part: 0.5, ..RotaryDefaults::default() },
        ..Style::default()
    };
    let spec = decoder(config, &style)?;
    let hidden = spec.hidden;
    let eps = config.f64_or("layer_norm_eps", 1e-5)?;
    let head_norms = config.flag("qk_layernorm", false)?;
    let mut spec = each_layer(spec, |(index, layer)| {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let linear = |part: &str, input, output| LinearSpec::plain(&name(part), input, output, true);
        let AttentionSpec { heads, head_dim, .. } = layer.attention;
        let head_norm = |part: &str| head_norms.then(|| NormSpec::layer(&name(part), head_dim, eps, true));
        LayerSpec {
            residual: Residual::Parallel,
            attention: AttentionSpec {
                o: linear("self_attn.dense", heads * head_dim, hidden),
                q_norm: head_norm("self_attn.q_layernorm"),
                k_norm: head_norm("self_attn.k_layernorm"),
                ..layer.attention
            },
            mlp_norm: None,
            mlp: layer.mlp.map_mlp(|mlp| MlpSpec {
                up: linear("mlp.fc1", hidden, mlp.width),
                down: linear("mlp.fc2", mlp.width, hidden),
                ..mlp
            }),
            ..layer
        }
    });
    spec.final_norm = Some(NormSpec::layer("model.final_layernorm", hidden, eps, true));
    spec.head.bias = Some("lm_head.bias".to_owned());
    Ok(spec)
}

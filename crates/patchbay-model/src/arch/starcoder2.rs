//! StarCoder 2 (Lozhkov et al. 2024): Llama with LayerNorm, biases, a plain MLP and a window in every block.

use patchbay_checkpoint::{CheckpointError, Config};

use super::llama::{Style, decoder, each_layer};
use super::settings::{layer_count, window};
use crate::spec::{LayerSpec, LinearSpec, MlpSpec, NormSpec, Spec};

/// `model_type` "starcoder2".
pub(super) fn starcoder2(config: &Config) -> Result<Spec, CheckpointError> {
    let bias = config.flag("use_bias", true)?;
    let style = Style {
        norm: |name, width, eps| NormSpec::layer(name, width, eps, true),
        eps: ("norm_epsilon", 1e-5),
        activation: ("hidden_act", "gelu_pytorch_tanh"),
        gated: false,
        qkv_bias: bias,
        o_bias: bias,
        kv_heads: Some(2),
        tied: true,
        context: 4096,
        windows: vec![window(config, None)?; layer_count(config, "num_hidden_layers")?],
        ..Style::default()
    };
    let spec = decoder(config, &style)?;
    let hidden = spec.hidden;
    Ok(each_layer(spec, |(index, layer)| {
        let name = |part: &str| format!("model.layers.{index}.mlp.{part}");
        let mlp = layer.mlp.map_mlp(|mlp| MlpSpec {
            up: LinearSpec::plain(&name("c_fc"), hidden, mlp.width, bias),
            down: LinearSpec::plain(&name("c_proj"), mlp.width, hidden, bias),
            ..mlp
        });
        LayerSpec { mlp, ..layer }
    }))
}

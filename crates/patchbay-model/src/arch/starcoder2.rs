//! StarCoder 2 (Lozhkov et al. 2024): Llama with LayerNorm, biases, a plain MLP and a window in every block.

use patchbay_checkpoint::{CheckpointError, Config};

use super::llama::{Style, decoder, each_layer};
use super::settings::{layer_count, window};
use crate::spec::{LinearSpec, NormSpec, Spec};

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
    Ok(each_layer(spec, |(index, mut layer)| {
        let name = |part: &str| format!("model.layers.{index}.mlp.{part}");
        layer.mlp.up = LinearSpec::plain(&name("c_fc"), hidden, layer.mlp.width, bias);
        layer.mlp.down = LinearSpec::plain(&name("c_proj"), layer.mlp.width, hidden, bias);
        layer
    }))
}

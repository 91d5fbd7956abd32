//! Command R and Command R7B (Cohere): attention and MLP side by side after one LayerNorm without bias, rotation of
//! neighbouring channels, scaled logits. The second has windows, and rotates only in the blocks that have one.

use patchbay_checkpoint::{CheckpointError, Config};

use super::llama::{Style, decoder, each_layer};
use super::rotary::RotaryDefaults;
use super::settings::{head_share, layer_count, size, size_or, sliding_layers, window};
use crate::rope::Pairing;
use crate::spec::{NormSpec, Residual, Spec};

type Result<T> = std::result::Result<T, CheckpointError>;

/// `model_type` "cohere".
pub(super) fn cohere(config: &Config) -> Result<Spec> {
    let theta = 500_000.0;
    let spec = parallel(config, Style { rotary: RotaryDefaults { theta, part: 1.0 }, ..style(config)? })?;
    if !config.flag("use_qk_norm", false)? {
        return Ok(spec);
    }
    let eps = config.f64_or("layer_norm_eps", 1e-5)?;
    Ok(each_layer(spec, |(index, mut layer)| {
        let norm = |part: &str, heads, width| {
            let name = format!("model.layers.{index}.self_attn.{part}");
            Some(NormSpec { groups: Some(heads), ..NormSpec::layer(&name, width, eps, false) })
        };
        let attention = &mut layer.attention;
        attention.q_norm = norm("q_norm", attention.heads, attention.head_dim);
        attention.k_norm = norm("k_norm", attention.kv_heads, attention.head_dim);
        layer
    }))
}

/// `model_type` "cohere2".
pub(super) fn cohere2(config: &Config) -> Result<Spec> {
    let period = size_or(config, "sliding_window_pattern", 4)?;
    let layers = layer_count(config, "num_hidden_layers")?;
    let sliding = sliding_layers(config, layers, |layer| !(layer + 1).is_multiple_of(period))?;
    let window = window(config, Some(4096))?;
    let windows = sliding.iter().map(|sliding| window.filter(|_| *sliding)).collect();
    let (_, head_dim) = head_share(config, "num_attention_heads", size(config, "hidden_size")?)?;
    if config.opt_usize("head_dim")?.is_some_and(|found| found != head_dim) {
        return Err(config.wrong("head_dim", &format!("{head_dim}, the hidden size over the heads")));
    }
    let spec = parallel(config, Style { windows, ..style(config)? })?;
    Ok(each_layer(spec, |(_, mut layer)| {
        layer.attention.rotary = layer.attention.rotary.filter(|_| layer.attention.window.is_some());
        layer
    }))
}

fn style(config: &Config) -> Result<Style> {
    let bias = config.flag("attention_bias", false)?;
    Ok(Style {
        norm: |name, width, eps| NormSpec::layer(name, width, eps, false),
        eps: ("layer_norm_eps", 1e-5),
        qkv_bias: bias,
        o_bias: bias,
        tied: true,
        context: 8192,
        pairing: Pairing::Neighbours,
        ..Style::default()
    })
}

fn parallel(config: &Config, style: Style) -> Result<Spec> {
    let mut spec = each_layer(decoder(config, &style)?, |(_, mut layer)| {
        layer.residual = Residual::Parallel;
        layer.mlp_norm = None;
        layer
    });
    spec.head.transform.scale = Some(config.f64_or("logit_scale", 0.0625)?);
    Ok(spec)
}

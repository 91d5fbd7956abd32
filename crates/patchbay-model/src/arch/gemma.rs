//! Gemma, 2 and 3: embeddings times √hidden, norms whose files hold the weight minus 1, tanh GELU. Gemma 2 adds norms
//! after each part, windows in every other block and soft caps; Gemma 3 norms on each head in place of the caps, and
//! two rotations.

use patchbay_checkpoint::{CheckpointError, Config};
use serde_json::json;

use super::llama::{Style, decoder, each_layer};
use super::rotary::{RotaryDefaults, rotary_of};
use super::settings::{layer_count, size_or, sliding_layers, window};
use crate::rope::RotarySpec;
use crate::spec::{LayerSpec, NormSpec, Spec};

type Result<T> = std::result::Result<T, CheckpointError>;

/// `model_type` "gemma".
pub(super) fn gemma(config: &Config) -> Result<Spec> {
    const ACTIVATION: &str = "hidden_act";
    const TANH: &str = "gelu_pytorch_tanh";
    // The first releases say "gelu" and mean its tanh approximation; "gelu_python" means what it says.
    let legacy = config.opt_str(ACTIVATION)? == Some("gelu");
    let config = &if legacy { config.clone().with(ACTIVATION, json!(TANH)) } else { config.clone() };
    let style = Style { kv_heads: Some(16), activation: (ACTIVATION, TANH), ..style(config)? };
    Ok(scaled(decoder(config, &style)?))
}

/// `model_type` "gemma2".
pub(super) fn gemma2(config: &Config) -> Result<Spec> {
    let sliding = sliding_layers(config, layer_count(config, "num_hidden_layers")?, |layer| layer % 2 == 0)?;
    let spec = sandwiched(config, &sliding, Style { context: 8192, ..style(config)? })?;
    let cap = capped(config, "attn_logit_softcapping", Some(50.0))?;
    let mut spec = each_layer(spec, |(_, mut layer)| {
        layer.attention.soft_cap = cap;
        layer
    });
    spec.head.transform.soft_cap = capped(config, "final_logit_softcapping", Some(30.0))?;
    Ok(spec)
}

/// `model_type` "gemma3_text".
pub(super) fn gemma3_text(config: &Config) -> Result<Spec> {
    let period = size_or(config, "sliding_window_pattern", 6)?;
    let layers = layer_count(config, "num_hidden_layers")?;
    let sliding = sliding_layers(config, layers, |layer| !(layer + 1).is_multiple_of(period))?;
    let style = Style { head_norms: true, ..style(config)? };
    let spec = sandwiched(config, &sliding, style)?;
    let (local, global) = rotations(config, spec.layers[0].attention.head_dim)?;
    let mut spec = each_layer(spec, |(index, mut layer)| {
        layer.attention.rotary = Some(if sliding[index] { local.clone() } else { global.clone() });
        layer
    });
    spec.context = global.reach(size_or(config, "max_position_embeddings", 131_072)?);
    spec.head.transform.soft_cap = capped(config, "final_logit_softcapping", None)?;
    Ok(spec)
}

/// What the three have in common.
fn style(config: &Config) -> Result<Style> {
    if config.flag("use_bidirectional_attention", false)? {
        return Err(config.wrong("use_bidirectional_attention", "false: only causal decoders are supported"));
    }
    let bias = config.flag("attention_bias", false)?;
    Ok(Style {
        norm: |name, width, eps| NormSpec::rms(name, width, eps).minus_one(),
        activation: ("hidden_activation", "gelu_pytorch_tanh"),
        qkv_bias: bias,
        o_bias: bias,
        kv_heads: Some(4),
        head_dim: Some(256),
        tied: true,
        context: 8192,
        ..Style::default()
    })
}

fn scaled(mut spec: Spec) -> Spec {
    spec.embedding.scale = Some((spec.hidden as f64).sqrt());
    spec
}

/// A decoder with norms before and after each part, and windows in these blocks.
fn sandwiched(config: &Config, sliding: &[bool], style: Style) -> Result<Spec> {
    let window = window(config, Some(4096))?;
    let windows = sliding.iter().map(|sliding| window.filter(|_| *sliding)).collect();
    let scale = (size_or(config, "query_pre_attn_scalar", 256)? as f64).powf(-0.5);
    let spec = scaled(decoder(config, &Style { windows, ..style })?);
    Ok(each_layer(spec, |(index, mut layer)| {
        let renamed = |norm: &Option<NormSpec>, part: &str| {
            let weights = vec![format!("model.layers.{index}.{part}.weight")];
            norm.clone().map(|norm| NormSpec { weights, ..norm })
        };
        layer.attention.scale = scale;
        LayerSpec {
            attn_post_norm: renamed(&layer.attn_norm, "post_attention_layernorm"),
            mlp_norm: renamed(&layer.mlp_norm, "pre_feedforward_layernorm"),
            mlp_post_norm: renamed(&layer.mlp_norm, "post_feedforward_layernorm"),
            ..layer
        }
    }))
}

/// A soft cap: `default` where the key is absent, none where it is null.
fn capped(config: &Config, key: &str, default: Option<f64>) -> Result<Option<f64>> {
    match (config.opt_f64(key)?, config.raw().get(key)) {
        (None, None) => Ok(default),
        (Some(cap), _) if cap <= 0.0 => Err(config.wrong(key, "a number above 0, or null")),
        (cap, _) => Ok(cap),
    }
}

/// The rotation of blocks with a window, and that of the others. The old form scales only the second.
fn rotations(config: &Config, head_dim: usize) -> Result<(RotarySpec, RotarySpec)> {
    let parameters = config.section("rope_parameters");
    let part = |kind| parameters.as_ref().and_then(|section| section.section(kind));
    let scaling = config.section("rope_scaling");
    let defaults = |key, theta| Ok(RotaryDefaults { theta: config.f64_or(key, theta)?, part: 1.0 });
    let local = defaults("rope_local_base_freq", 10_000.0)?;
    let local = rotary_of(config, part("sliding_attention").as_ref(), local, head_dim)?;
    let global = defaults("rope_theta", 1_000_000.0)?;
    let global = rotary_of(config, part("full_attention").or(scaling).as_ref(), global, head_dim)?;
    Ok((local, global))
}

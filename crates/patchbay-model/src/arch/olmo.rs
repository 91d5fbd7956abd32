//! OLMo, 2 and 3. The first has LayerNorm without weights and bounds on queries, keys and values; the later ones norms
//! after each part in place of those before, and a norm on all queries and on all keys of a token at once.

use patchbay_checkpoint::{CheckpointError, Config};

use super::llama::{Style, decoder, each_layer, post_norms};
use super::rotary::{RotaryDefaults, rotary_of};
use super::settings::{bound, layer_count, size_or, sliding_layers, window};
use crate::rope::{RotaryScaling, RotarySpec};
use crate::spec::{NormSpec, Spec};

type Result<T> = std::result::Result<T, CheckpointError>;

/// `model_type` "olmo".
pub(super) fn olmo(config: &Config) -> Result<Spec> {
    let norm = |name: &str, width, _| NormSpec::layer(name, width, 1e-5, false).unweighted();
    let spec = decoder(config, &Style { norm, ..style(config)? })?;
    clipped(config, spec)
}

/// `model_type` "olmo2".
pub(super) fn olmo2(config: &Config) -> Result<Spec> {
    let spec = decoder(config, &style(config)?)?;
    normed(config, spec)
}

/// `model_type` "olmo3": a window in three of four blocks, and a rotation for these and one for the others.
pub(super) fn olmo3(config: &Config) -> Result<Spec> {
    const THETA: f64 = 500_000.0;
    let layers = layer_count(config, "num_hidden_layers")?;
    let sliding = sliding_layers(config, layers, |layer| !(layer + 1).is_multiple_of(4))?;
    let window = window(config, Some(4096))?;
    let windows = sliding.iter().map(|sliding| window.filter(|_| *sliding)).collect();
    let spec = normed(config, decoder(config, &Style { windows, ..style(config)? })?)?;

    let head_dim = spec.layers[0].attention.head_dim;
    let parameters = config.section("rope_parameters");
    let part = |kind| parameters.as_ref().and_then(|section| section.section(kind));
    // The old form has the scaling and the base of the blocks without a window alone.
    let global = RotaryDefaults { theta: config.f64_or("rope_theta", THETA)?, part: 1.0 };
    let section = config.section("rope_scaling").or_else(|| part("full_attention"));
    let global = rotary_of(config, section.as_ref(), global, head_dim)?;
    let local = RotaryDefaults { theta: THETA, part: 1.0 };
    let local = match part("sliding_attention") {
        Some(section) => rotary_of(config, Some(&section), local, head_dim)?,
        None => RotarySpec { theta: THETA, scaling: RotaryScaling::None, ..global.clone() },
    };
    let context = global.reach(size_or(config, "max_position_embeddings", 2048)?);
    let spec = each_layer(spec, |(index, mut layer)| {
        layer.attention.rotary = Some(if sliding[index] { local.clone() } else { global.clone() });
        layer
    });
    Ok(Spec { context, ..spec })
}

/// The settings that all of the family read alike.
pub(super) fn style(config: &Config) -> Result<Style> {
    let bias = config.flag("attention_bias", false)?;
    Ok(Style { eps: ("rms_norm_eps", 1e-5), qkv_bias: bias, o_bias: bias, ..Style::default() })
}

/// Bounds on queries, keys and values, from `clip_qkv`.
pub(super) fn clipped(config: &Config, spec: Spec) -> Result<Spec> {
    let clip = bound(config, "clip_qkv")?;
    Ok(each_layer(spec, |(_, mut layer)| {
        layer.attention.clip = clip;
        layer
    }))
}

/// Norms after each part, and on all queries and all keys at once.
fn normed(config: &Config, spec: Spec) -> Result<Spec> {
    Ok(each_layer(head_normed(config, spec)?, |(index, layer)| {
        post_norms(layer, index, "post_attention_layernorm", "post_feedforward_layernorm")
    }))
}

/// A norm on all queries and one on all keys of a token at once.
pub(super) fn head_normed(config: &Config, spec: Spec) -> Result<Spec> {
    let eps = config.f64_or("rms_norm_eps", 1e-5)?;
    Ok(each_layer(spec, |(index, mut layer)| {
        let norm =
            |part: &str, width| Some(NormSpec::rms(&format!("model.layers.{index}.self_attn.{part}"), width, eps));
        layer.attention.q_norm = norm("q_norm", layer.attention.q.output());
        layer.attention.k_norm = norm("k_norm", layer.attention.k.output());
        layer
    }))
}

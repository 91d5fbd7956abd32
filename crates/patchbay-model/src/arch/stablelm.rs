//! StableLM 2 (Bellagente et al. 2024): Llama with LayerNorm, partial rotation, a norm for each head, and a parallel form.

use patchbay_checkpoint::{CheckpointError, Config};

use super::llama::{Style, decoder, each_layer};
use super::rotary::RotaryDefaults;
use crate::spec::{NormSpec, Residual, Spec};

/// `model_type` "stablelm".
pub(super) fn stablelm(config: &Config) -> Result<Spec, CheckpointError> {
    let style = Style {
        norm: |name, width, eps| NormSpec::layer(name, width, eps, true),
        eps: ("layer_norm_eps", 1e-5),
        qkv_bias: config.flag("use_qkv_bias", false)?,
        kv_heads: Some(32),
        context: 4096,
        rotary: RotaryDefaults { part: 0.25, ..RotaryDefaults::default() },
        ..Style::default()
    };
    let spec = decoder(config, &style)?;
    let eps = config.f64_or("layer_norm_eps", 1e-5)?;
    let head_norms = config.flag("qk_layernorm", false)?;
    let parallel = config.flag("use_parallel_residual", false)?;
    Ok(each_layer(spec, |(index, mut layer)| {
        let head_norm = |part: &str, heads, width| {
            let weight = |head| format!("model.layers.{index}.self_attn.{part}.norms.{head}.weight");
            let norm = NormSpec::layer("", width, eps, false);
            NormSpec { weights: (0..heads).map(weight).collect(), ..norm }
        };
        if head_norms {
            let attention = &mut layer.attention;
            attention.q_norm = Some(head_norm("q_layernorm", attention.heads, attention.head_dim));
            attention.k_norm = Some(head_norm("k_layernorm", attention.kv_heads, attention.head_dim));
        }
        if parallel {
            layer.residual = Residual::Parallel;
            layer.mlp_norm = None;
        }
        layer
    }))
}

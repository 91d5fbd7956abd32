//! ERNIE 4.5 (Baidu 2025): Llama with rotation of neighbouring channels, and experts in some blocks of the larger models.

use patchbay_checkpoint::{CheckpointError, Config};

use super::experts::{Sizes, plain, shared, with_experts};
use super::llama::{Style, decoder};
use super::rotary::RotaryDefaults;
use super::settings::size_or;
use crate::rope::Pairing;
use crate::spec::{CorrectionSpec, MlpSpec, MoeSpec, RouterSpec, Spec, WeightNorm};

/// `model_type` "ernie4_5".
pub(super) fn ernie4_5(config: &Config) -> Result<Spec, CheckpointError> {
    decoder(config, &Style { kv_heads: Some(2), head_dim: Some(128), ..style(config)? })
}

/// `model_type` "ernie4_5_moe".
pub(super) fn ernie4_5_moe(config: &Config) -> Result<Spec, CheckpointError> {
    let (counts, choices) = (&["moe_num_experts", "num_experts"], &["moe_k", "num_experts_per_tok"]);
    let sizes = Sizes::read(config, (counts, 64), (choices, 6), "moe_intermediate_size")?;
    let bias = config.flag("use_bias", false)?;
    let shared_width = sizes.width * config.usize_or("moe_num_shared_experts", 2)?;
    let interval = size_or(config, "moe_layer_interval", 1)?;
    let first = config.usize_or("moe_layer_start_index", 1)?;
    let last = config.f64_or("moe_layer_end_index", -1.0)?;
    let has_experts =
        |layer: usize| (layer + 1).is_multiple_of(interval) && layer >= first && (last == -1.0 || layer as f64 <= last);
    let least = config.f64_or("moe_norm_min", 1e-12)?;
    let make = |layer, mlp: MlpSpec| {
        let name = |part: &str| format!("model.layers.{layer}.mlp.{part}");
        let experts = plain(&mlp, layer, sizes);
        let weight = name("moe_statics.e_score_correction_bias");
        let correction = Some(CorrectionSpec { weight, shape: vec![1, sizes.count] });
        let router = RouterSpec { correction, normalised: Some(WeightNorm::sum(least)), ..experts.router };
        let shared = (shared_width > 0).then(|| shared(&mlp, &name("shared_experts"), shared_width, bias));
        MoeSpec { router, shared, ..experts }
    };
    let style = Style { kv_heads: Some(4), ..style(config)? };
    let mut spec = with_experts(decoder(config, &style)?, has_experts, make);
    spec.head.bias = bias.then(|| "lm_head.bias".to_owned());
    Ok(spec)
}

fn style(config: &Config) -> Result<Style, CheckpointError> {
    let bias = config.flag("use_bias", false)?;
    Ok(Style {
        eps: ("rms_norm_eps", 1e-5),
        qkv_bias: bias,
        o_bias: bias,
        mlp_bias: bias,
        tied: true,
        context: 131_072,
        rotary: RotaryDefaults { theta: 500_000.0, part: 1.0 },
        pairing: Pairing::Neighbours,
        ..Style::default()
    })
}

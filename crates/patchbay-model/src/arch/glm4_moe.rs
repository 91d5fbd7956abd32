//! GLM-4.5 (Zeng et al. 2025): the first blocks have one MLP, the others experts, chosen from groups by corrected sigmoids, and
//! one that every token goes through.

use patchbay_checkpoint::{CheckpointError, Config};

use super::experts::{Sizes, plain, shared, with_experts};
use super::llama::{Style, decoder};
use super::rotary::RotaryDefaults;
use super::settings::size_or;
use crate::spec::{CorrectionSpec, GroupScore, MlpSpec, MoeSpec, RouterSpec, Scores, Spec, WeightNorm};

/// `model_type` "glm4_moe".
pub(super) fn glm4_moe(config: &Config) -> Result<Spec, CheckpointError> {
    let style = Style {
        eps: ("rms_norm_eps", 1e-5),
        qkv_bias: config.flag("attention_bias", false)?,
        head_norms: config.flag("use_qk_norm", false)?,
        kv_heads: Some(8),
        context: 131_072,
        rotary: RotaryDefaults { part: 0.5, ..RotaryDefaults::default() },
        ..Style::default()
    };
    let (counts, choices) = (&["n_routed_experts", "num_local_experts"], &["num_experts_per_tok"]);
    let sizes = Sizes::read(config, (counts, 128), (choices, 8), "moe_intermediate_size")?;
    let groups = sizes.groups(config, (1, 1), GroupScore::TwoBest)?;
    let shared_width = sizes.width * size_or(config, "n_shared_experts", 1)?;
    let dense = config.usize_or("first_k_dense_replace", 1)?;
    let normalised = config.flag("norm_topk_prob", true)?.then_some(WeightNorm::sum(1e-20));
    let scale = config.f64_or("routed_scaling_factor", 1.0)?;
    let make = |layer, mlp: MlpSpec| {
        let name = |part: &str| format!("model.layers.{layer}.mlp.{part}");
        let experts = plain(&mlp, layer, sizes);
        let weight = name("gate.e_score_correction_bias");
        let router = RouterSpec {
            scores: Scores::Sigmoid,
            correction: Some(CorrectionSpec { weight, shape: vec![sizes.count] }),
            groups,
            normalised,
            scale,
            ..experts.router
        };
        MoeSpec { router, shared: Some(shared(&mlp, &name("shared_experts"), shared_width, false)), ..experts }
    };
    Ok(with_experts(decoder(config, &style)?, |layer| layer >= dense, make))
}

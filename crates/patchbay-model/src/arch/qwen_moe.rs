//! Qwen 2 and Qwen 3 with experts: blocks with many MLPs among such with one. Qwen 2 has another expert that every token goes
//! through, with a gate of its own.

use patchbay_checkpoint::{CheckpointError, Config};

use super::experts::{Sizes, plain, shared, with_experts};
use super::llama::{Style, decoder};
use super::qwen::windows;
use super::settings::{layer_count, size_or, window};
use crate::spec::{LinearSpec, MlpSpec, MoeSpec, Spec, WeightNorm};

type Result<T> = std::result::Result<T, CheckpointError>;

/// `model_type` "qwen2_moe".
pub(super) fn qwen2_moe(config: &Config) -> Result<Spec> {
    let style = Style {
        qkv_bias: config.flag("qkv_bias", true)?,
        kv_heads: Some(16),
        context: 32_768,
        // every other one of the first blocks has a window
        windows: windows(config, |first, layer| layer < first && layer.is_multiple_of(2))?,
        ..Style::default()
    };
    let sizes = sizes(config, 60, 4)?;
    let width = size_or(config, "shared_expert_intermediate_size", 5632)?;
    mixed(config, &style, sizes, |layer, mlp, experts| {
        let name = |part: &str| format!("model.layers.{layer}.mlp.{part}");
        let mut shared = shared(mlp, &name("shared_expert"), width, false);
        shared.gate = Some(LinearSpec::plain(&name("shared_expert_gate"), mlp.up.input, 1, false));
        MoeSpec { shared: Some(shared), ..experts }
    })
}

/// `model_type` "qwen3_moe".
pub(super) fn qwen3_moe(config: &Config) -> Result<Spec> {
    let bias = config.flag("attention_bias", false)?;
    let sliding = config.flag("use_sliding_window", false)?;
    let window = if sliding { window(config, Some(4096))? } else { None };
    let style = Style {
        qkv_bias: bias,
        o_bias: bias,
        head_norms: true,
        kv_heads: Some(4),
        context: 32_768,
        windows: vec![window; layer_count(config, "num_hidden_layers")?],
        ..Style::default()
    };
    mixed(config, &style, sizes(config, 128, 8)?, |_, _, experts| experts)
}

fn sizes(config: &Config, count: usize, chosen: usize) -> Result<Sizes> {
    let (counts, choices) = (&["num_experts", "num_local_experts"], &["num_experts_per_tok"]);
    Sizes::read(config, (counts, count), (choices, chosen), "moe_intermediate_size")
}

/// Experts in every `decoder_sparse_step`th block that is not among `mlp_only_layers`.
fn mixed(
    config: &Config,
    style: &Style,
    sizes: Sizes,
    change: impl Fn(usize, &MlpSpec, MoeSpec) -> MoeSpec,
) -> Result<Spec> {
    let step = size_or(config, "decoder_sparse_step", 1)?;
    let only = config.opt_f64_list("mlp_only_layers")?.unwrap_or_default();
    let has_experts = |layer: usize| (layer + 1).is_multiple_of(step) && !only.contains(&(layer as f64));
    let normalised = config.flag("norm_topk_prob", false)?.then_some(WeightNorm::sum(0.0));
    let make = |layer, mlp: MlpSpec| {
        let mut experts = plain(&mlp, layer, sizes);
        experts.router.normalised = normalised;
        change(layer, &mlp, experts)
    };
    Ok(with_experts(decoder(config, style)?, has_experts, make))
}

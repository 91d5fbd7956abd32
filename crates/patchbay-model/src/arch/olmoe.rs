//! OLMoE (Muennighoff et al. 2024): Llama with a norm on all queries and on all keys of a token at once, and 64 experts.

use patchbay_checkpoint::{CheckpointError, Config};

use super::experts::{Sizes, plain, with_experts};
use super::llama::{Style, decoder, each_layer};
use crate::spec::{NormSpec, Spec};

/// `model_type` "olmoe".
pub(super) fn olmoe(config: &Config) -> Result<Spec, CheckpointError> {
    let bias = config.flag("attention_bias", false)?;
    let style = Style { eps: ("rms_norm_eps", 1e-5), qkv_bias: bias, o_bias: bias, context: 4096, ..Style::default() };
    let eps = config.f64_or("rms_norm_eps", 1e-5)?;
    let clip = config.opt_f64("clip_qkv")?;
    if clip.is_some_and(|clip| clip < 0.0) {
        return Err(config.wrong("clip_qkv", "a number of at least 0"));
    }
    let (counts, choices) = (&["num_experts", "num_local_experts"], &["num_experts_per_tok"]);
    let sizes = Sizes::read(config, (counts, 64), (choices, 8), "intermediate_size")?;
    let normalised = config.flag("norm_topk_prob", false)?.then_some(0.0);
    let spec = with_experts(
        decoder(config, &style)?,
        |_| true,
        |layer, mlp| {
            let mut experts = plain(&mlp, layer, sizes);
            experts.router.normalised = normalised;
            experts
        },
    );
    Ok(each_layer(spec, |(index, mut layer)| {
        let norm =
            |part: &str, width| Some(NormSpec::rms(&format!("model.layers.{index}.self_attn.{part}"), width, eps));
        layer.attention.q_norm = norm("q_norm", layer.attention.q.output());
        layer.attention.k_norm = norm("k_norm", layer.attention.k.output());
        layer.attention.clip = clip;
        layer
    }))
}

//! OLMoE (Muennighoff et al. 2024): OLMo with norms before each part, one on all queries and on all keys of a token at once, and 64
//! experts.

use patchbay_checkpoint::{CheckpointError, Config};

use super::experts::{Sizes, plain, with_experts};
use super::llama::{Style, decoder};
use super::olmo::{clipped, head_normed, style};
use crate::spec::{Spec, WeightNorm};

/// `model_type` "olmoe".
pub(super) fn olmoe(config: &Config) -> Result<Spec, CheckpointError> {
    let (counts, choices) = (&["num_experts", "num_local_experts"], &["num_experts_per_tok"]);
    let sizes = Sizes::read(config, (counts, 64), (choices, 8), "intermediate_size")?;
    let normalised = config.flag("norm_topk_prob", false)?.then_some(WeightNorm::sum(0.0));
    let spec = decoder(config, &Style { context: 4096, ..style(config)? })?;
    let spec = clipped(config, head_normed(config, spec)?)?;
    Ok(with_experts(
        spec,
        |_| true,
        |layer, mlp| {
            let mut experts = plain(&mlp, layer, sizes);
            experts.router.normalised = normalised;
            experts
        },
    ))
}

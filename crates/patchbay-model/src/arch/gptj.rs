//! GPT-J (Wang & Komatsuzaki 2021): attention and MLP side by side after one LayerNorm, a part of each head rotated in
//! neighbouring channels, a bias on the unembedding.

use patchbay_checkpoint::{CheckpointError, Config};

use super::settings::{activation, head_share, layer_count, size, size_or};
use crate::rope::{Pairing, RotaryScaling, RotarySpec};
use crate::spec::{
    AttentionSpec, EmbeddingSpec, FeedForward, HeadSpec, LayerSpec, LinearSpec, MlpSpec, NormSpec, Residual, Spec,
};

/// `model_type` "gptj".
pub(super) fn gptj(config: &Config) -> Result<Spec, CheckpointError> {
    let hidden = size(config, "n_embd")?;
    let (heads, head_dim) = head_share(config, "n_head", hidden)?;
    let width = size_or(config, "n_inner", 4 * hidden)?;
    let eps = config.f64_or("layer_norm_epsilon", 1e-5)?;
    let activation = activation(config, "activation_function", "gelu_new")?;
    let dims = size_or(config, "rotary_dim", 64)?;
    if dims > head_dim || !dims.is_multiple_of(2) {
        return Err(config.wrong("rotary_dim", &format!("an even number up to the size of a head, {head_dim}")));
    }
    let rotary =
        RotarySpec { theta: 10_000.0, start: 0, dims, pairing: Pairing::Neighbours, scaling: RotaryScaling::None };

    let layer = |index: usize| {
        let name = |part: &str| format!("transformer.h.{index}.{part}");
        let linear = |part: &str| LinearSpec::plain(&name(part), hidden, hidden, false);
        let qkv = ["attn.q_proj", "attn.k_proj", "attn.v_proj"].map(linear);
        LayerSpec {
            residual: Residual::Parallel,
            attn_norm: Some(NormSpec::layer(&name("ln_1"), hidden, eps, true)),
            attention: AttentionSpec {
                rotary: Some(rotary.clone()),
                ..AttentionSpec::plain((heads, heads, head_dim), qkv, linear("attn.out_proj"))
            },
            attn_post_norm: None,
            mlp_norm: None,
            mlp: FeedForward::Mlp(Box::new(MlpSpec {
                width,
                activation: activation.clone(),
                gate: None,
                up: LinearSpec::plain(&name("mlp.fc_in"), hidden, width, true),
                down: LinearSpec::plain(&name("mlp.fc_out"), width, hidden, true),
            })),
            mlp_post_norm: None,
            multiplier: None,
        }
    };

    let embedding = EmbeddingSpec::plain("transformer.wte.weight");
    let head = HeadSpec::plain(config.flag("tie_word_embeddings", false)?, &embedding, "lm_head.weight");
    Ok(Spec {
        model_type: config.model_type()?.to_owned(),
        hidden,
        vocab: size(config, "vocab_size")?,
        context: size_or(config, "n_positions", 2048)?,
        base_prefix: "transformer.",
        part: None,
        layers: (0..layer_count(config, "n_layer")?).map(layer).collect(),
        final_norm: Some(NormSpec::layer("transformer.ln_f", hidden, eps, true)),
        head: HeadSpec { bias: Some("lm_head.bias".to_owned()), ..head },
        embedding,
    })
}

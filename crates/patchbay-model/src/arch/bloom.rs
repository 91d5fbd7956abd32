//! BLOOM (Scao et al. 2022): ALiBi in place of positions, a norm on the embeddings, and queries, keys and values of each
//! head side by side in one projection.

use patchbay_checkpoint::{CheckpointError, Config};

use super::settings::{head_share, layer_count, only, size, size_or};
use crate::spec::{
    Activation, Alibi, AlibiOrigin, AttentionSpec, EmbeddingSpec, HeadSpec, LayerSpec, LinearSpec, MlpSpec, NormSpec,
    Rows, Spec,
};

/// `model_type` "bloom".
pub(super) fn bloom(config: &Config) -> Result<Spec, CheckpointError> {
    only(config, "apply_residual_connection_post_layernorm", false, false)?;
    let either = |first: &'static str, second| if config.get(first).is_some() { first } else { second };
    let hidden = size(config, either("n_embed", "hidden_size"))?;
    let (heads, head_dim) = head_share(config, either("n_head", "num_attention_heads"), hidden)?;
    let eps = config.f64_or("layer_norm_epsilon", 1e-5)?;
    let norm = |name: &str| NormSpec::layer(name, hidden, eps, true);

    let layer = |index: usize| {
        let name = |part: &str| format!("transformer.h.{index}.{part}");
        let third = |part: usize| {
            let rows = Rows { total: 3 * hidden, group: 3 * head_dim, start: part * head_dim, len: head_dim };
            LinearSpec::part(&name("self_attention.query_key_value"), hidden, rows, true)
        };
        let o = LinearSpec::plain(&name("self_attention.dense"), hidden, hidden, true);
        let attention = AttentionSpec {
            alibi: Some(Alibi { slopes: slopes(heads), origin: AlibiOrigin::First, rounded: false, factor: 1.0 }),
            ..AttentionSpec::plain((heads, heads, head_dim), [0, 1, 2].map(third), o)
        };
        let mlp = MlpSpec {
            width: 4 * hidden,
            activation: Activation::GeluTanh.into(),
            gate: None,
            up: LinearSpec::plain(&name("mlp.dense_h_to_4h"), hidden, 4 * hidden, true),
            down: LinearSpec::plain(&name("mlp.dense_4h_to_h"), 4 * hidden, hidden, true),
        };
        let [attn_norm, mlp_norm] = ["input_layernorm", "post_attention_layernorm"].map(|part| norm(&name(part)));
        LayerSpec::pre_norm(attn_norm, attention, mlp_norm, mlp)
    };

    let embedding = EmbeddingSpec {
        norm: Some(norm("transformer.word_embeddings_layernorm")),
        ..EmbeddingSpec::plain("transformer.word_embeddings.weight")
    };
    Ok(Spec {
        model_type: config.model_type()?.to_owned(),
        hidden,
        vocab: size(config, "vocab_size")?,
        // ALiBi has no last position. This is what the published models were trained on.
        context: size_or(config, "seq_length", 2048)?,
        base_prefix: "transformer.",
        part: None,
        layers: (0..layer_count(config, either("n_layer", "num_hidden_layers"))?).map(layer).collect(),
        final_norm: Some(norm("transformer.ln_f")),
        head: HeadSpec::plain(config.flag("tie_word_embeddings", true)?, &embedding, "lm_head.weight"),
        embedding,
    })
}

/// The slopes of Press et al. 2021: powers of `2^(-8 / n)` for a power of two n, and every other one of `2n` after it.
pub(super) fn slopes(heads: usize) -> Vec<f32> {
    let whole = 1 << heads.ilog2();
    let power = |of: usize, exponent: usize| 2f64.powf(-8.0 / of as f64).powi(exponent as i32) as f32;
    let first = (1..=whole).map(|exponent| power(whole, exponent));
    let rest = (0..heads - whole).map(|place| power(2 * whole, 2 * place + 1));
    first.chain(rest).collect()
}

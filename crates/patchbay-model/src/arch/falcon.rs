//! Falcon (Almazrouei et al. 2023): attention and MLP side by side or one after the other, one key/value head or
//! several, rotation or ALiBi; LayerNorm, plain MLPs, tied tables.

use patchbay_checkpoint::{CheckpointError, Config};

use super::bloom::slopes;
use super::rotary::{RotaryDefaults, rotary};
use super::settings::{activation, head_share, layer_count, size, size_or};
use crate::rope::Pairing;
use crate::spec::{
    Alibi, AlibiOrigin, AttentionSpec, EmbeddingSpec, FeedForward, HeadSpec, LayerSpec, LinearSpec, MlpSpec, NormSpec,
    Residual, Rows, Spec,
};

/// `model_type` "falcon".
pub(super) fn falcon(config: &Config) -> Result<Spec, CheckpointError> {
    let hidden = size(config, if config.get("n_embed").is_some() { "n_embed" } else { "hidden_size" })?;
    let (heads, head_dim) = head_share(config, "num_attention_heads", hidden)?;
    let width = size_or(config, "ffn_hidden_size", 4 * hidden)?;
    let eps = config.f64_or("layer_norm_epsilon", 1e-5)?;
    let bias = config.flag("bias", false)?;
    let activation = activation(config, "activation", "gelu")?;
    let newer = config.flag("new_decoder_architecture", false)?;
    let one_key = config.flag("multi_query", true)? && !newer;
    let kv_heads = match (newer, one_key) {
        (true, _) => size_or(config, "num_kv_heads", heads)?,
        (false, true) => 1,
        (false, false) => heads,
    };
    if heads % kv_heads != 0 {
        return Err(config.wrong("num_kv_heads", &format!("a divisor of num_attention_heads, {heads}")));
    }
    let places = places(config, newer)?;
    let alibi = config.flag("alibi", false)?;
    let rotary = rotary(config, head_dim, RotaryDefaults::default(), Pairing::Halves)?;

    let layer = |index: usize| {
        let name = |part: &str| format!("transformer.h.{index}.{part}");
        let linear = |part: &str, input, output| LinearSpec::plain(&name(part), input, output, bias);
        let norm = |part: &str| NormSpec::layer(&name(part), hidden, eps, true);
        // For each key/value head its queries, its key and its value.
        let group = (heads / kv_heads + 2) * head_dim;
        let part = |start, len| {
            let rows = Rows { total: kv_heads * group, group, start, len };
            LinearSpec::part(&name("self_attention.query_key_value"), hidden, rows, bias)
        };
        let queries = group - 2 * head_dim;
        let qkv = [part(0, queries), part(queries, head_dim), part(queries + head_dim, head_dim)];
        let o = linear("self_attention.dense", hidden, hidden);
        let attention = AttentionSpec::plain((heads, kv_heads, head_dim), qkv, o);
        // The products of ALiBi are rounded, and scaled together with the scores.
        let (origin, factor) = (AlibiOrigin::First, attention.scale as f32);
        let bias = Alibi { slopes: slopes(heads), origin, rounded: true, factor };
        LayerSpec {
            residual: places.residual,
            attn_norm: Some(norm(places.attn_norm)),
            attention: AttentionSpec {
                rotary: (!alibi).then(|| rotary.clone()),
                alibi: alibi.then_some(bias),
                ..attention
            },
            attn_post_norm: None,
            mlp_norm: places.mlp_norm.map(norm),
            mlp: FeedForward::Mlp(Box::new(MlpSpec {
                width,
                activation: activation.clone(),
                gate: None,
                up: linear("mlp.dense_h_to_4h", hidden, width),
                down: linear("mlp.dense_4h_to_h", width, hidden),
            })),
            mlp_post_norm: None,
            multiplier: None,
        }
    };

    let embedding = EmbeddingSpec::plain("transformer.word_embeddings.weight");
    Ok(Spec {
        model_type: config.model_type()?.to_owned(),
        hidden,
        vocab: size(config, "vocab_size")?,
        context: size_or(config, "max_position_embeddings", 2048)?,
        base_prefix: "transformer.",
        part: None,
        layers: (0..layer_count(config, "num_hidden_layers")?).map(layer).collect(),
        final_norm: Some(NormSpec::layer("transformer.ln_f", hidden, eps, true)),
        head: HeadSpec::plain(config.flag("tie_word_embeddings", true)?, &embedding, "lm_head.weight"),
        embedding,
    })
}

/// How the parts of a block stand, and which norms are before them.
struct Places {
    residual: Residual,
    attn_norm: &'static str,
    mlp_norm: Option<&'static str>,
}

fn places(config: &Config, newer: bool) -> Result<Places, CheckpointError> {
    let parallel = config.flag("parallel_attn", true)?;
    let norms = config.usize_or("num_ln_in_parallel_attn", if newer { 2 } else { 1 })?;
    match (parallel, newer, norms) {
        (true, true, 2) => Ok(Places { residual: Residual::Parallel, attn_norm: "ln_attn", mlp_norm: Some("ln_mlp") }),
        (true, _, 1) => Ok(Places { residual: Residual::Parallel, attn_norm: "input_layernorm", mlp_norm: None }),
        (true, ..) => Err(config.wrong("num_ln_in_parallel_attn", "1, or 2 in the new architecture")),
        (false, true, _) => Err(config.wrong("parallel_attn", "true in the new architecture")),
        (false, false, _) => Ok(Places {
            residual: Residual::Sequential,
            attn_norm: "input_layernorm",
            mlp_norm: Some("post_attention_layernorm"),
        }),
    }
}

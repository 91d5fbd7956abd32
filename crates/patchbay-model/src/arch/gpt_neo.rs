//! GPT-Neo (Black et al. 2021): GPT-2 without a factor on the scores, and with a window in every other block.

use patchbay_checkpoint::{CheckpointError, Config};

use super::settings::{activation, head_share, layer_count, size, size_or};
use crate::spec::{
    AttentionSpec, EmbeddingSpec, HeadSpec, LayerSpec, LearnedPositions, LinearSpec, MlpSpec, NormSpec, Spec,
};

/// `model_type` "gpt_neo".
pub(super) fn gpt_neo(config: &Config) -> Result<Spec, CheckpointError> {
    let hidden = size(config, "hidden_size")?;
    let (heads, head_dim) = head_share(config, "num_heads", hidden)?;
    let width = size_or(config, "intermediate_size", 4 * hidden)?;
    let context = size_or(config, "max_position_embeddings", 2048)?;
    let window = size_or(config, "window_size", 256)?;
    let eps = config.f64_or("layer_norm_epsilon", 1e-5)?;
    let activation = activation(config, "activation_function", "gelu_new")?;
    let local = local_layers(config)?;
    let norm = |name: &str| NormSpec::layer(name, hidden, eps, true);

    let layer = |(index, local): (usize, bool)| {
        let name = |part: &str| format!("transformer.h.{index}.{part}");
        let linear = |part: &str, input, output, bias| LinearSpec::plain(&name(part), input, output, bias);
        let qkv =
            ["q_proj", "k_proj", "v_proj"].map(|part| linear(&format!("attn.attention.{part}"), hidden, hidden, false));
        let o = linear("attn.attention.out_proj", hidden, hidden, true);
        let attention = AttentionSpec {
            scale: 1.0,
            window: local.then_some(window),
            ..AttentionSpec::plain((heads, heads, head_dim), qkv, o)
        };
        let mlp = MlpSpec {
            width,
            activation: activation.clone(),
            gate: None,
            up: linear("mlp.c_fc", hidden, width, true),
            down: linear("mlp.c_proj", width, hidden, true),
        };
        LayerSpec::pre_norm(norm(&name("ln_1")), attention, norm(&name("ln_2")), mlp)
    };

    let positions = LearnedPositions { weight: "transformer.wpe.weight".to_owned(), rows: context, offset: 0 };
    let embedding = EmbeddingSpec { positions: Some(positions), ..EmbeddingSpec::plain("transformer.wte.weight") };
    Ok(Spec {
        model_type: config.model_type()?.to_owned(),
        hidden,
        vocab: size(config, "vocab_size")?,
        context,
        base_prefix: "transformer.",
        part: None,
        layers: local.into_iter().enumerate().map(layer).collect(),
        final_norm: Some(norm("transformer.ln_f")),
        head: HeadSpec::plain(config.flag("tie_word_embeddings", true)?, &embedding, "lm_head.weight"),
        embedding,
    })
}

/// Which blocks have a window: `attention_types` is a list of patterns with how often each is repeated, such as
/// `[[["global", "local"], 12]]`.
fn local_layers(config: &Config) -> Result<Vec<bool>, CheckpointError> {
    let layers = layer_count(config, "num_layers")?;
    let wrong =
        || config.wrong("attention_types", &format!("patterns of global and local with counts, {layers} in all"));
    let Some(types) = config.get("attention_types") else {
        // The type's own setting is 24 blocks long.
        return if layers == 24 { Ok((0..24).map(|layer| layer % 2 == 1).collect()) } else { Err(wrong()) };
    };
    let mut local = Vec::new();
    for item in types.as_array().ok_or_else(wrong)? {
        let pattern = item.get(0).and_then(|pattern| pattern.as_array()).ok_or_else(wrong)?;
        let count =
            item.get(1).and_then(|count| count.as_u64()).filter(|count| *count <= layers as u64).ok_or_else(wrong)?;
        if pattern.len() > layers {
            return Err(wrong());
        }
        for _ in 0..count {
            for kind in pattern {
                local.push(match kind.as_str() {
                    Some("global") => false,
                    Some("local") => true,
                    _ => return Err(wrong()),
                });
            }
        }
    }
    if local.len() == layers { Ok(local) } else { Err(wrong()) }
}

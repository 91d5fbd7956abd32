//! GPT-BigCode, as StarCoder (Li et al. 2023): GPT-2 with one key/value head for all queries.

use patchbay_checkpoint::{CheckpointError, Config};

use super::settings::{activation, head_share, layer_count, only, size, size_or};
use crate::spec::{
    AttentionSpec, EmbeddingSpec, HeadSpec, LayerSpec, LearnedPositions, LinearSpec, MlpSpec, NormSpec, Rows, Spec,
};

/// `model_type` "gpt_bigcode". The settings about float32 in the softmax change nothing in float32.
pub(super) fn gpt_bigcode(config: &Config) -> Result<Spec, CheckpointError> {
    only(config, "add_cross_attention", false, false)?;
    let hidden = size(config, "n_embd")?;
    let (heads, head_dim) = head_share(config, "n_head", hidden)?;
    let width = size_or(config, "n_inner", 4 * hidden)?;
    let context = size_or(config, "n_positions", 1024)?;
    let eps = config.f64_or("layer_norm_epsilon", 1e-5)?;
    let activation = activation(config, "activation_function", "gelu_pytorch_tanh")?;
    let scaled = config.flag("scale_attn_weights", true)?;
    let kv_heads = if config.flag("multi_query", true)? { 1 } else { heads };
    let norm = |name: &str| NormSpec::layer(name, hidden, eps, true);

    let layer = |index: usize| {
        let name = |part: &str| format!("transformer.h.{index}.{part}");
        // For each key/value head its queries, its key and its value.
        let group = (heads / kv_heads + 2) * head_dim;
        let part = |start, len| {
            let rows = Rows { total: kv_heads * group, group, start, len };
            LinearSpec::part(&name("attn.c_attn"), hidden, rows, true)
        };
        let queries = group - 2 * head_dim;
        let qkv = [part(0, queries), part(queries, head_dim), part(queries + head_dim, head_dim)];
        let o = LinearSpec::plain(&name("attn.c_proj"), hidden, hidden, true);
        let attention = AttentionSpec::plain((heads, kv_heads, head_dim), qkv, o);
        let attention = AttentionSpec { scale: if scaled { attention.scale } else { 1.0 }, ..attention };
        let mlp = MlpSpec {
            width,
            activation: activation.clone(),
            gate: None,
            up: LinearSpec::plain(&name("mlp.c_fc"), hidden, width, true),
            down: LinearSpec::plain(&name("mlp.c_proj"), width, hidden, true),
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
        layers: (0..layer_count(config, "n_layer")?).map(layer).collect(),
        final_norm: Some(norm("transformer.ln_f")),
        head: HeadSpec::plain(config.flag("tie_word_embeddings", true)?, &embedding, "lm_head.weight"),
        embedding,
    })
}

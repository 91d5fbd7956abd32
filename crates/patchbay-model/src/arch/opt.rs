//! OPT (Zhang et al. 2022): learned positions from row 2 on, ReLU, and tables that may be narrower than the stream.

use patchbay_checkpoint::{CheckpointError, Config};

use super::settings::{activation, head_share, layer_count, only, size, size_or};
use crate::spec::{
    AttentionSpec, EmbeddingSpec, HeadSpec, LayerSpec, LearnedPositions, LinearSpec, MlpSpec, NormSpec, Spec,
};

/// `model_type` "opt", with its norms before each part.
pub(super) fn opt(config: &Config) -> Result<Spec, CheckpointError> {
    only(config, "do_layer_norm_before", true, true)?;
    let hidden = size(config, "hidden_size")?;
    let (heads, head_dim) = head_share(config, "num_attention_heads", hidden)?;
    let width = size(config, "ffn_dim")?;
    let narrow = size_or(config, "word_embed_proj_dim", hidden)?;
    let context = size_or(config, "max_position_embeddings", 2048)?;
    let activation = activation(config, "activation_function", "relu")?;
    let bias = config.flag("enable_bias", true)?;
    let weighted = config.flag("layer_norm_elementwise_affine", true)?;
    let norm = |name: &str| {
        let norm = NormSpec::layer(name, hidden, 1e-5, weighted);
        if weighted { norm } else { norm.unweighted() }
    };

    let layer = |index: usize| {
        let name = |part: &str| format!("model.decoder.layers.{index}.{part}");
        let linear = |part: &str| LinearSpec::plain(&name(part), hidden, hidden, bias);
        let qkv = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"].map(linear);
        let attention = AttentionSpec::plain((heads, heads, head_dim), qkv, linear("self_attn.out_proj"));
        let mlp = MlpSpec {
            width,
            activation: activation.clone(),
            gate: None,
            up: LinearSpec::plain(&name("fc1"), hidden, width, bias),
            down: LinearSpec::plain(&name("fc2"), width, hidden, bias),
        };
        LayerSpec::pre_norm(norm(&name("self_attn_layer_norm")), attention, norm(&name("final_layer_norm")), mlp)
    };

    const OFFSET: usize = 2;
    let weight = "model.decoder.embed_positions.weight".to_owned();
    let between = |part: &str, input, output| {
        (narrow != hidden).then(|| LinearSpec::plain(&format!("model.decoder.{part}"), input, output, false))
    };
    let embedding = EmbeddingSpec {
        projection: between("project_in", narrow, hidden),
        positions: Some(LearnedPositions { weight, rows: context + OFFSET, offset: OFFSET }),
        ..EmbeddingSpec::plain("model.decoder.embed_tokens.weight")
    };
    let head = HeadSpec::plain(config.flag("tie_word_embeddings", true)?, &embedding, "lm_head.weight");
    let last = !config.flag("_remove_final_layer_norm", false)?;
    Ok(Spec {
        model_type: config.model_type()?.to_owned(),
        hidden,
        vocab: size(config, "vocab_size")?,
        context,
        base_prefix: "model.",
        part: None,
        layers: (0..layer_count(config, "num_hidden_layers")?).map(layer).collect(),
        final_norm: last.then(|| norm("model.decoder.final_layer_norm")),
        head: HeadSpec { projection: between("project_out", hidden, narrow), ..head },
        embedding,
    })
}

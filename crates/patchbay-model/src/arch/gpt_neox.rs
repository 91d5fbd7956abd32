//! GPT-NeoX (Black et al. 2022), as Pythia: queries, keys and values of each head side by side in one projection,
//! partial rotation, and attention and MLP side by side, each after a LayerNorm of its own.

use patchbay_checkpoint::{CheckpointError, Config};

use super::rotary::{RotaryDefaults, rotary};
use super::settings::{activation, head_share, layer_count, size, size_or};
use crate::rope::Pairing;
use crate::spec::{
    AttentionSpec, EmbeddingSpec, HeadSpec, LayerSpec, LinearSpec, MlpSpec, NormSpec, Residual, Rows, Spec,
};

/// `model_type` "gpt_neox".
pub(super) fn gpt_neox(config: &Config) -> Result<Spec, CheckpointError> {
    let hidden = size(config, "hidden_size")?;
    let width = size(config, "intermediate_size")?;
    let (heads, head_dim) = head_share(config, "num_attention_heads", hidden)?;
    let eps = config.f64_or("layer_norm_eps", 1e-5)?;
    let bias = config.flag("attention_bias", true)?;
    let parallel = config.flag("use_parallel_residual", true)?;
    let activation = activation(config, "hidden_act", "gelu")?;
    let defaults =
        RotaryDefaults { theta: config.f64_or("rotary_emb_base", 10_000.0)?, part: config.f64_or("rotary_pct", 0.25)? };
    let rotary = rotary(config, head_dim, defaults, Pairing::Halves)?;
    let norm = |name: &str| NormSpec::layer(name, hidden, eps, true);

    let layer = |index: usize| {
        let name = |part: &str| format!("gpt_neox.layers.{index}.{part}");
        let third = |part: usize| {
            let rows = Rows { total: 3 * hidden, group: 3 * head_dim, start: part * head_dim, len: head_dim };
            LinearSpec::part(&name("attention.query_key_value"), hidden, rows, bias)
        };
        let o = LinearSpec::plain(&name("attention.dense"), hidden, hidden, bias);
        let attention = AttentionSpec {
            rotary: Some(rotary.clone()),
            ..AttentionSpec::plain((heads, heads, head_dim), [0, 1, 2].map(third), o)
        };
        let mlp = MlpSpec {
            width,
            activation: activation.clone(),
            gate: None,
            up: LinearSpec::plain(&name("mlp.dense_h_to_4h"), hidden, width, true),
            down: LinearSpec::plain(&name("mlp.dense_4h_to_h"), width, hidden, true),
        };
        let [attn_norm, mlp_norm] = ["input_layernorm", "post_attention_layernorm"].map(|part| norm(&name(part)));
        let residual = if parallel { Residual::Parallel } else { Residual::Sequential };
        LayerSpec { residual, ..LayerSpec::pre_norm(attn_norm, attention, mlp_norm, mlp) }
    };

    let embedding = EmbeddingSpec::plain("gpt_neox.embed_in.weight");
    Ok(Spec {
        model_type: config.model_type()?.to_owned(),
        hidden,
        vocab: size(config, "vocab_size")?,
        context: size_or(config, "max_position_embeddings", 2048)?,
        base_prefix: "gpt_neox.",
        part: None,
        layers: (0..layer_count(config, "num_hidden_layers")?).map(layer).collect(),
        final_norm: Some(norm("gpt_neox.final_layer_norm")),
        head: HeadSpec::plain(config.flag("tie_word_embeddings", false)?, &embedding, "embed_out.weight"),
        embedding,
    })
}

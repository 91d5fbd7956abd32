//! Llama (Touvron et al. 2023) and the many that differ from it in a flag or two.

use patchbay_checkpoint::{CheckpointError, Config};

use super::rotary::rotary;
use super::settings::{activation, heads, layer_count, size, size_or};
use crate::spec::{
    AttentionSpec, EmbeddingSpec, HeadSpec, LayerSpec, LinearSpec, LogitTransform, MlpSpec, NormKind, NormSpec,
    Residual, Spec,
};

/// `model_type` "llama".
pub(super) fn llama(config: &Config) -> Result<Spec, CheckpointError> {
    let attention_bias = config.flag("attention_bias", false)?;
    let style = Style {
        qkv_bias: attention_bias,
        o_bias: attention_bias,
        mlp_bias: config.flag("mlp_bias", false)?,
        ..Style::default()
    };
    decoder(config, &style)
}

/// What Llama's kin differ in.
#[derive(Default)]
pub(super) struct Style {
    /// Biases on the query, key and value projections.
    pub(super) qkv_bias: bool,
    /// A bias on attention's output projection.
    pub(super) o_bias: bool,
    /// Biases on the MLP's projections.
    pub(super) mlp_bias: bool,
    /// Norms on each query and key head.
    pub(super) head_norms: bool,
    /// The window of each block; none anywhere where the list is empty.
    pub(super) windows: Vec<Option<usize>>,
}

/// A decoder laid out and named as Llama is.
pub(super) fn decoder(config: &Config, style: &Style) -> Result<Spec, CheckpointError> {
    let hidden = size(config, "hidden_size")?;
    let vocab = size(config, "vocab_size")?;
    let width = size(config, "intermediate_size")?;
    let layers = layer_count(config, "num_hidden_layers")?;
    let (heads, kv_heads, head_dim) = heads(config, hidden)?;
    let eps = config.f64_or("rms_norm_eps", 1e-6)?;
    let rotary = rotary(config, head_dim)?;
    let activation = activation(config, "hidden_act", "silu")?;
    let norm = |name: String, width| NormSpec {
        kind: NormKind::Rms,
        eps,
        width,
        weight: format!("{name}.weight"),
        weight_offset: 0.0,
        bias: None,
    };

    let layer = |index: usize| {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let linear = |part: &str, input, output, bias| LinearSpec::plain(&name(part), input, output, bias);
        let head_norm = |part| style.head_norms.then(|| norm(name(part), head_dim));
        LayerSpec {
            residual: Residual::Sequential,
            attn_norm: Some(norm(name("input_layernorm"), hidden)),
            attention: AttentionSpec {
                heads,
                kv_heads,
                head_dim,
                q: linear("self_attn.q_proj", hidden, heads * head_dim, style.qkv_bias),
                k: linear("self_attn.k_proj", hidden, kv_heads * head_dim, style.qkv_bias),
                v: linear("self_attn.v_proj", hidden, kv_heads * head_dim, style.qkv_bias),
                o: linear("self_attn.o_proj", heads * head_dim, hidden, style.o_bias),
                q_norm: head_norm("self_attn.q_norm"),
                k_norm: head_norm("self_attn.k_norm"),
                rotary: Some(rotary.clone()),
                scale: (head_dim as f64).powf(-0.5),
                soft_cap: None,
                window: style.windows.get(index).copied().flatten(),
            },
            attn_post_norm: None,
            mlp_norm: Some(norm(name("post_attention_layernorm"), hidden)),
            mlp: MlpSpec {
                width,
                activation,
                gate: Some(linear("mlp.gate_proj", hidden, width, style.mlp_bias)),
                up: linear("mlp.up_proj", hidden, width, style.mlp_bias),
                down: linear("mlp.down_proj", width, hidden, style.mlp_bias),
            },
            mlp_post_norm: None,
        }
    };

    let embedding = "model.embed_tokens.weight".to_owned();
    let tied = config.flag("tie_word_embeddings", false)?;
    Ok(Spec {
        model_type: config.model_type()?.to_owned(),
        hidden,
        vocab,
        context: size_or(config, "max_position_embeddings", 2048)?,
        base_prefix: "model.",
        layers: (0..layers).map(layer).collect(),
        final_norm: norm("model.norm".to_owned(), hidden),
        head: HeadSpec {
            weight: if tied { embedding.clone() } else { "lm_head.weight".to_owned() },
            bias: None,
            transform: LogitTransform::default(),
        },
        embedding: EmbeddingSpec { weight: embedding, scale: None, positions: None },
    })
}

//! Gemma 3's text decoder: norms before and after each part, windows in most blocks, and two rotations.

use patchbay_checkpoint::{CheckpointError, Config};

use super::rotary::rotary_of;
use super::settings::{activation, heads, layer_count, size, size_or, sliding_layers};
use crate::rope::RotarySpec;
use crate::spec::{
    AttentionSpec, EmbeddingSpec, HeadSpec, LayerSpec, LinearSpec, LogitTransform, MlpSpec, NormKind, NormSpec,
    Residual, Spec,
};

/// `model_type` "gemma3_text".
pub(super) fn gemma3_text(config: &Config) -> Result<Spec, CheckpointError> {
    if config.flag("use_bidirectional_attention", false)? {
        return Err(config.wrong("use_bidirectional_attention", "false: only causal decoders are supported"));
    }
    let hidden = size(config, "hidden_size")?;
    let vocab = size(config, "vocab_size")?;
    let width = size(config, "intermediate_size")?;
    let layers = layer_count(config, "num_hidden_layers")?;
    let (heads, kv_heads, head_dim) = heads(config, hidden)?;
    let bias = config.flag("attention_bias", false)?;
    let eps = config.f64_or("rms_norm_eps", 1e-6)?;
    let activation = activation(config, "hidden_activation", "gelu_pytorch_tanh")?;
    let scale = size_or(config, "query_pre_attn_scalar", 256)?;
    let window = size_or(config, "sliding_window", 4096)?;
    let period = size_or(config, "sliding_window_pattern", 6)?;
    let sliding = sliding_layers(config, layers, |layer| !(layer + 1).is_multiple_of(period))?;
    let (local, global) = rotations(config, head_dim)?;
    // The files hold each norm's weight minus one.
    let norm = |name: String, width| NormSpec {
        kind: NormKind::Rms,
        eps,
        width,
        weight: format!("{name}.weight"),
        weight_offset: 1.0,
        bias: None,
    };

    let layer = |(index, sliding): (usize, bool)| {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let linear = |part: &str, input, output, bias| LinearSpec::plain(&name(part), input, output, bias);
        LayerSpec {
            residual: Residual::Sequential,
            attn_norm: Some(norm(name("input_layernorm"), hidden)),
            attention: AttentionSpec {
                heads,
                kv_heads,
                head_dim,
                q: linear("self_attn.q_proj", hidden, heads * head_dim, bias),
                k: linear("self_attn.k_proj", hidden, kv_heads * head_dim, bias),
                v: linear("self_attn.v_proj", hidden, kv_heads * head_dim, bias),
                o: linear("self_attn.o_proj", heads * head_dim, hidden, bias),
                q_norm: Some(norm(name("self_attn.q_norm"), head_dim)),
                k_norm: Some(norm(name("self_attn.k_norm"), head_dim)),
                rotary: Some(if sliding { local.clone() } else { global.clone() }),
                scale: (scale as f64).powf(-0.5),
                soft_cap: None,
                window: sliding.then_some(window),
            },
            attn_post_norm: Some(norm(name("post_attention_layernorm"), hidden)),
            mlp_norm: Some(norm(name("pre_feedforward_layernorm"), hidden)),
            mlp: MlpSpec {
                width,
                activation,
                gate: Some(linear("mlp.gate_proj", hidden, width, false)),
                up: linear("mlp.up_proj", hidden, width, false),
                down: linear("mlp.down_proj", width, hidden, false),
            },
            mlp_post_norm: Some(norm(name("post_feedforward_layernorm"), hidden)),
        }
    };

    let embedding = "model.embed_tokens.weight".to_owned();
    let tied = config.flag("tie_word_embeddings", true)?;
    Ok(Spec {
        model_type: config.model_type()?.to_owned(),
        hidden,
        vocab,
        context: size_or(config, "max_position_embeddings", 131_072)?,
        base_prefix: "model.",
        layers: sliding.into_iter().enumerate().map(layer).collect(),
        final_norm: norm("model.norm".to_owned(), hidden),
        head: HeadSpec {
            weight: if tied { embedding.clone() } else { "lm_head.weight".to_owned() },
            bias: None,
            transform: LogitTransform { scale: None, soft_cap: config.opt_f64("final_logit_softcapping")? },
        },
        embedding: EmbeddingSpec { weight: embedding, scale: Some((hidden as f64).sqrt()), positions: None },
    })
}

/// The rotation of blocks with a window, and that of the others. The old form scales only the second.
fn rotations(config: &Config, head_dim: usize) -> Result<(RotarySpec, RotarySpec), CheckpointError> {
    let parameters = config.section("rope_parameters");
    let part = |kind| parameters.as_ref().and_then(|section| section.section(kind));
    let scaling = config.section("rope_scaling");
    let local = rotary_of(
        config,
        part("sliding_attention").as_ref(),
        config.f64_or("rope_local_base_freq", 10_000.0)?,
        head_dim,
    )?;
    let global = rotary_of(
        config,
        part("full_attention").or(scaling).as_ref(),
        config.f64_or("rope_theta", 1_000_000.0)?,
        head_dim,
    )?;
    Ok((local, global))
}

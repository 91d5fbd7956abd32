//! GPT-2 (Radford et al. 2019): learned positions, LayerNorm before each part, one fused projection for queries, keys
//! and values, and weights stored `[in, out]`.

use patchbay_checkpoint::{CheckpointError, Config};

use super::settings::{activation, layer_count, size, size_or};
use crate::spec::{
    AttentionSpec, EmbeddingSpec, HeadSpec, LayerSpec, Layout, LearnedPositions, LinearSpec, MlpSpec, NormSpec, Rows,
    Spec,
};

/// `model_type` "gpt2". `reorder_and_upcast_attn` changes nothing in float32.
pub(super) fn gpt2(config: &Config) -> Result<Spec, CheckpointError> {
    if config.flag("add_cross_attention", false)? {
        return Err(config.wrong("add_cross_attention", "false: only decoders that stand alone are supported"));
    }
    let hidden = size(config, "n_embd")?;
    let heads = size(config, "n_head")?;
    if hidden % heads != 0 {
        return Err(config.wrong("n_head", &format!("a divisor of n_embd, {hidden}")));
    }
    let head_dim = hidden / heads;
    let vocab = size(config, "vocab_size")?;
    let context = size_or(config, "n_positions", 1024)?;
    let width = size_or(config, "n_inner", 4 * hidden)?;
    let eps = config.f64_or("layer_norm_epsilon", 1e-5)?;
    let activation = activation(config, "activation_function", "gelu_new")?;
    let scaled = config.flag("scale_attn_weights", true)?;
    let scaled_by_layer = config.flag("scale_attn_by_inverse_layer_idx", false)?;
    let norm = |name: String| NormSpec::layer(&name, hidden, eps, true);

    let layer = |index: usize| {
        let name = |part: &str| format!("transformer.h.{index}.{part}");
        let conv1d = |part: &str, input, rows| LinearSpec {
            input,
            weight: name(&format!("{part}.weight")),
            bias: Some(name(&format!("{part}.bias"))),
            layout: Layout::InOut,
            rows,
            stack: None,
        };
        let third = |part: usize| conv1d("attn.c_attn", hidden, Rows::run(3 * hidden, part * hidden, hidden));
        let scale = if scaled { (head_dim as f64).powf(-0.5) } else { 1.0 };
        let o = conv1d("attn.c_proj", hidden, Rows::all(hidden));
        let attention = AttentionSpec {
            scale: if scaled_by_layer { scale / (index + 1) as f64 } else { scale },
            ..AttentionSpec::plain((heads, heads, head_dim), [third(0), third(1), third(2)], o)
        };
        let mlp = MlpSpec {
            width,
            activation: activation.clone(),
            gate: None,
            up: conv1d("mlp.c_fc", hidden, Rows::all(width)),
            down: conv1d("mlp.c_proj", width, Rows::all(hidden)),
        };
        LayerSpec::pre_norm(norm(name("ln_1")), attention, norm(name("ln_2")), mlp)
    };

    let positions = LearnedPositions { weight: "transformer.wpe.weight".to_owned(), rows: context, offset: 0 };
    let embedding = EmbeddingSpec { positions: Some(positions), ..EmbeddingSpec::plain("transformer.wte.weight") };
    Ok(Spec {
        model_type: config.model_type()?.to_owned(),
        hidden,
        vocab,
        context,
        base_prefix: "transformer.",
        part: None,
        layers: (0..layer_count(config, "n_layer")?).map(layer).collect(),
        final_norm: Some(norm("transformer.ln_f".to_owned())),
        head: HeadSpec::plain(config.flag("tie_word_embeddings", true)?, &embedding, "lm_head.weight"),
        embedding,
    })
}

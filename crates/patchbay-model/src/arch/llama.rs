//! Llama (Touvron et al. 2023), and the frame of the many that differ from it in a few settings.

use patchbay_checkpoint::{CheckpointError, Config};

use super::rotary::{RotaryDefaults, rotary};
use super::settings::{activation, heads, layer_count, size, size_or};
use crate::rope::Pairing;
use crate::spec::{AttentionSpec, EmbeddingSpec, HeadSpec, LayerSpec, LinearSpec, MlpSpec, NormSpec, Rows, Spec};

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

/// What Llama's kin differ in: settings' names and defaults, and the make of their parts.
pub(super) struct Style {
    /// The make of every norm, from its name, width and epsilon.
    pub(super) norm: fn(&str, usize, f64) -> NormSpec,
    /// Key and default of the norms' epsilon.
    pub(super) eps: (&'static str, f64),
    /// Key and default of the activation.
    pub(super) activation: (&'static str, &'static str),
    /// Whether the MLP has a gate.
    pub(super) gated: bool,
    /// Biases on the query, key and value projections.
    pub(super) qkv_bias: bool,
    /// A bias on attention's output projection.
    pub(super) o_bias: bool,
    /// Biases on the MLP's projections.
    pub(super) mlp_bias: bool,
    /// Norms on each query and key head, named `self_attn.q_norm` and `self_attn.k_norm`.
    pub(super) head_norms: bool,
    /// Key/value heads of a configuration that does not say; as many as heads where nothing stands here.
    pub(super) kv_heads: Option<usize>,
    /// Size of a head in a configuration that does not say; a share of the hidden size where nothing stands here.
    pub(super) head_dim: Option<usize>,
    /// Whether embedding and unembedding are tied in a configuration that does not say.
    pub(super) tied: bool,
    /// The longest sequence of a configuration that does not say.
    pub(super) context: usize,
    /// The rotation of a configuration that does not say.
    pub(super) rotary: RotaryDefaults,
    /// Which channels make a pair.
    pub(super) pairing: Pairing,
    /// The window of each block; none anywhere where the list is empty.
    pub(super) windows: Vec<Option<usize>>,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            norm: NormSpec::rms,
            eps: ("rms_norm_eps", 1e-6),
            activation: ("hidden_act", "silu"),
            gated: true,
            qkv_bias: false,
            o_bias: false,
            mlp_bias: false,
            head_norms: false,
            kv_heads: None,
            head_dim: None,
            tied: false,
            context: 2048,
            rotary: RotaryDefaults::default(),
            pairing: Pairing::Halves,
            windows: Vec::new(),
        }
    }
}

/// A decoder laid out and named as Llama is.
pub(super) fn decoder(config: &Config, style: &Style) -> Result<Spec, CheckpointError> {
    let hidden = size(config, "hidden_size")?;
    let vocab = size(config, "vocab_size")?;
    let width = size(config, "intermediate_size")?;
    let layers = layer_count(config, "num_hidden_layers")?;
    let shape @ (heads, kv_heads, head_dim) = heads(config, hidden, style.kv_heads, style.head_dim)?;
    let eps = config.f64_or(style.eps.0, style.eps.1)?;
    let rotary = rotary(config, head_dim, style.rotary, style.pairing)?;
    let activation = activation(config, style.activation.0, style.activation.1)?;
    let norm = |name: String, width| (style.norm)(&name, width, eps);

    let layer = |index: usize| {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let linear = |part: &str, input, output, bias| LinearSpec::plain(&name(part), input, output, bias);
        let head_norm = |part| style.head_norms.then(|| norm(name(part), head_dim));
        let q = linear("self_attn.q_proj", hidden, heads * head_dim, style.qkv_bias);
        let k = linear("self_attn.k_proj", hidden, kv_heads * head_dim, style.qkv_bias);
        let v = linear("self_attn.v_proj", hidden, kv_heads * head_dim, style.qkv_bias);
        let o = linear("self_attn.o_proj", heads * head_dim, hidden, style.o_bias);
        let attention = AttentionSpec {
            q_norm: head_norm("self_attn.q_norm"),
            k_norm: head_norm("self_attn.k_norm"),
            rotary: Some(rotary.clone()),
            window: style.windows.get(index).copied().flatten(),
            ..AttentionSpec::plain(shape, [q, k, v], o)
        };
        let mlp = MlpSpec {
            width,
            activation: activation.clone(),
            gate: style.gated.then(|| linear("mlp.gate_proj", hidden, width, style.mlp_bias)),
            up: linear("mlp.up_proj", hidden, width, style.mlp_bias),
            down: linear("mlp.down_proj", width, hidden, style.mlp_bias),
        };
        let mlp_norm = norm(name("post_attention_layernorm"), hidden);
        LayerSpec::pre_norm(norm(name("input_layernorm"), hidden), attention, mlp_norm, mlp)
    };

    let embedding = EmbeddingSpec::plain("model.embed_tokens.weight");
    Ok(Spec {
        model_type: config.model_type()?.to_owned(),
        hidden,
        vocab,
        context: rotary.reach(size_or(config, "max_position_embeddings", style.context)?),
        base_prefix: "model.",
        part: None,
        layers: (0..layers).map(layer).collect(),
        final_norm: Some(norm("model.norm".to_owned(), hidden)),
        head: HeadSpec::plain(config.flag("tie_word_embeddings", style.tied)?, &embedding, "lm_head.weight"),
        embedding,
    })
}

/// The same block with norms after its parts, under these names, in place of those before them.
pub(super) fn post_norms(layer: LayerSpec, index: usize, attn: &str, mlp: &str) -> LayerSpec {
    let renamed = |norm: Option<NormSpec>, part: &str| {
        norm.map(|norm| NormSpec { weights: vec![format!("model.layers.{index}.{part}.weight")], ..norm })
    };
    LayerSpec {
        attn_post_norm: renamed(layer.attn_norm, attn),
        mlp_post_norm: renamed(layer.mlp_norm, mlp),
        attn_norm: None,
        mlp_norm: None,
        ..layer
    }
}

/// The same attention with queries, keys and values side by side in one stored projection.
pub(super) fn fused_qkv(attention: AttentionSpec, name: &str) -> AttentionSpec {
    let [q, k, v] = [&attention.q, &attention.k, &attention.v].map(LinearSpec::output);
    let (input, bias, total) = (attention.q.input, attention.q.bias.is_some(), q + k + v);
    let part = |start, len| LinearSpec::part(name, input, Rows::run(total, start, len), bias);
    AttentionSpec { q: part(0, q), k: part(q, k), v: part(q + k, v), ..attention }
}

/// The same MLP with gate and up projection side by side in one stored projection.
pub(super) fn fused_gate_up(mlp: MlpSpec, name: &str) -> MlpSpec {
    let (input, width) = (mlp.up.input, mlp.width);
    let part = |start| LinearSpec::part(name, input, Rows::run(2 * width, start, width), false);
    MlpSpec { gate: Some(part(0)), up: part(width), ..mlp }
}

/// The blocks changed one by one.
pub(super) fn each_layer(spec: Spec, change: impl FnMut((usize, LayerSpec)) -> LayerSpec) -> Spec {
    Spec { layers: spec.layers.into_iter().enumerate().map(change).collect(), ..spec }
}

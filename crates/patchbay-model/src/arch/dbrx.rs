//! DBRX (Databricks 2024): sixteen experts in every block, all of one kind in one stored tensor; bounds on queries, keys and
//! values; LayerNorm without biases.

use patchbay_checkpoint::{CheckpointError, Config};

use super::experts::{Sizes, mixture};
use super::llama::fused_qkv;
use super::rotary::{RotaryDefaults, rotary};
use super::settings::{activation, bound, head_share, layer_count, only, section, size, size_or};
use crate::rope::Pairing;
use crate::spec::{
    Activation, AttentionSpec, EmbeddingSpec, HeadSpec, LayerSpec, Layout, LinearSpec, MlpSpec, MoeSpec, NormSpec,
    RouterSpec, Spec, Stack, WeightNorm,
};

type Result<T> = std::result::Result<T, CheckpointError>;

/// `model_type` "dbrx".
pub(super) fn dbrx(config: &Config) -> Result<Spec> {
    let hidden = size(config, "d_model")?;
    let (heads, head_dim) = head_share(config, "n_heads", hidden)?;
    let attn = section(config, "attn_config")?;
    let kv_heads = size_or(&attn, "kv_n_heads", 1)?;
    if !heads.is_multiple_of(kv_heads) {
        return Err(attn.wrong("kv_n_heads", &format!("a divisor of n_heads, {heads}")));
    }
    only(config, "tie_word_embeddings", false, false)?;
    let clip = bound(&attn, "clip_qkv")?;
    // The files as they were published have the base here; transformers writes `rope_parameters`, which goes before.
    let defaults = RotaryDefaults { theta: attn.f64_or("rope_theta", 10_000.0)?, part: 1.0 };
    let rotary = rotary(config, head_dim, defaults, Pairing::Halves)?;
    let experts = experts(&section(config, "ffn_config")?, hidden)?;
    let norm = |name: &str| NormSpec::layer(name, hidden, 1e-5, false);

    let layer = |index: usize| {
        let name = |part: &str| format!("transformer.blocks.{index}.{part}");
        let inner = |part: &str| name(&format!("norm_attn_norm.{part}"));
        let linear = |width| LinearSpec::plain("", hidden, width, false);
        let (q, kv) = (linear(hidden), linear(kv_heads * head_dim));
        let o = LinearSpec::plain(&inner("attn.out_proj"), hidden, hidden, false);
        let attention = AttentionSpec::plain((heads, kv_heads, head_dim), [q, kv.clone(), kv], o);
        let attention =
            AttentionSpec { clip, rotary: Some(rotary.clone()), ..fused_qkv(attention, &inner("attn.Wqkv")) };
        LayerSpec::pre_norm(norm(&inner("norm_1")), attention, norm(&inner("norm_2")), experts(&name("ffn")))
    };

    let embedding = EmbeddingSpec::plain("transformer.wte.weight");
    Ok(Spec {
        model_type: config.model_type()?.to_owned(),
        hidden,
        vocab: size(config, "vocab_size")?,
        context: rotary.reach(size_or(config, "max_seq_len", 2048)?),
        base_prefix: "transformer.",
        part: None,
        layers: (0..layer_count(config, "n_layers")?).map(layer).collect(),
        final_norm: Some(norm("transformer.norm_f")),
        head: HeadSpec::plain(false, &embedding, "lm_head.weight"),
        embedding,
    })
}

/// The experts that `ffn_config` describes, from where a block has them.
fn experts(config: &Config, hidden: usize) -> Result<impl Fn(&str) -> MoeSpec + use<>> {
    let Sizes { count, chosen, width } =
        Sizes::read(config, (&["moe_num_experts"], 4), (&["moe_top_k"], 1), "ffn_hidden_size")?;
    let activation = match config.section("ffn_act_fn") {
        Some(section) => activation(&section, "name", "silu")?,
        None => Activation::Silu.into(),
    };
    let normalised = normalised(config)?;
    Ok(move |name: &str| {
        let expert = |index| {
            let part = |part: &str, layout, input, output| LinearSpec {
                weight: format!("{name}.experts.mlp.{part}"),
                layout,
                stack: Some(Stack { count, index, joined: true }),
                ..LinearSpec::plain("", input, output, false)
            };
            MlpSpec {
                width,
                activation: activation.clone(),
                gate: Some(part("w1", Layout::OutIn, hidden, width)),
                up: part("v1", Layout::OutIn, hidden, width),
                down: part("w2", Layout::InOut, width, hidden),
            }
        };
        let projection = LinearSpec::plain(&format!("{name}.router.layer"), hidden, count, false);
        let router = RouterSpec { normalised, ..RouterSpec::softmax(projection, chosen) };
        mixture(router, (0..count).map(expert).collect())
    })
}

/// The order of the norm that the weights are divided by: 1 where the key is absent, none where it is null.
fn normalised(config: &Config) -> Result<Option<WeightNorm>> {
    const KEY: &str = "moe_normalize_expert_weights";
    match config.opt_f64(KEY)? {
        Some(order) if order > 0.0 => Ok(Some(WeightNorm { order, least: 0.0 })),
        Some(_) => Err(config.wrong(KEY, "a number above 0")),
        None if config.raw().get(KEY).is_some() => Ok(None),
        None => Ok(Some(WeightNorm::sum(0.0))),
    }
}

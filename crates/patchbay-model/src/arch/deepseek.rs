//! DeepSeek 2 and 3 (DeepSeek-AI 2024): latent attention, whose keys share what is rotated of them; the first blocks have one
//! MLP, the others experts and one that every token goes through.

use patchbay_checkpoint::{CheckpointError, Config};

use super::experts::{Sizes, plain, shared, with_experts};
use super::llama::{Style, decoder, each_layer};
use super::rotary::{RotaryDefaults, rotary, warmed_scale};
use super::settings::{size, size_or};
use crate::rope::{Pairing, RotarySpec};
use crate::spec::{
    AttentionSpec, CorrectionSpec, GroupScore, Groups, LatentSpec, LinearSpec, MlpSpec, MoeSpec, NormSpec, RouterSpec,
    Rows, Scores, Spec, WeightNorm,
};

type Result<T> = std::result::Result<T, CheckpointError>;

/// `model_type` "deepseek_v3".
pub(super) fn deepseek_v3(config: &Config) -> Result<Spec> {
    let (counts, choices) = (&["n_routed_experts", "num_local_experts"], &["num_experts_per_tok"]);
    let sizes = Sizes::read(config, (counts, 256), (choices, 8), "moe_intermediate_size")?;
    let groups = sizes.groups(config, (8, 4), GroupScore::TwoBest)?;
    let normalised = config.flag("norm_topk_prob", true)?.then_some(WeightNorm::sum(1e-20));
    let scale = config.f64_or("routed_scaling_factor", 2.5)?;
    let router = |name: &str, router| {
        let weight = format!("{name}.e_score_correction_bias");
        let correction = Some(CorrectionSpec { weight, shape: vec![sizes.count] });
        RouterSpec { scores: Scores::Sigmoid, correction, groups, normalised, scale, ..router }
    };
    // transformers writes the two channels of a pair apart
    let interleaved = config.flag("rope_interleave", true)?;
    let pairing = if interleaved { Pairing::NeighboursToHalves } else { Pairing::Halves };
    let style = Style { context: 4096, ..Style::default() };
    let spec = with_latents(config, decoder(config, &plain_heads(config, style)?)?, pairing)?;
    let (shared, dense) = (config.usize_or("n_shared_experts", 1)?, config.usize_or("first_k_dense_replace", 3)?);
    Ok(with_router(spec, sizes, (shared, dense), false, router))
}

/// `model_type` "deepseek_v2". As in transformers `norm_topk_prob` is not looked at.
pub(super) fn deepseek_v2(config: &Config) -> Result<Spec> {
    let (counts, choices) = (&["n_routed_experts", "num_experts"], &["num_experts_per_tok"]);
    let chosen = size(config, choices[0])?;
    let sizes = Sizes::read(config, (counts, 64), (choices, chosen), "moe_intermediate_size")?;
    let groups = limited(config, sizes)?;
    let scale = config.f64_or("routed_scaling_factor", 1.0)?;
    let router = |_: &str, router| RouterSpec { groups, normalised: None, scale, ..router };
    let mlp_bias = config.flag("mlp_bias", false)?;
    let style = plain_heads(config, Style { mlp_bias, ..Style::default() })?;
    let spec = with_latents(config, decoder(config, &style)?, Pairing::Neighbours)?;
    let (shared, dense) = (config.usize_or("n_shared_experts", 2)?, config.usize_or("first_k_dense_replace", 0)?);
    Ok(with_router(spec, sizes, (shared, dense), mlp_bias, router))
}

/// The groups that experts are chosen from where `topk_method` says so.
fn limited(config: &Config, sizes: Sizes) -> Result<Option<Groups>> {
    match config.opt_str("topk_method")?.unwrap_or("greedy") {
        "greedy" => Ok(None),
        "group_limited_greedy" => {
            let (count, chosen) = (size(config, "n_group")?, size(config, "topk_group")?);
            sizes.groups(config, (count, chosen), GroupScore::Best)
        }
        _ => Err(config.wrong("topk_method", "greedy or group_limited_greedy")),
    }
}

/// The style with what a plain decoder has to know of heads; latent attention takes the place of its own.
fn plain_heads(config: &Config, style: Style) -> Result<Style> {
    let heads = size(config, "num_attention_heads")?;
    if size_or(config, "num_key_value_heads", heads)? != heads {
        return Err(config.wrong("num_key_value_heads", &format!("num_attention_heads, {heads}")));
    }
    Ok(Style { kv_heads: Some(heads), head_dim: Some(size(config, "qk_rope_head_dim")?), ..style })
}

/// The decoder with latent attention in every block.
fn with_latents(config: &Config, spec: Spec, pairing: Pairing) -> Result<Spec> {
    let latent = Latents::read(config, pairing)?;
    Ok(each_layer(spec, |(index, mut layer)| {
        layer.attention = latent.attention(&format!("model.layers.{index}.self_attn"));
        layer
    }))
}

/// Sizes of latent attention, and what it has besides.
struct Latents {
    hidden: usize,
    heads: usize,
    /// Channels of a query and a key that are a head's own and not rotated.
    own: usize,
    /// Channels that are rotated; those of keys are the same in every head.
    rotated: usize,
    value: usize,
    /// Width of what queries are projected from, where that is not the input.
    q_rank: Option<usize>,
    /// Width of what keys and values are projected from.
    kv_rank: usize,
    bias: bool,
    rotary: RotarySpec,
    scale: f64,
}

impl Latents {
    fn read(config: &Config, pairing: Pairing) -> Result<Self> {
        let own = size_or(config, "qk_nope_head_dim", 128)?;
        let rotated = size_or(config, "qk_rope_head_dim", 64)?;
        let ranks_queries = config.raw().get("q_lora_rank").is_none_or(|rank| !rank.is_null());
        let rotary = rotary(config, rotated, RotaryDefaults::default(), pairing)?;
        Ok(Self {
            hidden: size(config, "hidden_size")?,
            heads: size(config, "num_attention_heads")?,
            own,
            rotated,
            value: size_or(config, "v_head_dim", 128)?,
            q_rank: if ranks_queries { Some(size_or(config, "q_lora_rank", 1536)?) } else { None },
            kv_rank: size_or(config, "kv_lora_rank", 512)?,
            bias: config.flag("attention_bias", false)?,
            rotary: RotarySpec { start: own, ..rotary },
            scale: warmed_scale(config, ((own + rotated) as f64).powf(-0.5))?,
        })
    }

    fn attention(&self, name: &str) -> AttentionSpec {
        let Self { hidden, heads, own, rotated, value, kv_rank, bias, .. } = *self;
        let name = |part: &str| format!("{name}.{part}");
        // whatever the norms of the blocks have, these have this epsilon
        let latent = |letter: &str, down: &str, rank, shared| LatentSpec {
            down: LinearSpec::plain(&name(down), hidden, rank + shared, bias),
            norm: NormSpec::rms(&name(&format!("{letter}_a_layernorm")), rank, 1e-6),
        };
        let q_part = if self.q_rank.is_some() { "q_b_proj" } else { "q_proj" };
        let q_input = self.q_rank.unwrap_or(hidden);
        let q = LinearSpec::plain(&name(q_part), q_input, heads * (own + rotated), false);
        let of_each = |start, len| {
            let rows = Rows { total: heads * (own + value), group: own + value, start, len };
            LinearSpec::part(&name("kv_b_proj"), kv_rank, rows, false)
        };
        let o = LinearSpec::plain(&name("o_proj"), heads * value, hidden, bias);
        AttentionSpec {
            value_dim: value,
            q_latent: self.q_rank.map(|rank| latent("q", "q_a_proj", rank, 0)),
            kv_latent: Some(latent("kv", "kv_a_proj_with_mqa", kv_rank, rotated)),
            rotary: Some(self.rotary.clone()),
            scale: self.scale,
            ..AttentionSpec::plain((heads, heads, own + rotated), [q, of_each(0, own), of_each(own, value)], o)
        }
    }
}

/// The decoder with experts after the first `dense` blocks, and a shared one as wide as `shared` of them.
fn with_router(
    spec: Spec,
    sizes: Sizes,
    (shared_count, dense): (usize, usize),
    bias: bool,
    router: impl Fn(&str, RouterSpec) -> RouterSpec,
) -> Spec {
    let make = |layer, mlp: MlpSpec| {
        let name = |part: &str| format!("model.layers.{layer}.mlp.{part}");
        let experts = plain(&mlp, layer, sizes);
        let width = sizes.width * shared_count;
        let shared = (width > 0).then(|| shared(&mlp, &name("shared_experts"), width, bias));
        MoeSpec { router: router(&name("gate"), experts.router), shared, ..experts }
    };
    with_experts(spec, |layer| layer >= dense, make)
}

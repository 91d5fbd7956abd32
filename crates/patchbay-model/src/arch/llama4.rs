//! Llama 4 (Meta 2025): rotated blocks whose tokens see their own chunk alone, and a few without rotation that see everything;
//! experts whose weight is a factor on their input, and one that every token goes through.

use patchbay_checkpoint::{CheckpointError, Config};

use super::experts::{PROJECTIONS, Sizes, gated, mixture, shared};
use super::llama::{Style, decoder};
use super::rotary::RotaryDefaults;
use super::settings::{layer_count, layers_of_kind, size_or};
use crate::rope::Pairing;
use crate::spec::{
    FeedForward, LayerSpec, Layout, LinearSpec, MlpSpec, MoeSpec, NormSpec, PositionScale, RouterSpec, Rows, Scores,
    Spec, Stack, Weighed,
};

type Result<T> = std::result::Result<T, CheckpointError>;

/// `model_type` "llama4_text".
pub(super) fn llama4_text(config: &Config) -> Result<Spec> {
    let layers = layer_count(config, "num_hidden_layers")?;
    let bias = config.flag("attention_bias", false)?;
    let style = Style {
        eps: EPS,
        qkv_bias: bias,
        o_bias: bias,
        kv_heads: Some(8),
        head_dim: Some(128),
        context: 131_072,
        rotary: RotaryDefaults { theta: 500_000.0, part: 1.0 },
        pairing: Pairing::Neighbours,
        ..Style::default()
    };
    let kinds = Kinds::read(config, layers)?;
    let (counts, choices) = (&["num_local_experts"], &["num_experts_per_tok"]);
    let sizes = Sizes::read(config, (counts, 16), (choices, 1), "intermediate_size")?;
    let width = size_or(config, "intermediate_size_mlp", 16_384)?;
    let has_experts = expert_layers(config, layers)?;

    let spec = decoder(config, &style)?;
    let change = |(index, layer): (usize, LayerSpec)| {
        let name = format!("model.layers.{index}.feed_forward");
        let layer = kinds.change(index, layer);
        let mlp = match layer.mlp {
            FeedForward::Mlp(mlp) if has_experts[index] => experts(&mlp, &name, sizes).into(),
            FeedForward::Mlp(mlp) => gated(&mlp, &name, PROJECTIONS, width, false).into(),
            other @ FeedForward::Experts(_) => other,
        };
        LayerSpec { mlp, ..layer }
    };
    Ok(Spec { layers: spec.layers.into_iter().enumerate().map(change).collect(), ..spec })
}

/// Key and default of the norms' epsilon.
const EPS: (&str, f64) = ("rms_norm_eps", 1e-5);

/// What the attention of each block is like.
struct Kinds {
    rotates: Vec<bool>,
    chunks: Vec<Option<usize>>,
    /// Whether rotated queries and keys are normed.
    norm_eps: Option<f64>,
    /// What queries that are not rotated are scaled by.
    scale: Option<PositionScale>,
}

impl Kinds {
    fn read(config: &Config, layers: usize) -> Result<Self> {
        let rotates = rotating_layers(config, layers)?;
        let chunked = layers_of_kind(config, layers, "chunked_attention", |layer| rotates[layer])?;
        let chunk = match config.raw().get("attention_chunk_size") {
            Some(size) if size.is_null() => None,
            _ => Some(size_or(config, "attention_chunk_size", 8192)?),
        };
        if chunk.is_none() && chunked.contains(&true) {
            return Err(config.wrong("attention_chunk_size", "a size, as there are blocks with chunked_attention"));
        }
        let chunks = chunked.into_iter().map(|chunked| chunk.filter(|_| chunked)).collect();
        let normed = config.flag("use_qk_norm", true)?;
        let norm_eps = if normed { Some(config.f64_or(EPS.0, EPS.1)?) } else { None };
        Ok(Self { rotates, chunks, norm_eps, scale: position_scale(config)? })
    }

    fn change(&self, index: usize, mut layer: LayerSpec) -> LayerSpec {
        let attention = &mut layer.attention;
        attention.chunk = self.chunks[index];
        if self.rotates[index] {
            let norm = self.norm_eps.map(|eps| NormSpec::rms("", attention.head_dim, eps).unweighted());
            attention.q_norm.clone_from(&norm);
            attention.k_norm = norm;
            attention.norm_after_rotation = true;
        } else {
            attention.rotary = None;
            attention.position_scale = self.scale;
        }
        layer
    }
}

/// Which blocks rotate: 1 in `no_rope_layers`, or all but every `no_rope_layer_interval`th.
fn rotating_layers(config: &Config, layers: usize) -> Result<Vec<bool>> {
    const KEY: &str = "no_rope_layers";
    let interval = size_or(config, "no_rope_layer_interval", 4)?;
    match config.opt_f64_list(KEY)?.unwrap_or_default() {
        list if list.is_empty() => Ok((1..=layers).map(|layer| !layer.is_multiple_of(interval)).collect()),
        list if list.len() < layers => Err(config.wrong(KEY, &format!("a list of at least {layers} times 0 or 1"))),
        list => Ok(list.into_iter().take(layers).map(|rotates| rotates != 0.0).collect()),
    }
}

/// Which blocks have experts: those in `moe_layers`, or every `interleave_moe_layer_step`th.
fn expert_layers(config: &Config, layers: usize) -> Result<Vec<bool>> {
    let step = size_or(config, "interleave_moe_layer_step", 1)?;
    Ok(match config.opt_f64_list("moe_layers")? {
        Some(list) => (0..layers).map(|layer| list.contains(&(layer as f64))).collect(),
        None => (1..=layers).map(|layer| layer.is_multiple_of(step)).collect(),
    })
}

fn position_scale(config: &Config) -> Result<Option<PositionScale>> {
    let period = config.f64_or("floor_scale", 8192.0)?;
    if period <= 0.0 {
        return Err(config.wrong("floor_scale", "a number above 0"));
    }
    let scale = PositionScale { factor: config.f64_or("attn_scale", 0.1)?, period, offset: 1 };
    Ok(config.flag("attn_temperature_tuning", true)?.then_some(scale))
}

/// The experts of a block, stacked as `[in, out]` with gate and up projection side by side.
fn experts(like: &MlpSpec, name: &str, sizes: Sizes) -> MoeSpec {
    let Sizes { count, chosen, width } = sizes;
    let hidden = like.up.input;
    let expert = |index| {
        let part = |part: &str, input, rows| LinearSpec {
            input,
            weight: format!("{name}.experts.{part}"),
            bias: None,
            layout: Layout::InOut,
            rows,
            stack: Some(Stack { count, index, joined: false }),
        };
        let half = |start| part("gate_up_proj", hidden, Rows::run(2 * width, start, width));
        MlpSpec {
            width,
            gate: Some(half(0)),
            up: half(width),
            down: part("down_proj", width, Rows::all(hidden)),
            ..like.clone()
        }
    };
    let projection = LinearSpec::plain(&format!("{name}.router"), hidden, count, false);
    let router =
        RouterSpec { scores: Scores::SigmoidOfChosen, normalised: None, ..RouterSpec::softmax(projection, chosen) };
    MoeSpec {
        shared: Some(shared(like, &format!("{name}.shared_expert"), width, false)),
        weighed: Weighed::Input,
        ..mixture(router, (0..count).map(expert).collect())
    }
}

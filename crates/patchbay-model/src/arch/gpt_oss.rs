//! gpt-oss (OpenAI 2025): experts with biases and a clamped gate, and attention with sinks, in every other block within a
//! window.

use patchbay_checkpoint::{CheckpointError, Config};
use serde_json::json;

use super::experts::{Sizes, mixture, with_experts};
use super::llama::{Style, decoder, each_layer};
use super::rotary::{RotaryDefaults, section};
use super::settings::{layer_count, sliding_layers, window};
use crate::spec::{Activation, Layout, LinearSpec, MlpSpec, MoeSpec, RouterSpec, Rows, Spec, Stack};

type Result<T> = std::result::Result<T, CheckpointError>;

/// `model_type` "gpt_oss".
pub(super) fn gpt_oss(config: &Config) -> Result<Spec> {
    let config = &completed(config);
    let bias = config.flag("attention_bias", true)?;
    let window = window(config, Some(128))?;
    let sliding = sliding_layers(config, layer_count(config, "num_hidden_layers")?, |layer| layer % 2 == 0)?;
    let style = Style {
        eps: ("rms_norm_eps", 1e-5),
        // the experts have one of their own, whatever stands there
        activation: ("", "silu"),
        qkv_bias: bias,
        o_bias: bias,
        kv_heads: Some(8),
        head_dim: Some(64),
        context: 131_072,
        rotary: RotaryDefaults { theta: THETA, part: 1.0 },
        windows: sliding.iter().map(|sliding| window.filter(|_| *sliding)).collect(),
        ..Style::default()
    };
    let spec = each_layer(decoder(config, &style)?, |(index, mut layer)| {
        layer.attention.sinks = Some(format!("model.layers.{index}.self_attn.sinks"));
        layer
    });
    let (counts, choices) = (&["num_local_experts", "num_experts"], &["num_experts_per_tok"]);
    let sizes = Sizes::read(config, (counts, 128), (choices, 4), "intermediate_size")?;
    let activation = activation(config)?;
    Ok(with_experts(spec, |_| true, |layer, mlp| experts(&mlp, layer, sizes, activation)))
}

/// Base of the frequencies in a configuration that does not say.
const THETA: f64 = 150_000.0;

/// With the rotation that the type takes where none is described.
fn completed(config: &Config) -> Config {
    let rotation = json!({"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
        "truncate": false, "original_max_position_embeddings": 4096});
    match section(config) {
        Some(_) => config.clone(),
        None => config.clone().with("rope_parameters", rotation),
    }
}

fn activation(config: &Config) -> Result<Activation> {
    const LIMIT: &str = "swiglu_limit";
    let (sharpness, limit) = (config.f64_or("swiglu_alpha", 1.702)? as f32, config.f64_or(LIMIT, 7.0)? as f32);
    if !(limit > 0.0 && limit.is_finite()) {
        return Err(config.wrong(LIMIT, "a number above 0"));
    }
    Ok(Activation::ClampedSilu { sharpness, limit })
}

/// Experts stored in one tensor as `[E, in, out]`, each gate row beside its up row.
fn experts(like: &MlpSpec, layer: usize, sizes: Sizes, activation: Activation) -> MoeSpec {
    let Sizes { count, chosen, width } = sizes;
    let (hidden, name) = (like.up.input, |part: &str| format!("model.layers.{layer}.mlp.{part}"));
    let projection = |part: &str, input, rows, index| LinearSpec {
        input,
        weight: name(&format!("experts.{part}")),
        bias: Some(name(&format!("experts.{part}_bias"))),
        layout: Layout::InOut,
        rows,
        stack: Some(Stack { count, index, joined: false }),
    };
    let expert = |index| {
        let every_other = |start| Rows { total: 2 * width, group: 2, start, len: 1 };
        MlpSpec {
            width,
            activation: activation.into(),
            gate: Some(projection("gate_up_proj", hidden, every_other(0), index)),
            up: projection("gate_up_proj", hidden, every_other(1), index),
            down: projection("down_proj", width, Rows::all(hidden), index),
        }
    };
    let router = RouterSpec::softmax(LinearSpec::plain(&name("router"), hidden, count, true), chosen);
    mixture(router, (0..count).map(expert).collect())
}

//! SmolLM 3 (Hugging Face 2025): Llama without a rotation in every fourth block.

use patchbay_checkpoint::{CheckpointError, Config};

use super::llama::{Style, decoder, each_layer};
use super::rotary::RotaryDefaults;
use super::settings::{layer_count, size_or, sliding_layers, window};
use crate::spec::Spec;

/// `model_type` "smollm3".
pub(super) fn smollm3(config: &Config) -> Result<Spec, CheckpointError> {
    let layers = layer_count(config, "num_hidden_layers")?;
    let rotated = match config.opt_f64_list("no_rope_layers")? {
        Some(list) if list.len() == layers => list.into_iter().map(|flag| flag != 0.0).collect(),
        Some(_) => return Err(config.wrong("no_rope_layers", &format!("a list of {layers} times 0 or 1"))),
        None => {
            let period = size_or(config, "no_rope_layer_interval", 4)?;
            (0..layers).map(|layer| !(layer + 1).is_multiple_of(period)).collect::<Vec<_>>()
        }
    };
    let window = if config.flag("use_sliding_window", false)? { window(config, None)? } else { None };
    let sliding = sliding_layers(config, layers, |layer| !rotated[layer])?;
    let bias = config.flag("attention_bias", false)?;
    let style = Style {
        qkv_bias: bias,
        o_bias: bias,
        mlp_bias: config.flag("mlp_bias", false)?,
        kv_heads: Some(4),
        tied: true,
        context: 32_768,
        rotary: RotaryDefaults { theta: 2_000_000.0, part: 1.0 },
        windows: sliding.iter().map(|sliding| window.filter(|_| *sliding)).collect(),
        ..Style::default()
    };
    Ok(each_layer(decoder(config, &style)?, |(index, mut layer)| {
        layer.attention.rotary = layer.attention.rotary.filter(|_| rotated[index]);
        layer
    }))
}

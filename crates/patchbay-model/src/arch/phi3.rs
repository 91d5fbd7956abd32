//! Phi-3 (Abdin et al. 2024): Llama with fused projections, partial rotation and LongRoPE.

use patchbay_checkpoint::{CheckpointError, Config};

use super::llama::{Style, decoder, each_layer, fused_gate_up, fused_qkv};
use super::settings::{layer_count, size_or, window};
use crate::rope::RotaryScaling;
use crate::spec::{LayerSpec, Spec};

/// `model_type` "phi3".
pub(super) fn phi3(config: &Config) -> Result<Spec, CheckpointError> {
    let windows = vec![window(config, None)?; layer_count(config, "num_hidden_layers")?];
    let mut spec = decoder(config, &Style { eps: ("rms_norm_eps", 1e-5), context: 4096, windows, ..Style::default() })?;
    let original = size_or(config, "original_max_position_embeddings", 4096)?;
    let factor = spec.context as f64 / original as f64;
    for rotary in spec.layers.iter_mut().filter_map(|layer| layer.attention.rotary.as_mut()) {
        match &mut rotary.scaling {
            RotaryScaling::None => {}
            // transformers drops the cache of a sequence that goes beyond
            RotaryScaling::LongRope { original_context, again, .. } if *original_context == original => *again = true,
            RotaryScaling::LongRope { .. } => {
                let expected = format!("written out where the context is stretched, here by {factor}");
                return Err(config.wrong("original_max_position_embeddings", &expected));
            }
            _ => return Err(config.wrong("rope_scaling", "of type default or longrope")),
        }
    }
    Ok(each_layer(spec, |(index, layer)| {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        LayerSpec {
            attention: fused_qkv(layer.attention, &name("self_attn.qkv_proj")),
            mlp: layer.mlp.map_mlp(|mlp| fused_gate_up(mlp, &name("mlp.gate_up_proj"))),
            ..layer
        }
    }))
}

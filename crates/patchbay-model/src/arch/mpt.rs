//! MPT (MosaicML 2023): ALiBi counted back from the last token, no biases, bounds on queries, keys and values.

use patchbay_checkpoint::{CheckpointError, Config};

use super::llama::fused_qkv;
use super::settings::{head_share, layer_count, size, size_or};
use crate::spec::{
    Activation, Alibi, AlibiOrigin, AttentionSpec, EmbeddingSpec, HeadSpec, LayerSpec, LinearSpec, MlpSpec, NormSpec,
    Spec,
};

/// `model_type` "mpt". As in transformers the MLP is four times as wide as the stream and every score has its bias,
/// whatever the settings say.
pub(super) fn mpt(config: &Config) -> Result<Spec, CheckpointError> {
    let hidden = size(config, "d_model")?;
    let (heads, head_dim) = head_share(config, "n_heads", hidden)?;
    let eps = config.f64_or("layer_norm_epsilon", 1e-5)?;
    let attn = config.section("attn_config");
    let number = |key| attn.as_ref().map_or(Ok(None), |section| section.opt_f64(key));
    let most = number("alibi_bias_max")?.unwrap_or(8.0);
    let (clip, scale) = (number("clip_qkv")?.filter(|clip| *clip != 0.0), number("softmax_scale")?);
    let norm = |name: &str| NormSpec::layer(name, hidden, eps, false);

    let layer = |index: usize| {
        let name = |part: &str| format!("transformer.blocks.{index}.{part}");
        let linear = |part: &str, input, output| LinearSpec::plain(&name(part), input, output, false);
        let square = || linear("attn.out_proj", hidden, hidden);
        let attention = AttentionSpec::plain((heads, heads, head_dim), [square(), square(), square()], square());
        let attention = AttentionSpec {
            clip,
            scale: scale.unwrap_or(attention.scale),
            alibi: Some(Alibi { slopes: slopes(heads, most), origin: AlibiOrigin::Last, rounded: false, factor: 1.0 }),
            ..fused_qkv(attention, &name("attn.Wqkv"))
        };
        let mlp = MlpSpec {
            width: 4 * hidden,
            activation: Activation::GeluErf.into(),
            gate: None,
            up: linear("ffn.up_proj", hidden, 4 * hidden),
            down: linear("ffn.down_proj", 4 * hidden, hidden),
        };
        LayerSpec::pre_norm(norm(&name("norm_1")), attention, norm(&name("norm_2")), mlp)
    };

    let embedding = EmbeddingSpec::plain("transformer.wte.weight");
    Ok(Spec {
        model_type: config.model_type()?.to_owned(),
        hidden,
        vocab: size(config, "vocab_size")?,
        context: size_or(config, "max_seq_len", 2048)?,
        base_prefix: "transformer.",
        part: None,
        layers: (0..layer_count(config, "n_layers")?).map(layer).collect(),
        final_norm: Some(norm("transformer.norm_f")),
        head: HeadSpec::plain(config.flag("tie_word_embeddings", true)?, &embedding, "lm_head.weight"),
        embedding,
    })
}

/// `2^(-j · most / n)` for the next power of two n; where there are fewer heads, those with even j first.
fn slopes(heads: usize, most: f64) -> Vec<f32> {
    let whole = heads.next_power_of_two();
    let slope = |place: usize| 2f64.powf(-(place as f64) * most / whole as f64) as f32;
    if whole == heads {
        return (1..=heads).map(slope).collect();
    }
    let (even, odd) = ((2..=whole).step_by(2), (1..=whole).step_by(2));
    even.chain(odd).take(heads).map(slope).collect()
}

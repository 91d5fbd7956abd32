//! What the keys of an architecture leave unsaid: activations, flags that tensors speak for, patterns of layers.

use serde_json::{Value as Json, json};

use super::super::draft::Draft;
use super::super::rope;
use crate::CheckpointError;

type Result = std::result::Result<(), CheckpointError>;

pub(super) fn silu(draft: &mut Draft<'_>) -> Result {
    draft.set("hidden_act", "silu");
    Ok(())
}

pub(super) fn gelu_tanh(draft: &mut Draft<'_>, key: &str) -> Result {
    draft.set(key, "gelu_new");
    Ok(())
}

/// A Llama with biases on queries, keys and values alone is what Hugging Face calls Qwen 2.
pub(super) fn llama(draft: &mut Draft<'_>) -> Result {
    if draft.has("attn_q.bias") && !draft.has("attn_output.bias") {
        draft.set("model_type", "qwen2");
    }
    silu(draft)
}

/// Blocks without a router have one MLP. Qwen 2's weights of experts are used as they are, and Qwen 3's add up to 1.
pub(super) fn qwen_moe(draft: &mut Draft<'_>, normalised: bool) -> Result {
    if !draft.config.contains_key("norm_topk_prob") {
        draft.set("norm_topk_prob", normalised);
    }
    for (key, tensor) in
        [("moe_intermediate_size", "ffn_gate_exps"), ("shared_expert_intermediate_size", "ffn_gate_shexp")]
    {
        if let (false, Some(width)) = (draft.config.contains_key(key), expert_width(draft, tensor)) {
            draft.set(key, width);
        }
    }
    draft.set("mlp_only_layers", draft.without("ffn_gate_inp.weight"));
    silu(draft)
}

/// The outputs of the first tensor of this name.
fn expert_width(draft: &Draft<'_>, tensor: &str) -> Option<usize> {
    let suffix = format!(".{tensor}.weight");
    let found = draft.gguf.tensors.iter().find(|found| found.name.ends_with(&suffix))?;
    found.shape.iter().rev().nth(1).copied()
}

pub(super) fn olmoe(draft: &mut Draft<'_>) -> Result {
    if !draft.config.contains_key("norm_topk_prob") {
        draft.set("norm_topk_prob", false);
    }
    silu(draft)
}

pub(super) fn gemma(draft: &mut Draft<'_>) -> Result {
    draft.set("hidden_act", "gelu_pytorch_tanh");
    draft.set("hidden_activation", "gelu_pytorch_tanh");
    Ok(())
}

/// What both later Gemmas share: the activation, the scale of the scores, and the pattern of local and global layers.
/// The scale is the head size, but `hidden / heads` in the largest model, which llama.cpp too knows by its depth.
fn later_gemma(draft: &mut Draft<'_>, largest: usize, pattern: usize) -> Result {
    let sizes = draft.sizes;
    let share = draft.uint("embedding_length").unwrap_or(0) / sizes.heads as u64;
    let scalar = if sizes.layers == largest { share } else { sizes.head_dim as u64 };
    draft.set("hidden_activation", "gelu_pytorch_tanh");
    draft.set("query_pre_attn_scalar", scalar);
    let types = draft.layer_types(pattern)?;
    draft.set("layer_types", types);
    Ok(())
}

pub(super) fn gemma2(draft: &mut Draft<'_>) -> Result {
    later_gemma(draft, 46, 2)
}

/// Gemma 3 turns its local layers with a base of their own, and its global ones with the file's.
pub(super) fn gemma3(draft: &mut Draft<'_>) -> Result {
    later_gemma(draft, 62, 6)?;
    two_rotations(draft, 10_000.0)
}

/// One rotation for the local layers, without a scaling, and one for the others, which is what stands there.
fn two_rotations(draft: &mut Draft<'_>, theta: f64) -> Result {
    let global = draft.config.get("rope_parameters").cloned().unwrap_or(Json::Null);
    let local = rope::plain(draft, draft.float("rope.freq_base_swa").unwrap_or(theta))?;
    draft.set("rope_parameters", json!({"full_attention": global, "sliding_attention": local}));
    Ok(())
}

/// Phi's files name as many key/value heads as heads, and may have fewer.
pub(super) fn phi2(draft: &mut Draft<'_>) -> Result {
    let heads_of = |tensor: &str| {
        let rows = draft.gguf.tensor(tensor).and_then(|tensor| tensor.shape.first());
        rows.and_then(|rows| rows.checked_div(draft.sizes.head_dim))
    };
    let fused = || Some(heads_of("blk.0.attn_qkv.weight")?.saturating_sub(draft.sizes.heads) / 2);
    let heads = heads_of("blk.0.attn_k.weight").or_else(fused).filter(|heads| *heads > 0);
    if let Some(heads) = heads {
        draft.sizes.kv_heads = heads;
        draft.set("num_key_value_heads", heads);
    }
    gelu_tanh(draft, "hidden_act")
}

/// No window is written as a window of 0.
pub(super) fn phi3(draft: &mut Draft<'_>) -> Result {
    let window = draft.uint("attention.sliding_window").filter(|window| *window > 0);
    draft.set("sliding_window", window);
    if let Some(context) = draft.uint("rope.scaling.original_context_length") {
        draft.set("original_max_position_embeddings", context);
    }
    silu(draft)
}

/// StarCoder's files always name one key/value head.
pub(super) fn starcoder(draft: &mut Draft<'_>) -> Result {
    let width = draft.uint("embedding_length").unwrap_or(0);
    let rows = draft.gguf.tensor("blk.0.attn_qkv.weight").and_then(|qkv| qkv.shape.first());
    draft.set("multi_query", rows.is_none_or(|rows| *rows as u64 != width.saturating_mul(3)));
    draft.set("activation_function", "gelu_pytorch_tanh");
    Ok(())
}

pub(super) fn starcoder2(draft: &mut Draft<'_>) -> Result {
    let window = draft.uint("attention.sliding_window");
    draft.set("sliding_window", window);
    draft.set("use_bias", draft.has("attn_q.bias"));
    draft.set("hidden_act", "gelu_pytorch_tanh");
    Ok(())
}

/// A block without a second norm runs attention and MLP side by side.
pub(super) fn stablelm(draft: &mut Draft<'_>) -> Result {
    draft.set("use_parallel_residual", !draft.has("ffn_norm.weight"));
    draft.set("use_qkv_bias", draft.has("attn_q.bias"));
    draft.set("qk_layernorm", draft.has("attn_q_norm.weight"));
    silu(draft)
}

pub(super) fn gpt_neox(draft: &mut Draft<'_>) -> Result {
    draft.set("attention_bias", draft.has("attn_qkv.bias"));
    draft.set("hidden_act", "gelu");
    Ok(())
}

/// Attention and MLP side by side, after one norm or a norm each.
pub(super) fn falcon(draft: &mut Draft<'_>, norms: usize) -> Result {
    let kv_heads = draft.sizes.kv_heads;
    draft.set("new_decoder_architecture", norms == 2 || kv_heads > 1);
    draft.set("num_kv_heads", kv_heads);
    draft.set("multi_query", true);
    draft.set("num_ln_in_parallel_attn", norms);
    draft.set("parallel_attn", true);
    draft.set("alibi", false);
    draft.set("bias", draft.has("attn_qkv.bias"));
    draft.set("activation", "gelu");
    Ok(())
}

pub(super) fn mpt(draft: &mut Draft<'_>) -> Result {
    const MOST: &str = "attention.max_alibi_bias";
    let most = draft.float(MOST).filter(|most| *most > 0.0);
    let most = most.ok_or_else(|| draft.wrong(MOST, "a number above 0: an MPT without ALiBi is not supported"))?;
    let clip = draft.float("attention.clamp_kqv");
    draft.set("attn_config", json!({"alibi": true, "alibi_bias_max": most, "clip_qkv": clip}));
    Ok(())
}

/// OLMo 3 is an OLMo 2 with windows.
pub(super) fn olmo2(draft: &mut Draft<'_>) -> Result {
    if let Some(window) = draft.uint("attention.sliding_window") {
        draft.set("model_type", "olmo3");
        draft.set("sliding_window", window);
        let types = draft.layer_types(4)?;
        draft.set("layer_types", types);
        let theta = draft.float("rope.freq_base").unwrap_or(10_000.0);
        two_rotations(draft, theta)?;
    }
    silu(draft)
}

pub(super) fn cohere2(draft: &mut Draft<'_>) -> Result {
    let types = draft.layer_types(4)?;
    draft.set("layer_types", types);
    silu(draft)
}

pub(super) fn exaone4(draft: &mut Draft<'_>) -> Result {
    let window = draft.uint("attention.sliding_window");
    draft.set("sliding_window", window);
    let types = draft.layer_types(if window.is_some() { 4 } else { 1 })?;
    draft.set("layer_types", types);
    silu(draft)
}

pub(super) fn chatglm(draft: &mut Draft<'_>) -> Result {
    draft.set("attention_bias", draft.has("attn_q.bias") || draft.has("attn_qkv.bias"));
    silu(draft)
}

/// Sigmoids of the router's logits, corrected for the choice.
pub(super) fn glm4_moe(draft: &mut Draft<'_>) -> Result {
    let layers = draft.sizes.layers;
    draft.set("num_hidden_layers", layers);
    draft.set("use_qk_norm", draft.has("attn_q_norm.weight"));
    silu(draft)
}

/// Every fourth block has no rotation.
pub(super) fn smollm3(draft: &mut Draft<'_>) -> Result {
    draft.set("no_rope_layer_interval", 4);
    draft.set("use_sliding_window", false);
    silu(draft)
}

pub(super) fn seed_oss(draft: &mut Draft<'_>) -> Result {
    draft.set("attention_out_bias", draft.has("attn_output.bias"));
    silu(draft)
}

pub(super) fn ernie_moe(draft: &mut Draft<'_>) -> Result {
    draft.set("use_bias", draft.has("attn_q.bias"));
    draft.set("moe_layer_end_index", -1);
    silu(draft)
}

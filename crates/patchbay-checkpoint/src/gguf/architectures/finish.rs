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
    draft.set_absent("norm_topk_prob", normalised);
    for (key, tensor) in
        [("moe_intermediate_size", "ffn_gate_exps"), ("shared_expert_intermediate_size", "ffn_gate_shexp")]
    {
        if let Some(width) = expert_width(draft, tensor) {
            draft.set_absent(key, width);
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
    draft.set_absent("norm_topk_prob", false);
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

/// DBRX' settings of attention and experts lie in sections of their own.
pub(super) fn dbrx(draft: &mut Draft<'_>) -> Result {
    let attention = json!({
        "kv_n_heads": draft.sizes.kv_heads,
        "clip_qkv": draft.float("attention.clamp_kqv"),
        "rope_theta": draft.float("rope.freq_base").unwrap_or(10_000.0),
    });
    let experts = json!({
        "ffn_hidden_size": draft.uint("feed_forward_length"),
        "moe_num_experts": draft.uint("expert_count"),
        "moe_top_k": draft.uint("expert_used_count"),
        "ffn_act_fn": {"name": "silu"},
    });
    draft.set("attn_config", attention);
    draft.set("ffn_config", experts);
    Ok(())
}

/// ggml's number of a router whose scores are sigmoids.
const SIGMOID: u64 = 2;

/// DeepSeek 3 is a DeepSeek 2 whose router's scores are sigmoids.
pub(super) fn deepseek2(draft: &mut Draft<'_>) -> Result {
    let rotated = draft.sizes.head_dim as u64;
    // Files from before the projections of keys and values lay apart have the length of a key under the plain name.
    let [keys, values] = ["key", "value"].map(|kind| {
        let [latent, plain] = ["_mla", ""].map(|end| draft.uint(&format!("attention.{kind}_length{end}")));
        latent.or(plain).unwrap_or(0)
    });
    let own = keys.checked_sub(rotated).filter(|own| *own > 0);
    let own = own.ok_or_else(|| draft.wrong("attention.key_length_mla", &format!("a whole number above {rotated}")))?;
    draft.set("qk_rope_head_dim", rotated);
    draft.set("qk_nope_head_dim", own);
    draft.set("v_head_dim", values);
    draft.set("q_lora_rank", draft.uint("attention.q_lora_rank"));
    // The file counts one head of keys and values, which is what the latent vector is to llama.cpp.
    draft.set("num_key_value_heads", draft.sizes.heads);
    draft.set_absent("routed_scaling_factor", 1.0);
    if draft.uint("expert_gating_func") == Some(SIGMOID) {
        draft.set("model_type", "deepseek_v3");
        draft.set_absent("norm_topk_prob", false);
        draft.set_absent("n_group", 1);
        draft.set_absent("topk_group", 1);
    } else {
        let groups = draft.uint("expert_group_count").unwrap_or(1);
        draft.set("topk_method", if groups > 1 { "group_limited_greedy" } else { "greedy" });
    }
    warm(draft, 0.1);
    silu(draft)
}

/// YaRN's factor on the scores, of which the file has `unit` times what the configuration calls `mscale_all_dim`; `mscale`
/// is the same number in all published models, so that cosines and sines have no factor.
fn warm(draft: &mut Draft<'_>, unit: f64) {
    let Some(multiplier) = draft.float("rope.scaling.yarn_log_multiplier") else { return };
    let multiplier = (multiplier / unit * 1e6).round() / 1e6;
    if let Some(yarn) = yarn(draft) {
        yarn["mscale"] = json!(multiplier);
        yarn["mscale_all_dim"] = json!(multiplier);
    }
}

/// The rotation, where it is YaRN's.
fn yarn<'d>(draft: &'d mut Draft<'_>) -> Option<&'d mut Json> {
    draft.config.get_mut("rope_parameters").filter(|rope| rope["rope_type"] == "yarn")
}

/// Every other block has a window; the gate's bounds are those of the published models.
pub(super) fn gpt_oss(draft: &mut Draft<'_>) -> Result {
    draft.set("sliding_window", draft.uint("attention.sliding_window"));
    let types = draft.layer_types(2)?;
    draft.set("layer_types", types);
    if let Some(yarn) = yarn(draft) {
        yarn["truncate"] = json!(false);
    }
    silu(draft)
}

/// Three blocks of four have chunks and rotations; the model with 128 experts has no norms of queries and keys.
pub(super) fn llama4(draft: &mut Draft<'_>) -> Result {
    draft.set("use_qk_norm", draft.uint("expert_count") != Some(128));
    draft.set("attention_chunk_size", 8192);
    silu(draft)
}

/// Mistral 3 is Mistral, or Ministral 3 where queries grow with their position.
pub(super) fn mistral3(draft: &mut Draft<'_>) -> Result {
    draft.set("sliding_window", Json::Null);
    if let Some(scale) = draft.float("attention.temperature_scale") {
        draft.set("model_type", "ministral3");
        if let Some(rope) = draft.config.get_mut("rope_parameters") {
            rope["llama_4_scaling_beta"] = json!(scale);
        }
    }
    warm(draft, 1.0);
    silu(draft)
}

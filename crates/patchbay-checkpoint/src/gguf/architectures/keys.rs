//! Metadata keys and their names in a `config.json`.

use super::Key;

const fn key(gguf: &'static str, hf: &'static str) -> Key {
    Key { gguf, hf, required: true }
}

const fn optional(gguf: &'static str, hf: &'static str) -> Key {
    Key { gguf, hf, required: false }
}

/// What Llama and its kin have. Heads of keys and values, and the size of a head, are read with the other sizes.
pub(super) const DECODER_KEYS: &[Key] = &[
    key("context_length", "max_position_embeddings"),
    key("embedding_length", "hidden_size"),
    key("block_count", "num_hidden_layers"),
    key("feed_forward_length", "intermediate_size"),
    key("attention.head_count", "num_attention_heads"),
];

pub(super) const RMS_KEYS: &[Key] = &[key("attention.layer_norm_rms_epsilon", "rms_norm_eps")];

const LAYER_NORM: &str = "attention.layer_norm_epsilon";

pub(super) const LAYER_NORM_KEYS: &[Key] = &[key(LAYER_NORM, "layer_norm_eps")];

pub(super) const GEMMA_KEYS: &[Key] = &[
    optional("attention.sliding_window", "sliding_window"),
    optional("attn_logit_softcapping", "attn_logit_softcapping"),
    optional("final_logit_softcapping", "final_logit_softcapping"),
];

pub(super) const GPT2_KEYS: &[Key] = &[
    key("context_length", "n_positions"),
    key("embedding_length", "n_embd"),
    key("block_count", "n_layer"),
    key("feed_forward_length", "n_inner"),
    key("attention.head_count", "n_head"),
    key(LAYER_NORM, "layer_norm_epsilon"),
];

pub(super) const STARCODER2_KEYS: &[Key] = &[key(LAYER_NORM, "norm_epsilon")];

pub(super) const NEOX_KEYS: &[Key] =
    &[key(LAYER_NORM, "layer_norm_eps"), optional("use_parallel_residual", "use_parallel_residual")];

pub(super) const FALCON_KEYS: &[Key] = &[
    key("context_length", "max_position_embeddings"),
    key("embedding_length", "hidden_size"),
    key("block_count", "num_hidden_layers"),
    key("feed_forward_length", "ffn_hidden_size"),
    key("attention.head_count", "num_attention_heads"),
    key(LAYER_NORM, "layer_norm_epsilon"),
];

pub(super) const BLOOM_KEYS: &[Key] = &[
    key("context_length", "seq_length"),
    key("embedding_length", "hidden_size"),
    key("block_count", "n_layer"),
    key("attention.head_count", "n_head"),
    key(LAYER_NORM, "layer_norm_epsilon"),
];

pub(super) const MPT_KEYS: &[Key] = &[
    key("context_length", "max_seq_len"),
    key("embedding_length", "d_model"),
    key("block_count", "n_layers"),
    key("attention.head_count", "n_heads"),
    key(LAYER_NORM, "layer_norm_epsilon"),
];

pub(super) const OLMO_KEYS: &[Key] = &[optional("attention.clamp_kqv", "clip_qkv")];

pub(super) const COHERE_KEYS: &[Key] = &[
    key(LAYER_NORM, "layer_norm_eps"),
    key("logit_scale", "logit_scale"),
    optional("attention.sliding_window", "sliding_window"),
];

pub(super) const GRANITE_KEYS: &[Key] = &[
    optional("attention.scale", "attention_multiplier"),
    optional("embedding_scale", "embedding_multiplier"),
    optional("residual_scale", "residual_multiplier"),
    optional("logit_scale", "logits_scaling"),
];

pub(super) const NEMOTRON_KEYS: &[Key] = &[key(LAYER_NORM, "norm_eps")];

/// Experts as Mixtral and Granite count them.
pub(super) const LOCAL_EXPERT_KEYS: &[Key] =
    &[optional("expert_count", "num_local_experts"), optional("expert_used_count", "num_experts_per_tok")];

pub(super) const QWEN_MOE_KEYS: &[Key] = &[
    key("expert_count", "num_experts"),
    key("expert_used_count", "num_experts_per_tok"),
    optional("expert_feed_forward_length", "moe_intermediate_size"),
    optional("expert_shared_feed_forward_length", "shared_expert_intermediate_size"),
    optional("expert_weights_norm", "norm_topk_prob"),
];

/// Experts as GLM and DeepSeek count them.
pub(super) const ROUTED_EXPERT_KEYS: &[Key] = &[
    key("expert_count", "n_routed_experts"),
    key("expert_used_count", "num_experts_per_tok"),
    key("expert_feed_forward_length", "moe_intermediate_size"),
    key("expert_shared_count", "n_shared_experts"),
    optional("leading_dense_block_count", "first_k_dense_replace"),
    optional("expert_weights_scale", "routed_scaling_factor"),
    optional("expert_weights_norm", "norm_topk_prob"),
    optional("expert_group_count", "n_group"),
    optional("expert_group_used_count", "topk_group"),
];

pub(super) const ERNIE_MOE_KEYS: &[Key] = &[
    key("expert_count", "moe_num_experts"),
    key("expert_used_count", "moe_k"),
    key("expert_feed_forward_length", "moe_intermediate_size"),
    optional("expert_shared_count", "moe_num_shared_experts"),
    key("interleave_moe_layer_step", "moe_layer_interval"),
    key("leading_dense_block_count", "moe_layer_start_index"),
];

pub(super) const DBRX_KEYS: &[Key] = &[
    key("context_length", "max_seq_len"),
    key("embedding_length", "d_model"),
    key("block_count", "n_layers"),
    key("attention.head_count", "n_heads"),
];

/// What latent attention has besides.
pub(super) const LATENT_KEYS: &[Key] = &[key("attention.kv_lora_rank", "kv_lora_rank")];

/// Hugging Face names the width of the MLPs of blocks without experts apart.
pub(super) const LLAMA4_KEYS: &[Key] = &[
    key("context_length", "max_position_embeddings"),
    key("embedding_length", "hidden_size"),
    key("block_count", "num_hidden_layers"),
    key("feed_forward_length", "intermediate_size_mlp"),
    key("expert_feed_forward_length", "intermediate_size"),
    key("attention.head_count", "num_attention_heads"),
    key("interleave_moe_layer_step", "interleave_moe_layer_step"),
];

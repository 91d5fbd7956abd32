//! Tensor names, in groups that architectures share.

use super::super::layout::{Half, Join};
use super::{Change, List, Row, bare, changed, row};

/// The upper rows of a tensor whose lower rows stand in another.
const FIRST_ROWS: Half = Half { place: 0, join: Join::Rows };
const LAST_ROWS: Half = Half { place: 1, join: Join::Rows };
/// The left columns of a tensor whose right columns stand in another.
const FIRST_COLUMNS: Half = Half { place: 0, join: Join::Columns };
const LAST_COLUMNS: Half = Half { place: 1, join: Join::Columns };
/// Every other column, from the first on, and those between.
const EVEN_COLUMNS: Half = Half { place: 0, join: Join::Alternating };
const ODD_COLUMNS: Half = Half { place: 1, join: Join::Alternating };
/// Of each head first the rows that make a key, and after them those that make a value.
const KEY_ROWS: Half = Half { place: 0, join: Join::FlatRows };
const VALUE_ROWS: Half = Half { place: 1, join: Join::FlatRows };

/// Embedding and unembedding.
pub(super) const TABLES: &[Row] = &[row("token_embd", "model.embed_tokens"), row("output", "lm_head")];

/// Values and output projection.
pub(super) const ATTENTION: &[Row] = &[
    row("blk.*.attn_v", "model.layers.*.self_attn.v_proj"),
    row("blk.*.attn_output", "model.layers.*.self_attn.o_proj"),
];

/// Everything of Llama but its norms, queries and keys.
pub(super) const DECODER: &[Row] = &[
    row("token_embd", "model.embed_tokens"),
    row("output", "lm_head"),
    row("blk.*.attn_v", "model.layers.*.self_attn.v_proj"),
    row("blk.*.attn_output", "model.layers.*.self_attn.o_proj"),
    row("blk.*.ffn_gate", "model.layers.*.mlp.gate_proj"),
    row("blk.*.ffn_up", "model.layers.*.mlp.up_proj"),
    row("blk.*.ffn_down", "model.layers.*.mlp.down_proj"),
];

pub(super) const QUERY_KEY: &[Row] =
    &[row("blk.*.attn_q", "model.layers.*.self_attn.q_proj"), row("blk.*.attn_k", "model.layers.*.self_attn.k_proj")];

pub(super) const PAIRED_QUERY_KEY: &[Row] = &[
    changed("blk.*.attn_q", "model.layers.*.self_attn.q_proj", Change::PairedQueryRows),
    changed("blk.*.attn_k", "model.layers.*.self_attn.k_proj", Change::PairedKeyRows),
];

/// One projection in the file, three in Hugging Face's.
pub(super) const SPLIT_QKV: &[Row] = &[
    changed("blk.*.attn_qkv", "model.layers.*.self_attn.q_proj", Change::Queries),
    changed("blk.*.attn_qkv", "model.layers.*.self_attn.k_proj", Change::Keys),
    changed("blk.*.attn_qkv", "model.layers.*.self_attn.v_proj", Change::Values),
];

pub(super) const PHI3_ATTENTION: &[Row] = &[
    row("blk.*.attn_qkv", "model.layers.*.self_attn.qkv_proj"),
    row("blk.*.attn_output", "model.layers.*.self_attn.o_proj"),
];

/// Gate and up projection in one.
pub(super) const FUSED_MLP: &[Row] =
    &[row("blk.*.ffn_up", "model.layers.*.mlp.gate_up_proj"), row("blk.*.ffn_down", "model.layers.*.mlp.down_proj")];

pub(super) const STARCODER2_MLP: &[Row] =
    &[row("blk.*.ffn_up", "model.layers.*.mlp.c_fc"), row("blk.*.ffn_down", "model.layers.*.mlp.c_proj")];

pub(super) const NORMS: &[Row] = &[
    row("output_norm", "model.norm"),
    row("blk.*.attn_norm", "model.layers.*.input_layernorm"),
    row("blk.*.ffn_norm", "model.layers.*.post_attention_layernorm"),
];

/// The same two norms, where the second is named after what it follows.
pub(super) const POST_ATTENTION_NORMS: &[Row] = &[
    row("output_norm", "model.norm"),
    row("blk.*.attn_norm", "model.layers.*.input_layernorm"),
    row("blk.*.post_attention_norm", "model.layers.*.post_attention_layernorm"),
];

/// One norm for attention and MLP, side by side.
pub(super) const PARALLEL_NORM: &[Row] =
    &[row("output_norm", "model.norm"), row("blk.*.attn_norm", "model.layers.*.input_layernorm")];

/// Norms after each part alone.
pub(super) const NORMS_AFTER: &[Row] = &[
    row("output_norm", "model.norm"),
    row("blk.*.post_attention_norm", "model.layers.*.post_attention_layernorm"),
    row("blk.*.post_ffw_norm", "model.layers.*.post_feedforward_layernorm"),
];

/// GLM-4's norms before and after each part.
pub(super) const NORMS_AROUND: &[Row] = &[
    row("output_norm", "model.norm"),
    row("blk.*.attn_norm", "model.layers.*.input_layernorm"),
    row("blk.*.post_attention_norm", "model.layers.*.post_self_attn_layernorm"),
    row("blk.*.ffn_norm", "model.layers.*.post_attention_layernorm"),
    row("blk.*.post_ffw_norm", "model.layers.*.post_mlp_layernorm"),
];

/// Gemma's and Nemotron's.
pub(super) const PLUS_ONE_NORMS: &[Row] = &[
    changed("output_norm", "model.norm", Change::PlusOne),
    changed("blk.*.attn_norm", "model.layers.*.input_layernorm", Change::PlusOne),
    changed("blk.*.ffn_norm", "model.layers.*.post_attention_layernorm", Change::PlusOne),
];

pub(super) const GEMMA_FOUR_NORMS: &[Row] = &[
    changed("output_norm", "model.norm", Change::PlusOne),
    changed("blk.*.attn_norm", "model.layers.*.input_layernorm", Change::PlusOne),
    changed("blk.*.post_attention_norm", "model.layers.*.post_attention_layernorm", Change::PlusOne),
    changed("blk.*.ffn_norm", "model.layers.*.pre_feedforward_layernorm", Change::PlusOne),
    changed("blk.*.post_ffw_norm", "model.layers.*.post_feedforward_layernorm", Change::PlusOne),
];

pub(super) const GEMMA_QUERY_KEY_NORMS: &[Row] = &[
    changed("blk.*.attn_q_norm", "model.layers.*.self_attn.q_norm", Change::PlusOne),
    changed("blk.*.attn_k_norm", "model.layers.*.self_attn.k_norm", Change::PlusOne),
];

pub(super) const QUERY_KEY_NORMS: &[Row] = &[
    row("blk.*.attn_q_norm", "model.layers.*.self_attn.q_norm"),
    row("blk.*.attn_k_norm", "model.layers.*.self_attn.k_norm"),
];

/// HunYuan's, after the rotation.
pub(super) const ROTATED_QUERY_KEY_NORMS: &[Row] = &[
    row("blk.*.attn_q_norm", "model.layers.*.self_attn.query_layernorm"),
    row("blk.*.attn_k_norm", "model.layers.*.self_attn.key_layernorm"),
];

/// StableLM's, a tensor for each head.
pub(super) const QUERY_KEY_LAYER_NORMS: &[Row] = &[
    row("blk.*.attn_q_norm", "model.layers.*.self_attn.q_layernorm.norms.#"),
    row("blk.*.attn_k_norm", "model.layers.*.self_attn.k_layernorm.norms.#"),
];

/// A router, and experts stored one by one, in the place of the MLP.
pub(super) const EXPERTS: &[Row] = &[
    row("blk.*.ffn_gate_inp", "model.layers.*.mlp.gate"),
    row("blk.*.ffn_gate_exps", "model.layers.*.mlp.experts.#.gate_proj"),
    row("blk.*.ffn_up_exps", "model.layers.*.mlp.experts.#.up_proj"),
    row("blk.*.ffn_down_exps", "model.layers.*.mlp.experts.#.down_proj"),
];

/// Qwen's shared expert and its gate.
pub(super) const QWEN_EXPERTS: &[Row] = &[
    changed("blk.*.ffn_gate_inp_shexp", "model.layers.*.mlp.shared_expert_gate", Change::OneRow),
    row("blk.*.ffn_gate_shexp", "model.layers.*.mlp.shared_expert.gate_proj"),
    row("blk.*.ffn_up_shexp", "model.layers.*.mlp.shared_expert.up_proj"),
    row("blk.*.ffn_down_shexp", "model.layers.*.mlp.shared_expert.down_proj"),
];

/// An expert that every token goes through.
pub(super) const SHARED_EXPERTS: &[Row] = &[
    row("blk.*.ffn_gate_shexp", "model.layers.*.mlp.shared_experts.gate_proj"),
    row("blk.*.ffn_up_shexp", "model.layers.*.mlp.shared_experts.up_proj"),
    row("blk.*.ffn_down_shexp", "model.layers.*.mlp.shared_experts.down_proj"),
];

/// What corrects the choice of GLM-4.5's experts.
pub(super) const GLM_CORRECTION: &[Row] =
    &[row("blk.*.exp_probs_b", "model.layers.*.mlp.gate.e_score_correction_bias")];

/// What corrects the choice of ERNIE 4.5's.
pub(super) const ERNIE_CORRECTION: &[Row] =
    &[changed("blk.*.exp_probs_b", "model.layers.*.mlp.moe_statics.e_score_correction_bias", Change::OneRow)];

/// Mixtral's experts; the files of its first months have a tensor for each.
pub(super) const MIXTRAL_EXPERTS: &[Row] = &[
    row("blk.*.ffn_gate_inp", "model.layers.*.block_sparse_moe.gate"),
    row("blk.*.ffn_gate_exps", "model.layers.*.block_sparse_moe.experts.#.w1"),
    row("blk.*.ffn_down_exps", "model.layers.*.block_sparse_moe.experts.#.w2"),
    row("blk.*.ffn_up_exps", "model.layers.*.block_sparse_moe.experts.#.w3"),
    row("blk.*.ffn_gate.#", "model.layers.*.block_sparse_moe.experts.#.w1"),
    row("blk.*.ffn_down.#", "model.layers.*.block_sparse_moe.experts.#.w2"),
    row("blk.*.ffn_up.#", "model.layers.*.block_sparse_moe.experts.#.w3"),
];

/// Granite's experts, stacked, with gate and up projection in one.
pub(super) const GRANITE_EXPERTS: &[Row] = &[
    row("blk.*.ffn_gate_inp", "model.layers.*.block_sparse_moe.router.layer"),
    changed("blk.*.ffn_gate_exps", "model.layers.*.block_sparse_moe.input_linear", Change::Half(FIRST_ROWS)),
    changed("blk.*.ffn_up_exps", "model.layers.*.block_sparse_moe.input_linear", Change::Half(LAST_ROWS)),
    row("blk.*.ffn_down_exps", "model.layers.*.block_sparse_moe.output_linear"),
];

/// GPT-2's linear layers are `Conv1D`, whose weights are `[in, out]`.
pub(super) const GPT2: &[Row] = &[
    row("token_embd", "transformer.wte"),
    row("position_embd", "transformer.wpe"),
    row("output_norm", "transformer.ln_f"),
    row("output", "lm_head"),
    row("blk.*.attn_norm", "transformer.h.*.ln_1"),
    changed("blk.*.attn_qkv", "transformer.h.*.attn.c_attn", Change::Transposed),
    changed("blk.*.attn_output", "transformer.h.*.attn.c_proj", Change::Transposed),
    row("blk.*.ffn_norm", "transformer.h.*.ln_2"),
    changed("blk.*.ffn_up", "transformer.h.*.mlp.c_fc", Change::Transposed),
    changed("blk.*.ffn_down", "transformer.h.*.mlp.c_proj", Change::Transposed),
];

pub(super) const STARCODER: &[Row] = &[
    row("token_embd", "transformer.wte"),
    row("position_embd", "transformer.wpe"),
    row("output_norm", "transformer.ln_f"),
    row("output", "lm_head"),
    row("blk.*.attn_norm", "transformer.h.*.ln_1"),
    row("blk.*.attn_qkv", "transformer.h.*.attn.c_attn"),
    row("blk.*.attn_output", "transformer.h.*.attn.c_proj"),
    row("blk.*.ffn_norm", "transformer.h.*.ln_2"),
    row("blk.*.ffn_up", "transformer.h.*.mlp.c_fc"),
    row("blk.*.ffn_down", "transformer.h.*.mlp.c_proj"),
];

pub(super) const PHI2: &[Row] = &[
    row("token_embd", "model.embed_tokens"),
    row("output", "lm_head"),
    row("output_norm", "model.final_layernorm"),
    row("blk.*.attn_norm", "model.layers.*.input_layernorm"),
    row("blk.*.attn_v", "model.layers.*.self_attn.v_proj"),
    row("blk.*.attn_output", "model.layers.*.self_attn.dense"),
    row("blk.*.ffn_up", "model.layers.*.mlp.fc1"),
    row("blk.*.ffn_down", "model.layers.*.mlp.fc2"),
];

pub(super) const GPT_NEOX: &[Row] = &[
    row("token_embd", "gpt_neox.embed_in"),
    row("output", "embed_out"),
    row("output_norm", "gpt_neox.final_layer_norm"),
    row("blk.*.attn_norm", "gpt_neox.layers.*.input_layernorm"),
    changed("blk.*.attn_qkv", "gpt_neox.layers.*.attention.query_key_value", Change::Ungrouped),
    row("blk.*.attn_output", "gpt_neox.layers.*.attention.dense"),
    row("blk.*.ffn_norm", "gpt_neox.layers.*.post_attention_layernorm"),
    row("blk.*.ffn_up", "gpt_neox.layers.*.mlp.dense_h_to_4h"),
    row("blk.*.ffn_down", "gpt_neox.layers.*.mlp.dense_4h_to_h"),
];

/// BLOOM and Falcon but for the norms of Falcon's blocks.
pub(super) const BLOOM: &[Row] = &[
    row("token_embd", "transformer.word_embeddings"),
    row("output", "lm_head"),
    row("output_norm", "transformer.ln_f"),
    changed("blk.*.attn_qkv", "transformer.h.*.self_attention.query_key_value", Change::Ungrouped),
    row("blk.*.attn_output", "transformer.h.*.self_attention.dense"),
    row("blk.*.ffn_up", "transformer.h.*.mlp.dense_h_to_4h"),
    row("blk.*.ffn_down", "transformer.h.*.mlp.dense_4h_to_h"),
];

pub(super) const BLOOM_NORMS: &[Row] = &[
    row("token_embd_norm", "transformer.word_embeddings_layernorm"),
    row("blk.*.attn_norm", "transformer.h.*.input_layernorm"),
    row("blk.*.ffn_norm", "transformer.h.*.post_attention_layernorm"),
];

pub(super) const FALCON_NORM: &[Row] = &[row("blk.*.attn_norm", "transformer.h.*.input_layernorm")];

/// The larger Falcons': one for the MLP, one for attention.
pub(super) const FALCON_NORMS: &[Row] =
    &[row("blk.*.attn_norm", "transformer.h.*.ln_mlp"), row("blk.*.attn_norm_2", "transformer.h.*.ln_attn")];

pub(super) const MPT: &[Row] = &[
    row("token_embd", "transformer.wte"),
    row("output", "lm_head"),
    row("output_norm", "transformer.norm_f"),
    row("blk.*.attn_norm", "transformer.blocks.*.norm_1"),
    row("blk.*.attn_qkv", "transformer.blocks.*.attn.Wqkv"),
    row("blk.*.attn_output", "transformer.blocks.*.attn.out_proj"),
    row("blk.*.ffn_norm", "transformer.blocks.*.norm_2"),
    row("blk.*.ffn_up", "transformer.blocks.*.ffn.up_proj"),
    row("blk.*.ffn_down", "transformer.blocks.*.ffn.down_proj"),
];

/// Apertus but for attention: no gate, and norms under names of their own.
pub(super) const APERTUS: &[Row] = &[
    row("output_norm", "model.norm"),
    row("blk.*.attn_norm", "model.layers.*.attention_layernorm"),
    row("blk.*.ffn_norm", "model.layers.*.feedforward_layernorm"),
    row("blk.*.ffn_up", "model.layers.*.mlp.up_proj"),
    row("blk.*.ffn_down", "model.layers.*.mlp.down_proj"),
];

/// The learned numbers of Apertus' activation.
pub(super) const APERTUS_LISTS: &[List] = &[
    List { gguf: "xielu.alpha_n", hf: "model.layers.*.mlp.act_fn.alpha_n", shape: &[1] },
    List { gguf: "xielu.alpha_p", hf: "model.layers.*.mlp.act_fn.alpha_p", shape: &[1] },
    List { gguf: "xielu.beta", hf: "model.layers.*.mlp.act_fn.beta", shape: &[] },
    List { gguf: "xielu.eps", hf: "model.layers.*.mlp.act_fn.eps", shape: &[] },
];

/// DBRX, which has each projection of all experts in one matrix.
pub(super) const DBRX: &[Row] = &[
    row("token_embd", "transformer.wte"),
    row("output", "lm_head"),
    row("output_norm", "transformer.norm_f"),
    row("blk.*.attn_norm", "transformer.blocks.*.norm_attn_norm.norm_1"),
    row("blk.*.attn_qkv", "transformer.blocks.*.norm_attn_norm.attn.Wqkv"),
    row("blk.*.attn_output", "transformer.blocks.*.norm_attn_norm.attn.out_proj"),
    row("blk.*.attn_output_norm", "transformer.blocks.*.norm_attn_norm.norm_2"),
    row("blk.*.ffn_gate_inp", "transformer.blocks.*.ffn.router.layer"),
    bare("blk.*.ffn_gate_exps", "transformer.blocks.*.ffn.experts.mlp.w1", Change::Flat),
    bare("blk.*.ffn_up_exps", "transformer.blocks.*.ffn.experts.mlp.v1", Change::Flat),
    bare("blk.*.ffn_down_exps", "transformer.blocks.*.ffn.experts.mlp.w2", Change::SwappedFlat),
];

/// DeepSeek's latent attention, whose second projection newer files have as one of keys and one of values, and its first MLPs.
pub(super) const LATENT_DECODER: &[Row] = &[
    row("token_embd", "model.embed_tokens"),
    row("output", "lm_head"),
    row("blk.*.attn_q", "model.layers.*.self_attn.q_proj"),
    row("blk.*.attn_q_a", "model.layers.*.self_attn.q_a_proj"),
    row("blk.*.attn_q_a_norm", "model.layers.*.self_attn.q_a_layernorm"),
    row("blk.*.attn_q_b", "model.layers.*.self_attn.q_b_proj"),
    row("blk.*.attn_kv_a_mqa", "model.layers.*.self_attn.kv_a_proj_with_mqa"),
    row("blk.*.attn_kv_a_norm", "model.layers.*.self_attn.kv_a_layernorm"),
    row("blk.*.attn_kv_b", "model.layers.*.self_attn.kv_b_proj"),
    changed("blk.*.attn_k_b", "model.layers.*.self_attn.kv_b_proj", Change::SwappedHalf(KEY_ROWS)),
    changed("blk.*.attn_v_b", "model.layers.*.self_attn.kv_b_proj", Change::Half(VALUE_ROWS)),
    row("blk.*.attn_output", "model.layers.*.self_attn.o_proj"),
    row("blk.*.ffn_gate", "model.layers.*.mlp.gate_proj"),
    row("blk.*.ffn_up", "model.layers.*.mlp.up_proj"),
    row("blk.*.ffn_down", "model.layers.*.mlp.down_proj"),
];

/// gpt-oss' sinks and experts, which Hugging Face has as `[experts, in, out]`, gate and up in turn.
pub(super) const GPT_OSS: &[Row] = &[
    bare("blk.*.attn_sinks", "model.layers.*.self_attn.sinks", Change::None),
    row("blk.*.ffn_gate_inp", "model.layers.*.mlp.router"),
    bare("blk.*.ffn_gate_exps", "model.layers.*.mlp.experts.gate_up_proj", Change::SwappedHalf(EVEN_COLUMNS)),
    bare("blk.*.ffn_up_exps", "model.layers.*.mlp.experts.gate_up_proj", Change::SwappedHalf(ODD_COLUMNS)),
    bare("blk.*.ffn_down_exps", "model.layers.*.mlp.experts.down_proj", Change::Swapped),
];

/// Llama 4's MLPs and experts, which Hugging Face has as `[experts, in, out]`, gate beside up.
pub(super) const LLAMA4: &[Row] = &[
    row("blk.*.ffn_gate", "model.layers.*.feed_forward.gate_proj"),
    row("blk.*.ffn_up", "model.layers.*.feed_forward.up_proj"),
    row("blk.*.ffn_down", "model.layers.*.feed_forward.down_proj"),
    row("blk.*.ffn_gate_inp", "model.layers.*.feed_forward.router"),
    row("blk.*.ffn_gate_shexp", "model.layers.*.feed_forward.shared_expert.gate_proj"),
    row("blk.*.ffn_up_shexp", "model.layers.*.feed_forward.shared_expert.up_proj"),
    row("blk.*.ffn_down_shexp", "model.layers.*.feed_forward.shared_expert.down_proj"),
    bare("blk.*.ffn_gate_exps", "model.layers.*.feed_forward.experts.gate_up_proj", Change::SwappedHalf(FIRST_COLUMNS)),
    bare("blk.*.ffn_up_exps", "model.layers.*.feed_forward.experts.gate_up_proj", Change::SwappedHalf(LAST_COLUMNS)),
    bare("blk.*.ffn_down_exps", "model.layers.*.feed_forward.experts.down_proj", Change::Swapped),
];

//! What each `general.architecture` of GGUF is in Hugging Face's terms: a table to add rows to.
//!
//! Names are those of llama.cpp's converter (`gguf-py/gguf/tensor_mapping.py`, `convert_hf_to_gguf.py`) and of
//! transformers' module tree; what the converter changes in a tensor on the way is undone, as
//! transformers' `modeling_gguf_pytorch_utils.py` does.

use serde_json::{Map, Value, json};

use super::names::Change;

/// One architecture: its tensors and its metadata under Hugging Face's names.
pub(super) struct Architecture {
    /// `general.architecture`, which is also the prefix of its metadata keys.
    pub(super) name: &'static str,
    /// `model_type`.
    pub(super) model_type: &'static str,
    /// Tensor names; `*` stands for a layer's number, and `.weight` or `.bias` follows on both sides.
    pub(super) tensors: &'static [&'static [Row]],
    /// Metadata key (below the prefix) and config key, and whether a file may lack it.
    pub(super) keys: &'static [&'static [Key]],
    /// Whether positions are rotary, so that the config needs `rope_parameters`.
    pub(super) rotary: bool,
    /// Sets what the metadata leaves unsaid.
    pub(super) finish: fn(&mut Map<String, Value>),
}

/// One tensor's two names, and what the converter did to it.
pub(super) struct Row {
    pub(super) gguf: &'static str,
    pub(super) hf: &'static str,
    pub(super) change: Change,
}

/// One metadata key's two names.
pub(super) struct Key {
    pub(super) gguf: &'static str,
    pub(super) hf: &'static str,
    pub(super) required: bool,
}

/// Every architecture that is read.
pub(super) const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        name: "llama",
        model_type: "llama",
        tensors: &[DECODER, NORMS, PAIRED_QUERY_KEY],
        keys: &[DECODER_KEYS, RMS_KEYS],
        rotary: true,
        finish: |config| set(config, "hidden_act", "silu"),
    },
    Architecture {
        name: "qwen2",
        model_type: "qwen2",
        tensors: &[DECODER, NORMS, QUERY_KEY],
        keys: &[DECODER_KEYS, RMS_KEYS],
        rotary: true,
        finish: |config| set(config, "hidden_act", "silu"),
    },
    Architecture {
        name: "qwen3",
        model_type: "qwen3",
        tensors: &[DECODER, NORMS, QUERY_KEY, QUERY_KEY_NORMS],
        keys: &[DECODER_KEYS, RMS_KEYS],
        rotary: true,
        finish: |config| set(config, "hidden_act", "silu"),
    },
    Architecture {
        name: "gemma",
        model_type: "gemma",
        tensors: &[DECODER, GEMMA_NORMS, QUERY_KEY],
        keys: &[DECODER_KEYS, RMS_KEYS],
        rotary: true,
        finish: |config| {
            set(config, "hidden_act", "gelu_pytorch_tanh");
            set(config, "hidden_activation", "gelu_pytorch_tanh");
        },
    },
    Architecture {
        name: "gemma2",
        model_type: "gemma2",
        tensors: &[DECODER, GEMMA_FOUR_NORMS, QUERY_KEY],
        keys: &[DECODER_KEYS, RMS_KEYS, GEMMA_KEYS],
        rotary: true,
        finish: finish_gemma2,
    },
    Architecture {
        name: "gemma3",
        model_type: "gemma3_text",
        tensors: &[DECODER, GEMMA_FOUR_NORMS, QUERY_KEY, GEMMA_QUERY_KEY_NORMS],
        keys: &[DECODER_KEYS, RMS_KEYS, GEMMA_KEYS],
        rotary: true,
        finish: finish_gemma3,
    },
    Architecture {
        name: "gpt2",
        model_type: "gpt2",
        tensors: &[GPT2],
        keys: &[GPT2_KEYS],
        rotary: false,
        finish: |config| set(config, "activation_function", "gelu_new"),
    },
];

const fn row(gguf: &'static str, hf: &'static str) -> Row {
    Row { gguf, hf, change: Change::None }
}

const fn changed(gguf: &'static str, hf: &'static str, change: Change) -> Row {
    Row { gguf, hf, change }
}

const DECODER: &[Row] = &[
    row("token_embd", "model.embed_tokens"),
    row("output", "lm_head"),
    row("blk.*.attn_v", "model.layers.*.self_attn.v_proj"),
    row("blk.*.attn_output", "model.layers.*.self_attn.o_proj"),
    row("blk.*.ffn_gate", "model.layers.*.mlp.gate_proj"),
    row("blk.*.ffn_up", "model.layers.*.mlp.up_proj"),
    row("blk.*.ffn_down", "model.layers.*.mlp.down_proj"),
];

const NORMS: &[Row] = &[
    row("output_norm", "model.norm"),
    row("blk.*.attn_norm", "model.layers.*.input_layernorm"),
    row("blk.*.ffn_norm", "model.layers.*.post_attention_layernorm"),
];

const QUERY_KEY: &[Row] =
    &[row("blk.*.attn_q", "model.layers.*.self_attn.q_proj"), row("blk.*.attn_k", "model.layers.*.self_attn.k_proj")];

const PAIRED_QUERY_KEY: &[Row] = &[
    changed("blk.*.attn_q", "model.layers.*.self_attn.q_proj", Change::PairedQueryRows),
    changed("blk.*.attn_k", "model.layers.*.self_attn.k_proj", Change::PairedKeyRows),
];

const QUERY_KEY_NORMS: &[Row] = &[
    row("blk.*.attn_q_norm", "model.layers.*.self_attn.q_norm"),
    row("blk.*.attn_k_norm", "model.layers.*.self_attn.k_norm"),
];

const GEMMA_NORMS: &[Row] = &[
    changed("output_norm", "model.norm", Change::PlusOne),
    changed("blk.*.attn_norm", "model.layers.*.input_layernorm", Change::PlusOne),
    changed("blk.*.ffn_norm", "model.layers.*.post_attention_layernorm", Change::PlusOne),
];

const GEMMA_FOUR_NORMS: &[Row] = &[
    changed("output_norm", "model.norm", Change::PlusOne),
    changed("blk.*.attn_norm", "model.layers.*.input_layernorm", Change::PlusOne),
    changed("blk.*.post_attention_norm", "model.layers.*.post_attention_layernorm", Change::PlusOne),
    changed("blk.*.ffn_norm", "model.layers.*.pre_feedforward_layernorm", Change::PlusOne),
    changed("blk.*.post_ffw_norm", "model.layers.*.post_feedforward_layernorm", Change::PlusOne),
];

const GEMMA_QUERY_KEY_NORMS: &[Row] = &[
    changed("blk.*.attn_q_norm", "model.layers.*.self_attn.q_norm", Change::PlusOne),
    changed("blk.*.attn_k_norm", "model.layers.*.self_attn.k_norm", Change::PlusOne),
];

/// GPT-2's linear layers are `Conv1D`, whose weights are `[in, out]`.
const GPT2: &[Row] = &[
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

const fn key(gguf: &'static str, hf: &'static str) -> Key {
    Key { gguf, hf, required: true }
}

const fn optional(gguf: &'static str, hf: &'static str) -> Key {
    Key { gguf, hf, required: false }
}

const DECODER_KEYS: &[Key] = &[
    key("context_length", "max_position_embeddings"),
    key("embedding_length", "hidden_size"),
    key("block_count", "num_hidden_layers"),
    key("feed_forward_length", "intermediate_size"),
    key("attention.head_count", "num_attention_heads"),
    optional("attention.head_count_kv", "num_key_value_heads"),
    // Both name the size of a head; where a file has both, the second is the one that always does.
    optional("rope.dimension_count", "head_dim"),
    optional("attention.key_length", "head_dim"),
];

const RMS_KEYS: &[Key] = &[key("attention.layer_norm_rms_epsilon", "rms_norm_eps")];

const GEMMA_KEYS: &[Key] = &[
    optional("attention.sliding_window", "sliding_window"),
    optional("attn_logit_softcapping", "attn_logit_softcapping"),
    optional("final_logit_softcapping", "final_logit_softcapping"),
];

const GPT2_KEYS: &[Key] = &[
    key("context_length", "n_positions"),
    key("embedding_length", "n_embd"),
    key("block_count", "n_layer"),
    key("feed_forward_length", "n_inner"),
    key("attention.head_count", "n_head"),
    key("attention.layer_norm_epsilon", "layer_norm_epsilon"),
];

fn set(config: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    config.insert(key.to_owned(), value.into());
}

fn number(config: &Map<String, Value>, key: &str) -> u64 {
    config.get(key).and_then(Value::as_u64).unwrap_or(0)
}

/// What both later Gemmas share: the activation, the scale of the scores, and the pattern of local and global layers.
/// The scale is the head size, but `hidden / heads` in the largest model, which llama.cpp too knows by its depth.
fn finish_gemma(config: &mut Map<String, Value>, largest: u64, pattern: u64) {
    let layers = number(config, "num_hidden_layers");
    let scalar = if layers == largest {
        number(config, "hidden_size") / number(config, "num_attention_heads").max(1)
    } else {
        number(config, "head_dim")
    };
    let types: Vec<&str> = (1..=layers)
        .map(|layer| if layer.is_multiple_of(pattern) { "full_attention" } else { "sliding_attention" })
        .collect();
    set(config, "hidden_activation", "gelu_pytorch_tanh");
    set(config, "query_pre_attn_scalar", scalar);
    set(config, "layer_types", types);
}

fn finish_gemma2(config: &mut Map<String, Value>) {
    finish_gemma(config, 46, 2);
}

/// Gemma 3 turns its local layers with a base of their own, and its global ones with the file's.
fn finish_gemma3(config: &mut Map<String, Value>) {
    finish_gemma(config, 62, 6);
    let global = config.get("rope_parameters").cloned().unwrap_or(Value::Null);
    let local = json!({"rope_type": "default", "rope_theta": 10000.0});
    set(config, "rope_parameters", json!({"full_attention": global, "sliding_attention": local}));
}

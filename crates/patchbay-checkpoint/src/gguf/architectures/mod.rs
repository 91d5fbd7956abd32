//! What each `general.architecture` of GGUF is in Hugging Face's terms: a table to add rows to.
//!
//! Names are those of llama.cpp's converter (`gguf-py/gguf/tensor_mapping.py`, `conversion/`) and of transformers' module
//! tree; what the converter changes in a tensor on the way is undone. What a file cannot say is what llama.cpp runs: a
//! setting that neither a key nor a tensor stands for has the value that is built into it.

mod finish;
mod keys;
mod tensors;

use super::draft::Draft;
use super::layout::Change;
use crate::CheckpointError;
use finish::*;
use keys::*;
use tensors::*;

/// One architecture: its tensors and its metadata under Hugging Face's names.
pub(super) struct Architecture {
    /// `general.architecture`, which is also the prefix of its metadata keys.
    pub(super) name: &'static str,
    /// A tensor by which one of several types that llama.cpp has under one name is known.
    pub(super) marker: Option<&'static str>,
    /// `model_type`, where `finish` does not find another.
    pub(super) model_type: &'static str,
    /// Tensor names: `*` stands for a block's number and `#` for an expert's, and `.weight` or `.bias` follows on both
    /// sides. `#` on Hugging Face's side alone is a place on the tensor's first axis.
    pub(super) tensors: &'static [&'static [Row]],
    /// Tensors that are lists of the metadata in the file, a number for each block.
    pub(super) lists: &'static [List],
    /// Metadata key (below the prefix) and config key, and whether a file may lack it.
    pub(super) keys: &'static [&'static [Key]],
    /// How positions are rotary, which is when the config needs `rope_parameters`.
    pub(super) rope: Rope,
    /// Sets what the keys leave unsaid.
    pub(super) finish: fn(&mut Draft<'_>) -> Result<(), CheckpointError>,
}

/// How positions are rotary.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rope {
    /// Not at all.
    None,
    /// Every channel of a head rotates, so that the number of these is a head's size in files that do not name it.
    Whole,
    /// A share of them does.
    Part,
    /// Channels beside those that are projected from what a token's keys and values share, which a number counts.
    Latent,
}

/// One tensor's two names, and what the converter did to it.
pub(super) struct Row {
    pub(super) gguf: &'static str,
    pub(super) hf: &'static str,
    pub(super) change: Change,
    /// Whether Hugging Face's tensor is named so as it stands, and its bias with `_bias` after that.
    pub(super) bare: bool,
}

/// A list of 32-bit floats among the metadata, of which each block has one as a tensor.
pub(super) struct List {
    /// The key, whole.
    pub(super) gguf: &'static str,
    /// The tensors' names, `*` for the block's number.
    pub(super) hf: &'static str,
    /// The shape of each.
    pub(super) shape: &'static [usize],
}

/// One metadata key's two names.
pub(super) struct Key {
    pub(super) gguf: &'static str,
    pub(super) hf: &'static str,
    pub(super) required: bool,
}

/// A type named alike on both sides, rotating whole heads.
const fn rotary(
    name: &'static str,
    tensors: &'static [&'static [Row]],
    keys: &'static [&'static [Key]],
    finish: fn(&mut Draft<'_>) -> Result<(), CheckpointError>,
) -> Architecture {
    Architecture { name, marker: None, model_type: name, tensors, lists: &[], keys, rope: Rope::Whole, finish }
}

/// The same under Hugging Face's own name.
const fn of_type(model_type: &'static str, architecture: Architecture) -> Architecture {
    Architecture { model_type, ..architecture }
}

/// The same for files that have this tensor.
const fn with_tensor(marker: &'static str, architecture: Architecture) -> Architecture {
    Architecture { marker: Some(marker), ..architecture }
}

/// The same for files with these lists.
const fn with_lists(lists: &'static [List], architecture: Architecture) -> Architecture {
    Architecture { lists, ..architecture }
}

/// The same with another rotation.
const fn with_rope(rope: Rope, architecture: Architecture) -> Architecture {
    Architecture { rope, ..architecture }
}

const RMS_DECODER: &[&[Key]] = &[DECODER_KEYS, RMS_KEYS];
const LAYER_NORM_DECODER: &[&[Key]] = &[DECODER_KEYS, LAYER_NORM_KEYS];
const PAIRED: &[&[Row]] = &[DECODER, NORMS, PAIRED_QUERY_KEY];
const UNPAIRED: &[&[Row]] = &[DECODER, NORMS, QUERY_KEY];
const QWEN3: &[&[Row]] = &[DECODER, NORMS, QUERY_KEY, QUERY_KEY_NORMS];

/// Every architecture that is read. The first row with a file's name and a tensor of the file counts.
pub(super) const ARCHITECTURES: &[Architecture] = &[
    with_tensor(
        "blk.0.ffn_gate_inp.weight",
        of_type(
            "mixtral",
            rotary(
                "llama",
                &[DECODER, NORMS, PAIRED_QUERY_KEY, MIXTRAL_EXPERTS],
                &[DECODER_KEYS, RMS_KEYS, LOCAL_EXPERT_KEYS],
                silu,
            ),
        ),
    ),
    rotary("llama", PAIRED, RMS_DECODER, llama),
    rotary("qwen2", UNPAIRED, RMS_DECODER, silu),
    rotary("qwen3", QWEN3, RMS_DECODER, silu),
    of_type(
        "qwen2_moe",
        rotary(
            "qwen2moe",
            &[DECODER, NORMS, QUERY_KEY, EXPERTS, QWEN_EXPERTS],
            &[DECODER_KEYS, RMS_KEYS, QWEN_MOE_KEYS],
            |draft| qwen_moe(draft, false),
        ),
    ),
    of_type(
        "qwen3_moe",
        rotary(
            "qwen3moe",
            &[DECODER, NORMS, QUERY_KEY, QUERY_KEY_NORMS, EXPERTS],
            &[DECODER_KEYS, RMS_KEYS, QWEN_MOE_KEYS],
            |draft| qwen_moe(draft, true),
        ),
    ),
    rotary("gemma", &[DECODER, PLUS_ONE_NORMS, QUERY_KEY], RMS_DECODER, gemma),
    rotary("gemma2", &[DECODER, GEMMA_FOUR_NORMS, QUERY_KEY], &[DECODER_KEYS, RMS_KEYS, GEMMA_KEYS], gemma2),
    of_type(
        "gemma3_text",
        rotary(
            "gemma3",
            &[DECODER, GEMMA_FOUR_NORMS, QUERY_KEY, GEMMA_QUERY_KEY_NORMS],
            &[DECODER_KEYS, RMS_KEYS, GEMMA_KEYS],
            gemma3,
        ),
    ),
    with_rope(Rope::None, rotary("gpt2", &[GPT2], &[GPT2_KEYS], |draft| gelu_tanh(draft, "activation_function"))),
    with_rope(Rope::Part, of_type("phi", rotary("phi2", &[PHI2, QUERY_KEY, SPLIT_QKV], LAYER_NORM_DECODER, phi2))),
    with_rope(Rope::Part, rotary("phi3", &[TABLES, NORMS, PHI3_ATTENTION, FUSED_MLP], RMS_DECODER, phi3)),
    with_rope(Rope::None, of_type("gpt_bigcode", rotary("starcoder", &[STARCODER], &[GPT2_KEYS], starcoder))),
    rotary(
        "starcoder2",
        &[TABLES, NORMS, ATTENTION, QUERY_KEY, STARCODER2_MLP],
        &[DECODER_KEYS, STARCODER2_KEYS],
        starcoder2,
    ),
    with_rope(
        Rope::Part,
        rotary("stablelm", &[DECODER, NORMS, QUERY_KEY, QUERY_KEY_LAYER_NORMS], LAYER_NORM_DECODER, stablelm),
    ),
    with_rope(Rope::Part, of_type("gpt_neox", rotary("gptneox", &[GPT_NEOX], &[DECODER_KEYS, NEOX_KEYS], gpt_neox))),
    with_tensor(
        "blk.0.attn_norm_2.weight",
        rotary("falcon", &[BLOOM, FALCON_NORMS], &[FALCON_KEYS], |draft| falcon(draft, 2)),
    ),
    rotary("falcon", &[BLOOM, FALCON_NORM], &[FALCON_KEYS], |draft| falcon(draft, 1)),
    with_rope(Rope::None, rotary("bloom", &[BLOOM, BLOOM_NORMS], &[BLOOM_KEYS], |_| Ok(()))),
    with_rope(Rope::None, rotary("mpt", &[MPT], &[MPT_KEYS], mpt)),
    rotary("olmo", &[DECODER, PAIRED_QUERY_KEY], &[DECODER_KEYS, OLMO_KEYS], silu),
    rotary("olmo2", &[DECODER, NORMS_AFTER, QUERY_KEY, QUERY_KEY_NORMS], RMS_DECODER, olmo2),
    rotary(
        "olmoe",
        &[DECODER, NORMS, QUERY_KEY, QUERY_KEY_NORMS, EXPERTS],
        &[DECODER_KEYS, RMS_KEYS, QWEN_MOE_KEYS],
        olmoe,
    ),
    of_type(
        "cohere",
        rotary(
            "command-r",
            &[DECODER, PARALLEL_NORM, QUERY_KEY, QUERY_KEY_NORMS],
            &[DECODER_KEYS, COHERE_KEYS],
            |draft| {
                draft.set("use_qk_norm", draft.has("attn_q_norm.weight"));
                silu(draft)
            },
        ),
    ),
    rotary("cohere2", &[DECODER, PARALLEL_NORM, QUERY_KEY], &[DECODER_KEYS, COHERE_KEYS], cohere2),
    rotary("granite", PAIRED, &[DECODER_KEYS, RMS_KEYS, GRANITE_KEYS], silu),
    rotary(
        "granitemoe",
        &[DECODER, NORMS, PAIRED_QUERY_KEY, GRANITE_EXPERTS],
        &[DECODER_KEYS, RMS_KEYS, GRANITE_KEYS, LOCAL_EXPERT_KEYS],
        silu,
    ),
    with_rope(
        Rope::Part,
        rotary("nemotron", &[DECODER, PLUS_ONE_NORMS, QUERY_KEY], &[DECODER_KEYS, NEMOTRON_KEYS], |draft| {
            draft.set("hidden_act", "relu2");
            Ok(())
        }),
    ),
    rotary("exaone4", &[DECODER, NORMS_AFTER, QUERY_KEY, QUERY_KEY_NORMS], RMS_DECODER, exaone4),
    of_type("llama", rotary("exaone", UNPAIRED, RMS_DECODER, silu)),
    with_rope(Rope::Part, rotary("glm4", &[TABLES, NORMS_AROUND, ATTENTION, QUERY_KEY, FUSED_MLP], RMS_DECODER, silu)),
    with_rope(
        Rope::Part,
        of_type(
            "glm",
            rotary("chatglm", &[TABLES, NORMS, ATTENTION, QUERY_KEY, SPLIT_QKV, FUSED_MLP], RMS_DECODER, chatglm),
        ),
    ),
    with_rope(
        Rope::Part,
        of_type(
            "glm4_moe",
            rotary(
                "glm4moe",
                &[DECODER, POST_ATTENTION_NORMS, QUERY_KEY, QUERY_KEY_NORMS, EXPERTS, SHARED_EXPERTS, GLM_CORRECTION],
                &[DECODER_KEYS, RMS_KEYS, ROUTED_EXPERT_KEYS],
                glm4_moe,
            ),
        ),
    ),
    rotary("smollm3", &[DECODER, NORMS, PAIRED_QUERY_KEY], RMS_DECODER, smollm3),
    rotary("seed_oss", &[DECODER, POST_ATTENTION_NORMS, QUERY_KEY], RMS_DECODER, seed_oss),
    rotary("ernie4_5", UNPAIRED, RMS_DECODER, |draft| {
        draft.set("use_bias", draft.has("attn_q.bias"));
        silu(draft)
    }),
    of_type(
        "ernie4_5_moe",
        rotary(
            "ernie4_5-moe",
            &[DECODER, NORMS, QUERY_KEY, EXPERTS, SHARED_EXPERTS, ERNIE_CORRECTION],
            &[DECODER_KEYS, RMS_KEYS, ERNIE_MOE_KEYS],
            ernie_moe,
        ),
    ),
    of_type(
        "hunyuan_v1_dense",
        rotary("hunyuan-dense", &[DECODER, NORMS, QUERY_KEY, ROTATED_QUERY_KEY_NORMS], RMS_DECODER, silu),
    ),
    with_lists(
        APERTUS_LISTS,
        rotary("apertus", &[TABLES, ATTENTION, QUERY_KEY, QUERY_KEY_NORMS, APERTUS], RMS_DECODER, |draft| {
            draft.set("hidden_act", "xielu");
            Ok(())
        }),
    ),
    rotary("dbrx", &[DBRX], &[DBRX_KEYS], dbrx),
    with_rope(
        Rope::Latent,
        of_type(
            "deepseek_v2",
            rotary(
                "deepseek2",
                &[LATENT_DECODER, NORMS, EXPERTS, SHARED_EXPERTS, GLM_CORRECTION],
                &[DECODER_KEYS, RMS_KEYS, LATENT_KEYS, ROUTED_EXPERT_KEYS],
                deepseek2,
            ),
        ),
    ),
    of_type(
        "gpt_oss",
        rotary(
            "gpt-oss",
            &[TABLES, ATTENTION, QUERY_KEY, POST_ATTENTION_NORMS, GPT_OSS],
            &[DECODER_KEYS, RMS_KEYS, LOCAL_EXPERT_KEYS],
            gpt_oss,
        ),
    ),
    of_type(
        "llama4_text",
        rotary(
            "llama4",
            &[TABLES, ATTENTION, QUERY_KEY, NORMS, LLAMA4],
            &[LLAMA4_KEYS, RMS_KEYS, LOCAL_EXPERT_KEYS],
            llama4,
        ),
    ),
    of_type("mistral", rotary("mistral3", PAIRED, RMS_DECODER, mistral3)),
];

const fn row(gguf: &'static str, hf: &'static str) -> Row {
    changed(gguf, hf, Change::None)
}

const fn changed(gguf: &'static str, hf: &'static str, change: Change) -> Row {
    Row { gguf, hf, change, bare: false }
}

/// A tensor that has no `.weight` to its name.
const fn bare(gguf: &'static str, hf: &'static str, change: Change) -> Row {
    Row { gguf, hf, change, bare: true }
}

"""Tiny models drawn at random, of sizes and options that no recording has: a recipe for each `model_type`."""

from dataclasses import replace
from random import Random

from bases import SPECIAL, Tiny
from recipes import ACTIVATIONS, FLAG, OTHERS, SECTIONS, VISIONS, llama_like

# What may be chosen for each key, beside sizes, tying and activation. A key that is not drawn is left to its default.
OPTIONS: dict[str, dict[str, list]] = {
    "llama": {"attention_bias": FLAG, "mlp_bias": FLAG, "rms_norm_eps": [1e-6, 1e-2]},
    "mistral": {"sliding_window": [None, 1, 2, 5], "rms_norm_eps": [1e-5, 1e-2]},
    "mixtral": {"sliding_window": [None, 1, 3], "rms_norm_eps": [1e-5, 1e-2]},
    "qwen2": {"use_sliding_window": FLAG, "sliding_window": [1, 2, 4], "max_window_layers": [0, 1, 2]},
    "qwen2_moe": {
        "use_sliding_window": FLAG,
        "sliding_window": [1, 2, 4],
        "max_window_layers": [0, 1, 2, 3],
        "qkv_bias": FLAG,
        "norm_topk_prob": FLAG,
        "decoder_sparse_step": [1, 2],
        "mlp_only_layers": [[], [0], [1]],
        "shared_expert_intermediate_size": [4, 12],
    },
    "qwen3": {
        "use_sliding_window": FLAG,
        "sliding_window": [1, 2, 4],
        "max_window_layers": [0, 1, 2],
        "attention_bias": FLAG,
    },
    "qwen3_moe": {
        "use_sliding_window": FLAG,
        "sliding_window": [1, 2, 4],
        "attention_bias": FLAG,
        "norm_topk_prob": FLAG,
        "decoder_sparse_step": [1, 2],
        "mlp_only_layers": [[], [0], [1]],
    },
    "olmo": {"clip_qkv": [None, 0.5, 2.0], "attention_bias": FLAG},
    "olmo2": {"attention_bias": FLAG, "rms_norm_eps": [1e-5, 1e-2]},
    "olmo3": {"attention_bias": FLAG, "sliding_window": [1, 3, 5]},
    "olmoe": {"clip_qkv": [None, 0.5, 2.0], "attention_bias": FLAG, "norm_topk_prob": FLAG},
    "gemma": {"attention_bias": FLAG},
    "gemma2": {
        "sliding_window": [1, 2, 5],
        "query_pre_attn_scalar": [3, 8],
        "attn_logit_softcapping": [None, 1.5, 30.0],
        "final_logit_softcapping": [None, 5.0],
        "attention_bias": FLAG,
    },
    "gemma3_text": {
        "sliding_window": [1, 2, 5],
        "query_pre_attn_scalar": [3, 8],
        "final_logit_softcapping": [None, 5.0],
        "attention_bias": FLAG,
    },
    "phi": {"qk_layernorm": FLAG},
    "phi3": {"sliding_window": [None, 2, 4], "pad_token_id": [0], "original_max_position_embeddings": [4]},
    "stablelm": {"use_qkv_bias": FLAG, "qk_layernorm": FLAG, "use_parallel_residual": FLAG},
    "starcoder2": {"sliding_window": [None, 1, 4], "use_bias": FLAG},
    "gpt_neox": {"use_parallel_residual": FLAG, "attention_bias": FLAG},
    "cohere": {"use_qk_norm": FLAG, "logit_scale": [0.3, 1.0, 2.0], "attention_bias": FLAG},
    "cohere2": {"sliding_window": [1, 2, 5], "logit_scale": [0.3, 2.0], "attention_bias": FLAG},
    "granite": {
        "attention_bias": FLAG,
        "mlp_bias": FLAG,
        "embedding_multiplier": [0.5, 2.0],
        "logits_scaling": [0.5, 3.0],
        "residual_multiplier": [0.3, 1.0],
        "attention_multiplier": [0.1, 0.5],
    },
    "granitemoe": {
        "attention_bias": FLAG,
        "embedding_multiplier": [0.5, 2.0],
        "logits_scaling": [0.5, 3.0],
        "residual_multiplier": [0.3, 1.0],
        "attention_multiplier": [0.1, 0.5],
    },
    "smollm3": {
        "use_sliding_window": FLAG,
        "sliding_window": [1, 4],
        "no_rope_layer_interval": [1, 2, 3],
        "attention_bias": FLAG,
        "mlp_bias": FLAG,
    },
    "glm": {"attention_bias": FLAG},
    "glm4": {"attention_bias": FLAG},
    "glm4_moe": {
        "attention_bias": FLAG,
        "use_qk_norm": FLAG,
        "norm_topk_prob": FLAG,
        "n_shared_experts": [1, 2],
        "first_k_dense_replace": [0, 1, 2],
        "routed_scaling_factor": [0.7, 1.0, 2.5],
    },
    "exaone4": {"sliding_window": [None, 1, 3], "sliding_window_pattern": [2, 3]},
    "hunyuan_v1_dense": {"attention_bias": FLAG},
    "nemotron": {"attention_bias": FLAG, "mlp_bias": FLAG},
    "seed_oss": {"attention_bias": FLAG, "attention_out_bias": FLAG, "mlp_bias": FLAG},
    "ernie4_5": {"use_bias": FLAG},
    "ernie4_5_moe": {
        "use_bias": FLAG,
        "moe_num_shared_experts": [0, 1, 2],
        "moe_layer_start_index": [0, 1],
        "moe_layer_end_index": [-1, 1],
        "moe_layer_interval": [1, 2],
        "moe_norm_min": [1e-12, 0.6],
    },
    "gpt2": {"scale_attn_weights": FLAG, "scale_attn_by_inverse_layer_idx": FLAG, "n_inner": [None, 20]},
    "gptj": {"rotary_dim": [2, 4], "n_inner": [None, 20]},
    "gpt_bigcode": {"multi_query": FLAG, "scale_attn_weights": FLAG, "n_inner": [None, 20]},
    "opt": {"enable_bias": FLAG, "layer_norm_elementwise_affine": FLAG, "_remove_final_layer_norm": [False]},
    "bloom": {},
    "mpt": {},
    "gpt_neo": {"window_size": [1, 2, 5], "intermediate_size": [None, 20]},
    "falcon": {"bias": FLAG},
    "apertus": {"attention_bias": FLAG, "rms_norm_eps": [1e-5, 1e-2], "hidden_act": ["xielu", "xielu", *ACTIVATIONS]},
    "ministral3": {"sliding_window": [None, 1, 2, 5], "rms_norm_eps": [1e-5, 1e-2]},
    "gpt_oss": {
        "attention_bias": FLAG,
        "sliding_window": [1, 2, 4],
        "swiglu_alpha": [1.0, 1.702],
        "swiglu_limit": [0.3, 1.5, 7.0],
        "rms_norm_eps": [1e-5, 1e-2],
    },
    "dbrx": {"tie_word_embeddings": [False]},
    "deepseek_v2": {
        "attention_bias": FLAG,
        "mlp_bias": FLAG,
        "q_lora_rank": [None, 5, 9],
        "n_shared_experts": [1, 2],
        "first_k_dense_replace": [0, 1, 2],
        "norm_topk_prob": FLAG,
        "routed_scaling_factor": [0.7, 1.0, 2.5],
        "topk_method": ["greedy", "group_limited_greedy"],
    },
    "deepseek_v3": {
        "attention_bias": FLAG,
        "q_lora_rank": [None, 5, 9],
        "n_shared_experts": [1, 2],
        "first_k_dense_replace": [0, 1, 2],
        "norm_topk_prob": FLAG,
        "routed_scaling_factor": [0.7, 1.0, 2.5],
        "rope_interleave": FLAG,
    },
    "llama4_text": {
        "attention_bias": FLAG,
        "attention_chunk_size": [1, 2, 3, 5],
        "use_qk_norm": FLAG,
        "attn_temperature_tuning": FLAG,
        "floor_scale": [2, 4, 8192],
        "attn_scale": [0.1, 0.5],
        "interleave_moe_layer_step": [1, 2],
        "no_rope_layer_interval": [1, 2, 3],
        "rms_norm_eps": [1e-5, 1e-2],
    },
}


def draw(model_type: str, seed: int) -> Tiny:
    """One model. Raises `KeyError` where there is no recipe."""
    random = Random(f"{model_type} {seed}")
    if model_type in SECTIONS:
        inner = random.choice(SECTIONS[model_type])
        text = decoder(random, inner) | {"model_type": inner}
        config = {"text_config": text, "vision_config": VISIONS[model_type], "tie_word_embeddings": random.choice(FLAG)}
        return Tiny(f"{model_type}-{seed}", model_type, config)
    tiny = Tiny(f"{model_type}-{seed}", model_type, decoder(random, model_type))
    tiny.config.setdefault("tie_word_embeddings", random.choice(FLAG))
    if tiny.config.get("rope_parameters", True) is None:  # what transformers takes then is not written
        return replace(tiny, config_drop=("rope_parameters",))
    return as_older(tiny) if random.random() < 0.3 else tiny


def decoder(random: Random, model_type: str) -> dict:
    """The settings of one decoder."""
    options = {key: random.choice(values) for key, values in OPTIONS[model_type].items()}
    config = SPECIAL | OTHERS.get(model_type, llama_like)(random, model_type) | options
    if not config.get("sliding_window", 1) or not config.get("use_sliding_window", True):
        without_window(config, model_type)
    return config


def without_window(config: dict, model_type: str):
    """transformers takes no block with a window then, and exaone4 no pattern of them."""
    if "layer_types" in config or model_type == "exaone4":
        config["layer_types"] = ["full_attention"] * config["num_hidden_layers"]


# Where nothing stands, these take a rotation that is scaled.
COMPLETED = {"apertus", "gpt_oss", "ministral3"}


def as_older(tiny: Tiny) -> Tiny:
    """The same with its rotation in the form that older versions wrote, where that says as much."""
    rope = tiny.config.get("rope_parameters")
    if not rope or "rope_theta" not in rope or "partial_rotary_factor" in rope:
        return tiny
    if tiny.model_type in COMPLETED and rope["rope_type"] == "default":
        return tiny
    theta, scaled = rope["rope_theta"], {key: value for key, value in rope.items() if key != "rope_theta"}
    edit = {"rope_theta": theta, "rope_scaling": scaled if scaled["rope_type"] != "default" else None}
    return replace(tiny, config_edit=edit, config_drop=("rope_parameters",))

"""Tiny models drawn at random, of sizes and options that no recording has: a recipe for each `model_type`."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from rows import SPECIAL, Tiny

ACTIVATIONS = ["silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "relu2", "swish", "gelu_fast", "gelu_python"]
LONGEST = 64  # positions of a model that learns them
FLAG = [False, True]

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
}
FREE_HEADS = {"llama", "mistral", "mixtral", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "glm", "glm4"}
FREE_HEADS |= {"glm4_moe", "nemotron", "seed_oss", "ernie4_5", "ernie4_5_moe", "hunyuan_v1_dense"}
PARTIAL = {"phi", "phi3", "stablelm", "glm", "glm4", "glm4_moe", "nemotron", "gpt_neox"}
LAYER_TYPES = {"gemma2", "gemma3_text", "cohere2", "olmo3", "exaone4", "qwen2", "qwen3"}
# Number of experts, how many are chosen, and their width, where that has a key of its own.
EXPERTS = {
    "mixtral": ("num_local_experts", "num_experts_per_tok", None),
    "qwen2_moe": ("num_experts", "num_experts_per_tok", "moe_intermediate_size"),
    "qwen3_moe": ("num_experts", "num_experts_per_tok", "moe_intermediate_size"),
    "olmoe": ("num_experts", "num_experts_per_tok", None),
    "granitemoe": ("num_local_experts", "num_experts_per_tok", None),
    "glm4_moe": ("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size"),
    "ernie4_5_moe": ("moe_num_experts", "moe_k", "moe_intermediate_size"),
}


def draw(model_type: str, seed: int) -> Tiny:
    """One model. Raises `KeyError` where there is no recipe."""
    random = Random(f"{model_type} {seed}")
    options = {key: random.choice(values) for key, values in OPTIONS[model_type].items()}
    recipe = OTHERS.get(model_type, llama_like)
    tiny = Tiny(f"{model_type}-{seed}", model_type, SPECIAL | recipe(random, model_type) | options)
    tiny.config.setdefault("tie_word_embeddings", random.choice(FLAG))
    if not tiny.config.get("sliding_window", 1) or not tiny.config.get("use_sliding_window", True):
        without_window(tiny.config, model_type)
    return as_older(tiny) if random.random() < 0.3 else tiny


def without_window(config: dict, model_type: str):
    """transformers takes no block with a window then, and exaone4 no pattern of them."""
    if "layer_types" in config or model_type == "exaone4":
        config["layer_types"] = ["full_attention"] * config["num_hidden_layers"]


def sizes(random: Random) -> tuple[int, int, int]:
    """Vocabulary, layers, and the width of an MLP."""
    return random.randrange(40, 90), random.choice([2, 3, 4]), random.choice([4, 12, 20])


def llama_like(random: Random, model_type: str) -> dict:
    """Sizes, experts, windows and rotation under Llama's names."""
    vocab, layers, width = sizes(random)
    heads, size = random.choice([1, 2, 3, 4, 6]), random.choice([4, 6, 8, 12])
    free = model_type in FREE_HEADS
    config = {
        "vocab_size": vocab,
        "num_hidden_layers": layers,
        "intermediate_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": random.choice([kv for kv in range(1, heads + 1) if heads % kv == 0]),
        "hidden_size": heads * (random.choice([3, 5, 8]) if free else size),
        "pad_token_id": 0,
        "hidden_activation" if model_type in ("gemma2", "gemma3_text") else "hidden_act": random.choice(ACTIVATIONS),
    }
    config |= {"head_dim": size} if free else {}
    if model_type == "gpt_neox":
        del config["num_key_value_heads"]  # it has as many as heads
    if model_type in LAYER_TYPES and random.random() < 0.6:
        kinds = ["sliding_attention", "full_attention"]
        config["layer_types"] = [random.choice(kinds) for _ in range(layers)]
    config |= experts(random, model_type) if model_type in EXPERTS else {}
    return config | rotation(random, model_type, size)


def experts(random: Random, model_type: str) -> dict:
    """How many, how many of them are chosen, and how wide they are; groups of them where there are groups."""
    count, chosen, width = EXPERTS[model_type]
    groups, size = (random.choice([1, 2, 3]), random.choice([2, 3])) if model_type == "glm4_moe" else (1, 5)
    taken = random.randrange(1, groups + 1)
    found = {count: groups * size, chosen: random.randrange(1, min(3, taken * size) + 1)}
    found |= {"n_group": groups, "topk_group": taken} if model_type == "glm4_moe" else {}
    return found | ({width: random.choice([4, 8])} if width else {})


def rotation(random: Random, model_type: str, size: int) -> dict:
    """A rotation of any kind that the type has, for heads of this size."""
    part = random.choice([0.5, 1.0]) if model_type in PARTIAL and size % 4 == 0 else 1.0
    partial = {"partial_rotary_factor": part} if model_type in PARTIAL else {}
    if model_type in ("gemma3_text", "olmo3"):
        local, everywhere = scaling(random, ["default"], size), scaling(random, KINDS, size)
        return limits(everywhere) | {
            "rope_parameters": {"sliding_attention": local, "full_attention": everywhere | partial}
        }
    if model_type == "hunyuan_v1_dense" and random.random() < 0.5:
        dynamic = {"rope_type": "dynamic", "rope_theta": 500.0, "alpha": random.choice([3.0, 50.0]), "factor": 1.0}
        return {"rope_parameters": dynamic, "max_position_embeddings": 128}
    kinds = ["default", "longrope"] if model_type == "phi3" else KINDS
    found = scaling(random, kinds, int(size * part))
    if model_type == "phi3":
        found.pop("original_max_position_embeddings", None)
    return limits(found) | {"rope_parameters": found | partial}


KINDS = ["default", "default", "linear", "dynamic", "yarn", "longrope", "llama3"]


def scaling(random: Random, kinds: list[str], dims: int) -> dict:
    """Rotary settings in the new form, for this many rotated channels."""
    kind = random.choice([kind for kind in kinds if dims > 2 or kind in ("default", "linear")])
    found = {"rope_type": kind, "rope_theta": random.choice([50.0, 1000.0, 10_000.0])}
    if kind != "default":
        found["factor"] = random.choice([2.5, 3.5, 8.0])
    if kind in ("yarn", "llama3", "longrope"):
        found["original_max_position_embeddings"] = 4 if kind == "longrope" else random.choice([8, 16])
    if kind == "llama3":
        found |= {"low_freq_factor": 1.0, "high_freq_factor": random.choice([2.0, 4.0])}
    if kind == "longrope":
        each = lambda: [round(random.uniform(1, 5), 2) for _ in range(dims // 2)]
        found |= {"short_factor": each(), "long_factor": each()}
    if kind == "yarn":
        more = [{}, {"attention_factor": 0.8}, {"beta_fast": 8.0, "beta_slow": 2.0}]
        found |= random.choice([*more, {"mscale": 0.7, "mscale_all_dim": 0.4}, {"truncate": False}])
    return found


def limits(rope: dict) -> dict:
    """The longest sequence: dynamic scaling begins after it, and others multiply that of the first training."""
    if rope["rope_type"] == "dynamic":
        return {"max_position_embeddings": 5}
    return {"max_position_embeddings": int(rope.get("original_max_position_embeddings", 16) * rope.get("factor", 8.0))}


def as_older(tiny: Tiny) -> Tiny:
    """The same with its rotation in the form that older versions wrote, where that says as much."""
    rope = tiny.config.get("rope_parameters")
    if not rope or "rope_theta" not in rope or "partial_rotary_factor" in rope:
        return tiny
    theta, scaled = rope["rope_theta"], {key: value for key, value in rope.items() if key != "rope_theta"}
    edit = {"rope_theta": theta, "rope_scaling": scaled if scaled["rope_type"] != "default" else None}
    return replace(tiny, config_edit=edit, config_drop=("rope_parameters",))


def gpt2_like(random: Random, model_type: str) -> dict:
    """Sizes under GPT-2's names."""
    vocab, layers, _ = sizes(random)
    heads, size = random.choice([1, 2, 3, 4]), random.choice([4, 6, 8])
    config = {"vocab_size": vocab, "n_layer": layers, "n_head": heads, "n_embd": heads * size, "n_positions": LONGEST}
    return config | {"activation_function": random.choice(ACTIVATIONS)}


def gpt_neo(random: Random, _: str) -> dict:
    vocab, layers, _ = sizes(random)
    heads, size = random.choice([1, 2, 3]), random.choice([4, 5, 8])
    return {
        "vocab_size": vocab,
        "hidden_size": heads * size,
        "num_heads": heads,
        "num_layers": layers,
        "max_position_embeddings": LONGEST,
        "attention_types": [[[random.choice(["global", "local"])], 1] for _ in range(layers)],
        "activation_function": random.choice(ACTIVATIONS),
    }


def opt(random: Random, _: str) -> dict:
    vocab, layers, width = sizes(random)
    heads, size = random.choice([1, 2, 3, 4]), random.choice([4, 5, 8])
    return {
        "vocab_size": vocab,
        "hidden_size": heads * size,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "ffn_dim": width,
        "max_position_embeddings": LONGEST,
        "word_embed_proj_dim": random.choice([heads * size, 6]),
        "activation_function": random.choice(ACTIVATIONS),
        "pad_token_id": 0,
    }


def bloom(random: Random, _: str) -> dict:
    vocab, layers, _ = sizes(random)
    heads, size = random.choice([1, 2, 3, 4, 6, 8]), random.choice([3, 4, 8])
    return {"vocab_size": vocab, "hidden_size": heads * size, "n_head": heads, "n_layer": layers}


def mpt(random: Random, _: str) -> dict:
    vocab, layers, _ = sizes(random)
    heads, size = random.choice([1, 2, 3, 4, 6, 8]), random.choice([3, 4, 8])
    attention = [{}, {"clip_qkv": 0.8}, {"softmax_scale": 0.2}]
    return {
        "vocab_size": vocab,
        "d_model": heads * size,
        "n_heads": heads,
        "n_layers": layers,
        "max_seq_len": LONGEST,
        "attn_config": random.choice(attention),
    }


def falcon(random: Random, _: str) -> dict:
    vocab, layers, width = sizes(random)
    heads, size = random.choice([2, 3, 4, 6]), random.choice([4, 6, 8])
    newer = random.choice(FLAG)
    config = {
        "vocab_size": vocab,
        "hidden_size": heads * size,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "ffn_hidden_size": width,
        "new_decoder_architecture": newer,
        "activation": random.choice(ACTIVATIONS),
    }
    if newer:
        shared = random.choice([kv for kv in range(1, heads + 1) if heads % kv == 0])
        return config | {"num_kv_heads": shared, "num_ln_in_parallel_attn": random.choice([1, 2])}
    return config | {key: random.choice(FLAG) for key in ("alibi", "multi_query", "parallel_attn")}


OTHERS: dict[str, Callable[[Random, str], dict]] = {
    "gpt2": gpt2_like,
    "gptj": gpt2_like,
    "gpt_bigcode": gpt2_like,
    "gpt_neo": gpt_neo,
    "opt": opt,
    "bloom": bloom,
    "mpt": mpt,
    "falcon": falcon,
}

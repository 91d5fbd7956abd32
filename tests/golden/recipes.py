"""Sizes, heads, experts and whatever else a tiny model of each `model_type` needs, drawn at random."""

from collections.abc import Callable
from random import Random

from bases import VISION
from rotations import KINDS, limits, rotation, scaling

ACTIVATIONS = ["silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "relu2", "swish", "gelu_fast", "gelu_python"]
LONGEST = 64  # positions of a model that learns them
FLAG = [False, True]
FREE_HEADS = {"llama", "mistral", "mixtral", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "glm", "glm4"}
FREE_HEADS |= {"glm4_moe", "nemotron", "seed_oss", "ernie4_5", "ernie4_5_moe", "hunyuan_v1_dense"}
FREE_HEADS |= {"ministral3", "gpt_oss", "llama4_text"}
LAYER_TYPES = {"gemma2", "gemma3_text", "cohere2", "olmo3", "exaone4", "qwen2", "qwen3", "gpt_oss"}
# Number of experts, how many are chosen, and their width, where that has a key of its own.
EXPERTS = {
    "mixtral": ("num_local_experts", "num_experts_per_tok", None),
    "qwen2_moe": ("num_experts", "num_experts_per_tok", "moe_intermediate_size"),
    "qwen3_moe": ("num_experts", "num_experts_per_tok", "moe_intermediate_size"),
    "olmoe": ("num_experts", "num_experts_per_tok", None),
    "granitemoe": ("num_local_experts", "num_experts_per_tok", None),
    "glm4_moe": ("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size"),
    "gpt_oss": ("num_local_experts", "num_experts_per_tok", None),
    "llama4_text": ("num_local_experts", "num_experts_per_tok", None),
    "deepseek_v2": ("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size"),
    "deepseek_v3": ("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size"),
    "ernie4_5_moe": ("moe_num_experts", "moe_k", "moe_intermediate_size"),
}
GROUPED = {"glm4_moe", "deepseek_v2", "deepseek_v3"}
# The decoders of models that see images as well, and the other part of those.
SECTIONS = {"gemma3": ["gemma3_text"], "mistral3": ["ministral3", "mistral"], "llama4": ["llama4_text"]}
VISIONS = {
    "gemma3": VISION | {"model_type": "siglip_vision_model"},
    "mistral3": VISION | {"model_type": "pixtral", "head_dim": 4},
    "llama4": VISION
    | {"model_type": "llama4_vision_model", "vision_output_dim": 8, "projector_input_dim": 8, "projector_output_dim": 8},
}


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
    groups, size = (random.choice([1, 2, 3]), random.choice([2, 3])) if model_type in GROUPED else (1, 5)
    taken = random.randrange(1, groups + 1)
    found = {count: groups * size, chosen: random.randrange(1, min(3, taken * size) + 1)}
    found |= {"n_group": groups, "topk_group": taken} if model_type in GROUPED else {}
    return found | ({width: random.choice([4, 8])} if width else {})


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


def latent(random: Random, model_type: str) -> dict:
    """DeepSeek's latent attention: each part of a head has a size of its own."""
    config = llama_like(random, model_type)
    heads = config["num_attention_heads"]
    turned, step = random.choice([2, 4, 6, 8]), 2 if model_type == "deepseek_v2" else 1  # pairs are complex numbers there
    own = {
        "hidden_size": heads * random.choice([3, 5, 8]),
        "num_key_value_heads": heads,
        "kv_lora_rank": step * random.choice([3, 4, 7]),
        "qk_nope_head_dim": step * random.choice([1, 2, 3]),
        "qk_rope_head_dim": turned,
        "v_head_dim": random.choice([3, 5, 8]),
    }
    found = scaling(random, KINDS, turned)
    return config | own | limits(found) | {"rope_parameters": found}


def dbrx(random: Random, _: str) -> dict:
    vocab, layers, width = sizes(random)
    heads, size, count = random.choice([1, 2, 3, 4, 6]), random.choice([4, 6, 8]), random.choice([2, 3, 5])
    found = scaling(random, KINDS, size)
    return {
        "vocab_size": vocab,
        "d_model": heads * size,
        "n_heads": heads,
        "n_layers": layers,
        "max_seq_len": limits(found)["max_position_embeddings"],
        "rope_parameters": found,
        "attn_config": {
            "kv_n_heads": random.choice([kv for kv in range(1, heads + 1) if heads % kv == 0]),
            "clip_qkv": random.choice([0.5, 2.0, 8.0]),
            "rope_theta": 500.0,
        },
        "ffn_config": {
            "ffn_hidden_size": width,
            "moe_num_experts": count,
            "moe_top_k": random.randrange(1, count + 1),
            "moe_normalize_expert_weights": random.choice([None, 1.0, 2.0]),
            "ffn_act_fn": random.choice([None, {"name": random.choice(ACTIVATIONS)}]),
        },
    }


def llama4(random: Random, model_type: str) -> dict:
    """Which blocks rotate, see a chunk alone and have experts may be listed."""
    config = llama_like(random, model_type) | {"intermediate_size_mlp": random.choice([4, 12])}
    layers = range(config["num_hidden_layers"])
    if random.random() < 0.4:
        config["no_rope_layers"] = [random.choice([0, 1]) for _ in layers]
    if random.random() < 0.4:
        config["moe_layers"] = [layer for layer in layers if random.choice(FLAG)]
    if random.random() < 0.4:
        config["layer_types"] = [random.choice(["chunked_attention", "full_attention"]) for _ in layers]
    return config


OTHERS: dict[str, Callable[[Random, str], dict]] = {
    "gpt2": gpt2_like,
    "gptj": gpt2_like,
    "gpt_bigcode": gpt2_like,
    "gpt_neo": gpt_neo,
    "opt": opt,
    "bloom": bloom,
    "mpt": mpt,
    "falcon": falcon,
    "dbrx": dbrx,
    "deepseek_v2": latent,
    "deepseek_v3": latent,
    "llama4_text": llama4,
}

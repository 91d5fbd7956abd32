"""Which golden folders are written as GGUF files, and as what: the samples of `write_gguf.py`."""

import json
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Sample:
    """One golden folder as a file of this architecture."""

    folder: str
    arch: str
    changed: dict = field(default_factory=dict)
    without: tuple[str, ...] = ()  # the ends of their names
    name: str = ""
    options: tuple[str, ...] = ()
    blocks: tuple[int, ...] = (0, 1)  # which of the folder's blocks, in order


def within(folder: str, **sections: dict) -> dict:
    """Sections of the folder's configuration, with these keys changed."""
    config = json.loads((HERE / folder / "config.json").read_text())
    return {name: config[name] | changed for name, changed in sections.items()}


DEEPSEEK_PLAIN = {"attention_bias": False, "mlp_bias": False}
DEEPSEEK_BIASES = ("_proj.bias", "_mqa.bias")
WARMED = within("deepseek_v2", rope_parameters={"mscale": 0.8})
LLAMA4_FIXED = {
    "attention_bias": False,
    "attention_chunk_size": 8192,
    "floor_scale": 8192,
    "attn_scale": 0.1,
    "attn_temperature_tuning": True,
    "layer_types": None,
    "no_rope_layers": None,
    "no_rope_layer_interval": 4,
    "moe_layers": None,
    "use_qk_norm": True,
}

SAMPLES = [
    Sample("llama-gqa-tied", "llama"),
    Sample("llama-mha-untied", "llama"),
    Sample("llama-bias", "llama", {"hidden_act": "silu"}),
    Sample("llama-linear", "llama"),
    Sample("llama-yarn", "llama"),
    Sample("llama-rope3", "llama"),
    Sample("mistral", "llama", {"model_type": "llama"}),
    Sample("mixtral", "llama", {"sliding_window": None}, blocks=(1,)),
    Sample("mixtral", "llama", {"sliding_window": None}, name="mixtral-apart", options=("experts apart",), blocks=(1,)),
    Sample("qwen2", "qwen2", {"use_sliding_window": False}),
    Sample("qwen2", "llama", {"use_sliding_window": False}, name="qwen2-as-llama"),
    Sample("qwen3", "qwen3", {"use_sliding_window": False}),
    Sample("qwen2_moe", "qwen2moe", {"use_sliding_window": False, "decoder_sparse_step": 1}, blocks=(1,)),
    Sample("qwen3_moe", "qwen3moe", {"mlp_only_layers": []}, blocks=(1,)),
    Sample("gemma", "gemma"),
    Sample("gemma2", "gemma2", {"query_pre_attn_scalar": 10}),
    Sample("gemma3", "gemma3", {"query_pre_attn_scalar": 10, "layer_types": ["sliding_attention"] * 2}),
    Sample("gpt2-untied", "gpt2", {"activation_function": "gelu_new", "scale_attn_by_inverse_layer_idx": False}),
    Sample("phi-plain", "phi2"),
    Sample("phi-plain", "phi2", name="phi-fused", options=("qkv in one",)),
    Sample("phi3", "phi3"),
    Sample("phi3-partial", "phi3"),
    Sample("gpt_bigcode", "starcoder"),
    Sample("gpt_bigcode-heads", "starcoder", {"scale_attn_weights": True}),
    Sample("starcoder2", "starcoder2", {"sliding_window": None}),
    Sample("starcoder2-bare", "starcoder2"),
    Sample("stablelm", "stablelm"),
    Sample("stablelm-parallel", "stablelm"),
    Sample("gpt_neox", "gptneox"),
    Sample("gpt_neox-sequential", "gptneox", {"hidden_act": "gelu"}),
    Sample("falcon", "falcon"),
    Sample("falcon-new", "falcon"),
    Sample("falcon-new-shared", "falcon"),
    Sample("bloom", "bloom", {"seq_length": 24}),
    Sample("mpt", "mpt", {"attn_config": {"clip_qkv": 1.0, "alibi_bias_max": 8}}),
    Sample("olmo", "olmo", {"attention_bias": False}, without=("_proj.bias",)),
    Sample("olmo2", "olmo2"),
    Sample("olmo3", "olmo2"),
    Sample("olmoe", "olmoe", {"clip_qkv": None, "rms_norm_eps": 1e-5}, blocks=(2,)),
    Sample("cohere", "command-r"),
    Sample("cohere-plain", "command-r"),
    Sample("cohere2", "cohere2", {"layer_types": ["sliding_attention"] * 2}),
    Sample("granite", "granite"),
    Sample("granitemoe", "granitemoe", blocks=(1,)),
    Sample("nemotron", "nemotron"),
    Sample("exaone4", "exaone4"),
    Sample("exaone4-full", "exaone4"),
    Sample("glm", "chatglm", {"max_position_embeddings": 24}),
    Sample("glm4", "glm4"),
    Sample("glm4_moe", "glm4moe", options=("one more block",)),
    Sample(
        "smollm3",
        "smollm3",
        {"no_rope_layers": None, "no_rope_layer_interval": 4, "use_sliding_window": False, "layer_types": None},
    ),
    Sample("seed_oss", "seed_oss"),
    Sample("ernie4_5", "ernie4_5"),
    Sample("ernie4_5_moe", "ernie4_5-moe"),
    Sample("hunyuan", "hunyuan-dense", {"max_position_embeddings": 262144}),
    Sample("apertus", "apertus"),
    Sample("dbrx", "dbrx", within("dbrx", ffn_config={"moe_normalize_expert_weights": 1.0})),
    Sample("deepseek_v2", "deepseek2", DEEPSEEK_PLAIN | WARMED, without=DEEPSEEK_BIASES),
    Sample("deepseek_v2", "deepseek2", DEEPSEEK_PLAIN | WARMED, DEEPSEEK_BIASES, "deepseek_v2-whole", ("kv_b whole",)),
    Sample("deepseek_v2-greedy", "deepseek2"),
    Sample("deepseek_v3", "deepseek2", DEEPSEEK_PLAIN, without=("_proj.bias", "_mqa.bias")),
    Sample("gpt_oss", "gpt-oss", {"swiglu_alpha": 1.702, "swiglu_limit": 7.0}),
    Sample("gpt_oss-mxfp4", "gpt-oss", {"layer_types": ["sliding_attention", "full_attention"]}),
    Sample("llama4", "llama4", LLAMA4_FIXED | {"interleave_moe_layer_step": 2}, without=("_proj.bias",)),
    Sample("llama4-plain", "llama4", LLAMA4_FIXED | {"interleave_moe_layer_step": 1}, blocks=(1,)),
    Sample("ministral3", "mistral3", within("ministral3", rope_parameters={"mscale": 0.5}) | {"sliding_window": None}),
    Sample("mistral", "mistral3", {"sliding_window": None}, name="mistral-as-mistral3"),
]

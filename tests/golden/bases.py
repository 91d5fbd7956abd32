"""What the rows of tiny models are made of: sizes, rotations, and the record of one row."""

from dataclasses import dataclass, field

SPECIAL = {"bos_token_id": 0, "eos_token_id": 1}
GPT2 = SPECIAL | {"vocab_size": 96, "n_embd": 24, "n_head": 3, "n_layer": 3, "n_positions": 32}
LLAMA = SPECIAL | {
    "vocab_size": 96,
    "hidden_size": 24,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "num_hidden_layers": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 128,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 1000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@dataclass(frozen=True)
class Tiny:
    """One tiny model: its folder's name, its configuration, and how its files are written."""

    name: str
    model_type: str
    config: dict
    thorough: bool = False  # every case, or the shorter list
    brief: bool = False  # the shortest: the sites, and a handful of what may hang on the architecture
    shard: str | None = None  # largest shard, for a checkpoint with an index
    tokenizer: bool = False
    config_edit: dict = field(default_factory=dict)  # fields put into config.json as older versions wrote them
    config_drop: tuple[str, ...] = ()
    mxfp4: bool = False  # experts' projections as 4-bit floats in blocks of 32, each with a scale
    as_on_hub: bool = False  # GPT-2's published file: no `transformer.` prefix, and the causal masks as buffers

    renames: tuple[tuple[str, str], ...] = ()  # how other versions named its tensors: first parts, and what stood for them

    @property
    def vocab(self) -> int:
        """Size of the decoder's vocabulary."""
        return self.config.get("text_config", self.config)["vocab_size"]


GQA = LLAMA | {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
MHA = {key: value for key, value in GQA.items() if key != "num_key_value_heads"}
OPT = SPECIAL | {
    "vocab_size": 96,
    "hidden_size": 24,
    "num_attention_heads": 3,
    "num_hidden_layers": 3,
    "ffn_dim": 40,
    "max_position_embeddings": 32,
}
FALCON = SPECIAL | {
    "vocab_size": 96,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "ffn_hidden_size": 40,
}
SMALL = GQA | {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 8}
HEADS = LLAMA | {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 10}


def rope(kind: str = "default", theta: float = 500.0, **more) -> dict:
    """Rotary settings in the new form."""
    return {"rope_type": kind, "rope_theta": theta, **more}


def brief(name: str, model_type: str, base: dict, **config) -> Tiny:
    """A model with the shortest list of cases."""
    return Tiny(name, model_type, base | config, brief=True)


LINEAR = rope("linear", factor=4.0)
DYNAMIC = rope("dynamic", factor=3.0)
YARN = rope("yarn", factor=4.0, original_max_position_embeddings=16)
GROWING = rope(
    "yarn",
    factor=4.0,
    original_max_position_embeddings=2,
    mscale=1.0,
    mscale_all_dim=0.5,
    llama_4_scaling_beta=0.4,
)
LONGROPE = {"short_factor": [1.0, 1.5, 2.0, 2.5], "long_factor": [1.25, 2.0, 3.0, 4.0]}
BOTH_ROPES = {"sliding_attention": rope(theta=100.0), "full_attention": LINEAR}
VISION = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}
SLIDING = ["sliding_attention", "full_attention", "sliding_attention"]

DBRX = SPECIAL | {"vocab_size": 40, "d_model": 16, "n_heads": 4, "n_layers": 3, "max_seq_len": 64}
DBRX_EXPERTS = {"ffn_hidden_size": 6, "moe_num_experts": 5, "moe_top_k": 2}
# Every size of a head is another one.
DEEPSEEK = SPECIAL | {
    "pad_token_id": 0,
    "vocab_size": 40,
    "hidden_size": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "num_hidden_layers": 3,
    "intermediate_size": 10,
    "moe_intermediate_size": 6,
    "max_position_embeddings": 128,
    "q_lora_rank": 9,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 4,
    "qk_rope_head_dim": 6,
    "v_head_dim": 5,
    "first_k_dense_replace": 1,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "n_shared_experts": 2,
    "n_group": 4,
    "topk_group": 2,
    "routed_scaling_factor": 1.5,
}
WARM_YARN = YARN | {"mscale": 0.5, "mscale_all_dim": 0.8}
LLAMA4 = SPECIAL | {
    "pad_token_id": 0,
    "vocab_size": 40,
    "hidden_size": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "num_hidden_layers": 3,
    "intermediate_size": 6,
    "intermediate_size_mlp": 10,
    "num_local_experts": 4,
    "max_position_embeddings": 128,
}

"""The tiny models: one row a model, with the options that set it apart from its neighbours."""

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

BRIEF = [
    brief("llama-linear", "llama", GQA, rope_parameters=LINEAR),
    brief("llama-dynamic", "llama", GQA, rope_parameters=DYNAMIC, max_position_embeddings=4),
    brief("llama-yarn", "llama", GQA, rope_parameters=YARN),
    brief(
        "llama-longrope",
        "llama",
        GQA,
        rope_parameters=rope("longrope", factor=8.0, original_max_position_embeddings=4, **LONGROPE),
    ),
    brief("mistral", "mistral", HEADS, sliding_window=2),
    brief("ministral3", "ministral3", HEADS, sliding_window=3, rope_parameters=GROWING),
    brief(
        "qwen2", "qwen2", GQA, use_sliding_window=True, sliding_window=2, max_window_layers=1, tie_word_embeddings=True
    ),
    brief("qwen3", "qwen3", HEADS, use_sliding_window=True, sliding_window=3, layer_types=SLIDING, attention_bias=True),
    brief("gemma", "gemma", HEADS, attention_bias=True, hidden_act="gelu"),
    brief(
        "gemma2",
        "gemma2",
        HEADS,
        sliding_window=2,
        query_pre_attn_scalar=5,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=20.0,
    ),
    brief(
        "gemma3",
        "gemma3_text",
        HEADS,
        sliding_window=2,
        layer_types=SLIDING,
        query_pre_attn_scalar=5,
        rope_parameters=BOTH_ROPES,
        attention_bias=True,
        final_logit_softcapping=4.0,
        tie_word_embeddings=False,
    ),
    brief(
        "gemma3-vision",
        "gemma3",
        {},
        text_config=HEADS
        | {"sliding_window": 2, "sliding_window_pattern": 2, "query_pre_attn_scalar": 5, "tie_word_embeddings": True}
        | {"rope_parameters": BOTH_ROPES},
        tie_word_embeddings=False,
        vision_config=VISION | {"model_type": "siglip_vision_model"},
        mm_tokens_per_image=1,
    ),
    brief(
        "llama4-vision",
        "llama4",
        {},
        text_config=LLAMA4 | {"attention_chunk_size": 3, "interleave_moe_layer_step": 2, "num_experts_per_tok": 2},
        vision_config=VISION
        | {"model_type": "llama4_vision_model", "vision_output_dim": 8, "projector_input_dim": 8}
        | {"projector_output_dim": 8},
        tie_word_embeddings=False,
    ),
    Tiny(
        "mistral3",
        "mistral3",
        {
            "text_config": HEADS | {"model_type": "ministral3", "sliding_window": 3, "rope_parameters": GROWING},
            "vision_config": VISION | {"model_type": "pixtral", "head_dim": 4},
            "tie_word_embeddings": False,
        },
        brief=True,
        # without the key transformers takes the two for tied, and sees from the files that they are not
        config_drop=("tie_word_embeddings",),
        renames=(
            ("language_model.model.", "model.language_model."),
            ("language_model.lm_head.", "lm_head."),
            ("", "model."),
        ),
    ),
    brief(
        "phi3",
        "phi3",
        GQA,
        sliding_window=4,
        pad_token_id=0,
        original_max_position_embeddings=4,
        rope_parameters=rope("longrope", partial_rotary_factor=1.0, **LONGROPE),
    ),
    brief(
        "phi3-partial",
        "phi3",
        GQA,
        pad_token_id=0,
        rope_parameters=rope(partial_rotary_factor=0.5),
        tie_word_embeddings=True,
    ),
    brief("phi", "phi", GQA, qk_layernorm=True, rope_parameters=rope(partial_rotary_factor=0.5)),
    brief("phi-plain", "phi", GQA),
    brief(
        "stablelm",
        "stablelm",
        GQA,
        use_qkv_bias=True,
        qk_layernorm=True,
        rope_parameters=rope(partial_rotary_factor=0.5),
    ),
    brief("stablelm-parallel", "stablelm", GQA, use_parallel_residual=True, tie_word_embeddings=True),
    brief("starcoder2", "starcoder2", GQA, sliding_window=2, rope_parameters=rope()),
    brief("starcoder2-bare", "starcoder2", GQA, use_bias=False, tie_word_embeddings=False),
    brief("gpt_neox", "gpt_neox", MHA, rope_parameters=rope(partial_rotary_factor=0.25)),
    brief(
        "gpt_neox-sequential",
        "gpt_neox",
        MHA,
        use_parallel_residual=False,
        attention_bias=False,
        hidden_act="gelu_new",
        rope_parameters=rope(partial_rotary_factor=1.0),
    ),
    brief("olmo", "olmo", GQA, pad_token_id=0, clip_qkv=1.0, attention_bias=True),
    brief("olmo2", "olmo2", GQA, pad_token_id=0, attention_bias=True, rope_parameters=rope()),
    brief(
        "olmo3",
        "olmo3",
        GQA,
        pad_token_id=0,
        sliding_window=2,
        layer_types=SLIDING,
        rope_parameters={"sliding_attention": rope(theta=100.0), "full_attention": YARN},
    ),
    brief(
        "cohere",
        "cohere",
        GQA,
        pad_token_id=0,
        use_qk_norm=True,
        logit_scale=0.5,
        attention_bias=True,
        rope_parameters=rope(),
    ),
    brief("cohere-mqa", "cohere", SMALL, num_key_value_heads=1, pad_token_id=0, use_qk_norm=True, logit_scale=0.5),
    brief("cohere-plain", "cohere", GQA, pad_token_id=0, logit_scale=2.0),
    brief(
        "cohere2",
        "cohere2",
        GQA,
        pad_token_id=0,
        sliding_window=2,
        layer_types=SLIDING,
        logit_scale=0.5,
        rope_parameters=rope(),
    ),
    brief(
        "granite",
        "granite",
        GQA,
        attention_bias=True,
        mlp_bias=True,
        embedding_multiplier=3.0,
        logits_scaling=0.5,
        residual_multiplier=0.5,
        attention_multiplier=0.2,
    ),
    brief(
        "smollm3",
        "smollm3",
        GQA,
        pad_token_id=0,
        no_rope_layer_interval=2,
        use_sliding_window=True,
        sliding_window=2,
        attention_bias=True,
        mlp_bias=True,
    ),
    brief("glm", "glm", HEADS, pad_token_id=0, head_dim=12, rope_parameters=rope(partial_rotary_factor=0.5)),
    brief(
        "glm4",
        "glm4",
        HEADS,
        pad_token_id=0,
        head_dim=12,
        rope_parameters=rope(partial_rotary_factor=0.5),
        tie_word_embeddings=True,
    ),
    brief("exaone4", "exaone4", GQA, sliding_window=2, sliding_window_pattern=2, rope_parameters=rope()),
    brief("exaone4-full", "exaone4", GQA, sliding_window=None, layer_types=["full_attention"] * 3),
    brief(
        "hunyuan",
        "hunyuan_v1_dense",
        HEADS,
        pad_token_id=0,
        attention_bias=True,
        rope_parameters=rope("dynamic", alpha=50.0, factor=1.0),
    ),
    brief(
        "nemotron",
        "nemotron",
        HEADS,
        head_dim=12,
        rope_parameters=rope(partial_rotary_factor=0.5),
        attention_bias=True,
        mlp_bias=True,
    ),
    brief(
        "seed_oss",
        "seed_oss",
        HEADS,
        attention_bias=True,
        attention_out_bias=True,
        mlp_bias=True,
        rope_parameters=rope(),
    ),
    brief("ernie4_5", "ernie4_5", HEADS, use_bias=True, rope_parameters=rope()),
    brief(
        "mixtral",
        "mixtral",
        SMALL,
        num_local_experts=5,
        num_experts_per_tok=2,
        sliding_window=3,
        rope_parameters=rope(),
    ),
    brief(
        "mixtral-full",
        "mixtral",
        SMALL,
        num_local_experts=4,
        num_experts_per_tok=3,
        head_dim=6,
        hidden_act="gelu",
        tie_word_embeddings=True,
    ),
    brief(
        "qwen3_moe",
        "qwen3_moe",
        SMALL,
        num_experts=6,
        num_experts_per_tok=2,
        moe_intermediate_size=6,
        mlp_only_layers=[0],
        norm_topk_prob=True,
        attention_bias=True,
    ),
    brief(
        "qwen3_moe-window",
        "qwen3_moe",
        SMALL,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=6,
        decoder_sparse_step=2,
        norm_topk_prob=False,
        use_sliding_window=True,
        sliding_window=2,
        head_dim=6,
        tie_word_embeddings=True,
    ),
    brief(
        "qwen2_moe",
        "qwen2_moe",
        SMALL,
        num_experts=6,
        num_experts_per_tok=3,
        moe_intermediate_size=6,
        shared_expert_intermediate_size=10,
        decoder_sparse_step=2,
        use_sliding_window=True,
        sliding_window=2,
    ),
    brief(
        "qwen2_moe-normed",
        "qwen2_moe",
        SMALL,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=6,
        shared_expert_intermediate_size=10,
        norm_topk_prob=True,
        mlp_only_layers=[2],
        qkv_bias=False,
        tie_word_embeddings=True,
    ),
    brief("olmoe", "olmoe", SMALL, num_experts=5, num_experts_per_tok=2, clip_qkv=1.5, attention_bias=True),
    brief("olmoe-normed", "olmoe", SMALL, num_experts=4, num_experts_per_tok=2, norm_topk_prob=True),
    brief(
        "granitemoe",
        "granitemoe",
        SMALL,
        num_local_experts=5,
        num_experts_per_tok=3,
        embedding_multiplier=3.0,
        logits_scaling=0.5,
        residual_multiplier=0.5,
        attention_multiplier=0.2,
    ),
    brief(
        "granitemoe-bias",
        "granitemoe",
        SMALL,
        num_local_experts=4,
        num_experts_per_tok=2,
        attention_bias=True,
        attention_multiplier=0.3,
        tie_word_embeddings=True,
    ),
    brief(
        "glm4_moe",
        "glm4_moe",
        SMALL,
        pad_token_id=0,
        head_dim=8,
        use_qk_norm=True,
        attention_bias=True,
        n_routed_experts=6,
        num_experts_per_tok=3,
        moe_intermediate_size=6,
        n_shared_experts=2,
        n_group=3,
        topk_group=2,
        routed_scaling_factor=1.5,
    ),
    brief(
        "glm4_moe-plain",
        "glm4_moe",
        SMALL,
        pad_token_id=0,
        head_dim=4,
        n_routed_experts=5,
        num_experts_per_tok=2,
        moe_intermediate_size=6,
        n_group=1,
        topk_group=1,
        norm_topk_prob=False,
        first_k_dense_replace=0,
        rope_parameters=rope(partial_rotary_factor=1.0),
        tie_word_embeddings=True,
    ),
    brief(
        "ernie4_5_moe",
        "ernie4_5_moe",
        SMALL,
        use_bias=True,
        moe_num_experts=6,
        moe_k=3,
        moe_intermediate_size=6,
        moe_num_shared_experts=2,
        rope_parameters=rope(),
    ),
    brief(
        "ernie4_5_moe-bare",
        "ernie4_5_moe",
        SMALL,
        moe_num_experts=4,
        moe_k=2,
        moe_intermediate_size=6,
        moe_num_shared_experts=0,
        moe_layer_start_index=0,
        moe_layer_end_index=1,
        moe_norm_min=0.7,
        tie_word_embeddings=False,
    ),
    brief(
        "ernie4_5_moe-interval",
        "ernie4_5_moe",
        SMALL,
        moe_num_experts=4,
        moe_k=2,
        moe_intermediate_size=6,
        moe_num_shared_experts=1,
        moe_layer_interval=2,
        head_dim=6,
    ),
    brief(
        "dbrx",
        "dbrx",
        DBRX,
        attn_config={"kv_n_heads": 2, "clip_qkv": 1.5, "rope_theta": 500.0},
        ffn_config=DBRX_EXPERTS | {"moe_normalize_expert_weights": 2.0},
        rope_parameters=rope(),
    ),
    brief(
        "dbrx-plain",
        "dbrx",
        DBRX,
        attn_config={"kv_n_heads": 1, "clip_qkv": 8.0, "rope_theta": 500.0},
        ffn_config=DBRX_EXPERTS | {"moe_normalize_expert_weights": None, "ffn_act_fn": {"name": "gelu"}},
        rope_parameters=LINEAR,
    ),
    brief("deepseek_v3", "deepseek_v3", DEEPSEEK, attention_bias=True, rope_parameters=rope()),
    brief(
        "deepseek_v3-halves",
        "deepseek_v3",
        DEEPSEEK,
        q_lora_rank=None,
        rope_interleave=False,
        norm_topk_prob=False,
        n_shared_experts=1,
        rope_parameters=WARM_YARN,
    ),
    brief(
        "deepseek_v2",
        "deepseek_v2",
        DEEPSEEK,
        attention_bias=True,
        mlp_bias=True,
        topk_method="group_limited_greedy",
        rope_parameters=WARM_YARN,
    ),
    brief("deepseek_v2-greedy", "deepseek_v2", DEEPSEEK, q_lora_rank=None, norm_topk_prob=True, rope_parameters=rope()),
    brief(
        "llama4",
        "llama4_text",
        LLAMA4,
        attention_chunk_size=2,
        attention_bias=True,
        num_experts_per_tok=2,
        moe_layers=[1, 2],
        no_rope_layers=[1, 0, 1],
        floor_scale=2,
        attn_scale=0.4,
    ),
    brief(
        "llama4-plain",
        "llama4_text",
        LLAMA4,
        attention_chunk_size=3,
        interleave_moe_layer_step=2,
        no_rope_layer_interval=3,
        use_qk_norm=False,
        attn_temperature_tuning=False,
        tie_word_embeddings=True,
        rope_parameters=LLAMA3_ROPE,
    ),
    brief(
        "apertus",
        "apertus",
        HEADS,
        attention_bias=True,
        rope_parameters=LLAMA3_ROPE | {"original_max_position_embeddings": 16},
    ),
    brief(
        "gpt_oss",
        "gpt_oss",
        HEADS,
        num_local_experts=5,
        num_experts_per_tok=2,
        intermediate_size=20,
        sliding_window=2,
        swiglu_alpha=1.3,
        swiglu_limit=0.8,
        rope_parameters=YARN | {"truncate": False},
    ),
    Tiny(
        "gpt_oss-mxfp4",
        "gpt_oss",
        GQA | {"num_local_experts": 3, "num_experts_per_tok": 2, "intermediate_size": 64, "head_dim": 8}
        | {"sliding_window": 3, "layer_types": ["full_attention", *SLIDING[:2]], "attention_bias": False}
        | {"rope_parameters": rope()},
        brief=True,
        mxfp4=True,
    ),
    brief("gptj", "gptj", GPT2, n_embd=32, n_head=4, rotary_dim=4, n_inner=40),
    brief("gpt_bigcode", "gpt_bigcode", GPT2, n_embd=32, n_head=4, n_inner=40),
    brief(
        "gpt_bigcode-heads",
        "gpt_bigcode",
        GPT2,
        multi_query=False,
        scale_attn_weights=False,
        tie_word_embeddings=False,
    ),
    brief("opt", "opt", OPT, pad_token_id=0, word_embed_proj_dim=16),
    brief("opt-bare", "opt", OPT, pad_token_id=0, enable_bias=False, layer_norm_elementwise_affine=False),
    brief("bloom", "bloom", SPECIAL, vocab_size=96, hidden_size=24, n_head=6, n_layer=3, tie_word_embeddings=False),
    brief(
        "mpt",
        "mpt",
        SPECIAL,
        vocab_size=96,
        d_model=24,
        n_heads=6,
        n_layers=3,
        max_seq_len=64,
        attn_config={"clip_qkv": 1.0, "softmax_scale": 0.3},
    ),
    brief(
        "gpt_neo",
        "gpt_neo",
        SPECIAL,
        vocab_size=96,
        hidden_size=24,
        num_heads=3,
        num_layers=3,
        max_position_embeddings=32,
        window_size=2,
        attention_types=[[["global", "local"], 1], [["local"], 1]],
    ),
    brief("falcon", "falcon", FALCON),
    brief("falcon-new", "falcon", FALCON, new_decoder_architecture=True, num_kv_heads=2, bias=True),
    brief(
        "falcon-new-shared",
        "falcon",
        FALCON,
        new_decoder_architecture=True,
        num_kv_heads=4,
        num_ln_in_parallel_attn=1,
        tie_word_embeddings=False,
    ),
    brief(
        "falcon-alibi",
        "falcon",
        FALCON | {"hidden_size": 24, "num_attention_heads": 6},
        alibi=True,
        multi_query=False,
        parallel_attn=False,
        bias=True,
    ),
]

TINY = [
    Tiny("gpt2", "gpt2", GPT2 | {"n_inner": 40}, thorough=True, as_on_hub=True),
    Tiny(
        "gpt2-untied",
        "gpt2",
        GPT2 | {"tie_word_embeddings": False, "scale_attn_by_inverse_layer_idx": True, "activation_function": "gelu"},
    ),
    Tiny("llama-mha-untied", "llama", LLAMA | {"tie_word_embeddings": False}, shard="40KB"),
    Tiny(
        "llama-gqa-tied",
        "llama",
        LLAMA | {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True},
        thorough=True,
    ),
    Tiny(
        "llama-bias",
        "llama",
        LLAMA
        | {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 8, "attention_bias": True, "mlp_bias": True}
        | {"hidden_act": "gelu_pytorch_tanh", "rms_norm_eps": 1e-5, "tie_word_embeddings": True}
        | {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
        config_edit={"rope_theta": 500.0, "rope_scaling": None, "torch_dtype": "float32"},
        config_drop=("rope_parameters", "dtype"),
    ),
    Tiny(
        "llama-rope3",
        "llama",
        LLAMA
        | {"vocab_size": 320, "num_key_value_heads": 1, "tie_word_embeddings": True, "rope_parameters": LLAMA3_ROPE},
        tokenizer=True,
    ),
    *BRIEF,
]

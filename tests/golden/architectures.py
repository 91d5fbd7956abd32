"""Where transformers keeps each site: one row an architecture, with Llama's paths where nothing is said."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Architecture:
    """Module paths of one `model_type`, with Llama's where nothing is said.

    Paths below `blocks` start at a block, those below a module at that module.
    """

    embed: str = "model.embed_tokens"  # token embeddings, before positions
    scaled_embed: bool = False  # they are scaled outside of their module: what block 0 receives is the site
    positions: str | None = None  # the table of learned positions
    blocks: str = "model.layers"
    final_norm: str = "model.norm"
    attn_norm: str = "input_layernorm"
    attention: str = "self_attn"
    qkv: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")  # or one projection that has all three
    grouped: bool = False  # the one projection has for each key/value head its queries, key and value; else q, k, v
    qk_norms: tuple[str, str] | None = None  # before rotation
    heads_first: bool = False  # these norms see `[B, H, S, d]`
    # Latent attention: the name of the function in the type's file that rotates, made of the configuration
    latent: Callable[[Any], str] | None = None
    out: str = "o_proj"  # attention's output projection
    attention_output: str = ""  # the module whose output is attention's own; attention itself
    attn_post_norm: str | None = None
    parallel: bool = False
    mlp_norm: str = "post_attention_layernorm"  # its input is the residual stream between attention and MLP
    mlp: str = "mlp"
    mlp_input: str = ""  # the module whose input is the MLP's; the MLP itself
    mlp_output: str = ""
    gate: str | None = "gate_proj"
    up: str = "up_proj"  # with the gate before it in the same projection, where that has the same name
    down: str = "down_proj"
    router: str = "gate"  # of a mixture of experts, beside its `experts`
    weighed_input: bool = False  # the router's first output is a factor on the input of every expert
    mlp_post_norm: str | None = None
    multiplier: float = 1.0  # on what is added to the residual stream
    lm_head: str = "lm_head"
    before_head: str | None = None  # a projection between the final norm and the unembedding
    # Attention without transformers' eager function: its method that takes rotated q and k, the function that rotates
    # them, or "" where nothing does.
    inner: str | None = None
    scaled_query: bool = False  # q is scaled before the scores, not they
    turned_only: bool = True  # q and k enter the scores as long as they were, and the scores are their scaled products


def architecture(model: nn.Module) -> Architecture:
    """The row of a model, with what hangs on its settings."""
    config = text_config(model)
    row = ARCHITECTURES[config.model_type]
    row = row if isinstance(row, Architecture) else row(config)
    if config is not model.config:
        outer = ("embed", "positions", "blocks", "final_norm")
        if hasattr(model, "model"):
            row = replace(row, **{part: inside(getattr(row, part)) for part in outer})
        else:  # Llama 4 holds a whole language model
            whole = [part for part in (*outer, "lm_head") if getattr(row, part)]
            row = replace(row, **{part: f"language_model.{getattr(row, part)}" for part in whole})
    warmed = any(kind in str(getattr(config, "rope_parameters", None)) for kind in ("yarn", "longrope"))
    return replace(row, turned_only=False) if warmed else row


def text_config(model: nn.Module) -> Any:
    """The settings of the decoder, which are a section where the model is more than that."""
    return model.config.get_text_config()


def inside(path: str | None) -> str | None:
    """A decoder's path where it is a part of a model that sees images as well."""
    return path and path.replace("model.", "model.language_model.", 1)


LLAMA = Architecture()
HEAD_NORMS = replace(LLAMA, qk_norms=("q_norm", "k_norm"))
SANDWICH = replace(
    LLAMA,
    attn_post_norm="post_attention_layernorm",
    mlp_norm="pre_feedforward_layernorm",
    mlp_post_norm="post_feedforward_layernorm",
)
POST_NORMS = replace(SANDWICH, mlp_norm="mlp", qk_norms=("q_norm", "k_norm"))
GPT2 = Architecture(
    embed="transformer.wte",
    positions="transformer.wpe",
    blocks="transformer.h",
    final_norm="transformer.ln_f",
    attn_norm="ln_1",
    attention="attn",
    qkv=("c_attn",),
    out="c_proj",
    mlp_norm="ln_2",
    mlp="mlp",
    gate=None,
    up="c_fc",
    down="c_proj",
)

def is_wide(config: Any) -> bool:
    """Whether OPT's tables are as wide as the stream."""
    return config.word_embed_proj_dim == config.hidden_size


# A row, or how one is made of a configuration.
ARCHITECTURES: dict[str, Architecture | Callable[[Any], Architecture]] = {
    "gpt2": GPT2,
    "llama": LLAMA,
    "mistral": LLAMA,
    "ministral3": replace(LLAMA, turned_only=False),
    "mixtral": LLAMA,
    "qwen2_moe": LLAMA,
    "qwen3_moe": HEAD_NORMS,
    "olmoe": HEAD_NORMS,
    "granitemoe": lambda config: replace(
        LLAMA, scaled_embed=True, mlp="block_sparse_moe", router="router", multiplier=config.residual_multiplier
    ),
    "glm4_moe": lambda config: HEAD_NORMS if config.use_qk_norm else LLAMA,
    "ernie4_5_moe": LLAMA,
    "qwen2": LLAMA,
    "qwen3": HEAD_NORMS,
    "dbrx": replace(
        LLAMA,
        embed="transformer.wte",
        blocks="transformer.blocks",
        final_norm="transformer.norm_f",
        attn_norm="norm_attn_norm.norm_1",
        attention="norm_attn_norm.attn",
        qkv=("Wqkv",),
        out="out_proj",
        mlp_norm="norm_attn_norm.norm_2",
        mlp="ffn",
        router="router",
    ),
    "deepseek_v2": replace(LLAMA, latent=lambda _: "apply_rotary_emb"),
    "deepseek_v3": replace(
        LLAMA,
        latent=lambda config: "apply_rotary_pos_emb_interleave" if config.rope_interleave else "apply_rotary_pos_emb",
    ),
    "llama4_text": replace(LLAMA, mlp="feed_forward", router="router", weighed_input=True, turned_only=False),
    "gemma": replace(LLAMA, scaled_embed=True),
    "gemma2": replace(SANDWICH, scaled_embed=True, turned_only=False),
    "gemma3_text": replace(SANDWICH, scaled_embed=True, qk_norms=("q_norm", "k_norm"), heads_first=True),
    "phi3": replace(LLAMA, qkv=("qkv_proj",), gate="gate_up_proj", up="gate_up_proj", turned_only=False),
    "phi": lambda config: replace(
        LLAMA,
        final_norm="model.final_layernorm",
        qk_norms=("q_layernorm", "k_layernorm") if config.qk_layernorm else None,
        heads_first=True,
        out="dense",
        parallel=True,
        gate=None,
        up="fc1",
        down="fc2",
    ),
    "stablelm": lambda config: replace(
        LLAMA,
        qk_norms=("q_layernorm", "k_layernorm") if config.qk_layernorm else None,
        heads_first=True,
        parallel=config.use_parallel_residual,
    ),
    "starcoder2": replace(LLAMA, gate=None, up="c_fc", down="c_proj"),
    "gpt_neox": lambda config: replace(
        LLAMA,
        embed="gpt_neox.embed_in",
        blocks="gpt_neox.layers",
        final_norm="gpt_neox.final_layer_norm",
        attention="attention",
        qkv=("query_key_value",),
        grouped=True,
        out="dense",
        parallel=config.use_parallel_residual,
        gate=None,
        up="dense_h_to_4h",
        down="dense_4h_to_h",
    ),
    "olmo": LLAMA,
    "olmo2": POST_NORMS,
    "olmo3": POST_NORMS,
    "cohere": lambda config: replace(
        LLAMA, parallel=True, qk_norms=("q_norm", "k_norm") if config.use_qk_norm else None
    ),
    "cohere2": replace(LLAMA, parallel=True),
    "granite": lambda config: replace(LLAMA, scaled_embed=True, multiplier=config.residual_multiplier),
    "smollm3": LLAMA,
    "glm": replace(LLAMA, gate="gate_up_proj", up="gate_up_proj"),
    "glm4": replace(
        LLAMA,
        gate="gate_up_proj",
        up="gate_up_proj",
        attn_post_norm="post_self_attn_layernorm",
        mlp_post_norm="post_mlp_layernorm",
    ),
    "exaone4": replace(POST_NORMS, heads_first=True),
    "hunyuan_v1_dense": replace(LLAMA, turned_only=False),
    "nemotron": replace(LLAMA, gate=None),
    "seed_oss": LLAMA,
    "ernie4_5": LLAMA,
    "apertus": replace(
        HEAD_NORMS, heads_first=True, attn_norm="attention_layernorm", mlp_norm="feedforward_layernorm", gate=None
    ),
    "gpt_oss": replace(LLAMA, router="router"),
    "gptj": replace(
        GPT2,
        positions=None,
        qkv=("q_proj", "k_proj", "v_proj"),
        out="out_proj",
        inner="_attn",
        parallel=True,
        up="fc_in",
        down="fc_out",
    ),
    "gpt_bigcode": lambda config: replace(GPT2, grouped=not config.multi_query),
    "opt": lambda config: replace(
        LLAMA,
        embed="model.decoder.embed_tokens" if is_wide(config) else "model.decoder.project_in",
        before_head=None if is_wide(config) else "model.decoder.project_out",
        positions="model.decoder.embed_positions",
        blocks="model.decoder.layers",
        final_norm="model.decoder.final_layer_norm",
        attn_norm="self_attn_layer_norm",
        out="out_proj",
        scaled_query=True,
        mlp_norm="final_layer_norm",
        mlp="",
        mlp_input="fc1",
        mlp_output="fc2",
        gate=None,
        up="fc1",
        down="fc2",
    ),
    "bloom": replace(
        LLAMA,
        embed="transformer.word_embeddings",
        blocks="transformer.h",
        final_norm="transformer.ln_f",
        attention="self_attention",
        qkv=("query_key_value",),
        grouped=True,
        inner="",
        out="dense",
        attention_output="dense",
        gate=None,
        up="dense_h_to_4h",
        down="dense_4h_to_h",
        mlp_output="dense_4h_to_h",
        turned_only=False,
    ),
    "mpt": replace(
        LLAMA,
        embed="transformer.wte",
        blocks="transformer.blocks",
        final_norm="transformer.norm_f",
        attn_norm="norm_1",
        attention="attn",
        qkv=("Wqkv",),
        inner="",
        out="out_proj",
        mlp_norm="norm_2",
        mlp="ffn",
        gate=None,
        mlp_output="down_proj",
        turned_only=False,
    ),
    "gpt_neo": replace(
        GPT2, attention="attn.attention", qkv=("q_proj", "k_proj", "v_proj"), inner="_attn", out="out_proj"
    ),
    "falcon": lambda config: replace(
        LLAMA,
        embed="transformer.word_embeddings",
        blocks="transformer.h",
        final_norm="transformer.ln_f",
        attention="self_attention",
        qkv=("query_key_value",),
        grouped=True,
        inner="" if config.alibi else "apply_rotary_pos_emb",
        out="dense",
        parallel=config.parallel_attn,
        gate=None,
        up="dense_h_to_4h",
        down="dense_4h_to_h",
        turned_only=not config.alibi,
    ),
}


def kv_heads(config: Any) -> int:
    """Number of key/value heads."""
    if config.model_type == "falcon" and not config.new_decoder_architecture:
        return 1 if config.multi_query else config.num_attention_heads
    if config.model_type == "falcon":
        return config.num_kv_heads
    return getattr(config, "num_key_value_heads", None) or config.num_attention_heads

"""What llama.cpp's converter does to tensors, a function for each kind of change."""

import re

import numpy as np
from gguf_model import Model


def permute(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head: first halves and second halves of pairs, one by one in turn (LlamaModel.permute)."""
    split = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return split.swapaxes(1, 2).reshape(weight.shape)


def ungroup(qkv: np.ndarray, kv_heads: int, queries: int) -> np.ndarray:
    """All queries, then all keys, then all values (Falcon, BLOOM, GPT-NeoX)."""
    groups = qkv.reshape(kv_heads, queries + 2, -1, *qkv.shape[1:])
    parts = [groups[:, :queries], groups[:, queries : queries + 1], groups[:, queries + 1 :]]
    return np.concatenate([part.reshape(-1, *qkv.shape[1:]) for part in parts])


PERMUTED = ("llama", "olmo", "granite", "granitemoe", "smollm3", "mistral3")
PLUS_ONE = ("gemma", "gemma2", "gemma3", "nemotron")


def convert(model: Model, name: str, value: np.ndarray) -> np.ndarray:
    arch = model.sample.arch
    if arch in PERMUTED and ".q_proj." in name:
        return permute(value, model.heads)
    if arch in PERMUTED and ".k_proj." in name:
        return permute(value, model.kv_heads)
    if arch in PLUS_ONE and name.endswith("norm.weight"):
        return value + 1
    if arch in ("falcon", "bloom", "gptneox") and "query_key_value" in name:
        return ungroup(value, model.kv_heads, model.heads // model.kv_heads)
    if arch == "gpt2" and re.search(r"(c_attn|c_proj|c_fc)\.weight$", name):
        return value.T
    return value


def stack(tensors: dict, pattern: str, name: str) -> dict:
    """Tensors that one number sets apart, as one tensor with an axis more."""
    found = sorted((int(match[2]), key, match) for key in tensors if (match := re.fullmatch(pattern, key)))
    groups: dict[str, list] = {}
    for _, key, match in found:
        groups.setdefault(match.expand(name), []).append(key)
    for new, keys in groups.items():
        tensors[new] = np.stack([tensors.pop(key) for key in keys])
    return tensors


def prepare(model: Model) -> dict[str, np.ndarray]:
    """The tensors as the converter names and changes them, before the map of names is asked."""
    arch, options = model.sample.arch, model.sample.options
    tensors = {}
    for name, value in model.tensors.items():
        block = re.search(r"(?<=\.layers\.)\d+|(?<=\.blocks\.)\d+|(?<=\.h\.)\d+", name)
        if block and int(block[0]) not in model.sample.blocks or name.endswith(model.sample.without):
            continue
        if block:
            name = f"{name[:block.start()]}{model.sample.blocks.index(int(block[0]))}{name[block.end():]}"
        name = name.removeprefix("transformer.") if arch == "bloom" else name
        name = name.replace("e_score_correction_bias", "e_score_correction.bias")
        tensors[name] = np.ascontiguousarray(convert(model, name, value))
    if "experts apart" not in options:
        stack(tensors, r"(.*\.block_sparse_moe)\.experts\.(\d+)\.(w\d)\.weight", r"\1.experts.\3.weight")
    stack(tensors, r"(.*\.mlp\.experts)\.(\d+)\.(\w+)\.weight", r"\1.\3.weight")
    stack(tensors, r"(.*_layernorm\.)norms\.(\d+)\.(weight)", r"\1\3")
    for name in [name for name in tensors if name.endswith("block_sparse_moe.input_linear.weight")]:
        gate, up = np.split(tensors.pop(name), 2, axis=1)
        block = name.split(".")[2]
        tensors |= {f"blk.{block}.ffn_gate_exps.weight": gate, f"blk.{block}.ffn_up_exps.weight": up}
    if "qkv in one" in options:
        for name in [name for name in tensors if ".q_proj." in name]:
            parts = [tensors.pop(name.replace("q_proj", part)) for part in ("q_proj", "k_proj", "v_proj")]
            tensors[name.replace("self_attn.q_proj", "mixer.Wqkv").replace("model.layers", "transformer.h")] = np.concatenate(parts)
    if arch in ("gemma", "gemma2"):
        tensors.pop("lm_head.weight", None)
    for name in [name for name in tensors if name.endswith(STACKED)]:
        tensors |= unstack(model, name, tensors.pop(name))
    if arch == "deepseek2" and "kv_b whole" not in options:
        for name in [name for name in tensors if "kv_b_proj" in name]:
            own = model.config["qk_nope_head_dim"]
            of_each = tensors.pop(name).reshape(model.heads, own + model.config["v_head_dim"], -1)
            tensors[name.replace("kv_b_proj", "k_b_proj")] = of_each[:, :own].swapaxes(1, 2)
            tensors[name.replace("kv_b_proj", "v_b_proj")] = of_each[:, own:]
    for name in [name for name in tensors if name.endswith("sinks")]:
        tensors[f"{name}.weight"] = tensors.pop(name)
    return tensors


# Ends of the names of what has all experts in one tensor, under names without `.weight`.
STACKED = ("mlp.w1", "mlp.v1", "mlp.w2", "gate_up_proj", "gate_up_proj_bias", "experts.down_proj", "down_proj_bias")


def unstack(model: Model, name: str, value: np.ndarray) -> dict[str, np.ndarray]:
    """Such a tensor, with the axes that llama.cpp has: experts, outputs, inputs."""
    if model.sample.arch == "dbrx":
        split = value.reshape(model.config["ffn_config"]["moe_num_experts"], -1, value.shape[-1])
        return {f"{name}.weight": split.swapaxes(1, 2) if name.endswith("w2") else split}
    name, kind = (name[: -len("_bias")], "bias") if name.endswith("_bias") else (name, "weight")
    value = value.swapaxes(-1, -2) if kind == "weight" else value
    if name.endswith("down_proj"):
        return {f"{name}.{kind}": value}
    axis = 1  # the outputs, of weights and biases
    if model.sample.arch == "gpt-oss":
        gate, up = np.take(value, range(0, value.shape[axis], 2), axis), np.take(value, range(1, value.shape[axis], 2), axis)
    else:
        gate, up = np.split(value, 2, axis)
    return {name.replace("gate_up_proj", f"{part}_proj.{kind}"): half for part, half in (("gate", gate), ("up", up))}


def mxfp4(blocks: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Bytes of ggml's blocks: the scale, then numbers 0 to 15 in the lower halves of 16 bytes and 16 to 31 in the upper."""
    codes = np.stack([blocks & 0xF, blocks >> 4], axis=-1).reshape(*blocks.shape[:-1], 32)
    packed = np.concatenate([scales[..., None], codes[..., :16] | codes[..., 16:] << 4], axis=-1)
    return packed.reshape(*blocks.shape[:2], -1)


def take_blocks(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Takes MXFP4 projections out of a folder's tensors: their bytes, under the names that they have in the file."""
    found = {}
    for name in [name for name in tensors if name.endswith("_blocks")]:
        blocks, scales = tensors.pop(name), tensors.pop(name.replace("_blocks", "_scales"))
        block = f"blk.{name.split('.')[2]}"
        if "down_proj" in name:
            found[f"{block}.ffn_down_exps.weight"] = mxfp4(blocks, scales)
        else:
            for part, first in (("gate", 0), ("up", 1)):
                found[f"{block}.ffn_{part}_exps.weight"] = mxfp4(blocks[:, first::2], scales[:, first::2])
    return found

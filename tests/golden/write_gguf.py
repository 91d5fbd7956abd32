"""Writes golden models as GGUF files, as llama.cpp's converter does.

    python write_gguf.py OUT [NAME...]

Writes to OUT, for each sample of `SAMPLES`, NAME.gguf and NAME.json with
    folder      the golden folder that two blocks are taken of
    blocks      which
    changed     what a reader of the file cannot know, because the converter does not write it: keys of the folder's
                config.json with what llama.cpp runs in their place
    without     tensors of the folder that llama.cpp's version of the architecture has not got

Names come from the `gguf` package's own maps. What happens to a tensor follows llama.cpp's `conversion/`, a function for
each kind of change. Matrices are stored as float16, and those of MLPs whose rows allow it as Q8_0; the rest as float32.

Needs gguf, numpy, safetensors and transformers (made with gguf 0.19, transformers 5.23).
"""

import argparse
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Sample:
    """One golden folder as a file of this architecture."""

    folder: str
    arch: str
    changed: dict = field(default_factory=dict)
    without: str | None = None  # the end of their names
    name: str = ""
    options: tuple[str, ...] = ()
    blocks: tuple[int, ...] = (0, 1)  # which of the folder's blocks, in order


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
    Sample("olmo", "olmo", {"attention_bias": False}, without="_proj.bias"),
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
]


class Model:
    """A golden folder's settings under one name each, whatever its type calls them."""

    def __init__(self, sample: Sample):
        folder = HERE / sample.folder
        self.sample = sample
        self.config = json.loads((folder / "config.json").read_text())
        self.tensors = {}
        for file in sorted(folder.glob("model*.safetensors")):
            self.tensors |= load_file(file)
        self.heads = self.get("num_attention_heads", "n_head", "n_heads")
        self.hidden = self.get("hidden_size", "n_embd", "d_model")
        kv_heads = self.config.get("num_kv_heads") if sample.arch == "falcon" else self.config.get("num_key_value_heads")
        self.kv_heads = kv_heads or self.heads
        if sample.arch == "falcon" and not self.config["new_decoder_architecture"]:
            self.kv_heads = 1 if self.config["multi_query"] else self.heads
        self.head_dim = self.config.get("head_dim") or self.hidden // self.heads
        self.rope = self.config.get("rope_parameters") or {"rope_theta": self.config.get("rope_theta")}

    def get(self, *keys, default=None):
        found = [self.config[key] for key in keys if self.config.get(key) is not None]
        return found[0] if found else default


# What happens to tensors.


def permute(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head: first halves and second halves of pairs, one by one in turn (LlamaModel.permute)."""
    split = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return split.swapaxes(1, 2).reshape(weight.shape)


def ungroup(qkv: np.ndarray, kv_heads: int, queries: int) -> np.ndarray:
    """All queries, then all keys, then all values (Falcon, BLOOM, GPT-NeoX)."""
    groups = qkv.reshape(kv_heads, queries + 2, -1, *qkv.shape[1:])
    parts = [groups[:, :queries], groups[:, queries : queries + 1], groups[:, queries + 1 :]]
    return np.concatenate([part.reshape(-1, *qkv.shape[1:]) for part in parts])


PERMUTED = ("llama", "olmo", "granite", "granitemoe", "smollm3")
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
        if block and int(block[0]) not in model.sample.blocks or model.sample.without and name.endswith(model.sample.without):
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
    return tensors


# Settings.


def write_settings(writer: gguf.GGUFWriter, model: Model) -> None:
    arch, config, get = model.sample.arch, model.config, model.get
    context = get("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", default=model.hidden)
    if arch == "chatglm":
        context = get("seq_length", default=model.hidden)
    if arch == "hunyuan-dense":
        context = 256 * 1024
    writer.add_context_length(context)
    writer.add_embedding_length(model.hidden)
    writer.add_block_count(len(model.sample.blocks) + ("one more block" in model.sample.options))
    # The converters of StarCoder, Phi-2 and Falcon write four times the width whatever it is; it always is in what was published.
    width = get("intermediate_size", "n_inner", "ffn_hidden_size", default=4 * model.hidden)
    writer.add_feed_forward_length(width)
    writer.add_head_count(model.heads)
    if arch not in ("gpt2", "gptneox", "mpt"):
        always = {"phi2": model.heads, "starcoder": 1}
        writer.add_head_count_kv(always.get(arch, model.kv_heads))
    if "head_dim" in config and config["head_dim"] and arch != "granite":
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    write_norms(writer, model)
    write_rope(writer, model)
    write_windows(writer, model)
    write_experts(writer, model)
    write_others(writer, model)


def write_norms(writer: gguf.GGUFWriter, model: Model) -> None:
    arch, get = model.sample.arch, model.get
    if arch == "olmoe" or (eps := get("rms_norm_eps")) is not None:
        writer.add_layer_norm_rms_eps(1e-5 if arch == "olmoe" else eps)
    if arch in ("olmo", "mpt"):
        writer.add_layer_norm_eps(1e-5)
    elif (eps := get("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps")) is not None:
        writer.add_layer_norm_eps(eps)


def write_rope(writer: gguf.GGUFWriter, model: Model) -> None:
    arch, config = model.sample.arch, model.config
    rope = model.rope.get("full_attention", model.rope)
    theta, kind = rope.get("rope_theta"), rope.get("rope_type", "default")
    if kind == "dynamic" and arch == "hunyuan-dense":
        theta *= rope["alpha"] ** (model.head_dim / (model.head_dim - 2))
        kind = "none"
    if theta is not None:
        writer.add_rope_freq_base(theta)
    if "sliding_attention" in model.rope:
        writer.add_rope_freq_base_swa(model.rope["sliding_attention"]["rope_theta"])
    if kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(rope["factor"])
    if kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if kind == "none" or arch in ("command-r", "cohere2", "nemotron"):
        writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
    part = rope.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    defaults = {"phi2": 0.5, "stablelm": 0.25, "gptneox": 0.25, "nemotron": 0.5, "glm4": 0.5, "chatglm": 0.5, "glm4moe": 0.5}
    if arch in defaults or arch == "phi3":
        writer.add_rope_dimension_count(int((part or defaults.get(arch, 1.0)) * model.head_dim))
    elif arch in ("llama", "smollm3", "granite", "granitemoe", "cohere2"):
        writer.add_rope_dimension_count(model.head_dim)
    if arch == "phi3":
        original = config.get("original_max_position_embeddings", 4096)
        writer.add_rope_scaling_orig_ctx_len(original)
        if kind == "longrope":
            stretch = config["max_position_embeddings"] / original
            writer.add_rope_scaling_attn_factors((1 + np.log(stretch) / np.log(original)) ** 0.5)
    if arch == "llama" and kind == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_divisors(rope, model.head_dim))
    if kind == "longrope":
        for length in ("long", "short"):
            writer.add_tensor(f"rope_factors_{length}.weight", np.array(rope[f"{length}_factor"], dtype=np.float32))


def llama3_divisors(rope: dict, dims: int) -> np.ndarray:
    wavelengths = 2 * np.pi * rope["rope_theta"] ** (np.arange(0, dims, 2, dtype=np.float32) / dims)
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    smooth = (rope["original_max_position_embeddings"] / wavelengths - low) / (high - low)
    blended = 1 / ((1 - smooth) / factor + smooth)
    return np.where(smooth >= 1, 1.0, np.where(smooth <= 0, factor, blended)).astype(np.float32)


def write_windows(writer: gguf.GGUFWriter, model: Model) -> None:
    arch, config = model.sample.arch, model.config
    window = config.get("sliding_window")
    if arch == "phi3":
        writer.add_sliding_window(window or 0)
    elif arch in ("gemma2", "gemma3", "cohere2", "olmo2", "exaone4") and window:
        writer.add_sliding_window(window)
        if arch in ("olmo2", "exaone4"):
            kinds = [config["layer_types"][block] for block in model.sample.blocks]
            writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in kinds])


def write_experts(writer: gguf.GGUFWriter, model: Model) -> None:
    arch, get = model.sample.arch, model.get
    if (count := get("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")) is None:
        return
    writer.add_expert_count(count)
    writer.add_expert_used_count(get("num_experts_per_tok", "moe_k"))
    if (width := get("moe_intermediate_size")) is not None:
        writer.add_expert_feed_forward_length(width)
    if arch == "qwen2moe":
        writer.add_expert_shared_feed_forward_length(get("shared_expert_intermediate_size"))
    if arch == "glm4moe":
        writer.add_expert_shared_count(get("n_shared_experts"))
        writer.add_leading_dense_block_count(get("first_k_dense_replace"))
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
        writer.add_expert_weights_scale(get("routed_scaling_factor"))
        writer.add_expert_weights_norm(get("norm_topk_prob"))
        writer.add_expert_group_count(get("n_group"))
        writer.add_expert_group_used_count(get("topk_group"))
        writer.add_nextn_predict_layers(1)
    if arch == "ernie4_5-moe":
        writer.add_interleave_moe_layer_step(get("moe_layer_interval"))
        writer.add_leading_dense_block_count(get("moe_layer_start_index"))
        writer.add_expert_shared_count(get("moe_num_shared_experts"))


def write_others(writer: gguf.GGUFWriter, model: Model) -> None:
    arch, config = model.sample.arch, model.config
    if arch == "gemma2":
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
    if arch in ("gemma2", "gemma3"):
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if arch in ("stablelm", "gptneox"):
        writer.add_parallel_residual(config["use_parallel_residual"])
    if arch == "falcon":
        writer.add_tensor_data_layout("jploski")
    if arch == "mpt":
        writer.add_clamp_kqv(config["attn_config"]["clip_qkv"])
        writer.add_max_alibi_bias(config["attn_config"]["alibi_bias_max"])
    if arch == "olmo" and config.get("clip_qkv") is not None:
        writer.add_clamp_kqv(config["clip_qkv"])
    if arch in ("command-r", "cohere2"):
        writer.add_logit_scale(config["logit_scale"])
    if arch in ("granite", "granitemoe"):
        writer.add_attention_scale(config["attention_multiplier"])
        writer.add_embedding_scale(config["embedding_multiplier"])
        writer.add_residual_scale(config["residual_multiplier"])
        writer.add_logit_scale(config["logits_scaling"])


def changed(model: Model) -> dict:
    """What stands in config.json in the place of what the file does not say."""
    blocks = model.sample.blocks
    layers = {key: len(blocks) for key in ("num_hidden_layers", "n_layer", "n_layers") if key in model.config}
    kinds = model.config.get("layer_types")
    kinds = {"layer_types": [kinds[block] for block in blocks]} if kinds else {}
    rope = {}
    if model.sample.arch == "hunyuan-dense":
        theta = model.rope["rope_theta"] * model.rope["alpha"] ** (model.head_dim / (model.head_dim - 2))
        rope = {"rope_parameters": {"rope_type": "default", "rope_theta": float(str(np.float32(theta)))}}
    return layers | kinds | rope | model.sample.changed


def kind(name: str, value: np.ndarray) -> gguf.GGMLQuantizationType:
    if value.ndim < 2 or "norm" in name or "position_embd" in name or "ffn_gate_inp" in name:
        return gguf.GGMLQuantizationType.F32
    if value.shape[-1] % 32 == 0 and ("ffn_" in name):
        return gguf.GGMLQuantizationType.Q8_0
    return gguf.GGMLQuantizationType.F16


def write(sample: Sample, out: Path) -> None:
    model = Model(sample)
    name = sample.name or sample.folder
    writer = gguf.GGUFWriter(out / f"{name}.gguf", sample.arch)
    write_settings(writer, model)
    enum = next(key for key, known in gguf.MODEL_ARCH_NAMES.items() if known == sample.arch)
    names = gguf.get_tensor_name_map(enum, len(sample.blocks))
    for hf, value in sorted(prepare(model).items()):
        if hf.startswith("blk."):
            new = hf
        elif match := re.fullmatch(r"model\.layers\.(\d+)\.block_sparse_moe\.experts\.(\d+)\.(w\d)\.weight", hf):
            part = {"w1": "ffn_gate", "w2": "ffn_down", "w3": "ffn_up"}[match[3]]
            new = f"blk.{match[1]}.{part}.{match[2]}.weight"
        else:
            new = names.get_name(hf, try_suffixes=(".weight", ".bias"))
        assert new, f"{sample.arch} has no name for {hf}"
        value = value.squeeze() if value.ndim == 2 and 1 in value.shape else value
        dtype = kind(new, value)
        writer.add_tensor(new, gguf.quantize(value, dtype), raw_dtype=dtype)
    if "one more block" in sample.options:
        block = len(sample.blocks)
        writer.add_tensor(f"blk.{block}.nextn.eh_proj.weight", np.zeros((8, 8), dtype=np.float32))
        writer.add_tensor(f"blk.{block}.attn_norm.weight", np.zeros(8, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    about = {"folder": sample.folder, "blocks": sample.blocks, "changed": changed(model), "without": sample.without}
    (out / f"{name}.json").write_text(json.dumps(about, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these samples")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for sample in SAMPLES:
        if not options.names or (sample.name or sample.folder) in options.names:
            write(sample, options.out)


if __name__ == "__main__":
    main()

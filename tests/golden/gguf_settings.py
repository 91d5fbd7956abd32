"""What llama.cpp's converter writes of a configuration."""

import gguf
import numpy as np
from gguf_model import Model


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
    width = get("intermediate_size_mlp", "intermediate_size", "n_inner", "ffn_hidden_size", default=4 * model.hidden)
    if arch == "dbrx":
        width = config["ffn_config"]["ffn_hidden_size"]
    writer.add_feed_forward_length(width)
    writer.add_head_count(model.heads)
    if arch not in ("gpt2", "gptneox", "mpt"):
        always = {"phi2": model.heads, "starcoder": 1, "deepseek2": 1}
        writer.add_head_count_kv(always.get(arch, model.kv_heads))
    if arch == "deepseek2":
        write_latents(writer, model)
    elif "head_dim" in config and config["head_dim"] and arch != "granite":
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    write_norms(writer, model)
    write_rope(writer, model)
    write_windows(writer, model)
    write_experts(writer, model)
    write_others(writer, model)


def write_latents(writer: gguf.GGUFWriter, model: Model) -> None:
    """Latent attention, as one head whose keys and values are the latent vector."""
    get = model.get
    own, rotated, value = get("qk_nope_head_dim"), get("qk_rope_head_dim"), get("v_head_dim")
    if (rank := get("q_lora_rank")) is not None:
        writer.add_q_lora_rank(rank)
    writer.add_kv_lora_rank(get("kv_lora_rank"))
    if "kv_b whole" in model.sample.options:
        writer.add_key_length(own + rotated)
        writer.add_value_length(value)
    else:
        writer.add_key_length(get("kv_lora_rank") + rotated)
        writer.add_value_length(get("kv_lora_rank"))
        writer.add_key_length_mla(own + rotated)
        writer.add_value_length_mla(value)
    writer.add_rope_dimension_count(rotated)
    if (warmth := model.rope.get("mscale_all_dim")) is not None:
        writer.add_rope_scaling_yarn_log_mul(0.1 * warmth)


def write_norms(writer: gguf.GGUFWriter, model: Model) -> None:
    arch, get = model.sample.arch, model.get
    if arch == "olmoe" or (eps := get("rms_norm_eps")) is not None:
        writer.add_layer_norm_rms_eps(1e-5 if arch == "olmoe" else eps)
    if arch in ("olmo", "mpt", "dbrx"):
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
    elif arch in ("llama", "smollm3", "granite", "granitemoe", "cohere2", "apertus", "llama4", "mistral3"):
        writer.add_rope_dimension_count(model.head_dim)
    if arch == "phi3":
        original = config.get("original_max_position_embeddings", 4096)
        writer.add_rope_scaling_orig_ctx_len(original)
        if kind == "longrope":
            stretch = config["max_position_embeddings"] / original
            writer.add_rope_scaling_attn_factors((1 + np.log(stretch) / np.log(original)) ** 0.5)
    if arch == "mistral3" and kind == "yarn":
        writer.add_rope_scaling_yarn_log_mul(rope["mscale_all_dim"])
        writer.add_attn_temperature_scale(rope["llama_4_scaling_beta"])
    if arch in ("llama", "apertus", "llama4") and kind == "llama3":
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
    elif arch in ("gemma2", "gemma3", "cohere2", "olmo2", "exaone4", "gpt-oss") and window:
        writer.add_sliding_window(window)
        if arch in ("olmo2", "exaone4"):
            kinds = [config["layer_types"][block] for block in model.sample.blocks]
            writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in kinds])


def write_experts(writer: gguf.GGUFWriter, model: Model) -> None:
    arch, get = model.sample.arch, model.get
    if arch == "dbrx":
        writer.add_expert_count(model.config["ffn_config"]["moe_num_experts"])
        writer.add_expert_used_count(model.config["ffn_config"]["moe_top_k"])
    if (count := get("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")) is None:
        return
    writer.add_expert_count(count)
    writer.add_expert_used_count(get("num_experts_per_tok", "moe_k"))
    if (width := get("moe_intermediate_size")) is not None:
        writer.add_expert_feed_forward_length(width)
    if arch in ("gpt-oss", "llama4"):
        writer.add_expert_feed_forward_length(get("intermediate_size"))
    if arch == "llama4":
        writer.add_interleave_moe_layer_step(model.sample.changed["interleave_moe_layer_step"])
    if arch == "deepseek2":
        write_deepseek_experts(writer, model)
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


def write_deepseek_experts(writer: gguf.GGUFWriter, model: Model) -> None:
    get = model.get
    writer.add_leading_dense_block_count(get("first_k_dense_replace"))
    writer.add_expert_shared_count(get("n_shared_experts"))
    writer.add_expert_weights_scale(get("routed_scaling_factor"))
    if get("norm_topk_prob"):
        writer.add_expert_weights_norm(True)
    if get("topk_method") != "greedy":
        writer.add_expert_group_count(get("n_group"))
        writer.add_expert_group_used_count(get("topk_group"))
    if get("model_type") == "deepseek_v3":
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)


def write_others(writer: gguf.GGUFWriter, model: Model) -> None:
    arch, config = model.sample.arch, model.config
    if arch == "gemma2":
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
    if arch in ("gemma2", "gemma3"):
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if arch in ("stablelm", "gptneox"):
        writer.add_parallel_residual(config["use_parallel_residual"])
    if arch == "dbrx":
        writer.add_clamp_kqv(config["attn_config"]["clip_qkv"])
    if arch == "apertus":
        for part in ("alpha_n", "alpha_p", "beta", "eps"):
            names = [f"model.layers.{block}.mlp.act_fn.{part}" for block in model.sample.blocks]
            getattr(writer, f"add_xielu_{part}")([float(model.tensors[name].reshape(())) for name in names])
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

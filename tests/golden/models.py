"""The files of the tiny seeded models: weights, configuration, tokenizer."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

import mxfp4
from bases import Tiny

EAGER = {"attn_implementation": "eager", "experts_implementation": "eager"}


@torch.no_grad()
def write(tiny: Tiny, folder: Path, seed: int) -> nn.Module:
    """Writes the model's files, and returns the model as transformers loads it from them."""
    config = AutoConfig.for_model(tiny.model_type, **tiny.config, **EAGER)
    model = alibi_once(auto_class(config).from_config(config, dtype=torch.float32))
    seed_weights(model, seed)
    seed_buffers(model, seed)
    blocks = mxfp4.seed_blocks(model, seed) if tiny.mxfp4 else {}
    model.save_pretrained(folder, **({"max_shard_size": tiny.shard} if tiny.shard else {}))
    (folder / "generation_config.json").unlink(missing_ok=True)
    edit_config(folder / "config.json", tiny)
    if tiny.mxfp4:
        mxfp4.put(folder, blocks)
    if tiny.as_on_hub:
        as_on_hub(folder / "model.safetensors", config)
    if tiny.renames:
        rename(folder / "model.safetensors", tiny.renames)
    if tiny.tokenizer:
        write_tokenizer(folder, tiny.vocab)
    loaded = load(folder)
    ids = torch.arange(tiny.vocab - 8, tiny.vocab)[None]
    assert torch.equal(loaded(ids).logits, model.eval()(ids).logits), f"{tiny.name} is not what was saved"
    return loaded


def load(folder: Path) -> nn.Module:
    """The model in a folder, with eager attention in float32. It must agree with the attention that is the default."""

    def read(kind: str) -> nn.Module:
        how = EAGER | {"attn_implementation": kind}
        config = AutoConfig.from_pretrained(folder)
        return auto_class(config).from_pretrained(folder, **how, dtype=torch.float32).eval()

    model = alibi_once(read("eager"))
    if model.config.model_type == "falcon":
        ids = torch.arange(2, 12)[None]
        assert torch.allclose(model(ids).logits, read("sdpa")(ids).logits, atol=1e-3)
    return model


def auto_class(config) -> type:
    """What makes a model of this type: some of those that see images are no plain language models."""
    return AutoModelForImageTextToText if hasattr(config, "text_config") else AutoModelForCausalLM


def alibi_once(model: nn.Module) -> nn.Module:
    """Falcon's eager attention finds ALiBi in the mask, and adds it once more. Its default attention does not."""
    if model.config.model_type == "falcon" and model.config.alibi:
        for block in model.transformer.h:
            block.self_attention.register_forward_pre_hook(without_alibi, with_kwargs=True)
    return model


def without_alibi(_, args, kwargs):
    return args, {**kwargs, "alibi": torch.zeros_like(kwargs["alibi"])}


@torch.no_grad()
def seed_weights(model: nn.Module, seed: int):
    """Weights wide enough that attention is far from uniform, norms far from 1, and no bias is zero."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in sorted(model.named_parameters()):
        noise = torch.randn(weight.shape, generator=generator)
        if name.endswith("bias"):
            weight.copy_(0.3 * noise)
        elif weight.dim() == 1 or "norm" in name.split(".")[-2]:
            weight.copy_(1 + 0.3 * noise)
        elif any(part in name for part in ("wte", "wpe", "embed", "lm_head")):
            weight.copy_(0.6 * noise)
        else:
            weight.copy_(1.4 * noise / weight_inputs(model, name, weight) ** 0.5)


@torch.no_grad()
def seed_buffers(model: nn.Module, seed: int):
    """What is stored and no parameter: what moves a router's choice, and the slope of xIELU at 0."""
    generator = torch.Generator().manual_seed(seed)
    for name, buffer in sorted(model.named_buffers()):
        if name.endswith("e_score_correction_bias"):
            buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator))
        if name.endswith("act_fn.beta"):
            buffer.copy_(0.5 + 0.2 * torch.rand(buffer.shape, generator=generator))


def weight_inputs(model: nn.Module, name: str, weight: torch.Tensor) -> int:
    """How many inputs a projection has: GPT-2 keeps its matrices the other way round, and so do some experts."""
    module = model.get_submodule(name.rpartition(".")[0])
    kind = type(module).__name__
    if kind == "DbrxExpertGLU":
        return module.ffn_hidden_size if name.endswith("w2") else weight.shape[1]
    if kind == "Llama4TextExperts":
        return weight.shape[1]
    stacked = weight.dim() == 3 or kind.endswith("Router")  # experts, and what chooses them
    return weight.shape[-1] if stacked or isinstance(module, nn.Linear) else weight.shape[0]


def edit_config(path: Path, tiny: Tiny):
    config = json.loads(path.read_text())
    for key in tiny.config_drop:
        config.pop(key)
    path.write_text(json.dumps(config | tiny.config_edit, indent=1, sort_keys=True) + "\n")


def as_on_hub(path: Path, config):
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in load_file(path).items()}
    mask = torch.ones(config.n_positions, config.n_positions, dtype=torch.uint8).tril()[None, None]
    tensors |= {f"h.{layer}.attn.bias": mask.clone() for layer in range(config.n_layer)}
    save_file(tensors, path, metadata={"format": "pt"})


def rename(path: Path, renames: tuple[tuple[str, str], ...]):
    """Names a file's tensors as other versions did. Each takes the first rename that fits."""
    def renamed(name: str) -> str:
        found = [(old, new) for old, new in renames if name.startswith(old)]
        return found[0][1] + name.removeprefix(found[0][0]) if found else name

    tensors = {renamed(name): tensor for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


SENTENCES = [
    "The cat sat on the mat, and the dog sat on the cat.",
    "The capital of France is Paris; the capital of Italy is Rome.",
    "When John and Mary went to the shops, John gave the bag to Mary.",
    "A token is a piece of text, and a text is a list of tokens.",
]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


def write_tokenizer(folder: Path, vocab_size: int):
    """A byte-level BPE tokenizer that puts `<|bos|>` first, with a chat template beside it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|bos|>", "<|eos|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A", pair="<|bos|> $A $B", special_tokens=[("<|bos|>", 0)]
    )
    assert tokenizer.get_vocab_size() == vocab_size, tokenizer.get_vocab_size()
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=False) + "\n")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|bos|>",
        "eos_token": "<|eos|>",
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")

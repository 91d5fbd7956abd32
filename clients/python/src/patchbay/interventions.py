"""nnterp's interventions, each one recipe of the server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .arrays import native, to_numpy

if TYPE_CHECKING:
    from .model import StandardizedTransformer

__all__ = [
    "TargetPrompt",
    "TargetPromptBatch",
    "logit_lens",
    "patch_object_attn_lens",
    "patchscope_generate",
    "patchscope_lens",
    "repeat_prompt",
    "skip_layers",
    "steer",
]


def _list(prompts: str | list[str]) -> list[str]:
    return [prompts] if isinstance(prompts, str) else list(prompts)


def logit_lens(nn_model: StandardizedTransformer, prompts: str | list[str], remote: bool = False) -> Any:
    """Probabilities `[prompts, layers, vocabulary]` of the next token, read off each layer's output at the last token."""
    return nn_model.bay.recipe("logit-lens", nn_model.name, input=_list(prompts))["probs"]


@dataclass
class TargetPrompt:
    """A prompt, and the position whose hidden state is replaced."""

    prompt: str
    index_to_patch: int


@dataclass
class TargetPromptBatch:
    """Target prompts with positions of their own."""

    prompts: list[str]
    index_to_patch: Any

    @classmethod
    def from_target_prompts(cls, prompts_: list[TargetPrompt]) -> TargetPromptBatch:
        """Of several target prompts."""
        return cls([target.prompt for target in prompts_], [target.index_to_patch for target in prompts_])

    @classmethod
    def from_target_prompt(cls, prompt: TargetPrompt, batch_size: int) -> TargetPromptBatch:
        """Of one, so many times."""
        return cls([prompt.prompt] * batch_size, [prompt.index_to_patch] * batch_size)

    @classmethod
    def from_prompts(cls, prompts: str | list[str], index_to_patch: Any) -> TargetPromptBatch:
        """Of prompts, and a position for each or for all."""
        prompts = _list(prompts)
        return cls(prompts, [index_to_patch] * len(prompts) if isinstance(index_to_patch, int) else index_to_patch)

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, number: int) -> TargetPrompt:
        return TargetPrompt(self.prompts[number], int(self.index_to_patch[number]))

    def __iter__(self) -> Iterator[TargetPrompt]:
        return (self[number] for number in range(len(self)))


def repeat_prompt(
    words: list[str] | None = None, rel: str = " ", sep: str = "\n", placeholder: str = "?", index_to_patch: int = -1
) -> TargetPrompt:
    """The prompt of the patchscopes paper: each word twice, and a placeholder whose token is replaced."""
    words = ["king", "1135", "hello"] if words is None else words
    return TargetPrompt(sep.join(word + rel + word for word in words) + sep + placeholder, index_to_patch)


def _targets(target: Any) -> Any:
    target = repeat_prompt() if target is None else target
    one = lambda target: {"prompt": target.prompt, "index": int(target.index_to_patch)}  # noqa: E731
    return one(target) if isinstance(target, TargetPrompt) else [one(each) for each in target]


def patchscope_lens(
    nn_model: StandardizedTransformer,
    source_prompts: str | list[str] | None = None,
    target_patch_prompts: TargetPrompt | list[TargetPrompt] | TargetPromptBatch | None = None,
    layers: int | list[int] | None = None,
    latents: Any = None,
    remote: bool = False,
) -> Any:
    """Probabilities `[prompts, layers, vocabulary]` of what the target prompt says next when its token has the source's last hidden state of a layer.

    `latents` `[layers, prompts, hidden]` may stand for the sources' states.
    """
    if (source_prompts is None) == (latents is None):
        raise ValueError("give either source_prompts or latents")
    fields: dict[str, Any] = {"target": _targets(target_patch_prompts)}
    if layers is not None:
        fields["layers"] = [layers] if isinstance(layers, int) else list(layers)
    if latents is None:
        fields["input"] = _list(source_prompts)  # type: ignore[arg-type]
    else:
        fields["latents"] = to_numpy(latents)
    return nn_model.bay.recipe("patchscope", nn_model.name, **fields)["probs"]


def patchscope_generate(
    nn_model: StandardizedTransformer,
    prompts: str | list[str],
    target_patch_prompt: TargetPrompt,
    max_length: int = 50,
    layers: list[int] | None = None,
    remote: bool = False,
    max_batch_size: int = 32,
) -> dict[int, Any]:
    """Ids `[prompts, tokens]` by layer of what the target prompt becomes when its token has the source's last hidden state of that layer."""
    prompts = _list(prompts)
    layers = list(range(nn_model.num_layers)) if layers is None else list(layers)
    streams = nn_model.bay.recipe("activations", nn_model.name, input=prompts, layers=layers)["activations"]
    found = {}
    for place, layer in enumerate(layers):
        with nn_model.generate([target_patch_prompt.prompt] * len(prompts), max_new_tokens=max_length) as tracer:
            with tracer.iter[0]:
                nn_model.layers_output[layer][:, target_patch_prompt.index_to_patch] = streams[place]
        found[layer] = tracer.result.value
    return found


def patch_object_attn_lens(
    nn_model: StandardizedTransformer,
    source_prompts: str | list[str],
    target_prompts: str | list[str],
    attn_idx_patch: int,
    num_patches: int = 5,
) -> Any:
    """Probabilities `[prompts, layers, vocabulary]` where attention, for some layers from each on, sees the source's last token in place of one of the
    target's."""
    sources, targets = _list(source_prompts), _list(target_prompts)
    fields = {"sources": sources, "targets": targets, "index": int(attn_idx_patch), "num_patches": num_patches}
    return nn_model.bay.recipe("object-attention-lens", nn_model.name, **fields)["probs"]


def steer(
    nn_model: StandardizedTransformer, layers: int | list[int], steering_vector: Any, factor: float = 1, **places: Any
) -> None:
    """`model.steer`, as a function."""
    nn_model.steer(layers, steering_vector, factor, **places)


def skip_layers(nn_model: StandardizedTransformer, start_layer: int, end_layer: int, skip_with: Any = None) -> None:
    """`model.skip_layers`, as a function."""
    nn_model.skip_layers(start_layer, end_layer, skip_with)


def stacked(parts: list[Any], axis: int) -> Any:
    """Tensors one after the other along an axis."""
    import numpy as np

    return native(np.concatenate([to_numpy(part) for part in parts], axis))

"""nnterp's interventions, each one recipe of the server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import native, to_numpy

if TYPE_CHECKING:
    from .model import StandardizedTransformer

__all__ = [
    "TargetPrompt",
    "TargetPromptBatch",
    "it_repeat_prompt",
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


def logit_lens(
    nn_model: StandardizedTransformer, prompts: str | list[str], remote: bool = False, return_inv_logits: bool = False
) -> Any:
    """Probabilities `[prompts, layers, vocabulary]` of the next token, read off each layer's output at the last token.

    With `return_inv_logits` also those of the streams turned round behind the last norm.
    """
    if not return_inv_logits:
        return nn_model.bay.recipe("logit-lens", nn_model.name, input=_list(prompts))["probs"]
    graph = [
        'normed = call(layers.*.output[:, -1], module="ln_final")',
        'save transpose(softmax(call(normed, module="lm_head"), -1), 0, 1) as probs',
        'save transpose(softmax(call(-normed, module="lm_head"), -1), 0, 1) as inverse',
    ]
    found = nn_model.bay.trace(nn_model.name, _list(prompts), graph)
    return found["probs"], found["inverse"]


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

    def __post_init__(self) -> None:
        self.index_to_patch = native(to_numpy(self.index_to_patch))

    @classmethod
    def from_target_prompts(cls, prompts_: list[TargetPrompt]) -> TargetPromptBatch:
        """Of several target prompts."""
        return cls([target.prompt for target in prompts_], [int(target.index_to_patch) for target in prompts_])

    @classmethod
    def from_target_prompt(cls, prompt: TargetPrompt, batch_size: int) -> TargetPromptBatch:
        """Of one, so many times."""
        return cls([prompt.prompt] * batch_size, [int(prompt.index_to_patch)] * batch_size)

    @staticmethod
    def auto(
        target_prompt: TargetPrompt | list[TargetPrompt] | TargetPromptBatch, batch_size: int
    ) -> TargetPromptBatch:
        """Of whatever names target prompts."""
        if isinstance(target_prompt, TargetPrompt):
            return TargetPromptBatch.from_target_prompt(target_prompt, batch_size)
        if isinstance(target_prompt, list):
            return TargetPromptBatch.from_target_prompts(target_prompt)
        if isinstance(target_prompt, TargetPromptBatch):
            return target_prompt
        raise ValueError(
            f"a TargetPrompt, a list of them or a TargetPromptBatch is wanted, found {type(target_prompt).__name__}"
        )

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


GUESS = "Your task is to guess the next word in the sentence. You must answer with the next word only."


def it_repeat_prompt(
    tokenizer: Any,
    words: list[str] | None = None,
    rel: str = " ",
    sep: str = "\n",
    placeholder: str = "?",
    complete_prompt: bool = True,
    add_user_instr: bool = True,
    use_system_prompt: bool = True,
) -> TargetPrompt:
    """`repeat_prompt` for models that were trained on conversations: `tokenizer` is the model's, whose chat template writes it."""
    prompt = repeat_prompt(words, rel, sep, placeholder).prompt
    chat = []
    if add_user_instr:
        if use_system_prompt:
            chat.append(("system", "You are a helpful assistant."))
        chat += [
            ("user", f"I will provide you with a series of sentences. {GUESS}"),
            ("assistant", "Ok."),
            ("user", prompt),
        ]
    elif use_system_prompt:
        chat += [("system", f"The user will provide you with a sentence. {GUESS}"), ("user", prompt)]
    else:
        chat.append(("user", f"Guess the next word in the following sentence (answer only the next word): {prompt}"))
    chat.append(("assistant", prompt if complete_prompt else ""))
    messages = [{"role": role, "content": content} for role, content in chat]
    text = tokenizer.apply_chat_template(
        messages, tokenize=False, continue_final_message=True, add_special_tokens=False
    )
    return TargetPrompt(text, -1)


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
    layer_to_patch: int | list[int] | None = None,
) -> Any:
    """Probabilities `[prompts, layers, vocabulary]` of what the target prompt says next when its token has the source's last hidden state of a layer.

    `latents` `[layers, prompts, hidden]` may stand for the sources' states. `layer_to_patch` is `layers`, as nnterp's README calls it.
    """
    layers = layer_to_patch if layers is None else layers
    if (source_prompts is None) == (latents is None):
        raise ValueError("give either source_prompts or latents")
    fields: dict[str, Any] = {"target": _targets(target_patch_prompts)}
    if layers is not None:
        fields["layers"] = [layers] if isinstance(layers, int) else list(layers)
    if latents is None:
        fields["input"] = _list(source_prompts)  # type: ignore[arg-type]
    else:
        # as nnterp has it, the first ones are those of the layers
        count = len(fields.get("layers", range(nn_model.num_layers)))
        fields["latents"] = to_numpy(latents)[:count]
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
    found = nn_model.bay.recipe(
        "patchscope-generate",
        nn_model.name,
        input=prompts,
        layers=layers,
        target=_targets(target_patch_prompt),
        max_new_tokens=max_length,
    )
    begun = nn_model.tokenizer.encode(target_patch_prompt.prompt)
    by_layer = {}
    for place, layer in enumerate(layers):
        rows = [begun + of_prompt[place] for of_prompt in found["ids"]]
        longest = max(map(len, rows))
        # texts that ended are padded behind, as transformers does it
        by_layer[layer] = native(np.array([row + [0] * (longest - len(row)) for row in rows]))
    return by_layer


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
    return native(np.concatenate([to_numpy(part) for part in parts], axis))

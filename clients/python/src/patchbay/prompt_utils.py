"""nnterp's prompts with targets: how likely words are that stand for something."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import native, to_numpy
from .interventions import stacked
from .model import StandardizedTransformer
from .nnsight_utils import compute_next_token_probs
from .tokenizer import Tokenizer

#: What no word begins with, behind which a tokenizer adds no space.
_MARK = "🍐"


def get_first_tokens(words: str | list[str], llm_or_tokenizer: StandardizedTransformer | Tokenizer) -> list[int]:
    """The first token of each word and of the word behind a space, each once; a space that is a token of its own is left out."""
    tokenizer = (
        llm_or_tokenizer.tokenizer if isinstance(llm_or_tokenizer, StandardizedTransformer) else llm_or_tokenizer
    )
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False)  # noqa: E731
    found, space = [], encode(" ")[:1]
    for word in [words] if isinstance(words, str) else words:
        bare, spaced = encode(word)[:1], encode(" " + word)[:1]
        if bare == spaced and not word.startswith(" "):
            mark, marked = encode(_MARK), encode(_MARK + word)
            if marked[: len(mark)] == mark and len(marked) > len(mark):
                bare = [marked[len(mark)]]
        found += bare + (spaced if spaced != space else [])
    return list(dict.fromkeys(found))


@dataclass
class Prompt:
    """A prompt, and the tokens of each of its targets."""

    prompt: str
    target_tokens: dict[str, list[int]]
    target_strings: dict[str, str | list[str]] | None = None

    @classmethod
    def from_strings(cls, prompt: str, target_strings: Any, tokenizer: Any) -> Prompt:
        """Of words by target, or of the words of a single one."""
        if isinstance(target_strings, (str, list)):
            target_strings = {"target": target_strings}
        tokens = {target: get_first_tokens(words, tokenizer) for target, words in target_strings.items()}
        return cls(prompt, tokens, target_strings)

    def has_no_collisions(self, ignore_targets: None | str | list[str] = None) -> bool:
        """Whether no token belongs to two targets."""
        ignored = [ignore_targets] if isinstance(ignore_targets, str) else ignore_targets or []
        tokens = [token for target, own in self.target_tokens.items() if target not in ignored for token in own]
        return len(tokens) == len(set(tokens))

    def get_target_probs(self, probs: Any, layer: int | None = None) -> dict[str, Any]:
        """Summed probabilities by target of `[prompts, layers, vocabulary]`."""
        array = to_numpy(probs)
        found = {target: array[:, :, tokens].sum(2) for target, tokens in self.target_tokens.items()}
        return {target: native(sums if layer is None else sums[:, layer]) for target, sums in found.items()}

    def run(self, nn_model: StandardizedTransformer, get_probs: Callable[..., Any]) -> dict[str, Any]:
        """Summed probabilities by target of this prompt."""
        return self.get_target_probs(get_probs(nn_model, self.prompt))


def next_token_probs_unsqueeze(nn_model: StandardizedTransformer, prompt: Any, remote: bool = False, **_: Any) -> Any:
    """Probabilities of the next token with an axis for a layer `[prompts, 1, vocabulary]`."""
    return native(to_numpy(compute_next_token_probs(nn_model, prompt))[:, None])


def run_prompts(
    nn_model: StandardizedTransformer,
    prompts: list[Prompt],
    batch_size: int = 32,
    get_probs_func: Callable[..., Any] | None = None,
    func_kwargs: dict[str, Any] | None = None,
    remote: bool = False,
    tqdm: Any = None,
) -> dict[str, Any]:
    """Summed probabilities `[prompts, layers]` by target, of prompts with targets of the same names."""
    if not prompts:
        return {}
    names = set(prompts[0].target_tokens)
    for prompt in prompts:
        if set(prompt.target_tokens) != names:
            raise ValueError(f"All prompts must have the same target keys. Got {names} and {set(prompt.target_tokens)}")
    get_probs = get_probs_func or next_token_probs_unsqueeze
    starts: Any = range(0, len(prompts), batch_size)
    starts = tqdm(starts, desc="Running prompts") if tqdm is not None else starts
    texts = [prompt.prompt for prompt in prompts]
    parts = [get_probs(nn_model, texts[at : at + batch_size], **(func_kwargs or {})) for at in starts]
    probs = to_numpy(stacked(parts, 0))
    return {
        target: native(np.stack([probs[i][:, prompt.target_tokens[target]].sum(1) for i, prompt in enumerate(prompts)]))
        for target in prompts[0].target_tokens
    }

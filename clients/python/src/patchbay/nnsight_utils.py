"""nnterp's collecting of activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .interventions import _list, stacked

if TYPE_CHECKING:
    from .model import StandardizedTransformer


def get_token_activations(
    nn_model: StandardizedTransformer,
    prompts: str | list[str],
    layers: list[int] | None = None,
    idx: int | None = None,
    site: str = "output",
    remote: bool = False,
) -> Any:
    """Activations `[layers, prompts, hidden]` at one token of each prompt, the last where nothing is said."""
    fields: dict[str, Any] = {"input": _list(prompts), "index": -1 if idx is None else idx, "site": site}
    if layers is not None:
        fields["layers"] = list(layers)
    return nn_model.bay.recipe("activations", nn_model.name, **fields)["activations"]


def collect_token_activations_batched(
    nn_model: StandardizedTransformer,
    prompts: list[str],
    batch_size: int = 256,
    layers: list[int] | None = None,
    idx: int | None = None,
    site: str = "output",
    remote: bool = False,
    tqdm: Any = None,
) -> Any:
    """The same of any number of prompts, so many in a request."""
    starts: Any = range(0, len(prompts), batch_size)
    starts = tqdm(starts, desc="Collecting activations") if tqdm is not None else starts
    parts = [get_token_activations(nn_model, prompts[at : at + batch_size], layers, idx, site) for at in starts]
    return stacked(parts, 1)


def compute_next_token_probs(nn_model: StandardizedTransformer, prompt: str | list[str], remote: bool = False) -> Any:
    """Probabilities `[prompts, vocabulary]` of the next token."""
    return nn_model.bay.recipe("next-token-probs", nn_model.name, input=_list(prompt))["probs"]

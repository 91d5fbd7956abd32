"""Gradients twice: as `grad` nodes of a request, and by autograd on traces that were kept on its graph."""

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from golden import Golden, Node, op, save
from layouts import stack_rows, token_axes
from taps import Edit, Seen, live_trace

Wrt = str | list[str]
TOLERANCE = {"of_largest": 5e-5}
TOKENS = (7, 11)  # the logits of these two are told apart
Runs = dict[str | None, Seen]
PLACE = re.compile(r"(?:(\w+)/)?(?:layers\.(\d+|\*|\[[\d,]+\])\.)?([a-z_.]+)(\[.*\])?")


def live(golden: Golden, prompt: str = "clean", edits: dict[str, Edit] | None = None) -> Seen:
    """One prompt through the hooked model, on autograd's graph."""
    return live_trace(golden.model, golden.prompts[prompt], edits)


def diff(prefix: str = "", tokens: tuple[int, int] = TOKENS) -> Node:
    """The difference of two logits at each row's last token, `[B]`."""
    return op("sub", *(f"{prefix}logits[:, -1, {token}]" for token in tokens))


def diff_of(seen: Seen, tokens: tuple[int, int] = TOKENS) -> Tensor:
    """The same of a trace."""
    last = seen["logits"][:, -1]
    return last[:, tokens[0]] - last[:, tokens[1]]


def slope(of: Tensor, runs: Runs, wrt: Wrt) -> Tensor:
    """The gradient with respect to sites as a request names them; `runs` has a live trace for every input."""
    if isinstance(wrt, list):
        return torch.stack([slope(of, runs, one) for one in wrt])
    name, layers, site, index = PLACE.fullmatch(wrt).groups()
    seen = runs[name]
    sites = [site] if layers is None else [f"layers.{layer}.{site}" for layer in numbers(layers, seen)]
    found = torch.autograd.grad(of, [seen[site] for site in sites], retain_graph=True)
    if index:
        found = [
            torch.from_numpy(eval(f"gradient.numpy(){index}", {"gradient": gradient}).copy()) for gradient in found
        ]
    return found[0] if layers is None or layers.isdigit() else torch.stack(list(found))


def numbers(layers: str, seen: Seen) -> Iterable[int]:
    """The layers that `3`, `[0,2]` or `*` stands for."""
    if layers == "*":
        return range(sum(site.endswith(".mlp_add") for site in seen))
    return [int(layer) for layer in layers.strip("[]").split(",")]


def grad(of: Any, wrt: Wrt, name: str) -> Node:
    """A node that saves a gradient."""
    return save(op("grad", of=of, wrt=wrt), name)


def slopes(golden: Golden, name: str, inputs: dict, nodes: list[Node], of: Any, value: Tensor, runs: Runs, wrt: Any):
    """A case that saves gradients of the sum of `of`, which is `value`, after these nodes.

    `wrt` names the results, or is a list of sites, which are results under their own names. No gradient may be 0 all
    over.
    """
    wrt = wrt if isinstance(wrt, dict) else {place: place for place in wrt}
    expect = {result: slope(value.sum(), runs, place) for result, place in wrt.items()}
    nothing = [result for result, found in expect.items() if not found.any()]
    assert not nothing, f"{name}: {nothing}"
    graph = [*nodes, op("sum", of, id="of"), *(grad("$of", place, result) for result, place in wrt.items())]
    golden.add(name, inputs | {"graph": graph}, expect, tolerance=TOLERANCE)


def row_slopes(of: list[Tensor], runs: list[Seen], site: str) -> Tensor:
    """Rows that were run one by one, each with a number of its own: their gradients as one left-padded batch."""
    rows = [slope(number, {None: run}, site) for number, run in zip(of, runs)]
    return stack_rows(rows, token_axes(site))

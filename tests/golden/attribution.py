"""Attribution patching: a gradient's guess at what patching does, and how wrong it is."""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from golden import Golden, cut, op, part, put, save
from slopes import TOKENS, TOLERANCE, diff, diff_of, live, slope
from taps import Seen

LAYER_OUTPUT = re.compile(r"layers\.\d+\.output")


def attribution(golden: Golden):
    """Attribution patching at the last token: rows of different length have it in common."""
    attribution_patching(golden, TOKENS, "[:, -1]", (1 / 32, 1 / 64), range(golden.model.config.num_hidden_layers))


def attribution_patching(golden: Golden, tokens: tuple[int, int], index: str, steps: tuple[float, float], stepped: Any):
    """What the gradient says about putting the clean input's values into the corrupt one, for every layer.

    Its error is of second order, so that with a step half as long a fourth of it is left: `ratio` is the one over the
    other, in squares summed over the stepped layers.
    """
    clean, corrupt = golden.trace("clean"), live(golden, "corrupt")
    place, number = f"layers.*.output{index}", diff_of(corrupt, tokens)
    values = [torch.stack(list(outputs(run, index))) for run in (clean, corrupt)]
    delta = (values[0] - values[1]).detach()
    scores = (slope(number.sum(), {None: corrupt}, place) * delta).sum(-1).detach()
    inputs = {name: golden.input(name) for name in ("clean", "corrupt")}
    graph = [
        op("sum", diff("corrupt/", tokens), id="of"),
        op("sub", f"clean/{place}", f"corrupt/{place}", id="delta"),
        op("sum", op("mul", op("grad", of="$of", wrt=f"corrupt/{place}"), "$delta"), dim=-1, id="scores"),
        save("$scores", "scores"),
    ]
    total, squares = 0, torch.zeros(2)
    rows = torch.tensor(steps).reshape(-1, *[1] * (delta.dim() - 2)).tolist()
    for layer in stepped:
        target = f"step{layer}/layers.{layer}.output{index}"
        inputs[f"step{layer}"] = [golden.prompts["corrupt"]] * len(steps)
        graph.append(put(target, op("add", target, op("mul", f"$delta[{layer}]", rows))))
        change = op("sub", diff(f"step{layer}/", tokens), "$of")
        error = op("sub", change, op("mul", op("sum", f"$scores[{layer}]"), list(steps)))
        total = op("add", total, op("pow", error, 2))
        moved = [stepped_run(golden, layer, index, step * delta[layer]) for step in steps]
        changes = torch.cat([diff_of(run, tokens) - number for run in moved]).detach()
        squares += (changes - torch.tensor(steps) * scores[layer].sum()) ** 2
    graph += [op("sqrt", total, id="errors"), save(op("div", "$errors[0]", "$errors[1]"), "ratio")]
    errors = squares.sqrt()
    expect = {"scores": scores, "ratio": errors[0] / errors[1]}
    assert 3.2 < expect["ratio"] < 4.8, expect
    tolerance = TOLERANCE | {"ratio": 0.02}
    golden.add("attribution patching", {"inputs": inputs, "graph": graph}, expect, tolerance=tolerance)


def outputs(seen: Seen, index: str) -> Iterable[Tensor]:
    """A part of every layer's output."""
    return (cut(seen, site, index) for site in seen if LAYER_OUTPUT.fullmatch(site))


def stepped_run(golden: Golden, layer: int, index: str, delta: Tensor) -> Seen:
    """The corrupt run with this added to a layer's output."""
    edit = part(eval(f"numpy.s_{index or '[...]'}", {"numpy": np}), lambda value: value + delta)
    return golden.trace("corrupt", {f"layers.{layer}.output": edit})

"""Pictures of what recipes give, with plotly, or with matplotlib where plotly is not there: `pip install patchbay[display]`. Each is a figure of theirs, which
a notebook shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .arrays import to_numpy
from .backends import Bars, Heat, Lines, draw

__all__ = ["plot_attention", "plot_attribution", "plot_grid", "plot_lens", "plot_steering", "plot_targets"]


def _array(value: Any) -> np.ndarray:
    return to_numpy(getattr(value, "value", value))


def _labels(tokens: Sequence[str]) -> list[str]:
    """Tokens as text that is the same nowhere: a place before each, and spaces that are seen."""
    return [f"{place}: {token!r}" for place, token in enumerate(tokens)]


def _heat(grid: Any, x: Sequence[Any] | None, y: Sequence[Any] | None, title: str, **more: Any) -> Heat:
    values = _array(grid)
    if values.ndim != 2:
        raise ValueError(f"a grid has two axes, this has the shape {values.shape}")
    x = [str(label) for label in (range(values.shape[1]) if x is None else x)]
    y = [str(label) for label in (range(values.shape[0]) if y is None else y)]
    if (len(y), len(x)) != values.shape:
        raise ValueError(f"a grid of the shape {values.shape} has {len(y)} labels of rows and {len(x)} of columns")
    return Heat(values, x, y, title, **more)


def plot_grid(
    grid: Any,
    x: Sequence[Any] | None = None,
    y: Sequence[Any] | None = None,
    title: str = "",
    middle: float | None = None,
) -> Any:
    """A grid `[layers, positions]`, or whatever a sweep has: `patching-sweep`, `attribution-patching` and `steering-sweep`. `middle` is white, such as
    the metric without patches."""
    return draw(_heat(grid, x, y, title, middle=middle))


def plot_attention(pattern: Any, tokens: Sequence[str], title: str = "") -> Any:
    """One head's attention `[queries, keys]`, with tokens: `results["patterns"][layer, row, head]`."""
    return draw(_heat(pattern, _labels(tokens), _labels(tokens), title, low=0.0, downwards=True))


def plot_lens(probs: Any, tokenizer: Any, title: str = "", k: int = 3) -> Any:
    """The likeliest token at each layer and position, of probabilities `[layers, positions, vocabulary]`; the others are told where the mouse is."""
    values = _array(probs)
    if values.ndim != 3:
        raise ValueError(f"a lens has axes of layers, positions and tokens, this has the shape {values.shape}")
    best = np.argsort(-values, -1, kind="stable")[..., :k]
    names = {int(token): tokenizer.convert_ids_to_tokens(int(token)) for token in np.unique(best)}
    told = [
        ["<br>".join(f"{names[int(t)]!r} {values[i, j, t]:.4f}" for t in place) for j, place in enumerate(layer)]
        for i, layer in enumerate(best)
    ]
    text = [[repr(names[int(place[0])]) for place in layer] for layer in best]
    first = np.take_along_axis(values, best, -1)[..., 0]
    return draw(_heat(first, None, None, title, low=0.0, high=1.0, text=text, told=told))


def plot_targets(found: Mapping[str, Any], layers: Sequence[int] | None = None, title: str = "") -> Any:
    """How likely targets are over the layers, `[prompts, layers]` each: the mean over prompts, and each prompt's as a thin line."""
    series = {}
    for target, probs in found.items():
        values = _array(probs)
        if values.ndim != 2:
            raise ValueError(
                f"`{target}` has the shape {values.shape}, and no axis of layers: take them through a lens"
            )
        series[target] = values
    count = max((values.shape[1] for values in series.values()), default=0)
    x = list(range(count)) if layers is None else list(layers)
    return draw(Lines(series, x, title, ("layer", "probability")))


def plot_steering(grid: Any, layers: Sequence[int], factors: Sequence[float], title: str = "") -> Any:
    """A metric over the factors of a steering vector, a curve a layer: the `grid` of `steering-sweep`, `[layers, factors]`."""
    values = _array(grid)
    if values.shape != (len(layers), len(factors)):
        raise ValueError(
            f"there are {len(layers)} layers and {len(factors)} factors, and a grid of the shape {values.shape}"
        )
    series = {f"layer {layer}": curve[None] for layer, curve in zip(layers, values, strict=True)}
    return draw(Lines(series, list(factors), title, ("factor", "metric")))


def plot_attribution(attribution: Any, components: Sequence[str], k: int = 20, title: str = "") -> Any:
    """The components with the largest shares of a logit, largest first: a row of `results["attribution"]`, and `response["components"]`."""
    values = _array(attribution)
    if values.shape != (len(components),):
        raise ValueError(
            f"there are {len(components)} components, and shares of the shape {values.shape}: take one row"
        )
    best = np.argsort(-np.abs(values), kind="stable")[:k]
    return draw(Bars([components[i] for i in best], values[best], title, "share of the logit"))

"""Results as pandas frames: `pip install patchbay[display]`."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import is_array, to_numpy


def frame(result: Any, axes: list[str] | None = None) -> Any:
    """A line for each element of a tensor, or for each of the likeliest tokens at each place."""
    import pandas

    if is_array(result):
        array = to_numpy(result)
        names = _names(axes, array.ndim)
        places = np.indices(array.shape).reshape(array.ndim, -1) if array.ndim else np.zeros((0, 1), int)
        return pandas.DataFrame(dict(zip(names, places, strict=True)) | {"value": array.reshape(-1)})
    lines = list(_tokens(result, ()))
    depth = len(lines[0][0]) - 1 if lines else 0
    names = [*_names(axes, depth), "rank"]
    return pandas.DataFrame(
        [dict(zip(names, place, strict=True)) | token for place, token in lines],
        columns=[*names, "text", "id", "prob", "logit"],
    )


def _names(axes: list[str] | None, count: int) -> list[str]:
    names = [f"axis {axis}" for axis in range(count)] if axes is None else list(axes)
    if len(names) != count:
        raise ValueError(f"this result has {count} axes, and {len(names)} names were given")
    return names


def _tokens(value: Any, place: tuple[int, ...]) -> Any:
    """The tokens of nested lists, each with its place."""
    if isinstance(value, dict):
        yield place, value
    else:
        for number, inner in enumerate(value):
            yield from _tokens(inner, (*place, number))

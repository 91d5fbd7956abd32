"""How torch and numpy call things, and how a graph does."""

from __future__ import annotations

from typing import Any

from .arrays import is_array

DTYPES = {
    "float32": "f32",
    "float": "f32",
    "float64": "f64",
    "double": "f64",
    "float16": "f16",
    "half": "f16",
    "bfloat16": "bf16",
    "int64": "i64",
    "long": "i64",
    "bool": "bool",
}
#: Methods and functions that change nothing of a value here.
SAME = {"cpu", "cuda", "contiguous", "requires_grad_", "numpy", "clone", "to"}
#: Those that are called otherwise.
OTHER = {"size": "shape", "multiply": "mul", "subtract": "sub", "divide": "div", "true_divide": "div", "power": "pow"}
OTHER |= {"concatenate": "cat", "concat": "cat", "absolute": "abs", "negative": "neg", "view": "reshape"}
CASTS = {"float": "f32", "double": "f64", "half": "f16", "bfloat16": "bf16", "long": "i64", "bool": "bool"}


def index_text(index: Any) -> str:
    """An index as a graph has it."""

    def one(item: Any) -> str:
        if isinstance(item, slice):
            parts = ["" if part is None else str(int(part)) for part in (item.start, item.stop)]
            return ":".join(parts + ([str(int(item.step))] if item.step is not None else []))
        if item is Ellipsis:
            return "..."
        if item is None:
            return "None"
        if isinstance(item, str):
            return repr(item)
        if is_array(item):
            item = item.tolist()
        if isinstance(item, (list, tuple, range)):
            return "[" + ", ".join(one(inner) for inner in item) + "]"
        if isinstance(item, bool) or not hasattr(item, "__index__"):
            raise TypeError(f"{item!r} cannot be an index in a trace")
        return str(int(item))

    return ", ".join(one(item) for item in (index if isinstance(index, tuple) else (index,)))

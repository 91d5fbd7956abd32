"""Tensors between Python and the wire: torch's where torch is there, else numpy's."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

try:
    import torch
except ImportError:  # pragma: no cover - depends on what is installed
    torch = None  # type: ignore[assignment]

_NAMES = {
    "float32": "f32",
    "float64": "f64",
    "float16": "f16",
    "int64": "i64",
    "int32": "i64",
    "int16": "i64",
    "int8": "i64",
    "uint8": "u8",
    "uint32": "u32",
    "bool": "bool",
}


def is_array(value: Any) -> bool:
    """Whether it is a tensor of torch or numpy."""
    return isinstance(value, (np.ndarray, np.generic)) or (torch is not None and isinstance(value, torch.Tensor))


def to_numpy(value: Any) -> np.ndarray:
    """Its elements, on the CPU."""
    if torch is not None and isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype == torch.bfloat16 else value
        return value.numpy()
    return np.asarray(value)


def native(array: np.ndarray) -> Any:
    """A tensor of torch where torch is there; it shares the array's memory where that can be written to."""
    array = np.require(array, requirements=("C", "W"))
    return array if torch is None else torch.from_numpy(array)


def wire(value: Any) -> Any:
    """An operand: plain numbers as they are, tensors as base64 of their little-endian bytes."""
    if not is_array(value):
        return value
    array = to_numpy(value)
    if array.ndim == 0:
        return array.item()
    name = _NAMES.get(array.dtype.name)
    if name is None:
        raise TypeError(f"a tensor of {array.dtype} cannot be sent")
    array = array.astype(np.int64) if name == "i64" else array
    data = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return {"dtype": name, "shape": list(array.shape), "b64": base64.b64encode(data).decode()}

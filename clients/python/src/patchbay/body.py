"""Bodies of answers, and the tensors in them where they arrived."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
from safetensors.numpy import load

SAFETENSORS = "application/vnd.safetensors"

_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "U32": "<u4", "U8": "u1", "BOOL": "?"}

# a small tensor is copied, so that it does not keep a large answer in memory
_SMALL = 1 << 20


class Body:
    """The bytes of an answer, put together once, in memory that its tensors go on using."""

    def __init__(self, size: int):
        self.bytes = np.empty(size, np.uint8)
        self._end = 0

    def add(self, part: bytes) -> None:
        """Takes the next bytes."""
        start, self._end = self._end, self._end + len(part)
        self.bytes[start : self._end] = np.frombuffer(part, np.uint8)


def body_for(answer: httpx.Response) -> Body | None:
    """Where the bytes of a file of tensors are to be put together; nothing for other answers."""
    size = answer.headers.get("content-length")
    if size is None or not is_file(answer) or "content-encoding" in answer.headers:
        return None
    body = Body(int(size))
    answer.extensions["patchbay_body"] = body
    return body


def is_file(answer: httpx.Response) -> bool:
    """Whether an answer is a file of tensors."""
    return answer.headers.get("content-type", "").startswith(SAFETENSORS)


def read_file(answer: httpx.Response) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors of such an answer by name, and its texts by name."""
    body = answer.extensions.get("patchbay_body")
    data = np.frombuffer(answer.content, np.uint8).copy() if body is None else body.bytes
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8:start].tobytes())
    texts = header.pop("__metadata__", {})
    if not all(info["dtype"] in _TYPES for info in header.values()):
        return load(data.tobytes()), texts
    return {name: _tensor(data[start:], info) for name, info in header.items()}, texts


def _tensor(data: np.ndarray, info: dict[str, Any]) -> np.ndarray:
    first, end = info["data_offsets"]
    found = data[first:end].view(_TYPES[info["dtype"]]).reshape(info["shape"])
    return found.copy() if found.nbytes < _SMALL else found

"""Requests as both clients send them, and when they are sent again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import httpx
import numpy as np
from safetensors.numpy import save as save_safetensors

from .arrays import to_numpy
from .body import SAFETENSORS
from .results import encoded

DEFAULT_URL = "http://localhost:8420"
#: How often a request is sent again that cannot have run: the server was not reached, was full, or was loading.
RETRIES = 8


def pause(attempt: int, answer: httpx.Response | None) -> float:
    after = answer.headers.get("retry-after") if answer is not None else None
    return min(float(after), 30.0) if after else min(0.1 * 2**attempt, 5.0)


def waits(answer: httpx.Response) -> bool:
    """Whether the server refused without running anything, for now."""
    return answer.status_code == 503 and "retry-after" in answer.headers


class Requests:
    """Bodies of requests, the same for both clients."""

    def __init__(self, base_url: str | None, api_key: str | None, timeout: float | None):
        self.base_url = (base_url or os.environ.get("PATCHBAY_URL") or DEFAULT_URL).rstrip("/")
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._options: dict[str, Any] = {"base_url": self.base_url, "timeout": timeout, "headers": headers}

    @staticmethod
    def _of(**fields: Any) -> dict[str, Any]:
        """A body of the fields that are there."""
        return encoded({name: value for name, value in fields.items() if value is not None})

    @staticmethod
    def _tensors(name: str, value: Any) -> dict[str, Any]:
        """Tensors as a file to be put."""
        tensors = value if isinstance(value, Mapping) else {name: value}
        body = save_safetensors({key: np.ascontiguousarray(to_numpy(tensor)) for key, tensor in tensors.items()})
        return {"content": body, "headers": {"content-type": SAFETENSORS}}

    @staticmethod
    def _trace(model: str | None, input: Any, graph: Any, fields: dict[str, Any]) -> dict[str, Any]:
        return Requests._generate(model, input, {"graph": graph, "output": {"encoding": "safetensors"}} | fields)

    @staticmethod
    def _recipe(model: str | None, fields: dict[str, Any]) -> dict[str, Any]:
        return Requests._of(**{"model": model, "output": {"encoding": "safetensors"}} | fields)

    @staticmethod
    def _generate(model: str | None, input: Any, fields: dict[str, Any]) -> dict[str, Any]:
        # a mapping is several inputs by name, unless it is one input with options
        several = isinstance(input, Mapping) and not {"text", "messages"} & set(input)
        return Requests._of(**{"model": model} | fields | {"inputs" if several else "input": input})

"""What a server answers, as Python has it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx

from .arrays import is_array, native, wire
from .body import is_file, read_file
from .errors import PatchbayError


class Results(dict):
    """Results by name: tensors, and lists of the likeliest tokens. `response` has the rest of the answer."""

    def __init__(self, found: Mapping[str, Any], response: dict[str, Any]):
        super().__init__(found)
        self.response = response

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no result is called {name!r}; there are {', '.join(self) or 'none'}") from None

    def frame(self, name: str, axes: list[str] | None = None) -> Any:
        """A result as a pandas frame, a line for each element: its place on every axis (`axes` names them), and the value, or for likeliest tokens their rank,
        text, id, probability and logit."""
        from .frames import frame

        return frame(self[name], axes)

    def _repr_html_(self) -> str:
        def row(name: str, value: Any) -> str:
            shown = f"tensor {tuple(value.shape)}" if is_array(value) else json.dumps(value, ensure_ascii=False)[:500]
            return f"<tr><th>{escaped(name)}</th><td>{escaped(shown)}</td></tr>"

        rows = "".join(row(name, value) for name, value in self.items())
        model, usage = self.response.get("model", ""), self.response.get("usage", {})
        took = f"{usage.get('compute_ms', 0):.1f} ms, {usage.get('layers_run', 0)} blocks"
        return f"<table><caption>{escaped(str(model))}: {took}</caption>{rows}</table>"


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def read_results(answer: httpx.Response) -> Results:
    """Results of an answer, safetensors or JSON."""
    if not is_file(answer):
        response = answer.json()
        return Results(response.get("results", {}), response)
    tensors, texts = read_file(answer)
    response = json.loads(texts["response"])
    found = {
        name: native(tensors[name]) if name in tensors else told.get("tokens", told) if isinstance(told, dict) else told
        for name, told in response["results"].items()
    }
    return Results(found, response)


def read_tensors(answer: httpx.Response) -> Any:
    """A stored name's tensor, or several by key."""
    tensors = {key: native(array) for key, array in read_file(answer)[0].items()}
    return next(iter(tensors.values())) if len(tensors) == 1 else tensors


def read_event(line: str, event: str) -> tuple[str, dict[str, Any] | None]:
    """A line of server-sent events after the name of the event that is being told; its data, if the line has it."""
    if line.startswith("event:"):
        return line[6:].strip(), None
    if not line.startswith("data:"):
        return event, None
    data = json.loads(line[5:])
    if event == "error":
        raise PatchbayError(data)
    return event, data


class Tree(dict):
    """Every site of a model and its shape; a notebook shows it as a table."""

    def _repr_html_(self) -> str:
        def line(site: dict[str, Any]) -> str:
            shape = ", ".join(str(size) for size in site["shape"])
            return (
                f"<tr><th>{escaped(site['name'])}</th><td>[{escaped(shape)}]</td><td>{escaped(site['about'])}</td></tr>"
            )

        lines = "".join(line(site) for site in self.get("sites", []))
        return f"<table><caption>{escaped(str(self.get('model', '')))}</caption>{lines}</table>"


def problem(answer: httpx.Response) -> PatchbayError:
    """What an answer refuses."""
    try:
        told = answer.json()
    except ValueError:
        told = {"detail": answer.text[:500] or answer.reason_phrase}
    return PatchbayError({"status": answer.status_code} | told)


def encoded(value: Any) -> Any:
    """A body whose tensors are operands."""
    if isinstance(value, Mapping):
        return {name: encoded(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [encoded(inner) for inner in value]
    return wire(value)

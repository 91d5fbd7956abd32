"""The direct interface: a method an endpoint."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx
import numpy as np
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from .arrays import is_array, native, to_numpy, wire
from .errors import PatchbayError

SAFETENSORS = "application/vnd.safetensors"
DEFAULT_URL = "http://localhost:8420"
#: How often a request is sent again that cannot have run: the server was not reached, was full, or was loading.
RETRIES = 8


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

    def _repr_html_(self) -> str:
        def row(name: str, value: Any) -> str:
            shown = f"tensor {tuple(value.shape)}" if is_array(value) else json.dumps(value, ensure_ascii=False)[:500]
            return f"<tr><th>{_escaped(name)}</th><td>{_escaped(shown)}</td></tr>"

        rows = "".join(row(name, value) for name, value in self.items())
        model, usage = self.response.get("model", ""), self.response.get("usage", {})
        took = f"{usage.get('compute_ms', 0):.1f} ms, {usage.get('layers_run', 0)} blocks"
        return f"<table><caption>{_escaped(str(model))}: {took}</caption>{rows}</table>"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def read_results(answer: httpx.Response) -> Results:
    """Results of an answer, safetensors or JSON."""
    if not answer.headers.get("content-type", "").startswith(SAFETENSORS):
        response = answer.json()
        return Results(response.get("results", {}), response)
    size = int.from_bytes(answer.content[:8], "little")
    response = json.loads(json.loads(answer.content[8 : 8 + size])["__metadata__"]["response"])
    tensors = load_safetensors(answer.content)
    found = {
        name: native(tensors[name]) if name in tensors else told.get("tokens", told)
        for name, told in response["results"].items()
    }
    return Results(found, response)


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


def _wait(attempt: int, answer: httpx.Response | None) -> float:
    after = answer.headers.get("retry-after") if answer is not None else None
    return min(float(after), 30.0) if after else min(0.1 * 2**attempt, 5.0)


def _waits(answer: httpx.Response) -> bool:
    """Whether the server refused without running anything, for now."""
    return answer.status_code == 503 and "retry-after" in answer.headers


class _Requests:
    """Bodies of requests, the same for both clients."""

    def __init__(self, base_url: str | None, api_key: str | None, timeout: float | None):
        self.base_url = (base_url or os.environ.get("PATCHBAY_URL") or DEFAULT_URL).rstrip("/")
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._options: dict[str, Any] = {"base_url": self.base_url, "timeout": timeout, "headers": headers}

    @staticmethod
    def _trace(model: str | None, input: Any, graph: Any, fields: dict[str, Any]) -> dict[str, Any]:
        body = {"model": model, "graph": graph, "output": {"encoding": "safetensors"}} | fields
        body["inputs" if isinstance(input, Mapping) and not {"text", "messages"} & set(input) else "input"] = input
        return encoded({name: value for name, value in body.items() if value is not None})

    @staticmethod
    def _recipe(model: str | None, fields: dict[str, Any]) -> dict[str, Any]:
        body = {"model": model, "output": {"encoding": "safetensors"}} | fields
        return encoded({name: value for name, value in body.items() if value is not None})

    @staticmethod
    def _generate(model: str | None, input: Any, fields: dict[str, Any]) -> dict[str, Any]:
        body = {"model": model, "input": input} | fields
        return encoded({name: value for name, value in body.items() if value is not None})


class Patchbay(_Requests):
    """A server. Requests that cannot have run are sent again, with growing pauses; no job ever runs twice.

    `base_url` is `PATCHBAY_URL` of the environment, or `http://localhost:8420`, where nothing is said. Every method raises `PatchbayError` for what the
    server refuses, and httpx's errors where it cannot be reached.
    """

    def __init__(self, base_url: str | None = None, api_key: str | None = None, timeout: float | None = 3600):
        super().__init__(base_url, api_key, timeout)
        self._http = httpx.Client(**self._options)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Sends a request, and gives its answer."""
        for attempt in range(RETRIES + 1):
            answer = None
            try:
                answer = self._http.request(method, path, **options)
            except httpx.ConnectError:
                if attempt == RETRIES:
                    raise
            if answer is not None and not (_waits(answer) and attempt < RETRIES):
                if answer.is_success:
                    return answer
                raise problem(answer)
            time.sleep(_wait(attempt, answer))
        raise AssertionError("unreachable")

    def trace(self, model: str | None, input: Any, graph: Any, **fields: Any) -> Results:
        """Runs a graph: a list of nodes, or their text form. A mapping is several inputs by name."""
        return read_results(self.request("POST", "/v1/trace", json=self._trace(model, input, graph, fields)))

    def validate(self, model: str | None, input: Any, graph: Any, **fields: Any) -> dict[str, Any]:
        """Shapes, plan and cost of a trace; runs nothing."""
        return self.request("POST", "/v1/validate", json=self._trace(model, input, graph, fields)).json()

    def recipe(self, name: str, model: str | None = None, **fields: Any) -> Results:
        """Runs a recipe: `bay.recipe("logit-lens", "smollm2", input="The capital of France is", k=3)`."""
        return read_results(self.request("POST", f"/v1/recipes/{name}", json=self._recipe(model, fields)))

    def explain(self, name: str, model: str | None = None, **fields: Any) -> dict[str, Any]:
        """The trace that a recipe is."""
        body = self._recipe(model, fields | {"explain": True})
        return self.request("POST", f"/v1/recipes/{name}", json=body).json()

    def generate(self, model: str | None, input: Any, **fields: Any) -> dict[str, Any]:
        """Generates text; the answer's `outputs` has a row each."""
        return self.request("POST", "/v1/generate", json=self._generate(model, input, fields)).json()

    def stream(self, model: str | None, input: Any, **fields: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        """Generates text, and tells of it while it comes: `token`, `saved`, and at the end `done`."""
        body = self._generate(model, input, fields | {"stream": True})
        with self._http.stream("POST", "/v1/generate", json=body) as answer:
            if not answer.is_success:
                answer.read()
                raise problem(answer)
            event = ""
            for line in answer.iter_lines():
                if line.startswith("event:"):
                    event = line[6:].strip()
                elif line.startswith("data:"):
                    data = json.loads(line[5:])
                    if event == "error":
                        raise PatchbayError(data)
                    yield event, data

    def tokenize(self, model: str | None, input: Any) -> dict[str, Any]:
        """Ids, token strings and lengths of each row."""
        body = {name: value for name, value in {"model": model, "input": encoded(input)}.items() if value is not None}
        return self.request("POST", "/v1/tokenize", json=body).json()

    def detokenize(self, model: str | None, ids: Any, skip_special_tokens: bool = False) -> dict[str, Any]:
        """Text and token strings of each row of ids."""
        body = {"model": model, "ids": ids, "skip_special_tokens": skip_special_tokens}
        return self.request("POST", "/v1/detokenize", json={k: v for k, v in body.items() if v is not None}).json()

    def models(self) -> list[dict[str, Any]]:
        """The models of the server."""
        return self.request("GET", "/v1/models").json()["data"]

    def model(self, name: str) -> dict[str, Any]:
        """A model's description."""
        return self.request("GET", f"/v1/models/{name}").json()

    def tree(self, name: str) -> dict[str, Any]:
        """Every site of a model and its shape."""
        return self.request("GET", f"/v1/models/{name}/tree").json()

    def put_tensor(self, name: str, value: Any) -> dict[str, Any]:
        """Keeps a tensor, or several by key, for graphs to name as `@name`."""
        tensors = value if isinstance(value, Mapping) else {name: value}
        body = save_safetensors({key: np.ascontiguousarray(to_numpy(tensor)) for key, tensor in tensors.items()})
        headers = {"content-type": SAFETENSORS}
        return self.request("PUT", f"/v1/tensors/{name}", content=body, headers=headers).json()

    def get_tensor(self, name: str) -> Any:
        """What a name holds: a tensor, or several by key."""
        answer = self.request("GET", f"/v1/tensors/{name}", headers={"accept": SAFETENSORS})
        tensors = {key: native(array) for key, array in load_safetensors(answer.content).items()}
        return next(iter(tensors.values())) if len(tensors) == 1 else tensors

    def delete_tensor(self, name: str) -> None:
        """Forgets a name."""
        self.request("DELETE", f"/v1/tensors/{name}")

    def put_edit(self, name: str, graph: Any, **fields: Any) -> dict[str, Any]:
        """Keeps a graph of writes: `"smollm2+name"` is the model with it."""
        return self.request("PUT", f"/v1/edits/{name}", json=encoded({"graph": graph} | fields)).json()

    def delete_edit(self, name: str) -> None:
        """Forgets an edit."""
        self.request("DELETE", f"/v1/edits/{name}")

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def __enter__(self) -> Patchbay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncPatchbay(_Requests):
    """The same, to be awaited."""

    def __init__(self, base_url: str | None = None, api_key: str | None = None, timeout: float | None = 3600):
        super().__init__(base_url, api_key, timeout)
        self._http = httpx.AsyncClient(**self._options)

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Sends a request, and gives its answer."""
        for attempt in range(RETRIES + 1):
            answer = None
            try:
                answer = await self._http.request(method, path, **options)
            except httpx.ConnectError:
                if attempt == RETRIES:
                    raise
            if answer is not None and not (_waits(answer) and attempt < RETRIES):
                if answer.is_success:
                    return answer
                raise problem(answer)
            await asyncio.sleep(_wait(attempt, answer))
        raise AssertionError("unreachable")

    async def trace(self, model: str | None, input: Any, graph: Any, **fields: Any) -> Results:
        """Runs a graph."""
        return read_results(await self.request("POST", "/v1/trace", json=self._trace(model, input, graph, fields)))

    async def recipe(self, name: str, model: str | None = None, **fields: Any) -> Results:
        """Runs a recipe."""
        return read_results(await self.request("POST", f"/v1/recipes/{name}", json=self._recipe(model, fields)))

    async def generate(self, model: str | None, input: Any, **fields: Any) -> dict[str, Any]:
        """Generates text."""
        return (await self.request("POST", "/v1/generate", json=self._generate(model, input, fields))).json()

    async def stream(self, model: str | None, input: Any, **fields: Any) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Generates text, and tells of it while it comes."""
        body = self._generate(model, input, fields | {"stream": True})
        async with self._http.stream("POST", "/v1/generate", json=body) as answer:
            if not answer.is_success:
                await answer.aread()
                raise problem(answer)
            event = ""
            async for line in answer.aiter_lines():
                if line.startswith("event:"):
                    event = line[6:].strip()
                elif line.startswith("data:"):
                    data = json.loads(line[5:])
                    if event == "error":
                        raise PatchbayError(data)
                    yield event, data

    async def aclose(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncPatchbay:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

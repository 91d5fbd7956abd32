"""The direct interface, to be awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx

from .body import SAFETENSORS, body_for
from .requests import RETRIES, Requests, pause, waits
from .results import Results, Tree, encoded, problem, read_event, read_results, read_tensors


class AsyncPatchbay(Requests):
    """The same as `Patchbay`, to be awaited."""

    def __init__(self, base_url: str | None = None, api_key: str | None = None, timeout: float | None = 3600):
        super().__init__(base_url, api_key, timeout)
        self._http = httpx.AsyncClient(**self._options)

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Sends a request, and gives its answer."""
        for attempt in range(RETRIES + 1):
            answer = None
            try:
                answer = await self._send(self._http.build_request(method, path, **options))
            except httpx.ConnectError:
                if attempt == RETRIES:
                    raise
            if answer is not None and not (waits(answer) and attempt < RETRIES):
                if answer.is_success:
                    return answer
                raise problem(answer)
            await asyncio.sleep(pause(attempt, answer))
        raise AssertionError("unreachable")

    async def _send(self, request: httpx.Request) -> httpx.Response:
        """Sends a request, and takes in all of its answer."""
        answer = await self._http.send(request, stream=True)
        body = body_for(answer)
        if body is None:
            await answer.aread()
            return answer
        try:
            async for part in answer.aiter_raw():
                body.add(part)
        finally:
            await answer.aclose()
        return answer

    # -- running graphs

    async def trace(self, model: str | None, input: Any, graph: Any, **fields: Any) -> Results:
        """Runs a graph: a list of nodes, or their text form. A mapping is several inputs by name."""
        return read_results(await self.request("POST", "/v1/trace", json=self._trace(model, input, graph, fields)))

    async def validate(self, model: str | None, input: Any, graph: Any, **fields: Any) -> dict[str, Any]:
        """Shapes, plan and cost of a trace; runs nothing."""
        return (await self.request("POST", "/v1/validate", json=self._trace(model, input, graph, fields))).json()

    async def recipe(self, name: str, model: str | None = None, **fields: Any) -> Results:
        """Runs a recipe: `bay.recipe("logit-lens", "smollm2", input="The capital of France is", k=3)`."""
        return read_results(await self.request("POST", f"/v1/recipes/{name}", json=self._recipe(model, fields)))

    async def explain(self, name: str, model: str | None = None, **fields: Any) -> dict[str, Any]:
        """The trace that a recipe is."""
        body = self._recipe(model, fields | {"explain": True})
        return (await self.request("POST", f"/v1/recipes/{name}", json=body)).json()

    async def generate(self, model: str | None, input: Any, **fields: Any) -> dict[str, Any]:
        """Generates text; the answer's `outputs` has a row each."""
        return (await self.request("POST", "/v1/generate", json=self._generate(model, input, fields))).json()

    async def stream(self, model: str | None, input: Any, **fields: Any) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Generates text, and tells of it while it comes: `token`, `saved`, and at the end `done`."""
        body = self._generate(model, input, fields | {"stream": True})
        async with self._http.stream("POST", "/v1/generate", json=body) as answer:
            if not answer.is_success:
                await answer.aread()
                raise problem(answer)
            event = ""
            async for line in answer.aiter_lines():
                event, data = read_event(line, event)
                if data is not None:
                    yield event, data

    # -- text and models

    async def tokenize(self, model: str | None, input: Any) -> dict[str, Any]:
        """Ids, token strings and lengths of each row."""
        return (await self.request("POST", "/v1/tokenize", json=self._of(model=model, input=input))).json()

    async def detokenize(self, model: str | None, ids: Any, skip_special_tokens: bool = False) -> dict[str, Any]:
        """Text and token strings of each row of ids."""
        body = self._of(model=model, ids=ids, skip_special_tokens=skip_special_tokens)
        return (await self.request("POST", "/v1/detokenize", json=body)).json()

    async def models(self) -> list[dict[str, Any]]:
        """The models of the server."""
        return (await self.request("GET", "/v1/models")).json()["data"]

    async def model(self, name: str) -> dict[str, Any]:
        """A model's description."""
        return (await self.request("GET", f"/v1/models/{name}")).json()

    async def tree(self, name: str) -> Tree:
        """Every site of a model and its shape."""
        return Tree((await self.request("GET", f"/v1/models/{name}/tree")).json())

    # -- what is kept

    async def put_tensor(self, name: str, value: Any) -> dict[str, Any]:
        """Keeps a tensor, or several by key, for graphs to name as `@name`."""
        return (await self.request("PUT", f"/v1/tensors/{name}", **self._tensors(name, value))).json()

    async def get_tensor(self, name: str) -> Any:
        """What a name holds: a tensor, or several by key."""
        return read_tensors(await self.request("GET", f"/v1/tensors/{name}", headers={"accept": SAFETENSORS}))

    async def delete_tensor(self, name: str) -> None:
        """Forgets a name."""
        await self.request("DELETE", f"/v1/tensors/{name}")

    async def put_edit(self, name: str, graph: Any, **fields: Any) -> dict[str, Any]:
        """Keeps a graph of writes: `"smollm2+name"` is the model with it."""
        return (await self.request("PUT", f"/v1/edits/{name}", json=encoded({"graph": graph} | fields))).json()

    async def delete_edit(self, name: str) -> None:
        """Forgets an edit."""
        await self.request("DELETE", f"/v1/edits/{name}")

    async def aclose(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncPatchbay:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

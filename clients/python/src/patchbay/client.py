"""The direct interface: a method an endpoint."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx

from .body import SAFETENSORS, body_for
from .jobs import Job
from .requests import RETRIES, Requests, pause, waits
from .results import Results, Tree, encoded, problem, read_event, read_results, read_tensors


class Patchbay(Requests):
    """A server. Requests that cannot have run are sent again, with growing pauses; no job ever runs twice.

    `base_url` is `PATCHBAY_URL` of the environment, or `http://localhost:8420`, where nothing is said. Every method raises `PatchbayError` for what the
    server refuses, and httpx's errors where it cannot be reached. Long work runs as a job where `progress` is given (True, or `tqdm`), with a bar that shows
    how far it is; `start_trace`, `start_recipe` and `start_generate` give the job itself.
    """

    def __init__(self, base_url: str | None = None, api_key: str | None = None, timeout: float | None = 3600):
        super().__init__(base_url, api_key, timeout)
        self._http = httpx.Client(**self._options)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Sends a request, and gives its answer."""
        for attempt in range(RETRIES + 1):
            answer = None
            try:
                answer = self._send(self._http.build_request(method, path, **options))
            except httpx.ConnectError:
                if attempt == RETRIES:
                    raise
            if answer is not None and not (waits(answer) and attempt < RETRIES):
                if answer.is_success:
                    return answer
                raise problem(answer)
            time.sleep(pause(attempt, answer))
        raise AssertionError("unreachable")

    def _send(self, request: httpx.Request) -> httpx.Response:
        """Sends a request, and takes in all of its answer."""
        answer = self._http.send(request, stream=True)
        body = body_for(answer)
        if body is None:
            answer.read()
            return answer
        try:
            for part in answer.iter_raw():
                body.add(part)
        finally:
            answer.close()
        return answer

    # -- running graphs

    def trace(self, model: str | None, input: Any, graph: Any, progress: Any = None, **fields: Any) -> Results:
        """Runs a graph: a list of nodes, or their text form. A mapping is several inputs by name."""
        if progress:
            return self.start_trace(model, input, graph, **fields).wait(progress)
        return read_results(self.request("POST", "/v1/trace", json=self._trace(model, input, graph, fields)))

    def validate(self, model: str | None, input: Any, graph: Any, **fields: Any) -> dict[str, Any]:
        """Shapes, plan and cost of a trace; runs nothing."""
        return self.request("POST", "/v1/validate", json=self._trace(model, input, graph, fields)).json()

    def recipe(self, name: str, model: str | None = None, progress: Any = None, **fields: Any) -> Results:
        """Runs a recipe: `bay.recipe("logit-lens", "smollm2", input="The capital of France is", k=3)`."""
        if progress:
            return self.start_recipe(name, model, **fields).wait(progress)
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
        return self._events("POST", "/v1/generate", json=self._generate(model, input, fields | {"stream": True}))

    def _events(self, method: str, path: str, **options: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        """Server-sent events while they come: names and data."""
        with self._http.stream(method, path, **options) as answer:
            if not answer.is_success:
                answer.read()
                raise problem(answer)
            event = ""
            for line in answer.iter_lines():
                event, data = read_event(line, event)
                if data is not None:
                    yield event, data

    # -- jobs

    def start_trace(self, model: str | None, input: Any, graph: Any, **fields: Any) -> Job:
        """Runs a graph as a job."""
        return self._start("/v1/trace", self._trace(model, input, graph, fields))

    def start_recipe(self, name: str, model: str | None = None, **fields: Any) -> Job:
        """Runs a recipe as a job."""
        return self._start(f"/v1/recipes/{name}", self._recipe(model, fields))

    def start_generate(self, model: str | None, input: Any, **fields: Any) -> Job:
        """Generates text as a job; its result's `response` has `outputs`."""
        return self._start("/v1/generate", self._generate(model, input, fields))

    def _start(self, path: str, body: dict[str, Any]) -> Job:
        return Job(self, self.request("POST", path, json=body | {"async": True}).json()["id"])

    def jobs(self) -> list[dict[str, Any]]:
        """Your jobs, oldest first."""
        return self.request("GET", "/v1/jobs").json()["data"]

    # -- text and models

    def tokenize(self, model: str | None, input: Any) -> dict[str, Any]:
        """Ids, token strings and lengths of each row."""
        return self.request("POST", "/v1/tokenize", json=self._of(model=model, input=input)).json()

    def detokenize(self, model: str | None, ids: Any, skip_special_tokens: bool = False) -> dict[str, Any]:
        """Text and token strings of each row of ids."""
        body = self._of(model=model, ids=ids, skip_special_tokens=skip_special_tokens)
        return self.request("POST", "/v1/detokenize", json=body).json()

    def models(self) -> list[dict[str, Any]]:
        """The models of the server."""
        return self.request("GET", "/v1/models").json()["data"]

    def model(self, name: str) -> dict[str, Any]:
        """A model's description."""
        return self.request("GET", f"/v1/models/{name}").json()

    def tree(self, name: str) -> Tree:
        """Every site of a model and its shape."""
        return Tree(self.request("GET", f"/v1/models/{name}/tree").json())

    # -- what is kept

    def put_tensor(self, name: str, value: Any) -> dict[str, Any]:
        """Keeps a tensor, or several by key, for graphs to name as `@name`."""
        return self.request("PUT", f"/v1/tensors/{name}", **self._tensors(name, value)).json()

    def get_tensor(self, name: str) -> Any:
        """What a name holds: a tensor, or several by key."""
        return read_tensors(self.request("GET", f"/v1/tensors/{name}", headers={"accept": SAFETENSORS}))

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

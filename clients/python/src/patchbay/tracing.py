"""Traces and generations as `with` blocks: what is recorded in them is sent when they end."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import native
from .errors import PatchbayError
from .recording import Recording, Value, caller
from .results import escaped

if TYPE_CHECKING:
    from .model import StandardizedTransformer

#: Options of transformers and nnsight that change nothing here.
_IDLE = {"remote", "scan", "validate", "use_cache", "pad_token_id", "num_return_sequences"}


class Trace:
    """A run of prompts, and what is done in it."""

    def __init__(self, model: StandardizedTransformer, input: Any, options: dict[str, Any]):
        self.model, self._input = model, input
        self._options = {name: value for name, value in options.items() if name not in _IDLE}
        self._inputs: dict[str, Any] = {}
        self._before: Recording | None = None
        self.recording = Recording(self)

    def __enter__(self) -> Trace:
        if self.model._recording is not None and not self.model._recording.done:
            raise PatchbayError(
                {"detail": "a trace stands in no other", "hint": "use `tracer.invoke` for several prompts"}, caller()
            )
        self.model._recording = self.recording
        if self._input is not None:
            self._inputs["input"] = prompts(self._input)
        return self

    def __exit__(self, kind: Any, error: Any, _: Any) -> bool:
        self.model._recording = None
        if kind is _Stop:
            kind = None
        if kind is None:
            self._finish()
        self.recording.done = True
        return error is None or isinstance(error, _Stop)

    def invoke(self, input: Any = None) -> Invoke:
        """Prompts of their own within this trace; values may flow from one to another."""
        return Invoke(self, input)

    def stop(self) -> None:
        """Ends the block: nothing after it is done, and no later layer runs than what was saved needs."""
        raise _Stop

    def barrier(self, _: int) -> Any:
        """Nothing waits here: values flow between prompts wherever they flow forwards."""
        return lambda: None

    def ids(self, name: str | None) -> tuple[Any, Any]:
        """Ids and mask of an input, padded on the left."""
        told = self.model.bay.tokenize(self.model.name, self._inputs[name or "input"])["ids"]
        longest = max(map(len, told))
        ids = np.array([[0] * (longest - len(row)) + row for row in told])
        mask = np.array([[0] * (longest - len(row)) + [1] * len(row) for row in told])
        return native(ids), native(mask)

    def shape_of(self, value: Value) -> Any:
        """The shape that the server says a value will have."""
        probe = {"op": "save", "value": value._operand(), "as": "shape"}
        nodes = [node for node in self.recording.nodes if node["op"] != "save"]
        # what is written so far has something to be seen in
        ends = [{"op": "save", "value": f"{name}/logits[:, -1, 0]", "as": f"end {name}"} for name in self._inputs]
        taken = Recording(self)
        taken.nodes = [*nodes, probe, *ends]
        taken.lines = [*self._lines(nodes), *[caller()] * (1 + len(ends))]
        told = self._send(taken, self.model.bay.validate)
        sizes = told["results"]["shape"]["shape"]
        try:
            import torch

            return torch.Size(sizes)
        except ImportError:
            return tuple(sizes)

    def _repr_html_(self) -> str:
        def line(node: dict[str, Any]) -> str:
            fields = {name: value for name, value in node.items() if name not in ("op", "id")}
            told = json.dumps(fields, ensure_ascii=False, default=str)
            told = told if len(told) <= 200 else told[:200] + "…"
            return (
                f"<tr><td>{escaped(node.get('id', ''))}</td><th>{escaped(node['op'])}</th><td>{escaped(told)}</td></tr>"
            )

        state = "has run" if self.recording.done else "is being written"
        lines = "".join(line(node) for node in self.recording.nodes)
        return f"<table><caption>a graph for {escaped(self.model.name)}, which {state}</caption>{lines}</table>"

    def _lines(self, nodes: list[dict[str, Any]]) -> list[Any]:
        numbers = {id(node): line for node, line in zip(self.recording.nodes, self.recording.lines, strict=True)}
        return [numbers[id(node)] for node in nodes]

    def _finish(self) -> None:
        recording = self.recording
        if not recording.nodes:
            return
        if not recording.saves:
            # what is written is checked and run all the same
            last = f"{next(iter(self._inputs))}/logits[:, -1, 0]" if len(self._inputs) > 1 else "logits[:, -1, 0]"
            recording.add({"op": "save", "value": last, "as": "checked"})
        results = self._send(recording, self.model.bay.trace)
        for name, saved in recording.saves.items():
            saved._found = results[name]

    def _send(self, recording: Recording, to: Any) -> Any:
        pairs = recording.needed()
        inputs: Any = self._inputs
        one = len(inputs) == 1
        nodes = [_plain(node, next(iter(inputs))) if one else node for node, _ in pairs]
        input = next(iter(inputs.values())) if one else inputs
        if not inputs:
            raise PatchbayError(
                {"detail": "this trace has no prompt", "hint": 'model.trace("…"), or tracer.invoke("…")'}, caller()
            )
        try:
            return to(self.model.name, input, nodes, **self._options)
        except PatchbayError as error:
            raise _at_line(error, pairs) from None


class _Stop(Exception):
    pass


class Invoke:
    """Prompts of their own within a trace."""

    def __init__(self, trace: Trace, input: Any):
        self._trace, self._input = trace, input

    def __enter__(self) -> Invoke:
        recording = self._trace.recording
        if self._input is not None:
            name = f"p{len(self._trace._inputs)}"
            self._trace._inputs[name] = prompts(self._input)
            recording.input = name
        return self

    def __exit__(self, *_: object) -> None:
        self._trace.recording.input = None


class Generation(Trace):
    """Text of prompts, and what is done while it is written."""

    def __enter__(self) -> Generation:
        super().__enter__()
        self.result = Value(self.recording, "$result")
        self.result.save = lambda: self.result  # type: ignore[method-assign]
        return self

    def all(self) -> Steps:
        """Every step: `with tracer.all():`."""
        return Steps(self.recording, "all")

    @property
    def iter(self) -> Iterated:
        """Some steps: `with tracer.iter[2:5]:`, or `for step in tracer.iter[:8]:`, whose body stands for all of them."""
        return Iterated(self.recording)

    def _finish(self) -> None:
        recording, bay = self.recording, self.model.bay
        pairs = recording.needed()
        ((name, input),) = self._inputs.items() or ((None, None),)
        options = _options(self._options)
        body = {"graph": [_plain(node, name) for node, _ in pairs], "output": {"encoding": "safetensors"}} | options
        try:
            answer = bay.request("POST", "/v1/generate", json=bay._generate(self.model.name, input, body))
        except PatchbayError as error:
            raise _at_line(error, pairs) from None
        from .results import read_results

        results = read_results(answer)
        for saved_name, saved in recording.saves.items():
            saved._found = results[saved_name]
        told = results.response
        count = max(1, len(told["outputs"]) // len(told["inputs"]["input"]["ids"]))
        rows = [
            told["inputs"]["input"]["ids"][row // count] + output["ids"] for row, output in enumerate(told["outputs"])
        ]
        longest = max(map(len, rows))
        # prompts are padded before, texts that ended behind, as transformers does it
        lengths = [len(ids) for ids in told["inputs"]["input"]["ids"]]
        padded = [[0] * (max(lengths) - lengths[row // count]) + ids for row, ids in enumerate(rows)]
        longest = max(map(len, padded))
        self.result._found = native(np.array([ids + [0] * (longest - len(ids)) for ids in padded]))


class Steps:
    """Steps of a generation at which what stands in the block acts."""

    def __init__(self, recording: Recording, steps: Any):
        self._recording, self._steps = recording, steps

    def __enter__(self) -> Steps:
        self._recording.steps = self._steps
        return self

    def __exit__(self, *_: object) -> None:
        self._recording.steps = None

    def __iter__(self) -> Any:
        with self:
            yield self._steps


class Iterated:
    """Steps by their numbers."""

    def __init__(self, recording: Recording):
        self._recording = recording

    def __getitem__(self, steps: Any) -> Steps:
        if isinstance(steps, slice):
            if steps.step not in (None, 1):
                return Steps(self._recording, list(range(steps.start or 0, steps.stop, steps.step)))
            if steps.start in (None, 0) and steps.stop is None:
                return Steps(self._recording, "all")
            bounds = {"from": steps.start or 0} | ({} if steps.stop is None else {"to": steps.stop - 1})
            return Steps(self._recording, bounds)
        return Steps(self._recording, list(steps) if isinstance(steps, (list, tuple)) else int(steps))


def prompts(input: Any) -> Any:
    """Prompts as an input has them: texts, or rows of ids."""
    if hasattr(input, "tolist"):
        input = input.tolist()
    if isinstance(input, (list, tuple)) and input and all(isinstance(token, int) for token in input):
        return [list(input)]
    if isinstance(input, dict) and "input_ids" in input:
        return prompts(input["input_ids"])
    return list(input) if isinstance(input, tuple) else input


def _options(options: dict[str, Any]) -> dict[str, Any]:
    """Options of a generation, as transformers calls them."""
    options = dict(options)
    sampled = options.pop("do_sample", None)
    if sampled is False:
        options["temperature"] = 0
    elif sampled and "temperature" not in options:
        options["temperature"] = 1.0
    return options


def _plain(node: Any, name: str | None) -> Any:
    """A node whose sites name no input, as there is only one."""
    if isinstance(node, dict):
        plain = {key: _plain(value, name) for key, value in node.items()}
        return {key: value for key, value in plain.items() if key != "input" or value != name}
    if isinstance(node, list):
        return [_plain(item, name) for item in node]
    return node.removeprefix(f"{name}/") if isinstance(node, str) and name else node


def _at_line(error: PatchbayError, pairs: list[tuple[dict[str, Any], Any]]) -> PatchbayError:
    """The refusal with the line of the caller's code that it is about."""
    found = re.match(r"/graph/(\d+)", error.pointer or "")
    line = pairs[int(found[1])][1] if found and int(found[1]) < len(pairs) else None
    told = {
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
        "pointer": error.pointer,
        "hint": error.hint,
    }
    return PatchbayError(told, line or error.line)

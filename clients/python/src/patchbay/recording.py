"""A trace as it is written: ordinary Python on values that are not there yet, recorded as nodes of a graph.

Nothing of the caller's source is read or run anew: the block's body runs once, and each operation on a `Value` adds a node. When the block ends the
graph is sent, and what was saved has its tensor: a saved `Value` then stands for it in every expression.
"""

from __future__ import annotations

import operator as _operator
import re
import sys
import weakref
from pathlib import Path
from typing import Any

from .arrays import torch, wire
from .errors import Line, PatchbayError
from .names import CASTS, DTYPES, OTHER, SAME, index_text

_HERE = str(Path(__file__).parent)


def caller() -> Line | None:
    """The line of the caller's code that is being run."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_HERE) and "torch" + "/" not in file and "numpy" + "/" not in file:
            return file, frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]
    return None


class Recording:
    """Nodes in the order of the code, and the line that each came from."""

    def __init__(self, run: Any):
        self.run = run
        self.nodes: list[dict[str, Any]] = []
        self.lines: list[Line | None] = []
        self.saves: dict[str, Value] = {}
        self.input: str | None = None
        self.steps: Any = None
        self.wrt: Value | None = None
        self.count = 0
        self.stopped = False
        self.done = False
        #: Sites that the code holds on to, by what they are called in the graph.
        self.sites: dict[str, weakref.WeakValueDictionary[int, Site]] = {}

    def name(self) -> str:
        """A name that nothing else has."""
        self.count += 1
        return f"v{self.count}"

    def add(self, node: dict[str, Any]) -> int:
        """Adds a node, and gives its number."""
        if self.done:
            raise PatchbayError(
                {"detail": "this trace has ended; what is read after it has to be saved in it"}, caller()
            )
        if self.steps is not None and node["op"] in ("set", "steer", "save", "skip"):
            node["steps"] = self.steps
        self.nodes.append(node)
        self.lines.append(caller())
        return len(self.nodes) - 1

    def write(self, site: str, target: str, value: Any, by: Site | None = None) -> None:
        """Adds a write to a site. Whoever read the site before and is not the one who writes goes on with what it read."""
        known = self.sites.get(site)
        readers = [reader for reader in known.values() if reader is not by] if known else []
        value = operand(value)
        if readers:
            kept = self.name()
            self.add({"op": "clone", "id": kept, "args": [site]})
            for reader in readers:
                reader._text = f"${kept}"
                self.sites[site].pop(id(reader), None)
        self.add({"op": "set", "target": target, "value": value})

    def needed(self) -> list[tuple[dict[str, Any], Line | None]]:
        """The nodes that do something, and the lines that they came from: values that nothing takes are left out."""
        kept = [node["op"] in ("save", "set", "steer", "skip") for node in self.nodes]
        made = {node["id"]: number for number, node in enumerate(self.nodes) if "id" in node}
        open_ = [number for number, keep in enumerate(kept) if keep]
        while open_:
            fields = [value for name, value in self.nodes[open_.pop()].items() if name not in ("op", "id", "as")]
            for text in _flat(fields):
                number = (
                    made.get(re.split(r"[\[.]", text[1:])[0])
                    if isinstance(text, str) and text.startswith("$")
                    else None
                )
                if number is not None and not kept[number]:
                    kept[number] = True
                    open_.append(number)
        return [pair for pair, keep in zip(zip(self.nodes, self.lines, strict=True), kept, strict=True) if keep]

    def value(self, op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Value:
        """The value of an operation."""
        name = self.name()
        fields = {key: operand(value) for key, value in kwargs.items() if value is not None}
        self.add({"op": op, "id": name, "args": [operand(arg) for arg in args]} | fields)
        return Value(self, f"${name}")


def operand(value: Any) -> Any:
    """A value as a node names it."""
    if isinstance(value, Value):
        return value._operand()
    if isinstance(value, (list, tuple)):
        return [operand(item) for item in value]
    if torch is not None and isinstance(value, (torch.dtype, torch.device)):
        return DTYPES.get(str(value).removeprefix("torch."), "f32")
    return wire(value)


class Value:
    """A tensor that is not there yet; after the trace, if it was saved, that tensor."""

    _site: str | None = None

    def __init__(self, recording: Recording, text: str, index: str | None = None):
        self._recording = recording
        self._text = text
        self._index = index
        self._found: Any = None

    # -- what it is in the graph

    def _operand(self) -> str:
        if self._found is not None:
            return wire(self._found)
        return self._text if self._index is None else f"{self._text}[{self._index}]"

    def _new(self, op: str, *args: Any, **kwargs: Any) -> Value:
        return self._recording.value(op, args, kwargs)

    @property
    def value(self) -> Any:
        """The tensor, once the trace has ended."""
        if self._found is None:
            told = "it was not saved in its trace" if self._recording.done else "its trace has not ended"
            raise PatchbayError(
                {"detail": f"this value is not there: {told}", "hint": "write `.save()` behind it"}, caller()
            )
        return self._found

    def save(self) -> Value:
        """Keeps the value beyond the trace."""
        name = self._recording.name()
        self._recording.add({"op": "save", "value": self._operand(), "as": name})
        saved = Value(self._recording, self._text, self._index)
        self._recording.saves[name] = saved
        return saved

    @property
    def shape(self) -> Any:
        """Its sizes; in a trace the server is asked for them, and runs nothing."""
        if self._found is not None:
            return self._found.shape
        return self._recording.run.shape_of(self)

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return len(self.shape)

    def dim(self) -> int:
        """How many axes it has."""
        return len(self.shape)

    def size(self, dim: int | None = None) -> Any:
        """Its sizes, or one of them."""
        return self.shape if dim is None else self.shape[dim]

    @property
    def device(self) -> str:
        """Where it is: with the server."""
        return "cpu"

    @property
    def grad(self) -> Value:
        """The gradient, within `with loss.backward():`, of that loss."""
        if self._found is not None:
            return self._found.grad
        loss = self._recording.wrt
        if loss is None:
            detail = "there is a gradient within `with loss.backward():` alone"
            raise PatchbayError({"detail": detail, "hint": "put `.grad` into that block"}, caller())
        name = self._recording.name()
        self._recording.add({"op": "grad", "id": name, "of": loss._operand(), "wrt": self._operand()})
        return Value(self._recording, f"${name}")

    def backward(self, **_: Any) -> Backward:
        """Takes gradients of this number: `with loss.backward(): g = x.grad.save()`."""
        return Backward(self)

    # -- parts of it

    def __getitem__(self, index: Any) -> Any:
        if self._found is not None:
            return self._found[index]
        text = index_text(index)
        if self._index is None:
            return Part(self, text)
        return Part(self._recording.value("clone", (self,), {}), text)

    def __setitem__(self, index: Any, value: Any) -> None:
        if self._found is not None:
            self._found[index] = value
            return
        raise PatchbayError(
            {
                "detail": "only sites of the model can be written to",
                "hint": "compute a new value instead: torch.where, index_select, cat",
            },
            caller(),
        )

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __len__(self) -> int:
        return int(self.shape[0])

    # -- operations

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if self._found is not None:
            return getattr(self._found, name)
        if name in ("T", "mT"):
            return self._new("transpose", self, -2, -1)
        if name in ("values", "indices"):
            if self._text.startswith("$") and self._index is None:
                return Value(self._recording, f"{self._text}.{name}")
            raise AttributeError(name)
        return lambda *args, **kwargs: apply(name, (self, *args), kwargs)

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = _found(args, kwargs or {})
        if found is not None:
            return func(*found[0], **found[1])
        return apply(func.__name__, args, kwargs or {})

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        found = _found(args, kwargs)
        if found is not None:
            return getattr(ufunc, method)(*found[0], **found[1])
        return apply(ufunc.__name__, args, kwargs)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        import numpy as np

        return np.asarray(self.value, dtype=dtype)

    def __repr__(self) -> str:
        return repr(self._found) if self._found is not None else f"<value {self._operand()} of a trace>"

    def __format__(self, spec: str) -> str:
        return format(self._found, spec) if self._found is not None else repr(self)

    def __neg__(self) -> Any:
        return -self._found if self._found is not None else self._new("neg", self)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __float__(self) -> float:
        return float(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __index__(self) -> int:
        return self.value.__index__()


def _found(args: Any, kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]] | None:
    """Arguments with the tensors that saved values have become, where all are there."""
    missing = False

    def real(value: Any) -> Any:
        nonlocal missing
        if isinstance(value, Value):
            missing |= value._found is None
            return value._found
        if isinstance(value, (list, tuple)):
            return type(value)(real(item) for item in value)
        return value

    made = [real(arg) for arg in args], {key: real(value) for key, value in kwargs.items()}
    return None if missing else made


def apply(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An operation by its name in torch or numpy."""
    recording = next(value._recording for value in _flat((args, kwargs)) if isinstance(value, Value))
    name = OTHER.get(name.strip("_"), name.strip("_"))
    if name in SAME:
        wanted = [arg for arg in args[1:] if torch is not None and isinstance(arg, torch.dtype)] + [kwargs.get("dtype")]
        cast = operand(wanted[0]) if wanted[0] is not None else None
        return recording.value("cast", (args[0], cast), {}) if cast else args[0]
    if name in CASTS:
        return recording.value("cast", (args[0], CASTS[name]), {})
    if name == "shape":
        return args[0].size(*args[1:])
    if name == "norm" and len(args) > 1 and args[1] == "fro":
        args = (args[0], 2, *args[2:])
    if name == "einsum" and len(args) == 2 and isinstance(args[1], (list, tuple)):
        args = (args[0], *args[1])
    kwargs = {
        ("dim" if key == "axis" else "keepdim" if key == "keepdims" else key): value for key, value in kwargs.items()
    }
    return recording.value(name, args, kwargs)


def _flat(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _flat(item)
    elif isinstance(value, dict):
        yield from _flat(list(value.values()))
    else:
        yield value


def _binary(op: str, swapped: bool = False) -> Any:
    def method(self: Value, other: Any) -> Any:
        pair = (other, self) if swapped else (self, other)
        found = _found(pair, {})
        if found is not None:
            left, right = found[0]
            return _REAL[op](left, right)
        return self._recording.value(op, pair, {})

    return method


_REAL = {
    "add": _operator.add,
    "sub": _operator.sub,
    "mul": _operator.mul,
    "div": _operator.truediv,
    "pow": _operator.pow,
    "matmul": _operator.matmul,
    "eq": _operator.eq,
    "ne": _operator.ne,
    "lt": _operator.lt,
    "le": _operator.le,
    "gt": _operator.gt,
    "ge": _operator.ge,
}
for _name, _op in [
    ("add", "add"),
    ("sub", "sub"),
    ("mul", "mul"),
    ("truediv", "div"),
    ("pow", "pow"),
    ("matmul", "matmul"),
]:
    setattr(Value, f"__{_name}__", _binary(_op))
    setattr(Value, f"__r{_name}__", _binary(_op, swapped=True))
    setattr(Value, f"__i{_name}__", _binary(_op))
for _op in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Value, f"__{_op}__", _binary(_op))
Value.__hash__ = object.__hash__  # type: ignore[method-assign]


class Part(Value):
    """A part of a value, which knows the whole, so that `x[:, -1] += v` writes to it."""

    def __init__(self, of: Value, index: str):
        super().__init__(of._recording, of._text, index)
        self._of = of

    def _operand(self) -> str:
        return wire(self._found) if self._found is not None else f"{self._of._text}[{self._index}]"


class Site(Value):
    """A site of the model. What is read of it is what it holds there in the code: later writes are not seen, in-place ones by the same name are."""

    def __init__(self, recording: Recording, path: str):
        text = f"{recording.input}/{path}" if recording.input else path
        super().__init__(recording, text)
        self._site = text
        recording.sites.setdefault(text, weakref.WeakValueDictionary())[id(self)] = self

    def __setitem__(self, index: Any, value: Any) -> None:
        if self._found is not None or self._text != self._site:
            super().__setitem__(index, value)
            return
        text = index_text(index)
        target = self._text if text in (":", "...") else f"{self._text}[{text}]"
        self._recording.write(self._text, target, value, by=self)


class Backward:
    """Where gradients of a number are taken."""

    def __init__(self, loss: Value):
        self._loss = loss
        self._before = loss._recording.wrt
        loss._recording.wrt = loss

    def __enter__(self) -> Backward:
        return self

    def __exit__(self, *_: object) -> None:
        self._loss._recording.wrt = self._before

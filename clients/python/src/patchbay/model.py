"""nnterp's `StandardizedTransformer`, on a server."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from .arrays import is_array, native, to_numpy, torch
from .client import Patchbay
from .errors import PatchbayError
from .recording import Recording, Site, Value, apply, caller, operand
from .results import Results
from .tokenizer import Tokenizer
from .tracing import Generation, Trace


class Layers:
    """A site of every block: `model.layers_output[5]`."""

    def __init__(self, model: StandardizedTransformer, site: str):
        self._model, self._site = model, site

    def __getitem__(self, layer: int) -> Value:
        return self._model._read(f"layers.{self._number(layer)}.{self._site}")

    def __setitem__(self, layer: int, value: Any) -> None:
        self._model._write(f"layers.{self._number(layer)}.{self._site}", value)

    def __call__(self, layer: int) -> Value:
        return self[layer]

    def __len__(self) -> int:
        return self._model.num_layers

    def _number(self, layer: int) -> int:
        count = self._model.num_layers
        if not -count <= layer < count:
            hint = f"this model has layers 0 to {count - 1}"
            raise PatchbayError(
                {"detail": f"there is no layer {layer}", "code": "unknown_site", "hint": hint}, caller()
            )
        return layer % count


class AttentionProbabilities(Layers):
    """Attention probabilities of every block, `[rows, heads, queries, keys]`."""

    enabled = True

    def print_source(self, layer: int = 0, **_: Any) -> None:
        """Says where they are taken: on a server there is no source to rewrite."""
        print(f"layers.{layer}.self_attn.probs: softmax of the scaled and masked scores, before the values are mixed")


class Module:
    """A module of a block, or of the model: its input, its output, and what it makes of a value."""

    def __init__(self, model: StandardizedTransformer, path: str):
        self.__dict__["_model"], self.__dict__["_path"] = model, path

    def __getattr__(self, name: str) -> Any:
        if name in ("input", "output"):
            return self._model._read(f"{self._path}.{name}")
        if name.startswith("_"):
            raise AttributeError(name)
        return Module(self._model, f"{self._path}.{name}")

    def __setattr__(self, name: str, value: Any) -> None:
        self._model._write(f"{self._path}.{name}", value)

    def __call__(self, value: Any) -> Any:
        return self._model._call(self._path, value)

    def skip(self, value: Any = None) -> None:
        """Leaves the block out; its output is the value, or its input."""
        self._model._skip(int(self._path.split(".")[1]), int(self._path.split(".")[1]), value)


class Modules:
    """The blocks, or a module of each: `model.layers[5].self_attn.output`, `model.attentions[5].output`."""

    def __init__(self, model: StandardizedTransformer, name: str = ""):
        self._model, self._name = model, name

    def __getitem__(self, layer: int) -> Module:
        return Module(self._model, f"layers.{Layers(self._model, '')._number(layer)}{self._name}")

    def __setitem__(self, layer: int, value: Any) -> None:
        name = {".self_attn": "attentions", ".mlp": "mlps"}.get(self._name, "layers")
        raise ValueError(f"a module cannot be written to. Did you mean {name}_input or {name}_output?")

    def __call__(self, layer: int) -> Module:
        return self[layer]

    def __len__(self) -> int:
        return self._model.num_layers


class Size(int):
    """A size that is known already; nnsight's have `.save()`."""

    def save(self) -> Size:
        """Itself."""
        return self


class Output:
    """The model's output, as transformers names its parts."""

    _model: StandardizedTransformer

    def __init__(self, model: StandardizedTransformer):
        self.__dict__["_model"] = model

    @property
    def logits(self) -> Value:
        """The logits `[rows, tokens, vocabulary]`."""
        return self._model.logits

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "logits":
            raise AttributeError(name)
        self._model.logits = value


class StandardizedTransformer:
    """A model of a server, with nnterp's names.

    `name_or_model` is the model's name there; a Hub id or a folder is looked for by its last part, too, and edits may follow: `"smollm2+joyful"`.
    Other arguments that nnterp takes (`device_map`, `dtype`, `enable_attention_probs`…) are the server's business, and change nothing.
    """

    def __init__(self, name_or_model: str, base_url: str | None = None, api_key: str | None = None, **_: Any):
        self.bay = Patchbay(base_url, api_key)
        self.name, self._facts = self._find(name_or_model)
        self.num_layers: int = self._facts["layers"]
        self.hidden_size: int = self._facts["hidden"]
        self.vocab_size: int = self._facts["vocab"]
        self.num_heads: int = self._facts["heads"]
        self.tokenizer = Tokenizer(self.bay, self.name, self._facts.get("chat_template"))
        self._recording: Recording | None = None
        self.layers, self.attentions, self.mlps = Modules(self), Modules(self, ".self_attn"), Modules(self, ".mlp")
        self.output = Output(self)
        self.layers_input, self.layers_output = Layers(self, "input"), Layers(self, "output")
        self.attentions_input, self.attentions_output = (
            Layers(self, "self_attn.input"),
            Layers(self, "self_attn.output"),
        )
        self.mlps_input, self.mlps_output = Layers(self, "mlp.input"), Layers(self, "mlp.output")
        self.attention_probabilities = AttentionProbabilities(self, "self_attn.probs")
        self.embed_tokens = Module(self, "embed_tokens")
        self.ln_final, self.lm_head = Module(self, "ln_final"), Module(self, "lm_head")

    def _find(self, name: str) -> tuple[str, dict[str, Any]]:
        base, plus, edits = name.partition("+")
        known = [model["id"] for model in self.bay.models()]
        last = base.rstrip("/").split("/")[-1]
        found = next((one for one in (base, last, last.lower()) if one in known), None)
        if found is None:
            hint = f"the server has {', '.join(known)}" if known else "the server has no models"
            raise PatchbayError(
                {"detail": f"there is no model {name!r}", "code": "unknown_model", "hint": hint}, caller()
            )
        facts = self.bay.model(found)
        if "layers" not in facts:
            # it is loading: any question waits for it
            self.bay.tree(found)
            facts = self.bay.model(found)
        return found + plus + edits, facts

    # -- traces

    def trace(self, input: Any = None, *, scan: bool = False, **options: Any) -> Trace:
        """A trace of prompts: `with model.trace("…"):`, or of several by `with model.trace() as tracer:` and `with tracer.invoke("…"):`."""
        return Trace(self, input, options)

    def generate(self, input: Any = None, max_new_tokens: int = 20, **options: Any) -> Generation:
        """Text of prompts, while a graph acts: `with model.generate("…", max_new_tokens=8) as tracer:`; `tracer.result` has all ids."""
        return Generation(self, input, {"max_new_tokens": max_new_tokens} | options)

    def session(self, **_: Any) -> AbstractContextManager[None]:
        """A block of traces. Each is sent where it ends: a server needs none of nnsight's sessions."""
        return nullcontext()

    @property
    def model(self) -> StandardizedTransformer:
        """Itself: `model.model.layers[5]` is `model.layers[5]`."""
        return self

    @property
    def add_prefix_false_tokenizer(self) -> Tokenizer:
        """The server's tokenizer puts nothing before a text but what the model's own does."""
        return self.tokenizer

    @property
    def generator(self) -> Module:
        """What a generation gives: `model.generator.output`."""
        return Module(self, "generator")

    def _in_trace(self) -> Recording:
        if self._recording is None:
            detail = "the model's sites are there within a trace alone"
            raise PatchbayError({"detail": detail, "hint": 'with model.trace("…"):'}, caller())
        return self._recording

    def _read(self, path: str) -> Value:
        if path == "generator.output":
            return self._in_trace().run.result
        return Site(self._in_trace(), path)

    def _write(self, path: str, value: Any) -> None:
        recording = self._in_trace()
        target = f"{recording.input}/{path}" if recording.input else path
        # `x += v` has written already where it came from a part
        recording.write(target, target, value)

    def _call(self, module: str, value: Any) -> Any:
        if isinstance(value, Value) and value._found is None:
            recording = value._recording
            name = recording.name()
            recording.add({"op": "call", "id": name, "module": module, "args": [operand(value)]})
            return Value(recording, f"${name}")
        return self._outside(f'save call($x, module="{module}") as y', value)

    def _outside(self, line: str, value: Any) -> Any:
        """The model's own operations on a tensor that is there."""
        if isinstance(value, Value):
            value = value.value
        graph = [{"op": "clone", "id": "x", "args": [value]}, *_nodes(line)]
        return self.bay.trace(self.name, [[0]], graph)["y"]

    # -- nnterp's names

    @property
    def logits(self) -> Value:
        """The model's output `[rows, tokens, vocabulary]`."""
        return self._read("logits")

    @logits.setter
    def logits(self, value: Any) -> None:
        self._write("logits", value)

    @property
    def token_embeddings(self) -> Value:
        """Embeddings of the tokens."""
        return self._read("embed_tokens.output")

    @token_embeddings.setter
    def token_embeddings(self, value: Any) -> None:
        self._write("embed_tokens.output", value)

    @property
    def next_token_probs(self) -> Value:
        """Probabilities of the next token `[rows, vocabulary]`."""
        return apply("softmax", (self.logits[:, -1], -1), {})

    @property
    def input_ids(self) -> Any:
        """Ids of the trace's rows, padded on the left with 0."""
        return self._in_trace().run.ids(self._in_trace().input)[0]

    @property
    def attention_mask(self) -> Any:
        """1 where a row has a token, 0 where it is padded."""
        return self._in_trace().run.ids(self._in_trace().input)[1]

    @property
    def input_size(self) -> Any:
        """Rows and tokens of the input."""
        return tuple(Size(size) for size in self.input_ids.shape)

    @property
    def attn_probs_available(self) -> bool:
        """They always are."""
        return True

    def project_on_vocab(self, hidden_state: Any) -> Any:
        """`lm_head(ln_final(x))`, in a trace or of a tensor."""
        if isinstance(hidden_state, Value) and hidden_state._found is None:
            return hidden_state._recording.value("project_on_vocab", (hidden_state,), {})
        return self._outside("save project_on_vocab($x) as y", hidden_state)

    def steer(
        self,
        layers: int | list[int],
        steering_vector: Any,
        factor: float = 1,
        positions: Any = None,
        token_positions: Any = None,
        batch_index: Any = None,
    ) -> None:
        """Adds `factor * steering_vector` to the output of layers, at all tokens or some, of all rows or some."""
        if positions is not None:
            if token_positions is not None:
                raise ValueError("Cannot specify both positions and token_positions")
            told = "`positions` is deprecated: `token_positions` says the same"
            warnings.warn(told, DeprecationWarning, stacklevel=2)
        recording = self._in_trace()
        numbers = [Layers(self, "")._number(layer) for layer in ([layers] if isinstance(layers, int) else layers)]
        node: dict[str, Any] = {
            "op": "steer",
            "layers": sorted(numbers),
            "vector": operand(steering_vector),
            "factor": factor,
        }
        for field, places in (
            ("tokens", positions if token_positions is None else token_positions),
            ("rows", batch_index),
        ):
            if places is not None:
                node[field] = places.tolist() if is_array(places) else places
        if recording.input:
            node["input"] = recording.input
        recording.add(node)

    def skip_layer(self, layer: int, skip_with: Any = None) -> None:
        """Leaves a block out."""
        self.skip_layers(layer, layer, skip_with)

    def skip_layers(self, start_layer: int, end_layer: int, skip_with: Any = None, **_: Any) -> None:
        """Leaves out all blocks from the first to the last one; their output is `skip_with`, or the first one's input."""
        number = Layers(self, "")._number
        self._skip(number(start_layer), number(end_layer), skip_with)

    def _skip(self, first: int, last: int, value: Any) -> None:
        recording = self._in_trace()
        node: dict[str, Any] = {"op": "skip", "layers": [first, last]}
        if value is not None:
            node["with"] = operand(value)
        if recording.input:
            node["input"] = recording.input
        recording.add(node)

    def probs_to_dict(self, tokens: Any, probs: Any) -> dict[str, float]:
        """Probabilities by token string."""
        strings = self.tokenizer.convert_ids_to_tokens(tokens)
        return {token: float(prob) for token, prob in zip(strings, probs, strict=True)}

    def get_topk_closest_tokens(self, hidden_state: Any, k: int = 5) -> Any:
        """The likeliest tokens of a hidden state, or of several, with their probabilities."""
        line = "save softmax(project_on_vocab($x), -1) as y"
        array = to_numpy(self._outside(line, hidden_state))
        rows = array.reshape(-1, array.shape[-1])
        best = (-rows).argsort(-1, kind="stable")[:, :k]
        told = [self.probs_to_dict(ids, row[ids]) for ids, row in zip(best, rows, strict=True)]
        return told[0] if array.ndim == 1 else told

    def __repr__(self) -> str:
        return f"StandardizedTransformer({self.name!r} at {self.bay.base_url}, {self.num_layers} layers, {self.hidden_size} wide)"

    def _repr_html_(self) -> str:
        facts = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in self._facts.items())
        return f"<table><caption>{self.name} at {self.bay.base_url}</caption>{facts}</table>"


def _nodes(line: str) -> list[dict[str, Any]]:
    """A line that saves `call($x, module="…")` or another operation on `$x`, as a node."""
    inner = line.removeprefix("save ").removesuffix(" as y")
    if inner.startswith("call("):
        made: Any = {"op": "call", "args": ["$x"], "module": inner.split('"')[1]}
    elif inner.startswith("softmax("):
        made = {"op": "softmax", "args": [{"op": "project_on_vocab", "args": ["$x"]}, -1]}
    else:
        made = {"op": "project_on_vocab", "args": ["$x"]}
    return [{"op": "save", "value": made, "as": "y"}]


__all__ = ["AttentionProbabilities", "Layers", "Module", "Results", "StandardizedTransformer", "native", "torch"]

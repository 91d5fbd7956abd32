"""What is recorded of one model: cases (requests with the names of their results) and the tensors they expect."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy  # noqa: F401, named by `cut`
import safetensors
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from architectures import architecture
from choices import Choices, NearTie, Unfit
from taps import Edit, Seen, forget_length, trace

Node = dict[str, Any]


def op(name: str, *args: Any, **options: Any) -> Node:
    """A node of the graph: `op("sum", x, dim=-1)`."""
    return {"op": name, **({"args": list(args)} if args else {}), **options}


def put(target: str, value: Any) -> Node:
    """A `set` node."""
    return op("set", target=target, value=value)


def save(value: Any, name: str) -> Node:
    """A `save` node."""
    return op("save", value=value, **{"as": name})


def literal(tensor: Tensor) -> Node:
    """A float32 tensor in a request. Its numbers should have few decimals, so that they read well."""
    return {"dtype": "f32", "shape": list(tensor.shape), "data": short(tensor.tolist())}


def short(value: Any) -> Any:
    """Nested lists of numbers, rounded to 2 decimals."""
    return [short(item) for item in value] if isinstance(value, list) else round(value, 2)


def short_noise(*shape: int, seed: int) -> Tensor:
    """Seeded normal noise that `literal` writes exactly: multiples of 1/4."""
    return (4 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).round() / 4 + 0.0


def part(index: Any, change: Callable[[Tensor], Any]) -> Edit:
    """An edit of `value[index]` alone."""

    def edit(value: Tensor, _: Seen) -> Tensor:
        value[index] = change(value[index])
        return value

    return edit


@dataclass
class Golden:
    """The golden data of one model, growing case by case.

    `prompts` are the rows that cases run on. `outcome` names what every intervention saves: results by the operand that
    reads them, with the function that takes the same from a trace. `texts` are the prompts that requests give as text,
    `tolerances` the results that may be further off than 1e-4 of their largest value.
    """

    model: nn.Module
    prompts: dict[str, list[int]]
    outcome: dict[str, tuple[str, str]]
    tensors: Seen = field(default_factory=dict)
    cases: list[dict] = field(default_factory=list)
    keys: dict[bytes, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    tolerances: dict[str, float] = field(default_factory=dict)

    def trace(self, prompt: str = "clean", edits: dict[str, Edit] | None = None) -> Seen:
        """One prompt through the hooked model."""
        return trace(self.model, self.prompts[prompt], edits)

    def input(self, prompt: str) -> Any:
        """The prompt as a request gives it: its text where there is one, else its ids."""
        return self.texts.get(prompt, [self.prompts[prompt]])

    def module(self, part: str) -> nn.Module:
        """A part of the model by its name in `Architecture`, such as `final_norm`."""
        return self.model.get_submodule(getattr(architecture(self.model), part))

    @torch.no_grad()
    def on_vocab(self, hidden: Tensor) -> Tensor:
        """What `project_on_vocab` makes of a residual stream."""
        return self.module("lm_head")(self.module("final_norm")(hidden))

    def add(self, name: str, request: dict, expect: Seen, **more: Any):
        """Adds a case. Equal tensors are stored once."""
        keys = {result: self.store(f"{name}/{result}", tensor) for result, tensor in expect.items()}
        wider = {result: limit for result, limit in self.tolerances.items() if result in keys}
        case = {"name": name, "request": request, "expect": keys, "tolerance": {"of_largest": 1e-4, **wider}}
        self.cases.append(case | more)

    def store(self, key: str, tensor: Tensor) -> str:
        """Puts a tensor into the file, unless it is there; returns its key."""
        tensor = tensor.detach().contiguous()
        content = str((tensor.dtype, tensor.shape)).encode() + tensor.numpy().tobytes()
        if content not in self.keys:
            assert not tensor.isnan().any(), key
            self.keys[content] = key
            self.tensors[key] = tensor.clone()
        return self.keys[content]

    def intervention(self, name: str, nodes: list[Node], edits: dict[str, Edit], *, prompt: str = "clean"):
        """A case of writes on one prompt, given twice: as nodes for patchbay, and as edits for the hooked model."""
        self.compare(name, {"input": self.input(prompt)}, nodes, self.trace(prompt, edits), self.trace(prompt))

    def patch(self, name: str, nodes: list[Node], edits: dict[str, Edit]):
        """A case with the inputs `clean` and `corrupt`, with writes into `corrupt` alone."""
        inputs = {key: self.input(key) for key in ("clean", "corrupt")}
        changed, bare = self.trace("corrupt", edits), self.trace("corrupt")
        self.compare(name, {"inputs": inputs}, nodes, changed, bare, prefix="corrupt/")

    def compare(self, name: str, inputs: dict, nodes: list[Node], changed: Seen, bare: Seen, prefix: str = ""):
        """Adds the outcome of writes, after making sure that they change something."""
        cuts = self.outcome
        if not any(differs(*(cut(seen, *cuts[result]) for seen in (changed, bare))) for result in cuts):
            raise Unfit(f"{name}: nothing changes")
        self.cuts(name, inputs, nodes, changed, cuts, prefix)

    def cuts(self, name: str, inputs: dict, nodes: list[Node], seen: Seen, cuts: dict[str, tuple[str, str]], prefix=""):
        """Adds a case that saves parts of sites, together with the largest value of each whole site."""
        saves = [save(f"{prefix}{site}{index}", result) for result, (site, index) in cuts.items()]
        largest = {result: size(seen[site]) for result, (site, _) in cuts.items()}
        expect = {result: cut(seen, *place) for result, place in cuts.items()}
        self.add(name, inputs | {"graph": nodes + saves}, expect, largest=largest)

    def write(self, folder: Path, about: dict, before: "Recorded"):
        """Writes `golden.safetensors` and `golden.json`. Cases that were there `before` keep their bytes."""
        cases = [before.same(case, self.tensors) or case for case in self.cases]
        kept = {key for case in cases if case is before.cases.get(case["name"]) for key in before.keys(case)}
        keys = {key for case in cases for key in before.keys(case)}
        save_file({key: (before if key in kept else self).tensors[key] for key in keys}, folder / "golden.safetensors")
        about["made_with"] = before.about.get("made_with", {}) | about["made_with"]
        write_json(folder, about, cases)


@dataclass
class Recorded:
    """What a folder holds already. Another machine's rounding shall not change it."""

    about: dict = field(default_factory=dict)
    cases: dict[str, dict] = field(default_factory=dict)
    tensors: Seen = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Recorded":
        """What was written there, if anything was."""
        if not (folder / "golden.json").exists():
            return cls()
        about = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
        cases = {case["name"]: case for case in about.pop("cases")}
        return cls(about, cases, load_file(folder / "golden.safetensors"))

    def same(self, case: dict, tensors: Seen) -> dict | None:
        """The case as it was recorded, if it asks for the same and no value moved by a tenth of what is allowed."""
        before = self.cases.get(case["name"], {})
        if any(before.get(part) != case[part] for part in ("request", "tolerance")):
            return None
        if before["expect"].keys() != case["expect"].keys():
            return None
        for result, key in case["expect"].items():
            allowed = case["tolerance"].get(result, case["tolerance"]["of_largest"])
            if not close(self.tensors[before["expect"][result]], tensors[key], allowed / 10):
                return None
        return before

    @staticmethod
    def keys(case: dict) -> list[str]:
        """The names of a case's tensors."""
        return [*case["expect"].values(), *case.get("nnterp", {}).values()]


def close(left: Tensor, right: Tensor, share: float) -> bool:
    """Whether the tensors are apart by no more than this share of the largest finite value, infinities being equal."""
    if left.shape != right.shape or not left[left.isinf()].equal(right[left.isinf()]):
        return False
    finite = left.isfinite()
    return bool(((left - right)[finite].abs() <= share * left[finite].abs().max()).all())


def write_json(folder: Path, about: dict, cases: list[dict]):
    """Writes `golden.json`, one case a line."""
    head = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in about.items())
    lines = ",\n".join(f"  {json.dumps(case, ensure_ascii=False)}" for case in cases)
    text = f'{{\n{head},\n "cases": [\n{lines}\n ]\n}}\n'
    (folder / "golden.json").write_text(text, encoding="utf-8")


def cut(seen: Seen, site: str, index: str) -> Tensor:
    """The part of a site that an index names, given as a request writes it."""
    return seen[site][eval(f"numpy.s_{index}")] if index else seen[site]


def size(value: Tensor) -> float:
    """The largest absolute value that is finite, to 4 digits."""
    return float(f"{value[value.isfinite()].abs().max().item():.4g}")


def made_with() -> dict[str, str]:
    """The libraries behind the data, with their versions."""
    return {lib.__name__: lib.__version__ for lib in (torch, transformers, tokenizers, safetensors)}


def differs(left: Tensor, right: Tensor) -> bool:
    """Whether the tensors are apart by far more than the tolerance of any test."""
    return (left - right).abs().max().item() > 1e-2 * right.abs().max().item()


@torch.no_grad()
def greedy(model: nn.Module, prompt: list[int], count: int) -> list[int] | None:
    """Greedy continuation; nothing where it hangs on a near tie, of tokens or of experts."""
    ids = list(prompt)
    for _ in range(count):
        try:
            with Choices():
                logits = forget_length(model)(input_ids=torch.tensor([ids]), use_cache=False).logits
        except NearTie:
            return None
        best = logits[0, -1].topk(2)
        if best.values[0] - best.values[1] < 1e-2:
            return None
        ids.append(best.indices[0].item())
    return ids[len(prompt) :]


def top_tokens(logits: Tensor, k: int, decode: Callable[[int], str] | None) -> list[list[dict]]:
    """What `top_tokens` answers for `[B, V]` logits; without a tokenizer there is no text."""
    rows = []
    for row, probs in zip(logits, logits.softmax(-1)):
        found = [{"id": i, "prob": probs[i].item(), "logit": row[i].item()} for i in row.topk(k).indices.tolist()]
        rows.append([token | ({"text": decode(token["id"])} if decode else {}) for token in found])
    return rows

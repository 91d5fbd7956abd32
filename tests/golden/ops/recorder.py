"""Runs nodes of the graph language with PyTorch, and keeps what comes out."""

import operator
import warnings
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from values import DTYPES, NAMES, t

Node = dict[str, Any]

# PyTorch's parameter names, as far as they can be given both by position and by name. None: only by position.
SIZES = {name: ("size",) for name in ("zeros", "ones")}
REDUCE = {name: ("input", "dim", "keepdim") for name in "sum mean max min argmax argmin prod logsumexp".split()}
PAIR = "add sub mul div maximum minimum matmul eq ne lt le gt ge logical_and logical_or".split()
PARAMS: dict[str, tuple[str | None, ...]] = {
    **SIZES,
    **REDUCE,
    **{name: ("input", "other") for name in PAIR},
    **{name: ("input", "dim") for name in "cumsum softmax log_softmax squeeze unsqueeze var std".split()},
    **{name: ("input", "diagonal") for name in ("tril", "triu")},
    **{name: ("tensors", "dim") for name in ("cat", "stack")},
    "arange": ("start", "end", "step"),
    "cast": ("input", "dtype"),
    "clamp": ("input", "min", "max"),
    "cosine_similarity": ("x1", "x2", "dim", "eps"),
    "cross_entropy": ("input", "target", "weight"),
    "dot": ("input", "tensor"),
    "einsum": (None,),
    "expand": (None, "size"),
    "eye": ("n", "m"),
    "flip": ("input", "dims"),
    "full": ("size", "fill_value"),
    "gather": ("input", "dim", "index"),
    "index_select": ("input", "dim", "index"),
    "kl_div": ("input", "target"),
    "masked_fill": ("input", "mask", "value"),
    "norm": ("input", "p", "dim", "keepdim"),
    "one_hot": (None, "num_classes"),
    "outer": ("input", "vec2"),
    "permute": ("input", "dims"),
    "pow": ("input", "exponent"),
    "repeat": (None, "repeats"),
    "reshape": ("input", "shape"),
    "scatter_add": ("input", "dim", "index", "src"),
    "sort": ("input", "dim", "descending"),
    "split": (None, "split_size_or_sections", "dim"),
    "topk": ("input", "k", "dim", "largest", "sorted"),
    "transpose": ("input", "dim0", "dim1"),
    "where": ("condition", "input", "other"),
}
NUMBERS = {"Infinity": float("inf"), "-Infinity": float("-inf"), "NaN": float("nan")}
OF_NUMBER = {
    name: getattr(operator, {"div": "truediv"}.get(name, name)) for name in "add sub mul div eq ne lt le gt ge".split()
}
TENSORS_ONLY = ("maximum", "minimum", "logical_and", "logical_or")
FUNCTIONAL = ("gelu", "silu", "cosine_similarity", "cross_entropy", "kl_div", "one_hot")
TOLERANCE = 1e-5
LOOSE = {torch.float16: 4e-3, torch.bfloat16: 3e-2}
TIGHT = 1e-10


def function(name: str):
    """What PyTorch has for an op."""
    if name == "cast":
        return lambda input, dtype: input.to(dtype)
    homes = (F,) if name in FUNCTIONAL else (torch, Tensor)
    return next(getattr(home, name) for home in homes if hasattr(home, name))


def run(node: Node, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The outputs of a node by name, as PyTorch computes them."""

    def read(value: Any) -> Any:
        match value:
            case list():
                return [read(item) for item in value]
            case str() if value.startswith("@"):
                return tensors[value[1:]]
            case str() if value in DTYPES:
                return DTYPES[value]
            case str():
                return NUMBERS.get(value, value)
        return value

    name, args = node["op"], read(node.get("args", []))
    named = {key: read(value) for key, value in node.items() if key not in ("op", "args")}
    if name in ("cat", "stack") and args and isinstance(args[0], Tensor):
        args = [args]
    if name in OF_NUMBER and args and not isinstance(args[0], Tensor):
        out = OF_NUMBER[name](*args)
    else:
        if name in TENSORS_ONLY:
            args = [arg if isinstance(arg, Tensor) else torch.tensor(arg) for arg in args]
            named = {key: arg if isinstance(arg, Tensor) else torch.tensor(arg) for key, arg in named.items()}
        out = function(name)(*args, **named)
    if isinstance(out, Tensor):
        return {"": out}
    return dict(zip(getattr(out, "_fields", map(str, range(len(out)))), out))


def float_outputs(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those that a gradient can be taken of."""
    return {name: out for name, out in outputs.items() if out.is_floating_point() and out.requires_grad}


def leaves(tensors: dict[str, Tensor], still: Collection[str] = ()) -> dict[str, Tensor]:
    """Copies of tensors, those of floats ready to take a gradient, but for those that stand still."""

    def moves(key: str) -> bool:
        return tensors[key].is_floating_point() and key not in still

    return {key: tensor.clone().requires_grad_(moves(key)) for key, tensor in tensors.items()}


@dataclass
class Recorder:
    """The cases so far. The op's name, its arguments and options make a case, as in a call of PyTorch's function."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    cases: list[dict] = field(default_factory=list)
    keys: dict[bytes, str] = field(default_factory=dict)
    seen: Counter = field(default_factory=Counter)

    def case(self, name: str, *args: Any, still: Collection[Tensor] = (), **named: Any):
        """Records what PyTorch computes, and the gradient where there is one. None is taken for `still`."""
        node, used = self.node(name, args, named)
        arguments = leaves(used, [self.store("t", tensor) for tensor in still])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outputs = run(node, arguments)
        case = {"node": node, "expect": {key: self.store("r", out) for key, out in outputs.items()}}
        if grad := self.grad(arguments, float_outputs(outputs)):
            case["grad"] = grad
        dtypes = {tensor.dtype for tensor in (*used.values(), *outputs.values()) if tensor.is_floating_point()}
        loosest = max((LOOSE[dtype] for dtype in dtypes if dtype in LOOSE), default=None)
        tolerance = loosest or (TIGHT if dtypes == {torch.float64} else None)
        self.cases.append(case | ({"tolerance": tolerance} if tolerance else {}))

    def refuse(self, name: str, *args: Any, by_value: bool = False, **named: Any):
        """Records that PyTorch refuses. `by_value`: because of numbers in a tensor, not of shapes, types or options."""
        node, used = self.node(name, args, named)
        try:
            outputs = run(node, used)
        except (RuntimeError, TypeError, IndexError, ValueError) as error:
            why = " ".join(str(error).split())
            assert "RuntimeError" not in why and why, node
            case = {"node": node, "refused": True, "why": why if len(why) <= 120 else f"{why[:117]}..."}
            self.cases.append(case | ({"by_value": True} if by_value else {}))
        else:
            raise AssertionError(f"PyTorch takes {node}: {outputs}")

    def node(self, name: str, args: tuple, named: dict) -> tuple[Node, dict[str, Tensor]]:
        """The node of a call, and the tensors it names. Ways of writing the arguments take turns."""
        args, named = styled(name, args, named, self.seen[name])
        self.seen[name] += 1
        used: dict[str, Tensor] = {}

        def write(value: Any) -> Any:
            match value:
                case Tensor():
                    key = self.store("t", value)
                    used[key] = self.tensors[key]
                    return f"@{key}"
                case list() | tuple():
                    return [write(item) for item in value]
                case float() if value != value:
                    return "NaN"
                case float() if value in (float("inf"), float("-inf")):
                    return "Infinity" if value > 0 else "-Infinity"
            return value

        node = {"op": name, **({"args": write(args)} if args else {})}
        return node | {key: write(value) for key, value in named.items()}, used

    def grad(self, arguments: dict[str, Tensor], outputs: dict[str, Tensor]) -> dict | None:
        """A cotangent for each float output, and the gradients that follow for the float arguments."""
        wrt = {key: argument for key, argument in arguments.items() if argument.requires_grad}
        if not outputs or not wrt:
            return None
        drawn = [t(*out.shape, dtype=NAMES[out.dtype], seed=900 + i) for i, out in enumerate(outputs.values())]
        along = dict(zip(outputs, drawn))
        found = torch.autograd.grad(list(outputs.values()), list(wrt.values()), list(along.values()), allow_unused=True)
        grads = {key: self.store("g", grad) for key, grad in zip(wrt, found) if grad is not None}
        cotangent = {name: self.store("c", tensor) for name, tensor in along.items()}
        single = next(iter(cotangent.values())) if len(cotangent) == 1 else cotangent
        return {"cotangent": single, "args": grads} if grads else None

    def store(self, prefix: str, tensor: Tensor) -> str:
        """The key of a tensor. Equal tensors are stored once."""
        tensor = tensor.detach().contiguous()
        bits = tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        content = f"{tensor.dtype}{tuple(tensor.shape)}".encode() + bits
        if content not in self.keys:
            self.keys[content] = f"{prefix}{len(self.tensors)}"
            self.tensors[self.keys[content]] = tensor.clone()
        return self.keys[content]


def styled(name: str, args: tuple, named: dict, turn: int) -> tuple[list, dict]:
    """The same call: as it was given, with options by name, all by name, or all by position."""
    params = PARAMS.get(name, ("input",))
    args, named = list(args), dict(named)
    one_by_one = len(args) > len(params) or params[0] == "tensors" and isinstance(args[0], Tensor)
    style = turn % 4
    if style in (1, 2) and not one_by_one:
        keep = 1 if style == 1 or params[0] is None else 0
        if name in ("arange", "where", "pow") or name in OF_NUMBER and not isinstance(args[0], Tensor):
            keep = len(args)
        named = dict(zip(params[keep:], args[keep:])) | named
        args = args[:keep]
    if style == 3 and not one_by_one and "stable" not in named:
        while len(args) < len(params) and params[len(args)] in named:
            args.append(named.pop(params[len(args)]))
    return args, named

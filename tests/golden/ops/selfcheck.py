"""Checks of the record itself: enough of everything, and values and gradients that hold in float64."""

import math
from collections import Counter

import torch
from torch import Tensor

from recorder import TOLERANCE, Node, float_outputs, leaves, run
from values import DTYPES, x

OPS = """
add sub mul div neg abs pow sqrt rsqrt exp log sin cos tanh sigmoid relu gelu silu clamp floor round sign
maximum minimum sum mean var std norm max min argmax argmin prod cumsum softmax log_softmax logsumexp topk
sort matmul einsum dot outer cosine_similarity cross_entropy kl_div eq ne lt le gt ge logical_and logical_or
logical_not where reshape transpose permute squeeze unsqueeze expand repeat flip cat stack split index_select
gather scatter_add masked_fill tril triu zeros ones full eye arange one_hot cast detach clone
""".split()
MADE = ("zeros", "ones", "full", "eye", "arange")
REFUSALS = 60
STEP = 1e-5


def enough(cases: list[dict]):
    """Every op of the protocol is there often enough, no other op is, and refusals are not rare."""
    answered = Counter(case["node"]["op"] for case in cases if "expect" in case)
    few = [op for op in OPS if answered[op] < (4 if op in MADE else 8)]
    assert not few, f"too few cases of {few}"
    assert not set(answered) - set(OPS), set(answered) - set(OPS)
    refused = sum("refused" in case for case in cases)
    assert refused >= REFUSALS, f"{refused} refusals"


def values_hold(cases: list[dict], tensors: dict[str, Tensor]) -> int:
    """How many float outputs come out in float64 within half the tolerance that their case leaves. All must."""
    count = 0
    for case in cases:
        if "expect" not in case or jumps(case["node"]):
            continue
        outputs = run(case["node"], {key: wide(tensor) for key, tensor in tensors_of(case, tensors).items()})
        for name, key in case["expect"].items():
            found, expected = tensors[key], outputs[name]
            if found.is_floating_point():
                count += 1
                assert near(found, expected, case.get("tolerance", TOLERANCE) / 2), case
    return count


def gradients_hold(cases: list[dict], tensors: dict[str, Tensor]) -> tuple[int, int]:
    """Compares recorded gradients with finite differences in float64.

    Returns how many elements were compared, and how many were left out: there the op has a kink or no finite value.
    """
    compared, left_out = Counter(), Counter()
    for case in cases:
        if "grad" not in case or narrows(case["node"]):
            continue
        arguments = {key: wide(tensor) for key, tensor in tensors_of(case, tensors).items()}
        cotangents = cotangents_of(case, tensors)
        for key, grad in case["grad"]["args"].items():
            for place, found in enumerate(tensors[grad].reshape(-1)):
                around = slopes(case["node"], arguments, cotangents, key, place)
                if not smooth(around):
                    left_out[case["node"]["op"]] += 1
                    continue
                compared[case["node"]["op"]] += 1
                expected, limit = x((around[0] + around[1]) / 2, "f64"), 2 * case.get("tolerance", TOLERANCE) + 1e-5
                assert near(found, expected, limit), (case, key, place, found, around)
    alone = {op for op in left_out if not compared[op]}
    assert not alone, f"no gradient was compared of {alone}"
    return compared.total(), left_out.total()


def gradients_in_double(cases: list[dict], tensors: dict[str, Tensor]) -> int:
    """How many recorded gradients agree with those of float64 arguments: all must, at kinks as elsewhere."""
    count = 0
    for case in cases:
        if "grad" not in case or narrows(case["node"]):
            continue
        used = {key: wide(tensor) for key, tensor in tensors_of(case, tensors).items()}
        arguments = leaves(used, used.keys() - case["grad"]["args"].keys())
        outputs = float_outputs(run(case["node"], arguments))
        cotangents = cotangents_of(case, tensors)
        keys = list(case["grad"]["args"])
        wrt = [arguments[key] for key in keys]
        for key, expected in zip(keys, torch.autograd.grad(list(outputs.values()), wrt, list(cotangents.values()))):
            count += 1
            found = tensors[case["grad"]["args"][key]]
            assert near(found, expected, case.get("tolerance", TOLERANCE)), (case, key, found, expected)
    return count


def tensors_of(case: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that a case's node names."""

    def named(value) -> list[str]:
        if isinstance(value, list):
            return [key for item in value for key in named(item)]
        return [value[1:]] if isinstance(value, str) and value.startswith("@") else []

    return {key: tensors[key] for value in case["node"].values() for key in named(value)}


def cotangents_of(case: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The cotangents of a case by the name of the output, in float64."""
    given = case["grad"]["cotangent"]
    first = next(iter(case["expect"]))
    keys = given if isinstance(given, dict) else {first: given}
    return {name: tensors[key].double() for name, key in keys.items()}


def slopes(node: Node, arguments: dict, cotangents: dict, key: str, place: int) -> list[float]:
    """Slopes along one element: behind it, ahead of it, and ahead of it over a shorter step.

    NaN for a huge number: a step that counts would be too long.
    """

    def at(step: float) -> float:
        moved = arguments[key].clone()
        moved.reshape(-1)[place] += step
        outputs = run(node, arguments | {key: moved})
        return sum((outputs[name] * cotangent).sum().item() for name, cotangent in cotangents.items())

    here, step = at(0.0), STEP * max(1.0, abs(arguments[key].reshape(-1)[place].item()))
    if step > 0.1:
        return [math.nan]
    return [(at(signed) - here) / signed for signed in (-step, step, step / 2)]


def smooth(found: list[float]) -> bool:
    """Whether all slopes are finite and tell of one."""
    return all(map(math.isfinite, found)) and max(found) - min(found) <= 1e-2 + 1e-3 * abs(found[0])


def wide(tensor: Tensor) -> Tensor:
    """The same numbers in float64."""
    return tensor.double() if tensor.is_floating_point() else tensor


def near(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Whether `found` is what is expected, in its own type, within the tolerance as the README says it."""
    found, expected = found.double(), expected.to(found.dtype).double()
    return torch.allclose(found, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


def narrows(node: Node) -> bool:
    """Whether the node itself names a type, so that in float64 it would still be computed in less."""
    return any(name in DTYPES for name in (node.get("dtype"), *node.get("args", [])) if isinstance(name, str))


def jumps(node: Node) -> bool:
    """Whether the last digit of an argument may change the result by far."""
    return narrows(node) or node["op"] in ("floor", "round", "sign") or "rounding_mode" in node

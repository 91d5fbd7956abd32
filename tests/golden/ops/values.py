"""Argument tensors: seeded, with few decimals, the same for the same description, so that cases share them."""

import math
import random
import zlib
from collections.abc import Callable

import torch
from torch import Tensor

DTYPES = {
    "f32": torch.float32,
    "f64": torch.float64,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "i64": torch.int64,
    "u8": torch.uint8,
    "bool": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
INF, NAN = math.inf, math.nan
SPECIAL = [INF, -INF, NAN, 0.0, -0.0, 1.0, -1.0, 20.0, -20.0]


def x(values, dtype: str = "f32") -> Tensor:
    """A tensor of these numbers."""
    return torch.tensor(values, dtype=DTYPES[dtype])


def filled(shape: tuple, dtype: str, seed: object, draw: Callable[[random.Random], float]) -> Tensor:
    """A tensor of numbers drawn one by one."""
    choose = random.Random(zlib.crc32(repr((shape, seed)).encode()))
    return torch.tensor([draw(choose) for _ in range(math.prod(shape))], dtype=DTYPES[dtype]).reshape(shape)


def t(*shape: int, dtype: str = "f32", seed: int = 0) -> Tensor:
    """Normal noise for floats; for the others whole numbers from -6, 0 for u8, to 9, or a mask."""
    draws = {
        "i64": lambda choose: choose.randint(-6, 9),
        "u8": lambda choose: choose.randint(0, 9),
        "bool": lambda choose: choose.random() < 0.5,
    }
    return filled(shape, dtype, seed, draws.get(dtype, lambda choose: round(choose.gauss(0, 1.5), 2)))


def positive(*shape: int, dtype: str = "f32", seed: int = 0) -> Tensor:
    """Numbers between 0.2 and 4."""
    return filled(shape, dtype, ("positive", seed), lambda choose: round(choose.uniform(0.2, 4), 2))


def ints(*shape: int, below: int, low: int = 0, seed: int = 0) -> Tensor:
    """Whole numbers from `low` up to, without, `below`."""
    return filled(shape, "i64", (low, below, seed), lambda choose: choose.randrange(low, below))


def distinct(*shape: int, dtype: str = "f32", seed: int = 0) -> Tensor:
    """Numbers that all differ, in no order; exact in every float type."""
    values = list(range(math.prod(shape)))
    random.Random(zlib.crc32(repr((shape, "distinct", seed)).encode())).shuffle(values)
    scale = 0.5 if dtype in ("f32", "f64", "f16", "bf16") else 1
    shift = 0 if dtype == "u8" else len(values) // 3
    return torch.tensor([(value - shift) * scale for value in values], dtype=DTYPES[dtype]).reshape(shape)


def probs(*shape: int, dtype: str = "f32", seed: int = 0) -> Tensor:
    """Positive numbers which add up to 1 along axis 1, or along the only one."""
    weights = positive(*shape, dtype="f64", seed=seed)
    return (weights / weights.sum(min(1, len(shape) - 1), keepdim=True)).to(DTYPES[dtype])


def log_probs(*shape: int, dtype: str = "f32", seed: int = 0) -> Tensor:
    """Logarithms of probabilities along axis 1."""
    return probs(*shape, dtype="f64", seed=seed + 50).log().to(DTYPES[dtype])

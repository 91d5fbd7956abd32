"""How values lie: heads side by side or on an axis, fused projections, rows of different length."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from architectures import architecture, kv_heads, text_config


def head_dim(model: nn.Module) -> int:
    """Size of one head."""
    config = text_config(model)
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def value_dim(model: nn.Module) -> int:
    """Size of a head's values."""
    return model.config.v_head_dim if architecture(model).latent else head_dim(model)


def split_qkv(output: Tensor, config: Any, grouped: bool) -> list[Tensor]:
    """`[B, S, (H + 2 K) * d]` as q, k and v, `[B, heads, S, d]` each."""
    heads, shared = config.num_attention_heads, kv_heads(config)
    size = output.shape[-1] // (heads + 2 * shared)
    if not grouped:
        return [split_heads(part, size) for part in output.split([heads * size, shared * size, shared * size], -1)]
    parts = output.unflatten(-1, (shared, heads // shared + 2, size)).split([heads // shared, 1, 1], -2)
    return [part.flatten(2, 3).transpose(1, 2) for part in parts]


def join_qkv(parts: list[Tensor], grouped: bool) -> Tensor:
    """The other way round."""
    if not grouped:
        return torch.cat([join_heads(part) for part in parts], dim=-1)
    shared = parts[1].shape[1]
    return torch.cat([part.transpose(1, 2).unflatten(2, (shared, -1)) for part in parts], -2).flatten(2)


def split_heads(value: Tensor, size: int) -> Tensor:
    """`[B, S, H * d]` to `[B, H, S, d]`."""
    return value.unflatten(-1, (-1, size)).transpose(1, 2)


def join_heads(value: Tensor) -> Tensor:
    """`[B, H, S, d]` to `[B, S, H * d]`."""
    return value.transpose(1, 2).flatten(2)


def head_shares(projection: nn.Module, z: Tensor) -> Tensor:
    """`[B, H, S, d]` through each head's own columns of the projection: `[B, H, S, D]`."""
    weight = projection.weight.T if isinstance(projection, Conv1D) else projection.weight
    return torch.einsum("bhsd,ohd->bhso", z, weight.unflatten(1, (z.shape[1], z.shape[3])))


def token_axes(site: str) -> tuple[int, ...]:
    """The axes of a site's value that count tokens."""
    last = site.rsplit(".", 1)[-1]
    if last in ("scores", "probs") and ".router." not in site:
        return (2, 3)
    return (2,) if last in ("q", "k", "v", "q_rot", "k_rot", "z", "heads") else (1,)


def stack_rows(rows: list[Tensor], axes: tuple[int, ...]) -> Tensor:
    """Joins rows of a batch of one each along axis 0; rows of different length are left-padded with zeros."""
    shape = [max(sizes) for sizes in zip(*(row.shape for row in rows))]
    batch = rows[0].new_zeros(len(rows), *shape[1:])
    for index, row in enumerate(rows):
        place = [
            slice(size - own if axis in axes else 0, None) for axis, (size, own) in enumerate(zip(shape, row.shape))
        ]
        batch[(index, *place[1:])] = row[0]
    return batch

"""Reads and writes every site of the standardized tree in a transformers model, through hooks.

`trace` runs one row through the model's own eager float32 forward. On the way it shows the value of each site (named
and shaped as in section 2 of the protocol) to the edit that is given for it, puts back what the edit returns, and keeps
the value as it went on; `live_trace` does the same on autograd's graph. What differs between architectures is one
row of `ARCHITECTURES`: where transformers' module tree keeps each site.
"""

import sys
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest import mock

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

Seen = dict[str, Tensor]
Edit = Callable[[Tensor, Seen], Tensor]


@dataclass(frozen=True)
class Architecture:
    """Module paths of one `model_type`. Paths below `blocks` start at a block, those below a module at that module."""

    embed: str  # token embeddings, before positions
    positions: str | None  # the table of learned positions
    blocks: str
    final_norm: str
    attn_norm: str
    attention: str
    qkv: tuple[str, ...]  # three projections, or one whose output is q, k and v side by side
    out: str  # attention's output projection
    mlp_norm: str  # its input is the residual stream between attention and MLP
    mlp: str
    gate: str | None
    up: str
    down: str
    lm_head: str = "lm_head"


ARCHITECTURES = {
    "gpt2": Architecture(
        embed="transformer.wte",
        positions="transformer.wpe",
        blocks="transformer.h",
        final_norm="transformer.ln_f",
        attn_norm="ln_1",
        attention="attn",
        qkv=("c_attn",),
        out="c_proj",
        mlp_norm="ln_2",
        mlp="mlp",
        gate=None,
        up="c_fc",
        down="c_proj",
    ),
    "llama": Architecture(
        embed="model.embed_tokens",
        positions=None,
        blocks="model.layers",
        final_norm="model.norm",
        attn_norm="input_layernorm",
        attention="self_attn",
        qkv=("q_proj", "k_proj", "v_proj"),
        out="o_proj",
        mlp_norm="post_attention_layernorm",
        mlp="mlp",
        gate="gate_proj",
        up="up_proj",
        down="down_proj",
    ),
}


@torch.no_grad()
def trace(model: nn.Module, ids: list[int], edits: dict[str, Edit] | None = None) -> Seen:
    """Runs one row of token ids; returns every site's value, after the edits, in the order of the forward pass."""
    return run(Taps(model, edits or {}), ids)


def live_trace(model: nn.Module, ids: list[int], edits: dict[str, Edit] | None = None) -> Seen:
    """The same, with every site's value a node of autograd's graph: all that comes after the site is made of it."""
    return run(Taps(model, edits or {}, live=True), ids)


def run(taps: "Taps", ids: list[int]) -> Seen:
    model = taps.model
    with taps.attached():
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits
    taps.visit("logits", logits)
    missing = set(taps.edits) - set(taps.seen)
    if missing:
        raise KeyError(f"no such site in {model.config.model_type}: {sorted(missing)}")
    return taps.seen


class Taps:
    """The hooks of one forward pass, and what they saw: copies, or `live` values on autograd's graph."""

    def __init__(self, model: nn.Module, edits: dict[str, Edit], live: bool = False):
        self.model, self.edits, self.live = model, edits, live
        self.where = ARCHITECTURES[model.config.model_type]
        self.seen: Seen = {}

    def visit(self, site: str, value: Tensor) -> Tensor:
        """Shows the value to the site's edit. Where there is none the same tensor comes back, unless it is live."""
        edit = self.edits.get(site)
        if edit is None and not self.live:
            after = value
        else:
            after = (edit or unchanged)(value.clone(), self.seen)
        self.seen[site] = after if self.live else after.clone()
        return after

    @contextmanager
    def attached(self):
        """Hooks every site in, and takes all hooks out again."""
        with ExitStack() as stack:
            self.stack, self.hooks = stack, []
            stack.callback(lambda: [hook.remove() for hook in self.hooks])
            self.on_output(self.find(self.where.embed), "embed_tokens.output")
            for index, block in enumerate(self.find(self.where.blocks)):
                self.hook_block(block, f"layers.{index}")
            self.on_input(self.find(self.where.final_norm), "ln_final.input")
            self.on_output(self.find(self.where.final_norm), "ln_final.output")
            self.on_output(self.find(self.where.lm_head), "lm_head.output")
            yield

    def find(self, path: str) -> nn.Module:
        return self.model.get_submodule(path)

    def hook_block(self, block: nn.Module, name: str):
        where = self.where
        attention, mlp = block.get_submodule(where.attention), block.get_submodule(where.mlp)
        self.on_input(block, f"{name}.input")
        self.on_input(attention, f"{name}.self_attn.input")
        self.hook_projections(attention, f"{name}.self_attn")
        self.hook_eager(attention, f"{name}.self_attn")
        self.hook_heads(attention, f"{name}.self_attn.heads")
        self.on_output(attention, f"{name}.self_attn.output", f"{name}.attn_add")
        self.on_residual(block.get_submodule(where.mlp_norm), f"{name}.resid_mid")
        self.on_input(mlp, f"{name}.mlp.input")
        if where.gate:
            self.on_output(mlp.get_submodule(where.gate), f"{name}.mlp.gate")
        self.on_output(mlp.get_submodule(where.up), f"{name}.mlp.up")
        self.on_input(mlp.get_submodule(where.down), f"{name}.mlp.neurons")
        self.on_output(mlp, f"{name}.mlp.output", f"{name}.mlp_add")
        self.on_output(block, f"{name}.output")

    def on_input(self, module: nn.Module, site: str):
        """The module's first argument, given by place or as `hidden_states`."""

        def hook(_, args, kwargs):
            if args:
                return (self.visit(site, args[0]), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": self.visit(site, kwargs["hidden_states"])}

        self.hooks.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def on_output(self, module: nn.Module, *sites: str):
        """The module's output, or the first of several. More than one site means they coincide in this architecture."""

        def hook(_, args, output):
            value = output[0] if isinstance(output, tuple) else output
            for site in sites:
                value = self.visit(site, value)
            return (value, *output[1:]) if isinstance(output, tuple) else value

        self.hooks.append(module.register_forward_hook(hook))

    def on_residual(self, norm: nn.Module, site: str):
        """A norm's input that also goes past the norm: written in place, so that both ways see it."""

        def hook(_, args):
            after = self.visit(site, args[0])
            if after is not args[0]:
                args[0].copy_(after)

        self.hooks.append(norm.register_forward_pre_hook(hook))

    def hook_projections(self, attention: nn.Module, name: str):
        """q, k and v as `[1, heads, S, head_dim]`, before rotation."""
        sites = [f"{name}.{letter}" for letter in "qkv"]
        size = head_dim(self.model)

        def hook_for(own: list[str]):
            def hook(_, args, output):
                parts = [split_heads(part, size) for part in output.chunk(len(own), dim=-1)]
                return torch.cat([join_heads(self.visit(*pair)) for pair in zip(own, parts)], dim=-1)

            return hook

        share = len(sites) // len(self.where.qkv)
        for index, path in enumerate(self.where.qkv):
            own = sites[index * share : (index + 1) * share]
            self.hooks.append(attention.get_submodule(path).register_forward_hook(hook_for(own)))

    def hook_eager(self, attention: nn.Module, name: str):
        """What happens inside of the eager attention function: rotated q and k, scores, probs, z.

        The function is transformers' own. It is called with the softmax replaced by one that shows its two sides.
        """
        home = sys.modules[type(attention).__module__]
        eager = home.eager_attention_forward
        softmax = nn.functional.softmax

        def tapped(module, query, key, value, mask, **kwargs):
            if module is not attention:
                return eager(module, query, key, value, mask, **kwargs)

            def tapped_softmax(scores, *args, **options):
                hidden = torch.zeros(()) if mask is None else mask
                masked = scores.masked_fill(hidden < torch.finfo(hidden.dtype).min / 2, -torch.inf)
                after = self.visit(f"{name}.scores", masked)
                probs = softmax(scores if after is masked else after, *args, **options)
                return self.visit(f"{name}.probs", probs)

            query, key = self.visit(f"{name}.q_rot", query), self.visit(f"{name}.k_rot", key)
            with mock.patch.object(nn.functional, "softmax", tapped_softmax):
                output, weights = eager(module, query, key, value, mask, **kwargs)
            return self.visit(f"{name}.z", output.transpose(1, 2)).transpose(1, 2), weights

        self.stack.enter_context(mock.patch.object(home, "eager_attention_forward", tapped))

    def hook_heads(self, attention: nn.Module, site: str):
        """Each head's share of the output projection, `[1, heads, S, hidden]`: together with the bias, its output."""
        size = head_dim(self.model)

        def hook(projection, args, _):
            shares = head_shares(projection, split_heads(args[0], size))
            after = self.visit(site, shares)
            if after is shares:
                return None
            return after.sum(1) if projection.bias is None else after.sum(1) + projection.bias

        self.hooks.append(attention.get_submodule(self.where.out).register_forward_hook(hook))


def unchanged(value: Tensor, _: Seen) -> Tensor:
    """The edit that leaves a site as it is."""
    return value


def head_dim(model: nn.Module) -> int:
    """Size of one head."""
    config = model.config
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


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
    if last in ("scores", "probs"):
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

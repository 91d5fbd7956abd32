"""Reads and writes every site of the standardized tree in a transformers model, through hooks.

`trace` runs one row through the model's own eager float32 forward. On the way it shows the value of each site (named
and shaped as in section 2 of the protocol) to the edit that is given for it, puts back what the edit returns, and keeps
the value as it went on; `live_trace` does the same on autograd's graph. What differs between architectures is one
row of `architectures.ARCHITECTURES`: where transformers' module tree keeps each site.
"""

import sys
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from torch import Tensor, nn

from architectures import architecture, kv_heads, text_config
from choices import Choices
from layouts import head_dim, head_shares, join_heads, join_qkv, split_heads, split_qkv, value_dim

Seen = dict[str, Tensor]
Edit = Callable[[Tensor, Seen], Tensor]


@torch.no_grad()
def trace(model: nn.Module, ids: list[int], edits: dict[str, Edit] | None = None) -> Seen:
    """Runs one row of token ids; returns every site's value, after the edits, in the order of the forward pass."""
    return run(Taps(model, edits or {}), ids)


def live_trace(model: nn.Module, ids: list[int], edits: dict[str, Edit] | None = None) -> Seen:
    """The same, with every site's value a node of autograd's graph: all that comes after the site is made of it."""
    return run(Taps(model, edits or {}, live=True), ids)


def run(taps: "Taps", ids: list[int]) -> Seen:
    model = forget_length(taps.model)
    with taps.attached():
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits
    taps.visit("logits", logits)
    missing = set(taps.edits) - set(taps.seen)
    if missing:
        raise KeyError(f"no such site in {model.config.model_type}: {sorted(missing)}")
    return taps.seen


def forget_length(model: nn.Module) -> nn.Module:
    """Rotary scaling remembers the longest sequence so far; a sequence's own length shall decide.

    The frequencies are copied, as transformers overwrites them in place.
    """
    for module in model.modules():
        if not hasattr(module, "original_max_seq_len"):
            continue
        for name, first in list(module.named_buffers(recurse=False, remove_duplicate=False)):
            if name.endswith("original_inv_freq"):
                prefix = name.removesuffix("original_inv_freq")
                setattr(module, f"{prefix}inv_freq", first.clone())
                setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)
    return model


class Taps:
    """The hooks of one forward pass, and what they saw: copies, or `live` values on autograd's graph."""

    def __init__(self, model: nn.Module, edits: dict[str, Edit], live: bool = False):
        self.model, self.edits, self.live = model, edits, live
        self.where = architecture(model)
        self.seen: Seen = {}
        self.keys: dict[nn.Module, dict] = {}

    def visit(self, site: str, value: Tensor) -> Tensor:
        """Shows the value to the site's edit. Where there is none the same tensor comes back, unless it is live."""
        if value.dim() == 2:  # OPT's MLP has the rows' tokens one after the other
            flat = value[None]
            after = self.visit(site, flat)
            return value if after is flat else after[0]
        edit = self.edits.get(site)
        if edit is None and not self.live:
            after = value
        else:
            after = (edit or unchanged)(value.clone(), self.seen)
        self.seen[site] = after if self.live else after.clone()
        return after.clone() if self.live else after  # what is added in place shall not reach what was seen

    @contextmanager
    def attached(self):
        """Hooks every site in, and takes all hooks out again."""
        with ExitStack() as stack:
            self.stack, self.hooks = stack, []
            stack.enter_context(Choices())
            self.clip = self.take_clip()
            stack.callback(lambda: [hook.remove() for hook in self.hooks])
            if self.where.scaled_embed:
                self.on_input(self.find(self.where.blocks)[0], "embed_tokens.output")
            else:
                self.on_output(self.find(self.where.embed), "embed_tokens.output")
            for index, block in enumerate(self.find(self.where.blocks)):
                self.hook_block(block, f"layers.{index}")
            self.on_input(self.find(self.where.final_norm), "ln_final.input")
            self.on_output(self.find(self.where.final_norm), "ln_final.output")
            self.on_output(self.find(self.where.lm_head), "lm_head.output")
            yield

    def take_clip(self) -> float | None:
        """The bound on q, k and v. The hooks clip in the model's place, so that the sites are what comes after it.

        A bound that nothing reaches takes its place: DBRX's attention cannot do without one.
        """
        holders = [self.model.config, *self.model.modules()]
        holders = [holder for holder in holders if isinstance(getattr(holder, "clip_qkv", None), float)]
        clip = holders[0].clip_qkv if holders else None
        for holder in holders:
            self.stack.enter_context(mock.patch.object(holder, "clip_qkv", torch.inf))
        return clip

    def find(self, path: str) -> nn.Module:
        return self.model.get_submodule(path)

    def hook_block(self, block: nn.Module, name: str):
        where = self.where
        attention, mlp = block.get_submodule(where.attention), block.get_submodule(where.mlp)
        self.on_input(block, f"{name}.input")
        self.on_input(attention, f"{name}.self_attn.input")
        if where.latent:
            self.hook_latents(attention, f"{name}.self_attn")
        else:
            self.hook_projections(attention, f"{name}.self_attn")
        if where.inner is None:
            self.hook_eager(attention, f"{name}.self_attn")
        else:
            self.hook_inline(attention, f"{name}.self_attn")
        self.hook_heads(attention, f"{name}.self_attn.heads")
        output = attention.get_submodule(where.attention_output)
        self.on_added(block, output, where.attn_post_norm, f"{name}.self_attn.output", f"{name}.attn_add")
        if not where.parallel:
            self.on_residual(block.get_submodule(where.mlp_norm), f"{name}.resid_mid")
        self.on_input(mlp.get_submodule(where.mlp_input), f"{name}.mlp.input")
        if hasattr(mlp, "experts"):
            self.hook_router(mlp, f"{name}.mlp.router")
        elif where.gate == where.up:
            self.on_halves(mlp.get_submodule(where.up), f"{name}.mlp.gate", f"{name}.mlp.up")
        else:
            if where.gate:
                self.on_output(mlp.get_submodule(where.gate), f"{name}.mlp.gate")
            self.on_output(mlp.get_submodule(where.up), f"{name}.mlp.up")
        if not hasattr(mlp, "experts"):
            self.on_input(mlp.get_submodule(where.down), f"{name}.mlp.neurons")
        output = mlp.get_submodule(where.mlp_output)
        self.on_added(block, output, where.mlp_post_norm, f"{name}.mlp.output", f"{name}.mlp_add")
        self.on_output(block, f"{name}.output")

    def on_added(self, block: nn.Module, module: nn.Module, norm: str | None, own: str, add: str):
        """A module's own output, and what is added to the residual stream: after a norm and a multiplier."""
        if norm:
            self.on_output(module, own)
            self.on_output(block.get_submodule(norm), add)
        elif self.where.multiplier == 1:
            self.on_output(module, own, add)
        else:
            self.on_output(module, own)
            self.on_output(module, add, factor=self.where.multiplier)

    def hook_router(self, mlp: nn.Module, name: str):
        """The router's projection, and the weights of all experts, which is what the experts are given then."""
        router = mlp.get_submodule(self.where.router)
        forward, linear = router.forward, nn.functional.linear

        def shown(*args):
            return self.visit(f"{name}.logits", linear(*args))

        def routed(*args):
            with mock.patch.object(nn.functional, "linear", shown):
                return forward(*args)

        self.stack.enter_context(mock.patch.object(router, "forward", routed))
        if self.where.weighed_input:
            self.on_output(router, f"{name}.probs")
            return

        def given(_, args):
            states, index, chosen = args
            flat = torch.zeros(len(index), mlp.experts.num_experts, dtype=chosen.dtype).scatter(1, index, chosen)
            after = self.visit(f"{name}.probs", flat)
            if after is flat:
                return args
            return states, torch.arange(flat.shape[1]).expand(len(index), -1), after

        self.hooks.append(mlp.experts.register_forward_pre_hook(given))

    def on_halves(self, module: nn.Module, *sites: str):
        """The parts of a projection's output, side by side."""

        def hook(_, args, output):
            return torch.cat([self.visit(*pair) for pair in zip(sites, output.chunk(len(sites), -1))], -1)

        self.hooks.append(module.register_forward_hook(hook))

    def on_input(self, module: nn.Module, site: str):
        """The module's first argument, given by place or as `hidden_states`."""

        def hook(_, args, kwargs):
            if args:
                return (self.visit(site, args[0]), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": self.visit(site, kwargs["hidden_states"])}

        self.hooks.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def on_output(self, module: nn.Module, *sites: str, factor: float = 1.0):
        """The module's output, or the first of several. More than one site means they coincide in this architecture.

        With a factor the sites' value is the output times it.
        """

        def hook(_, args, output):
            value = output[0] if isinstance(output, tuple) else output
            for site in sites:
                shown = value if factor == 1 else value * factor
                after = self.visit(site, shown)
                value = value if after is shown else after / factor
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
        """q, k and v as `[1, heads, S, head_dim]`, before rotation, after the norms that come before it."""
        where, config = self.where, text_config(self.model)
        normed = "qk" if where.qk_norms else ""

        def clipped(output: Tensor) -> Tensor:
            return output.clamp(-self.clip, self.clip) if self.clip else output

        def visit(letter: str, value: Tensor) -> Tensor:
            if letter in normed:
                return value
            value = self.visit(f"{name}.{letter}", value)
            unturned = where.inner == "" and letter in "qk"
            return self.visit(f"{name}.{letter}_rot", value) if unturned else value

        def joined(_, args, output):
            parts = split_qkv(clipped(output), config, where.grouped)
            return join_qkv([visit(*pair) for pair in zip("qkv", parts)], where.grouped)

        def single(letter: str):
            def hook(_, args, output):
                return join_heads(visit(letter, split_heads(clipped(output), head_dim(self.model))))

            return hook

        def norm(letter: str):
            def hook(_, args, output):
                site, output = f"{name}.{letter}", clipped(output)
                if where.heads_first:
                    return self.visit(site, output)
                heads = split_heads(output.flatten(2), head_dim(self.model))
                return join_heads(self.visit(site, heads)).view_as(output)

            return hook

        if len(where.qkv) == 1:
            self.hooks.append(attention.get_submodule(where.qkv[0]).register_forward_hook(joined))
        else:
            for letter, path in zip("qkv", where.qkv):
                if letter not in normed:
                    self.hooks.append(attention.get_submodule(path).register_forward_hook(single(letter)))
        for letter, path in zip("qk", where.qk_norms or ()):
            self.hooks.append(attention.get_submodule(path).register_forward_hook(norm(letter)))

    def hook_latents(self, attention: nn.Module, name: str):
        """q, k and v of latent attention, before rotation. What is rotated of the keys is the same in all of them.

        q, the other part of k, and v are written where they are projected. What is written to the keys' shared part
        is told apart by head: `turned_keys` rotates it again, with transformers' own function.
        """
        config = self.model.config
        own, value = config.qk_nope_head_dim, config.v_head_dim
        latest = self.keys[attention] = {}

        def enter(_, args, kwargs):
            latest["angles"] = kwargs["position_embeddings"]

        def queries(_, args, output):
            return join_heads(self.visit(f"{name}.q", split_heads(output, config.qk_head_dim)))

        def narrowed(_, args, output):
            latest["shared"] = output[..., config.kv_lora_rank :][:, None]

        def widened(_, args, output):
            shape, heads = output.shape, config.num_attention_heads
            parts = output.reshape(1, -1, heads, own + value).transpose(1, 2)
            shared = latest["shared"].expand(-1, heads, -1, -1)
            keys = torch.cat([parts[..., :own], shared], -1)
            after = self.visit(f"{name}.k", keys)
            latest["written"] = None if after is keys else after[..., own:]
            values = self.visit(f"{name}.v", parts[..., own:])
            return torch.cat([after[..., :own], values], -1).transpose(1, 2).reshape(shape)

        self.hooks.append(attention.register_forward_pre_hook(enter, with_kwargs=True))
        projection = attention.q_proj if config.q_lora_rank is None else attention.q_b_proj
        self.hooks.append(projection.register_forward_hook(queries))
        self.hooks.append(attention.kv_a_proj_with_mqa.register_forward_hook(narrowed))
        self.hooks.append(attention.kv_b_proj.register_forward_hook(widened))

    def turned_keys(self, attention: nn.Module, key: Tensor) -> Tensor:
        """The rotated keys, of what was written to them before."""
        latest = self.keys.get(attention, {})
        written = latest.get("written")
        if written is None:
            return key
        rotate, angles = self.where.latent(self.model.config), latest["angles"]
        angles = angles if isinstance(angles, tuple) else (angles,)
        _, turned = getattr(sys.modules[type(attention).__module__], rotate)(written, written, *angles)
        return torch.cat([key[..., : -turned.shape[-1]], turned], -1)

    def hook_eager(self, attention: nn.Module, name: str):
        """What happens inside of the eager attention function: rotated q and k, scores, probs, z.

        The function is transformers' own. It is called with the softmax replaced by one that shows its two sides.
        """
        home = sys.modules[type(attention).__module__]
        eager = home.eager_attention_forward

        def tapped(module, query, key, value, mask, **kwargs):
            if module is not attention:
                return eager(module, query, key, value, mask, **kwargs)

            tapped_softmax = self.softmax(name, mask)
            scale = module.scaling if self.where.scaled_query else 1
            shown = query / scale if self.where.scaled_query else query
            after = self.visit(f"{name}.q_rot", shown)
            query = query if after is shown else after * scale
            key = self.visit(f"{name}.k_rot", self.turned_keys(attention, key))
            with ExitStack() as inside:
                if hasattr(module, "sinks"):
                    beside, tapped_softmax = self.softmax_with_sinks(name, mask)
                    inside.enter_context(mock.patch.object(torch, "cat", beside))
                inside.enter_context(mock.patch.object(nn.functional, "softmax", tapped_softmax))
                output, weights = eager(module, query, key, value, mask, **kwargs)
            return self.visit(f"{name}.z", output.transpose(1, 2)).transpose(1, 2), weights

        self.stack.enter_context(mock.patch.object(home, "eager_attention_forward", tapped))

    def softmax(self, name: str, mask: Tensor | None = None) -> Callable:
        """torch's softmax with its two sides shown. What a mask has added to, or what it has put, is -inf."""
        softmax = nn.functional.softmax

        def tapped(scores, *args, **options):
            hidden = scores if mask is None else mask
            masked = scores.masked_fill(hidden < torch.finfo(hidden.dtype).min / 2, -torch.inf)
            after = self.visit(f"{name}.scores", masked)
            probs = softmax(scores if after is masked else after, *args, **options)
            return self.visit(f"{name}.probs", probs)

        return tapped

    def softmax_with_sinks(self, name: str, mask: Tensor | None) -> tuple[Callable, Callable]:
        """torch's cat, which puts each head's sink beside its scores, and the softmax of both: what belongs to keys is shown."""
        cat, softmax = torch.cat, nn.functional.softmax

        def beside(parts, *args, **options):
            scores, sinks = parts
            hidden = scores if mask is None else mask
            masked = scores.masked_fill(hidden < torch.finfo(hidden.dtype).min / 2, -torch.inf)
            after = self.visit(f"{name}.scores", masked)
            return cat([scores if after is masked else after, sinks], *args, **options)

        def tapped(both, *args, **options):
            probs = softmax(both, *args, **options)
            shown = probs[..., :-1]
            after = self.visit(f"{name}.probs", shown)
            return probs if after is shown else cat([after, probs[..., -1:]], -1)

        return beside, tapped

    def hook_inline(self, attention: nn.Module, name: str):
        """The same where attention calls softmax itself: torch's is replaced while the module runs."""
        running = ExitStack()
        size = head_dim(self.model)

        home, inner = sys.modules[type(attention).__module__], self.where.inner
        rotates = inner and hasattr(home, inner)
        shared = kv_heads(text_config(self.model))

        def rotated(query, key, *args):
            query, key = rotate(query, key, *args)
            each = key[:, :: key.shape[1] // shared]  # keys may be repeated by now
            after = self.visit(f"{name}.k_rot", each)
            key = key if after is each else after.repeat_interleave(key.shape[1] // shared, 1)
            return self.visit(f"{name}.q_rot", query), key

        def enter(*_):
            running.enter_context(mock.patch.object(nn.functional, "softmax", self.softmax(name)))
            if rotates:
                running.enter_context(mock.patch.object(home, inner, rotated))

        def show_z(_, args):
            z = split_heads(args[0], size)
            after = self.visit(f"{name}.z", z)
            return args if after is z else (join_heads(after), *args[1:])

        if rotates:
            rotate = getattr(home, inner)
        elif inner:
            attend = getattr(attention, inner)

            def turned(query, key, *args):
                return attend(self.visit(f"{name}.q_rot", query), self.visit(f"{name}.k_rot", key), *args)

            self.stack.enter_context(mock.patch.object(attention, inner, turned))
        self.hooks.append(attention.register_forward_pre_hook(enter))
        self.hooks.append(attention.register_forward_hook(lambda *_: running.close()))
        self.hooks.append(attention.get_submodule(self.where.out).register_forward_pre_hook(show_z))

    def hook_heads(self, attention: nn.Module, site: str):
        """Each head's share of the output projection, `[1, heads, S, hidden]`: together with the bias, its output."""
        size = value_dim(self.model)

        def hook(projection, args, _):
            shares = head_shares(projection, split_heads(args[0], size))
            after = self.visit(site, shares)
            if after is shares:
                return None
            return after.sum(1) if projection.bias is None else after.sum(1) + projection.bias

        self.hooks.append(attention.get_submodule(self.where.out).register_forward_hook(hook))


def unembedding(model: nn.Module) -> nn.Module:
    """From the final norm's output to `lm_head.output`."""
    where = architecture(model)
    parts = [model.get_submodule(path) for path in (where.before_head, where.lm_head) if path]
    return nn.Sequential(*parts)


def unchanged(value: Tensor, _: Seen) -> Tensor:
    """The edit that leaves a site as it is."""
    return value

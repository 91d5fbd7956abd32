"""What must hold in a recording before it may be called golden."""

import torch
from torch import nn

from architectures import Architecture, architecture
from choices import Choices
from taps import Seen, trace, unembedding


@torch.no_grad()
def check(model: nn.Module, ids: list[int]):
    """Checks a trace of one row against itself, and the hooks against the model without any."""
    where = architecture(model)
    with Choices() as choices:
        seen = trace(model, ids)
    routers = sum(site.endswith(".router.logits") for site in seen)
    assert choices.count >= routers, "a router chooses without topk, so that near ties go unseen"
    bare = model(torch.tensor([ids]), use_cache=False, output_attentions=True, output_hidden_states=True)
    assert seen["logits"].equal(bare.logits), "the hooks change the model"
    for index, block in enumerate(model.get_submodule(where.blocks)):
        attention = block.get_submodule(where.attention)
        check_block(seen, f"layers.{index}", attention, where)
        same(seen[f"layers.{index}.self_attn.probs"], bare.attentions[index], "probs as transformers returns them")
        if index:
            same(seen[f"layers.{index}.input"], bare.hidden_states[index], "input as transformers returns it")
    same(seen["ln_final.input"], seen[f"layers.{index}.output"], "ln_final.input")
    final = model.get_submodule(where.final_norm)(seen["ln_final.input"])
    same(unembedding(model)(final), seen["lm_head.output"], "lm_head.output from ln_final.input")


def check_writes(model: nn.Module, ids: list[int]):
    """Writing any site's own value back changes nothing."""
    seen = trace(model, ids)
    for site in seen:
        again = trace(model, ids, {site: lambda value, _: value})
        same(again["logits"], seen["logits"], f"writing {site} back")


def check_block(seen: Seen, name: str, attention: nn.Module, where: Architecture):
    """The block's own arithmetic, redone from its recorded sites."""
    at = {site.removeprefix(f"{name}."): value for site, value in seen.items() if site.startswith(f"{name}.")}
    scores, probs = at["self_attn.scores"], at["self_attn.probs"]
    sinks = getattr(attention, "sinks", torch.full((scores.shape[1],), -torch.inf))
    whole = torch.cat([scores, sinks.view(1, -1, 1, 1).expand(*scores.shape[:-1], 1)], -1).softmax(-1)
    same(probs.sum(-1) + whole[..., -1], torch.ones_like(probs[..., 0]), "sum of probs and what goes into the sink")
    assert not probs.triu(1).any(), "attention looks ahead"
    same(whole[..., :-1], probs, "softmax of scores")
    rotated, keys = at["self_attn.q_rot"], at["self_attn.k_rot"]
    groups = rotated.shape[1] // keys.shape[1]
    values = at["self_attn.v"].repeat_interleave(groups, 1)
    same(probs @ values, at["self_attn.z"], "probs @ v")
    if where.turned_only:
        norms = [at[f"self_attn.{site}"].norm(dim=-1) for site in ("q", "k")]
        same(norms[0], rotated.norm(dim=-1), "length of q under rotation")
        same(norms[1], keys.norm(dim=-1), "length of k under rotation")
        raw = (rotated @ keys.repeat_interleave(groups, 1).mT).masked_fill(scores.isinf(), 0)
        known = scores.masked_fill(scores.isinf(), 0)
        same(raw * ((known * raw).sum() / (raw * raw).sum()), known, "scores up to their scale")
    total, bias = at["self_attn.heads"].sum(1), attention.get_submodule(where.out).bias
    same(total if bias is None else total + bias, at["self_attn.output"], "sum of heads")
    if not where.parallel:
        same(at["input"] + at["attn_add"], at["resid_mid"], "resid_mid")
    same(at["input"] + at["attn_add"] + at["mlp_add"], at["output"], "output")


def same(left: torch.Tensor, right: torch.Tensor, what: str):
    """Equality up to float32 rounding."""
    apart = (left - right).abs().max().item()
    assert apart <= 1e-5 * max(1.0, right.abs().max().item()), f"{what}: {apart} apart"

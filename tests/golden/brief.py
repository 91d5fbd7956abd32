"""The shortest list of cases: every site, and a handful that may hang on the architecture."""

import numpy as np

from architectures import text_config
from cases import attention, patching, sites
from choices import Unfit
from golden import Golden, literal, op, part, put, short_noise
from modules import parts_on_ragged_rows
from slopes import diff, diff_of, live, slopes

# Written at each of them is what it was, with every other place of its last axis turned and halved: norms that come
# after would undo a factor on all of them.
WRITTEN = ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.z", "attn_add", "mlp.neurons", "mlp_add")
SLOPES = ("self_attn.q", "self_attn.v", "self_attn.probs", "attn_add", "mlp.up")
# What a block with experts has instead.
EXPERTS = {"mlp.neurons": "mlp.router.probs", "mlp.up": "mlp.router.logits"}


def brief_cases(golden: Golden):
    """Adds them."""
    sites(golden)
    vector = short_noise(text_config(golden.model).hidden_size, seed=1)
    steer = op("steer", layers=[0, 1], vector=literal(vector), tokens=-1)
    add = part(np.s_[:, -1], lambda value: value + vector)
    golden.intervention("steer the last token", [steer], {"layers.0.output": add, "layers.1.output": add})
    attention(golden)
    patching(golden)
    seen = golden.trace()
    at = lambda site: f"layers.1.{site}" if f"layers.1.{site}" in seen else f"layers.1.{EXPERTS[site]}"
    for target in map(at, WRITTEN):
        edit = {target: part(np.s_[..., ::2], lambda value: value * -0.5)}
        node = put(f"{target}[..., ::2]", op("mul", f"{target}[..., ::2]", -0.5))
        golden.intervention(f"write {target}", [node], edit)
    if "layers.1.mlp.router.probs" in seen:
        experts(golden)
    parts_on_ragged_rows(golden)
    run, inputs = live(golden), {"input": golden.input("clean")}
    wrt = ["embed_tokens.output", "layers.*.output", *map(at, SLOPES), "ln_final.input"]
    slopes(golden, "gradients", inputs, [], diff(), diff_of(run), {None: run}, wrt)


def experts(golden: Golden):
    """The last token goes through an expert that was not chosen; an expert that was chosen adds nothing any more."""
    logits, probs = "layers.1.mlp.router.logits", "layers.1.mlp.router.probs"
    seen = golden.trace()
    mix, raised = seen[probs][0, -1], round(seen[logits][0, -1].max().item() + 1, 2)
    raise_one = lambda other: {logits: part(np.s_[:, -1, other], lambda _: raised)}
    others = [i for i, share in enumerate(mix) if not share and golden.trace(edits=raise_one(i))[probs][0, -1, i]]
    if not others:
        raise Unfit("no other expert can be chosen")
    node = put(f"{logits}[:, -1, {others[0]}]", raised)
    golden.intervention("choose another expert", [node], raise_one(others[0]))
    best = mix.argmax().item()
    without = {probs: part(np.s_[..., best], lambda _: 0)}
    golden.intervention("take an expert out", [put(f"{probs}[..., {best}]", 0)], without)

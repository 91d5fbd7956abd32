"""The shortest list of cases: every site, and a handful that may hang on the architecture."""

import numpy as np

from cases import attention, patching, sites
from golden import Golden, literal, op, part, put, short_noise
from modules import parts_on_ragged_rows
from slopes import diff, diff_of, live, slopes

# Written at each of them is what it was, with every other place of its last axis turned and halved: norms that come
# after would undo a factor on all of them.
WRITTEN = ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.z", "attn_add", "mlp.neurons", "mlp_add")
EXPERTS = {"mlp.neurons": "mlp.router.probs", "mlp.up": "mlp.router.logits"}
SLOPES = ("self_attn.q", "self_attn.v", "self_attn.probs", "attn_add", "mlp.up")


def brief_cases(golden: Golden):
    """Adds them."""
    sites(golden)
    vector = short_noise(golden.model.config.hidden_size, seed=1)
    steer = op("steer", layers=[0, 1], vector=literal(vector), tokens=-1)
    add = part(np.s_[:, -1], lambda value: value + vector)
    golden.intervention("steer the last token", [steer], {"layers.0.output": add, "layers.1.output": add})
    attention(golden)
    patching(golden)
    experts = "layers.1.mlp.router.probs" in golden.trace()
    for site in [EXPERTS.get(site, site) if experts else site for site in WRITTEN]:
        target = f"layers.1.{site}"
        edit = {target: part(np.s_[..., ::2], lambda value: value * -0.5)}
        node = put(f"{target}[..., ::2]", op("mul", f"{target}[..., ::2]", -0.5))
        golden.intervention(f"write {target}", [node], edit)
    parts_on_ragged_rows(golden)
    seen, inputs = live(golden), {"input": golden.input("clean")}
    wrt = ["embed_tokens.output", "layers.*.output", *(f"layers.1.{site}" for site in [EXPERTS.get(site, site) if experts else site for site in SLOPES]), "ln_final.input"]
    slopes(golden, "gradients", inputs, [], diff(), diff_of(seen), {None: seen}, wrt)

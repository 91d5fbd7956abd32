"""Modules of a tiny model applied to values of all kinds, and gradients through them."""

import re
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from architectures import architecture
from golden import Golden, literal, op, save, short_noise
from slopes import live, slopes
from layouts import stack_rows
from taps import Seen, live_trace, unembedding

ROWS = ("short", "clean")
# Where a module takes its value, and where it gives its own: sites below its layer.
ENDS = {
    "": ("input", "output"),
    ".self_attn": ("self_attn.input", "self_attn.output"),
    ".mlp": ("mlp.input", "mlp.output"),
}


def module_cases(golden: Golden, thorough: bool):
    """Adds them."""
    whole_sequences(golden)
    through(golden)
    if thorough:
        shapes(golden)
        in_turn(golden)


def apply(golden: Golden, name: str, value: Tensor) -> Tensor:
    """What the model's own module makes of `[1, S, D]`.

    A block and its parts are applied by putting the value in at their input in a run over any tokens, so that they get
    the mask and the positions that a sequence of this length has.
    """
    found = re.fullmatch(r"layers\.(\d+)(.*)", name)
    if not found or found[2] not in ENDS:
        return bare_module(golden, name)(value)
    layer, (into, out) = found[1], ENDS[found[2]]
    ids = [0] * value.shape[1]
    run = live_trace(golden.model, ids, {f"layers.{layer}.{into}": lambda *_: value})
    return run[f"layers.{layer}.{out}"]


def bare_module(golden: Golden, name: str) -> torch.nn.Module:
    """A module that takes each token by itself."""
    outer = {"embed_tokens": "embed", "ln_final": "final_norm", "lm_head": "lm_head"}
    if name == "lm_head":
        return unembedding(golden.model)
    if name in outer:
        return golden.module(outer[name])
    _, layer, norm = name.split(".")
    where = architecture(golden.model)
    return golden.module("blocks")[int(layer)].get_submodule(getattr(where, norm))


def modules(layer: int) -> dict[str, str]:
    """Every module that takes hidden states, and a site whose values it is applied to here."""
    names = ["", ".self_attn", ".mlp", ".attn_norm", ".mlp_norm"]
    sites = ["layers.0.output", "layers.0.attn_add", "layers.0.mlp.input", "layers.0.output", "layers.2.input"]
    return {f"layers.{layer}{name}": site for name, site in zip(names, sites)} | {
        "ln_final": "layers.0.output",
        "lm_head": "layers.1.mlp.output",
    }


def call(module: str, value: Any, **options: Any) -> dict:
    """A `call` node."""
    return op("call", value, module=module, **options)


def whole_sequences(golden: Golden):
    """Each module on the sequences of another place of the model, rows of different length; and token ids."""
    runs = [golden.trace(prompt) for prompt in ROWS]
    places = modules(1)
    with torch.no_grad():
        expect = {
            name: stack_rows([apply(golden, name, run[site]) for run in runs], (1,)) for name, site in places.items()
        }
        expect |= {"embed_tokens": golden.module("embed")(torch.tensor([[5, 3, 90], [3, 3, 0]]))}
    graph = [save(call(name, site), name) for name, site in places.items()]
    graph.append(save(call("embed_tokens", [[5, 3, 90], [3, 3, 0]]), "embed_tokens"))
    ids = [golden.prompts[prompt] for prompt in ROWS]
    golden.add("modules on ragged rows", {"input": ids, "graph": graph}, expect)


def parts_on_ragged_rows(golden: Golden):
    """A block, its parts, the final norm and the unembedding, as above."""
    runs = [golden.trace(prompt) for prompt in ROWS]
    names = ("layers.1", "layers.1.self_attn", "layers.1.mlp", "ln_final", "lm_head")
    with torch.no_grad():
        expect = {
            name: stack_rows([apply(golden, name, run["layers.0.output"]) for run in runs], (1,)) for name in names
        }
    graph = [save(call(name, "layers.0.output"), name) for name in names]
    ids = [golden.prompts[prompt] for prompt in ROWS]
    golden.add("modules on ragged rows", {"input": ids, "graph": graph}, expect)


def through(golden: Golden):
    """Gradients through each module, at the sites that its value is made of."""
    seen, inputs = live(golden), {"input": golden.input("clean")}
    for name, site in modules(1).items():
        into = seen[site]
        value = apply(golden, name, into)[:, -1, :8].tanh()
        nodes = [call(name, site, id="made")]
        wrt = [site, "embed_tokens.output"]
        of = op("tanh", "$made[:, -1, :8]")
        slopes(golden, f"gradients through {name}", inputs, nodes, of, value, {None: seen}, wrt)


@torch.no_grad()
def shapes(golden: Golden):
    """Values of other shapes: one row, one token, more axes, literals, ids in one list."""
    seen: Seen = golden.trace()
    given = short_noise(2, 3, golden.model.config.hidden_size, seed=21)
    hidden, stacked = seen["layers.0.output"], torch.stack([seen[f"layers.{i}.output"] for i in range(3)])
    each = lambda name, values: torch.stack([apply(golden, name, value) for value in values])
    rows = lambda name, values: torch.cat([apply(golden, name, value[None]) for value in values])
    expect = {
        "a literal": rows("layers.2", given),
        "one sequence": apply(golden, "layers.1", hidden)[0],
        "stacked layers": each("layers.1.self_attn", stacked),
        "every other token": apply(golden, "layers.0", hidden[:, ::2]),
        "one token": apply(golden, "layers.2.mlp", hidden[:, -1:])[:, 0],
        "one vector": apply(golden, "ln_final", hidden)[0, -1],
        "stacked last tokens": apply(golden, "lm_head", apply(golden, "ln_final", stacked[:, 0, -1])),
        "ids": golden.module("embed")(torch.tensor([0, 95, 7])),
    }
    last = call("ln_final", "layers.*.output[:, -1]")
    graph = [
        save(call("layers.2", literal(given)), "a literal"),
        save(call("layers.1", "layers.0.output[0]"), "one sequence"),
        save(call("layers[1].self_attn", "layers.*.output"), "stacked layers"),
        save(call("layers.0", "layers.0.output[:, ::2]"), "every other token"),
        save(call("layers.-1.mlp", "layers.0.output[:, -1]"), "one token"),
        save(call("ln_final", "layers.0.output[0, -1]"), "one vector"),
        save(call("lm_head", last), "stacked last tokens"),
        save(call("embed_tokens", [0, 95, 7]), "ids"),
    ]
    expect["stacked last tokens"] = expect["stacked last tokens"][:, None]
    golden.add("modules on values of other shapes", {"input": golden.input("clean"), "graph": graph}, expect)


def in_turn(golden: Golden):
    """Modules applied one after the other: the rest of the model, without a block; written back; to gradients' use."""
    seen = live(golden)
    rest = apply(golden, "lm_head", apply(golden, "ln_final", apply(golden, "layers.2", seen["layers.0.output"])))
    value = rest[:, -1, 7] - rest[:, -1, 11]
    nodes = [
        call("layers.2", "layers.0.output", id="block"),
        call("lm_head", call("ln_final", "$block"), id="rest"),
        save("$rest", "rest"),
    ]
    inputs = {"input": golden.input("clean")}
    skipped = live(golden, edits={"layers.1.output": lambda _, seen: seen["layers.0.output"].clone()})
    assert torch.allclose(skipped["logits"], rest, atol=1e-5)
    of = op("sub", "$rest[:, -1, 7]", "$rest[:, -1, 11]")
    wrt = ["layers.0.output", "layers.0.self_attn.probs", "embed_tokens.output"]
    slopes(golden, "gradients through modules in turn", inputs, nodes[:2], of, value, {None: seen}, wrt)
    golden.add("modules in turn", inputs | {"graph": nodes}, {"rest": rest})

    first = deepcopy(golden.module("blocks")[0].get_submodule(architecture(golden.model).mlp))
    doubled = lambda value, seen: value + first(seen["layers.1.mlp.input"])
    seen = live(golden, edits={"layers.1.mlp.output": doubled})
    site = "layers.1.mlp.output"
    nodes = [op("set", target=site, value=op("add", site, call("layers.0.mlp", "layers.1.mlp.input")))]
    of, value = op("log", "next_token_probs[:, 7]"), seen["logits"][:, -1].softmax(-1)[:, 7].log()
    wrt = ["layers.1.mlp.input", "layers.1.mlp.output", "layers.0.output"]
    slopes(golden, "gradients through a module in a write", inputs, nodes, of, value, {None: seen}, wrt)

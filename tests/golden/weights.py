"""The weights of a tiny model under their standardized names, in every view, and what can be made of them."""

import numpy as np
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from architectures import architecture
from golden import Golden, cut, op, put, save
from slopes import live, slopes
from layouts import head_dim

# Names of the views, the weight behind each, and what is done with it.
VIEWS = {
    "W_Q": "self_attn.q_proj",
    "W_K": "self_attn.k_proj",
    "W_V": "self_attn.v_proj",
    "W_O": "self_attn.o_proj",
    "W_gate": "mlp.gate_proj",
    "W_in": "mlp.up_proj",
    "W_out": "mlp.down_proj",
    "b_Q": "self_attn.q_proj.bias",
    "b_K": "self_attn.k_proj.bias",
    "b_V": "self_attn.v_proj.bias",
    "b_in": "mlp.up_proj.bias",
    "b_out": "mlp.down_proj.bias",
}
# Every row of a view is seen, and every column, but not each with each.
CUTS = {1: "", 2: "[::5, ::3]", 3: "[:, ::5, ::3]"}


def weight_cases(golden: Golden, thorough: bool):
    """Adds them."""
    names(golden)
    circuits(golden)
    if thorough:
        as_vectors(golden)


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Every weight, matrices as `[out, in]`."""
    where, found = architecture(model), {}

    def take(name: str, module: nn.Module, share: slice = np.s_[:]):
        matrix = module.weight.T if isinstance(module, Conv1D) else module.weight
        found[name] = matrix.detach()[share]
        if getattr(module, "bias", None) is not None:
            found[f"{name}.bias"] = module.bias.detach()[share]

    for index, block in enumerate(model.get_submodule(where.blocks)):
        layer, attention, mlp = f"layers.{index}", block.get_submodule(where.attention), block.get_submodule(where.mlp)
        take(f"{layer}.attn_norm", block.get_submodule(where.attn_norm))
        take(f"{layer}.mlp_norm", block.get_submodule(where.mlp_norm))
        width = model.config.hidden_size
        for number, letter in enumerate("qkv"):
            joined = len(where.qkv) == 1
            share = np.s_[number * width : (number + 1) * width] if joined else np.s_[:]
            take(f"{layer}.self_attn.{letter}_proj", attention.get_submodule(where.qkv[0 if joined else number]), share)
        take(f"{layer}.self_attn.o_proj", attention.get_submodule(where.out))
        if where.gate:
            take(f"{layer}.mlp.gate_proj", mlp.get_submodule(where.gate))
        take(f"{layer}.mlp.up_proj", mlp.get_submodule(where.up))
        take(f"{layer}.mlp.down_proj", mlp.get_submodule(where.down))
    take("embed_tokens", model.get_submodule(where.embed))
    if where.positions:
        take("embed_positions", model.get_submodule(where.positions))
    take("ln_final", model.get_submodule(where.final_norm))
    take("lm_head", model.get_submodule(where.lm_head))
    return found


def view(name: str, weight: Tensor, size: int) -> Tensor:
    """A block's weight as one of `VIEWS`: a row vector stands on its left, and heads of this size have an axis."""
    if name in ("W_Q", "W_K", "W_V"):
        return weight.T.unflatten(-1, (-1, size)).transpose(0, 1)
    if name == "W_O":
        return weight.T.unflatten(0, (-1, size))
    if name in ("b_Q", "b_K", "b_V"):
        return weight.unflatten(-1, (-1, size))
    return weight.T if name.startswith("W_") else weight


def names(golden: Golden):
    """Every name and view, as exactly as decimals are written."""
    found, size = weights(golden.model), head_dim(golden.model)
    layers = range(golden.model.config.num_hidden_layers)
    graph, expect = [], {}

    def case(name: str, values: list[Tensor]):
        index = CUTS[values[0].dim()]
        parts = [cut({name: value}, name, index) for value in values]
        expect[name] = torch.stack(parts) if "*" in name else parts[0]
        graph.append(save(f"weights.{name}{index}", name))

    for name in (name.removeprefix("layers.0.") for name in found if name.startswith("layers.0.")):
        case(f"layers.*.{name}", [found[f"layers.{i}.{name}"] for i in layers])
    for name, stored in VIEWS.items():
        if f"layers.0.{stored}" in found:
            case(f"layers.*.{name}", [view(name, found[f"layers.{i}.{stored}"], size) for i in layers])
    for name in (name for name in found if not name.startswith("layers.")):
        case(name, [found[name]])
    outer = {"W_E": found["embed_tokens"], "W_U": found["lm_head"].T, "W_pos": found.get("embed_positions")}
    for name, value in outer.items():
        if value is not None:
            case(name, [value])
    expect |= {
        "one head": view("W_O", found["layers.2.self_attn.o_proj"], size)[1, :, ::3],
        "a long name": found["layers.0.mlp.up_proj"].T[::7, ::5],
        "some layers": torch.stack([found["layers.2.attn_norm"], found["layers.0.attn_norm"]]),
    }
    graph.append(save("weights.layers[-1].self_attn.W_O[1, :, ::3]", "one head"))
    graph.append(save("weights.layers.0.mlp.W_in.weight[::7, ::5]", "a long name"))
    graph.append(save("weights.layers.[2,0].attn_norm.weight", "some layers"))
    request = {"input": golden.input("short"), "graph": graph}
    golden.add("weights", request, expect, tolerance={"of_largest": 1e-7})


def views(golden: Golden, layer: int) -> dict[str, Tensor]:
    """The views of one block."""
    found, size = weights(golden.model), head_dim(golden.model)
    stored = {name: f"layers.{layer}.{weight}" for name, weight in VIEWS.items()}
    return {name: view(name, found[weight], size) for name, weight in stored.items() if weight in found}


def circuits(golden: Golden):
    """What the last head moves (OV) and looks for (QK): matrices of its weights, and both on values of the model."""
    at = views(golden, 1)
    head, group = len(at["W_Q"]) - 1, len(at["W_K"]) - 1
    ov, qk = at["W_V"][group] @ at["W_O"][head], at["W_Q"][head] @ at["W_K"][group].T
    into = golden.trace()["layers.1.self_attn.input"][0]
    of = "weights.layers.1."
    graph = [
        op("sum", op("mul", f"{of}W_V[{group}, :, :, None]", f"{of}W_O[{head}, None]"), dim=1, id="ov"),
        op("sum", op("mul", f"{of}W_Q[{head}, :, None]", f"{of}W_K[{group}, None]"), dim=-1, id="qk"),
        save("$ov[::3, ::2]", "ov"),
        save("$qk[::3, ::2]", "qk"),
        save(op("sum", op("mul", "layers.1.self_attn.input[0, :, :, None]", "$ov"), dim=1), "moved"),
        op("sum", op("mul", "layers.1.self_attn.input[0, :, :, None]", "$qk"), dim=1, id="sought"),
        save(op("sum", op("mul", "$sought[:, None]", "layers.1.self_attn.input"), dim=-1), "met"),
    ]
    expect = {"ov": ov[::3, ::2], "qk": qk[::3, ::2], "moved": into @ ov, "met": into @ qk @ into.T}
    golden.add("circuits of one head", {"input": golden.input("clean"), "graph": graph}, expect)


def as_vectors(golden: Golden):
    """Rows of weights as directions: to steer along, to take out, to read along."""
    found = weights(golden.model)
    token, other = found["lm_head"][7], found["lm_head"][11]
    steer = op("steer", layers=[0, 1], vector="weights.lm_head[7]", factor=2.5)
    add = lambda value, _: value + 2.5 * token
    golden.intervention("steer along an unembedding", [steer], {"layers.0.output": add, "layers.1.output": add})

    seen, difference = golden.trace(), token - other
    read = [seen[f"layers.{i}.{part}"][:, -1] @ difference for part in ("attn_add", "mlp_add") for i in range(3)]
    graph = [op("sub", "weights.W_U[:, 7]", "weights.W_U[:, 11]", id="way")]
    for part in ("attn_add", "mlp_add"):
        graph.append(save(op("sum", op("mul", f"layers.*.{part}[:, -1]", "$way"), dim=-1), part))
    expect = {"attn_add": torch.stack(read[:3]), "mlp_add": torch.stack(read[3:])}
    golden.add("logits along the unembedding", {"input": golden.input("clean"), "graph": graph}, expect)

    way = found["layers.1.mlp.down_proj"][:, 3]
    without = lambda value, _: value - (value * way).sum(-1, keepdim=True) * way / (way * way).sum()
    site = "layers.1.output"
    nodes = [
        op("mul", "weights.layers.1.W_out[3]", 1, id="way"),
        op("sum", op("mul", site, "$way"), dim=-1, keepdim=True, id="share"),
        put(site, op("sub", site, op("div", op("mul", "$share", "$way"), op("sum", op("mul", "$way", "$way"))))),
    ]
    golden.intervention("a neuron's direction taken out", nodes, {site: without})
    run, probe = live(golden, edits={site: without}), found["layers.2.self_attn.q_proj"][5]
    of = op("mul", "layers.2.self_attn.input[:, 1:]", "weights.layers.2.self_attn.q_proj[5]")
    value = run["layers.2.self_attn.input"][:, 1:] * probe
    wrt = ["layers.1.output", "layers.1.resid_mid", "layers.0.mlp.neurons"]
    inputs = {"input": golden.input("clean")}
    slopes(golden, "gradients along weights", inputs, nodes, of, value, {None: run}, wrt)

"""Gradients of a tiny model: with respect to every site, through writes, and from input to input."""

import numpy as np
import torch
from torch import Tensor

from attribution import attribution
from golden import Golden, Node, literal, op, part, put, save, short_noise
from metrics import corners, losses, metrics, operations
from slopes import TOLERANCE, diff, diff_of, grad, live, row_slopes, slope, slopes
from taps import Seen

ROWS = ("short", "clean")


def gradient_cases(golden: Golden, thorough: bool):
    """Adds them. What does not hang on the architecture is left to the thorough ones."""
    every_site(golden)
    parts(golden)
    through_writes(golden)
    between_inputs(golden)
    attribution(golden)
    if thorough:
        ragged_writes(golden)
        places(golden)
        reused(golden)
        longer_ways(golden)
        climbing(golden)
        metrics(golden)
        losses(golden)
        operations(golden)
        corners(golden)


def every_site(golden: Golden):
    """With respect to every site of every layer. Rows differ in length: each has the gradient of its own number."""
    runs = [live(golden, prompt) for prompt in ROWS]
    of = [diff_of(run).sum() for run in runs]
    expect = {site: row_slopes(of, runs, site) for site in runs[0]}
    assert all(found.any() for found in expect.values())
    graph = [op("sum", diff(), id="of"), *(grad("$of", site, site) for site in expect)]
    ids = [golden.prompts[prompt] for prompt in ROWS]
    golden.add("gradients at every site", {"input": ids, "graph": graph}, expect, tolerance=TOLERANCE)


def parts(golden: Golden):
    """Parts of sites, several sites, all layers."""
    seen = live(golden)
    wrt = {
        "last": "layers.1.output[:, -1]",
        "cut": "layers.0.self_attn.probs[0, [0, 2], 1:, ::2]",
        "backwards": "layers.1.mlp.neurons[:, ::-1, [3, -1]]",
        "all layers": "layers.*.self_attn.z",
        "all layers, last": "layers.*.output[:, -1]",
        "chosen layers": "layers.[2,0].mlp.output[0, :, 1:5]",
        "several": ["embed_tokens.output", "layers.1.resid_mid", "ln_final.input"],
    }
    slopes(golden, "gradients of parts", {"input": golden.input("clean")}, [], diff(), diff_of(seen), {None: seen}, wrt)


def through_writes(golden: Golden):
    """Each kind of write between the sites and the number."""
    width = golden.model.config.hidden_size
    vector, given = short_noise(width, seed=11), short_noise(1, len(golden.prompts["clean"]), width, seed=12)

    def case(name: str, nodes: list[Node], edits: dict, wrt: list[str]):
        seen, inputs = live(golden, edits=edits), {"input": golden.input("clean")}
        slopes(golden, f"gradients through {name}", inputs, nodes, diff(), diff_of(seen), {None: seen}, wrt)

    steer = lambda value, _: value + 0.5 * vector
    case(
        "steering",
        [op("steer", layers=[0, 1], vector=literal(vector), factor=0.5)],
        {"layers.0.output": steer, "layers.1.output": steer},
        ["embed_tokens.output", "layers.0.output", "layers.1.self_attn.k"],
    )
    case(
        "a value of the model",
        [put("layers.1.output[:, -1]", op("mul", "layers.0.output[:, 0]", 0.5))],
        {"layers.1.output": from_first},
        ["embed_tokens.output", "layers.0.output", "layers.1.input", "layers.1.output"],
    )
    probs = "layers.1.self_attn.probs"
    case(
        "an attention knockout",
        [put(f"{probs}[:, :, 1:, 0]", 0), put(probs, op("div", probs, op("sum", probs, dim=-1, keepdim=True)))],
        {probs: lambda value, _: knockout(value)[1]},
        ["layers.0.output", "layers.1.self_attn.q", "layers.1.self_attn.scores", probs, "layers.1.self_attn.v"],
    )
    case(
        "a skipped block",
        [op("skip", layers=1)],
        {"layers.1.output": lambda _, seen: seen["layers.1.input"].clone()},
        ["layers.0.mlp.output", "layers.1.input", "layers.1.output", "layers.2.self_attn.k_rot"],
    )
    case(
        "skipping with a tensor",
        [op("skip", layers=[0, 1], **{"with": literal(given)})],
        {"layers.1.output": lambda *_: given.clone().requires_grad_()},
        ["layers.1.output", "layers.2.self_attn.scores"],
    )
    case(
        "skipping with a value of the model",
        [op("skip", layers=[1, 1], **{"with": op("tanh", "layers.0.attn_add")})],
        {"layers.1.output": lambda _, seen: seen["layers.0.attn_add"].tanh()},
        ["layers.0.input", "layers.0.attn_add", "layers.0.self_attn.heads", "layers.1.output"],
    )


def from_first(value: Tensor, seen: Seen) -> Tensor:
    value[:, -1] = 0.5 * seen["layers.0.output"][:, 0]
    return value


def knockout(value: Tensor) -> tuple[Tensor, Tensor]:
    """Attention without its first column, and the same with rows that sum to 1 again."""
    value[:, :, 1:, 0] = 0
    return value, value / value.sum(-1, keepdim=True)


def between_inputs(golden: Golden):
    """The number of one input, and the sites of another."""
    clean = live(golden)
    inputs = {"inputs": {name: golden.input(name) for name in ("clean", "corrupt")}}

    def case(name: str, target: str, source: str, wrt: list[str]):
        edit = part(np.s_[:, -1], lambda _: clean[source][:, -1])
        corrupt = live(golden, "corrupt", {target: edit})
        nodes = [put(f"corrupt/{target}[:, -1]", f"clean/{source}[:, -1]")]
        runs = {"clean": clean, "corrupt": corrupt}
        slopes(golden, name, inputs, nodes, diff("corrupt/"), diff_of(corrupt), runs, wrt)

    case(
        "gradients from one input to another",
        "layers.1.output",
        "layers.1.output",
        [
            "clean/embed_tokens.output",
            "clean/layers.1.self_attn.probs",
            "clean/layers.1.output",
            "corrupt/layers.0.output",
        ],
    )
    case(
        "gradients from the start to another input's end",
        "embed_tokens.output",
        "ln_final.output",
        ["clean/layers.*.output", "clean/ln_final.output", "corrupt/embed_tokens.output"],
    )


def ragged_writes(golden: Golden):
    """Rows of different length, written at their own first and last token: the gradient of each row's own number."""
    vector = short_noise(golden.model.config.hidden_size, seed=13)

    def at_ends(value: Tensor, seen: Seen) -> Tensor:
        value[:, [0, -1]] = value[:, [0, -1]] + vector * seen["layers.0.output"][:, [0, -1]]
        return value

    runs = [live(golden, prompt, {"layers.1.output": at_ends}) for prompt in ROWS]
    of = [run["layers.2.output"][:, -2:].tanh().sum() for run in runs]
    sites = ["embed_tokens.output", "layers.0.output", "layers.1.output", "layers.0.self_attn.probs", "layers.2.mlp.up"]
    expect = {site: row_slopes(of, runs, site) for site in sites}
    cut = "layers.0.output[:, [0, -1]]"
    target = "layers.1.output[:, [0, -1]]"
    graph = [put(target, op("add", target, op("mul", cut, literal(vector))))]
    graph.append(op("sum", op("tanh", "layers.2.output[:, -2:]"), id="of"))
    graph += [grad("$of", site, site) for site in sites]
    expect["ends"] = torch.cat([slope(number, {None: run}, cut) for number, run in zip(of, runs)])
    graph.append(grad("$of", cut, "ends"))
    ids = [golden.prompts[prompt] for prompt in ROWS]
    golden.add("gradients through writes into ragged rows", {"input": ids, "graph": graph}, expect, tolerance=TOLERANCE)


def places(golden: Golden):
    """A gradient is taken with respect to the site as the writes listed before it leave it."""
    site, probs, seen = "layers.1.output", "layers.1.self_attn.probs", []

    def twice(value: Tensor, _: Seen) -> Tensor:
        seen.append(value)
        value = value * torch.tensor([0.0, 2, 3, 1, 1])[:, None]
        seen.append(value)
        return value + value.sigmoid()

    def attention(value: Tensor, _: Seen) -> Tensor:
        seen.append(value)
        zero, whole = knockout(value.clone())
        seen.append(zero)
        return whole

    run = live(golden, edits={probs: attention, site: twice})
    found = torch.autograd.grad(diff_of(run).sum(), [*seen, run[probs], run[site]])
    names = ["probs before", "probs between", "before", "between", "probs after", "after"]
    factors = [[0], [2], [3], [1], [1]]
    graph = [
        grad("$of", probs, "probs before"),
        put(f"{probs}[:, :, 1:, 0]", 0),
        grad("$of", probs, "probs between"),
        put(probs, op("div", probs, op("sum", probs, dim=-1, keepdim=True))),
        grad("$of", probs, "probs after"),
        grad("$of", site, "before"),
        put(site, op("mul", site, factors)),
        grad("$of", site, "between"),
        put(site, op("add", site, op("sigmoid", site))),
        grad("$of", site, "after"),
        op("sum", diff(), id="of"),
    ]
    expect = dict(zip(names, found))
    golden.add(
        "gradients between writes", {"input": golden.input("clean"), "graph": graph}, expect, tolerance=TOLERANCE
    )


def reused(golden: Golden):
    """Values that are used more than once: in several places, spread by a write, in overlapping reads."""
    inputs = {"input": golden.input("clean")}

    def case(name: str, nodes: list[Node], edits: dict):
        seen = live(golden, edits=edits)
        wrt = ["layers.0.attn_add", "layers.0.self_attn.v", "layers.1.mlp.output"]
        slopes(golden, name, inputs, nodes, diff(), diff_of(seen), {None: seen}, wrt)

    def add_first(value: Tensor, seen: Seen) -> Tensor:
        return value + seen["layers.0.attn_add"][:, :1]

    def spread_first(value: Tensor, seen: Seen) -> Tensor:
        value[:, 1:3] = seen["layers.0.attn_add"][:, :1]
        return value

    sites = ["layers.1.mlp.output", "layers.2.self_attn.input"]
    nodes = [put(site, op("add", site, "$first")) for site in sites]
    nodes.append(op("mul", "layers.0.attn_add[:, :1]", 1, id="first"))
    case("gradients of a value in several places", nodes, dict.fromkeys(sites, add_first))
    nodes = [put("layers.1.mlp.output[:, 1:3]", "layers.0.attn_add[:, :1]")]
    case("gradients of a value spread by a write", nodes, {"layers.1.mlp.output": spread_first})

    seen = live(golden)
    site = seen["layers.1.output"]
    of = op("mul", "layers.1.output[:, [0, 0, -1], :4]", "layers.1.output[:, 1:4, [5, 5, 2, 5]]")
    of = op("sub", of, "layers.1.output[:, :3, 4:8]")
    value = site[:, [0, 0, -1], :4] * site[:, 1:4, [5, 5, 2, 5]] - site[:, :3, 4:8]
    wrt = ["layers.1.output", "layers.0.mlp.neurons", "layers.1.output[:, 1:, 2:6]"]
    slopes(golden, "gradients of overlapping reads", inputs, [], of, value, {None: seen}, wrt)


def longer_ways(golden: Golden):
    """Several inputs in turn, there and back again, numbers made of two inputs."""
    names = ("clean", "corrupt", "short")
    ids = {name: golden.input(name) for name in names}
    two = {"inputs": {name: ids[name] for name in names[:2]}}
    last = lambda value: part(np.s_[:, -1], lambda _: value[:, -1])

    clean = live(golden)
    corrupt = live(golden, "corrupt", {"embed_tokens.output": last(clean["ln_final.output"])})
    short = live(golden, "short", {"layers.0.output": last(corrupt["layers.2.output"])})
    nodes = [
        put("corrupt/embed_tokens.output[:, -1]", "clean/ln_final.output[:, -1]"),
        put("short/layers.0.output[:, -1]", "corrupt/layers.2.output[:, -1]"),
    ]
    runs = dict(zip(names, (clean, corrupt, short)))
    wrt = [
        "clean/embed_tokens.output",
        "clean/layers.*.self_attn.v",
        "corrupt/layers.1.resid_mid",
        "short/layers.0.output",
    ]
    slopes(golden, "gradients through three inputs", {"inputs": ids}, nodes, diff("short/"), diff_of(short), runs, wrt)

    corrupt = live(golden, "corrupt", {"layers.0.output": last(clean["layers.0.output"])})
    nodes = [put("corrupt/layers.0.output[:, -1]", "clean/layers.0.output[:, -1]")]
    of = op("tanh", op("mul", "clean/logits[:, -1]", "corrupt/logits[:, -1]"))
    value = (clean["logits"][:, -1] * corrupt["logits"][:, -1]).tanh()
    runs = {"clean": clean, "corrupt": corrupt}
    wrt = ["clean/layers.0.output", "corrupt/layers.0.output", "corrupt/embed_tokens.output", "clean/logits[:, -1]"]
    slopes(golden, "gradients of a number made of two inputs", two, nodes, of, value, runs, wrt)

    # The first input's early layers are reached by two ways, here on two graphs.
    again = live(golden, edits={"layers.1.output": last(corrupt["layers.1.output"])})
    found = torch.autograd.grad(diff_of(again).sum(), [run["layers.0.output"] for run in (clean, again, corrupt)])
    nodes.append(put("clean/layers.1.output[:, -1]", "corrupt/layers.1.output[:, -1]"))
    graph = [*nodes, op("sum", diff("clean/"), id="of")]
    graph += [grad("$of", f"{name}/layers.0.output", name) for name in ("clean", "corrupt")]
    expect = {"clean": found[0] + found[1], "corrupt": found[2]}
    golden.add("gradients there and back again", two | {"graph": graph}, expect, tolerance=TOLERANCE)


def climbing(golden: Golden):
    """A gradient as a value: a run is moved along the gradient of another, and the gradient there is taken too."""
    site = "layers.1.output"
    clean = live(golden)
    found = slope(diff_of(clean).sum(), {None: clean}, site)
    step = 2 * found / (found * found).sum().sqrt()
    moved = golden.trace(edits={site: lambda value, _: value + step})
    assert diff_of(moved) > diff_of(clean)
    graph = [
        op("sum", diff("clean/"), id="of"),
        op("grad", of="$of", wrt=f"clean/{site}", id="slope"),
        op("div", "$slope", op("sqrt", op("sum", op("mul", "$slope", "$slope"))), id="way"),
        put(f"moved/{site}", op("add", f"moved/{site}", "$way", alpha=2)),
        save("moved/logits[:, -1]", "logits"),
        save(op("sub", diff("moved/"), "$of"), "gain"),
        save("$slope[:, -1]", "slope"),
    ]
    expect = {"logits": moved["logits"][:, -1], "gain": diff_of(moved) - diff_of(clean), "slope": found[:, -1]}
    inputs = {name: golden.input("clean") for name in ("clean", "moved")}
    golden.add("a step along a gradient", {"inputs": inputs, "graph": graph}, expect)

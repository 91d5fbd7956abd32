"""Gradients of a tiny model: with respect to every site, through writes, inputs and operations."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from golden import Golden, Node, literal, op, part, put, save, short_noise
from slopes import TOLERANCE, grad, live, row_slopes, slope, slopes
from taps import Seen

TOKENS = (7, 11)  # the logits of these two are told apart
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
        operations(golden)
        corners(golden)


def diff(prefix: str = "") -> Node:
    """The difference of two logits at each row's last token, `[B]`."""
    return op("sub", *(f"{prefix}logits[:, -1, {token}]" for token in TOKENS))


def diff_of(seen: Seen) -> Tensor:
    """The same of a trace."""
    last = seen["logits"][:, -1]
    return last[:, TOKENS[0]] - last[:, TOKENS[1]]


def every_site(golden: Golden):
    """With respect to every site of every layer, rows of different length: each row has the gradient of its own number."""
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
        ["clean/embed_tokens.output", "clean/layers.1.self_attn.probs", "clean/layers.1.output", "corrupt/layers.0.output"],
    )
    case(
        "gradients from the start to another input's end",
        "embed_tokens.output",
        "ln_final.output",
        ["clean/layers.*.output", "clean/ln_final.output", "corrupt/embed_tokens.output"],
    )


def attribution(golden: Golden):
    """Attribution patching: what the gradient says about putting clean values in, a layer at a time.

    Its error is of second order, so that with a step half as long a fourth of it is left: `ratio` is the one over the other,
    in squares summed over the layers.
    """
    clean, corrupt = golden.trace("clean"), live(golden, "corrupt")
    layers = range(golden.model.config.num_hidden_layers)
    place = "layers.*.output[:, -1]"
    delta = torch.stack([clean[f"layers.{i}.output"][:, -1] - corrupt[f"layers.{i}.output"][:, -1] for i in layers])
    scores = (slope(diff_of(corrupt).sum(), {None: corrupt}, place) * delta).sum(-1).detach()
    steps = torch.tensor([1 / 32, 1 / 64])
    inputs = {name: golden.input(name) for name in ("clean", "corrupt")}
    graph = [
        op("sum", diff("corrupt/"), id="of"),
        op("sub", f"clean/{place}", f"corrupt/{place}", id="delta"),
        op("sum", op("mul", op("grad", of="$of", wrt=f"corrupt/{place}"), "$delta"), dim=-1, id="scores"),
        save("$scores", "scores"),
    ]
    total, squares = 0, torch.zeros(2)
    for layer in layers:
        target = f"step{layer}/layers.{layer}.output[:, -1]"
        inputs[f"step{layer}"] = [golden.prompts["corrupt"]] * len(steps)
        graph.append(put(target, op("add", target, op("mul", f"$delta[{layer}]", steps[:, None].tolist()))))
        change = op("sub", diff(f"step{layer}/"), "$of")
        error = op("sub", change, op("mul", f"$scores[{layer}]", steps.tolist()))
        total = op("add", total, op("pow", error, 2))
        changes = torch.cat([change_of(golden, layer, step * delta[layer]) - diff_of(corrupt) for step in steps])
        squares += (changes.detach() - steps * scores[layer]) ** 2
    graph += [op("sqrt", total, id="errors"), save(op("div", "$errors[0]", "$errors[1]"), "ratio")]
    errors = squares.sqrt()
    expect = {"scores": scores, "ratio": errors[0] / errors[1]}
    assert 3.2 < expect["ratio"] < 4.8, expect
    golden.add("attribution patching", {"inputs": inputs, "graph": graph}, expect, tolerance=TOLERANCE | {"ratio": 0.02})


def change_of(golden: Golden, layer: int, delta: Tensor) -> Tensor:
    """The number after this was added to the corrupt run's last token."""
    edit = part(np.s_[:, -1], lambda value: value + delta)
    return diff_of(golden.trace("corrupt", {f"layers.{layer}.output": edit}))


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
    golden.add("gradients between writes", {"input": golden.input("clean"), "graph": graph}, expect, tolerance=TOLERANCE)


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
    wrt = ["clean/embed_tokens.output", "clean/layers.*.self_attn.v", "corrupt/layers.1.resid_mid", "short/layers.0.output"]
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


def metrics(golden: Golden):
    """Numbers that are often asked about, and such as need only a part of the model."""
    inputs, seen, clean = {"input": golden.input("clean")}, live(golden), live(golden, "corrupt")
    runs = {None: seen}
    wrt = ["layers.*.output[:, -1]", "layers.0.self_attn.heads", "layers.1.self_attn.probs"]
    logits = seen["logits"][:, -1]
    token = TOKENS[0]
    log_prob = op("log", op("softmax", "logits[:, -1]", dim=-1))
    slopes(golden, "gradients of all log probabilities", inputs, [], log_prob, logits.softmax(-1).log(), runs, wrt)
    prob = "next_token_probs[:, 7]"
    slopes(golden, "gradients of a probability", inputs, [], prob, logits.softmax(-1)[:, token], runs, wrt)

    read = clean["logits"][:, -1].softmax(-1).detach()
    nodes = [op("softmax", "clean/logits[:, -1]", dim=-1, id="p"), op("softmax", "corrupt/logits[:, -1]", dim=-1, id="q")]
    of = op("mul", "$p", op("sub", op("log", "$p"), op("log", "$q")))
    value = read * (read.log() - logits.softmax(-1).log())
    both = {"inputs": {"clean": golden.input("corrupt"), "corrupt": golden.input("clean")}}
    places = [f"corrupt/{place}" for place in wrt]
    slopes(golden, "gradients of a divergence", both, nodes, of, value, {"corrupt": seen}, places)

    hidden = seen["layers.1.output"][:, -1]
    lens = golden.module("lm_head")(golden.module("final_norm")(hidden)).softmax(-1)[:, token]
    node = op("softmax", op("project_on_vocab", "layers.1.output[:, -1]"), dim=-1, id="lens")
    places = ["layers.1.output", "layers.1.mlp.up", "layers.0.self_attn.scores"]
    slopes(golden, "gradients of the logit lens", inputs, [node], f"$lens[:, {token}]", lens, runs, places)

    probe = short_noise(golden.model.config.hidden_size, seed=14)
    of = op("mul", "layers.1.mlp.output[:, 1:]", literal(probe))
    value = seen["layers.1.mlp.output"][:, 1:] * probe
    places = ["layers.1.mlp.neurons", "layers.1.self_attn.q", "layers.0.output", "embed_tokens.output"]
    slopes(golden, "gradients of a probe", inputs, [], of, value, runs, places)
    of = op("sum", op("mul", "layers.1.self_attn.probs", "layers.1.self_attn.probs"), dim=[1, 3])
    value = (seen["layers.1.self_attn.probs"] ** 2).sum((1, 3))
    places = ["layers.1.self_attn.q_rot", "layers.1.self_attn.k", "layers.0.resid_mid", "layers.1.self_attn.scores"]
    slopes(golden, "gradients of attention", inputs, [], of, value, runs, places)


def operations(golden: Golden):
    """Through each operation, weighted with a probe, and with respect to both of its arguments at once."""
    first, second = "layers.1.output[0, :, :6]", "layers.0.output[0, :, :6]"
    seen = live(golden)
    x, y = seen["layers.1.output"][0, :, :6], seen["layers.0.output"][0, :, :6]
    probe = short_noise(5, 6, seed=15)
    graph, expect = [op("abs", first, id="size"), op("add", "$size", 0.5, id="positive"), weigh(probe)], {}
    size = x.abs()
    positive = size + 0.5

    def case(name: str, value: Tensor, *args: Any, **options: Any):
        node = op("sum", op("mul", op(name.split(" ")[0], *args, **options), "$probe"))
        expect[name] = slope((value * probe).sum(), {None: seen}, [first, second])
        assert expect[name].any(), name
        graph.append(grad(node, [first, second], name))

    for name in ("add", "sub", "mul", "maximum", "minimum"):
        case(name, getattr(torch, name)(x, y), first, second)
    case("div", y / positive, second, "$positive")
    for name in ("neg", "abs", "exp", "sin", "cos", "tanh", "sigmoid", "relu"):
        case(name, getattr(torch, name)(x), first)
    for name in ("gelu", "silu"):
        case(name, getattr(torch.nn.functional, name)(x), first)
    for name in ("sqrt", "rsqrt", "log"):
        case(name, getattr(torch, name)(positive), "$positive")
    case("pow", x**2, first, 2)
    case("pow cubed", x**3, first, 3)
    case("pow of a fraction", positive**-1.5, "$positive", -1.5)
    case("pow of two values", positive**y, "$positive", second)
    case("pow of a number", 2.0**x, 2.0, first)
    case("add alpha", x + 0.25 * y, first, second, alpha=0.25)
    case("sub alpha", x - 0.25 * y, first, second, alpha=0.25)
    case("gelu tanh", torch.nn.functional.gelu(x, approximate="tanh"), first, approximate="tanh")
    case("sub it from a number", 1 - x, 1, first)
    case("div a number by it", 1 / positive, 1, "$positive")
    case("div by the sum", size / size.sum(-1, keepdim=True), "$size", op("sum", "$size", dim=-1, keepdim=True))
    case("clamp", x.clamp(-0.5, 0.75), first, min=-0.5, max=0.75)
    case("clamp below", x.clamp(min=0.25), first, min=0.25)
    case("clamp above", x.clamp(max=0.25), first, max=0.25)
    case("sum", (x * y).sum(), op("mul", first, second))
    case("sum dim", (x * y).sum(0), op("mul", first, second), dim=0)
    case("sum dims", (x * y).sum((0, 1), keepdim=True), op("mul", first, second), dim=[0, 1], keepdim=True)
    case("mean", (x * y).mean(), op("mul", first, second))
    case("mean dim", (x * y).mean(-1, keepdim=True), op("mul", first, second), dim=-1, keepdim=True)
    case("softmax", x.softmax(-1), first, dim=-1)
    case("softmax dim", x.softmax(0), first, dim=0)
    case("mul a broadcast row", x[:1] * y, "layers.1.output[0, :1, :6]", second)
    case("mul a broadcast column", x * y[:, 2:3], first, "layers.0.output[0, :, 2:3]")
    golden.add("gradients of operations", {"input": golden.input("clean"), "graph": graph}, expect, tolerance=TOLERANCE)


def weigh(probe: Tensor) -> Node:
    """A tensor as the node `probe`."""
    return op("mul", literal(probe), 1, id="probe")


def corners(golden: Golden):
    """At corners and ties, where a derivative is a convention: PyTorch's."""
    place = "layers.1.output[0, :, :6]"
    ramp = torch.arange(30.0).reshape(5, 6) % 5 // 2 - 1  # -1, 0 and 1
    probe = short_noise(5, 6, seed=16)
    graph, expect = [put(place, literal(ramp)), weigh(probe)], {}

    def case(name: str, change: Callable[[Tensor], Tensor], *args: Any, **options: Any):
        x = ramp.clone().requires_grad_()
        [expect[name]] = torch.autograd.grad((change(x) * probe).sum(), x)
        node = op("sum", op("mul", op(name.split(" ")[0], *args, **options), "$probe"))
        graph.append(grad(node, place, name))

    zero = torch.zeros(())
    case("maximum", lambda x: torch.maximum(x, zero), place, 0)
    case("minimum", lambda x: torch.minimum(zero, x), 0, place)
    case("maximum of itself", lambda x: torch.maximum(x, x), place, place)
    case("pow", lambda x: x**2, place, 2)
    case("pow one", lambda x: x**1, place, 1)
    golden.add("gradients at corners", {"input": golden.input("clean"), "graph": graph}, expect, tolerance=TOLERANCE)

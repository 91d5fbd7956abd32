"""Gradients of a tiny model's numbers: through metrics that are often asked about, and through every operation."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from golden import Golden, Node, literal, op, put, short_noise
from slopes import TOKENS, TOLERANCE, grad, live, slope, slopes


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
    nodes = [
        op("softmax", "clean/logits[:, -1]", dim=-1, id="p"),
        op("softmax", "corrupt/logits[:, -1]", dim=-1, id="q"),
    ]
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


def losses(golden: Golden):
    """Numbers that PyTorch has a name for, on the model's values."""
    inputs, seen = {"input": golden.input("clean")}, live(golden)
    ids, functional = golden.prompts["clean"], torch.nn.functional
    logits, site = seen["logits"][0], "layers.1.output[:, -1]"
    early, late = seen["layers.1.output"][:, -1], seen["layers.2.output"][:, -1]
    wrt = ["layers.1.output", "layers.0.self_attn.q", "embed_tokens.output"]

    def case(name: str, of: Any, value: Tensor):
        slopes(golden, f"gradients of {name}", inputs, [], of, value, {None: seen}, wrt)

    of = op("cross_entropy", "logits[0, :-1]", ids[1:])
    case("the loss on the prompt", of, functional.cross_entropy(logits[:-1], torch.tensor(ids[1:])))
    target = op("log_softmax", "logits[0, -1]", dim=-1)
    probs = op("softmax", op("project_on_vocab", "layers.1.output[0, -1]"), dim=-1)
    lens = golden.module("lm_head")(golden.module("final_norm")(early[0])).softmax(-1)
    kl = functional.kl_div(logits[-1].log_softmax(-1), lens, reduction="sum")
    case("a divergence of two depths", op("kl_div", target, probs, reduction="sum"), kl)
    cosine = functional.cosine_similarity(early, late, dim=-1)
    case("a cosine", op("cosine_similarity", site, "layers.2.output[:, -1]", dim=-1), cosine)
    case("norms", op("norm", "layers.1.output", dim=-1), seen["layers.1.output"].norm(dim=-1))
    case("a largest logit", op("logsumexp", op("mul", "logits[0, -1]", 4), dim=0), (4 * logits[-1]).logsumexp(0))
    z = seen["layers.1.self_attn.z"]
    node = op("einsum", equation="bhsd,bhtd->bst", operands=["layers.1.self_attn.z", "layers.1.self_attn.z"])
    slopes(
        golden,
        "gradients of an einsum",
        inputs,
        [],
        op("tanh", op("mul", node, 0.01)),
        (0.01 * torch.einsum("bhsd,bhtd->bst", z, z)).tanh(),
        {None: seen},
        ["layers.1.self_attn.z", "layers.1.self_attn.v", "layers.0.mlp.up"],
    )


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
    case("relu", torch.relu, place)
    case("abs", torch.abs, place)
    case("clamp", lambda x: x.clamp(-1, 0), place, min=-1, max=0)
    powers = [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]
    case("pow by numbers", lambda x: x ** torch.tensor(powers), place, powers)
    golden.add("gradients at corners", {"input": golden.input("clean"), "graph": graph}, expect, tolerance=TOLERANCE)

"""The cases of a tiny model: each intervention once as a request, and once as plain torch on the hooked model."""

from typing import Any

import numpy as np
import torch

from golden import Golden, literal, op, part, put, save, short_noise, top_tokens
from layouts import stack_rows, token_axes
from taps import Seen, trace

LAST = np.s_[:, -1]
RAGGED = ("corrupt", "short", "clean")


def all_cases(golden: Golden, thorough: bool):
    """Adds them. What does not hang on the architecture is left to the thorough ones."""
    sites(golden)
    uniform(golden)
    steering(golden)
    skipping(golden)
    attention(golden)
    patching(golden)
    ragged_writes(golden)
    if thorough:
        write_everywhere(golden)
        slices(golden)
        reading(golden)
        arithmetic(golden)


def batch(golden: Golden, prompts: tuple[str, ...], edits: list[dict] | None = None) -> Seen:
    """Several prompts, each run alone, as one left-padded batch."""
    runs = [golden.trace(prompt, edits[row] if edits else None) for row, prompt in enumerate(prompts)]
    return {site: stack_rows([run[site] for run in runs], token_axes(site)) for site in runs[0]}


def sites(golden: Golden):
    """Every site of every layer, rows of different length."""
    expect = batch(golden, RAGGED[1:])
    ids = [golden.prompts[prompt] for prompt in RAGGED[1:]]
    golden.add("sites", {"input": ids, "graph": [save(site, site) for site in expect]}, expect)


def uniform(golden: Golden):
    """Rows of one length, and two results cut out of them."""
    ids = [golden.prompts["clean"], golden.prompts["clean"][::-1]]
    runs = [trace(golden.model, row) for row in ids]
    rows = {site: torch.cat([run[site] for run in runs]) for site in runs[0]}
    expect = {"last": rows["logits"][:, -1], "cut": rows["layers.1.mlp.neurons"][1, 1:3, ::4]}
    graph = [save("logits[:, -1]", "last"), save("layers.1.mlp.neurons[1, 1:3, ::4]", "cut")]
    golden.add("uniform rows", {"input": ids, "graph": graph}, expect)


def steering(golden: Golden):
    """One vector added to the residual stream: at all tokens, at chosen ones, at another site, read from the model."""
    vector = short_noise(golden.model.config.hidden_size, seed=1)

    def steer(name: str, place: str, layers: Any, index: Any, factor: float = 1.0, **options: Any):
        options |= {} if factor == 1 else {"factor": factor}
        node = op("steer", layers=layers, vector=literal(vector), **options)
        edit = part(index, lambda value: value + factor * vector)
        numbers = layers if isinstance(layers, list) else [layers]
        golden.intervention(name, [node], {f"layers.{layer % 3}.{place}": edit for layer in numbers})

    steer("steer all tokens", "output", [0, 1], np.s_[:], 0.5)
    steer("steer tokens 0 and 2", "output", [1], np.s_[:, [0, 2]], -1.5, tokens=[0, 2])
    steer("steer the last token", "output", -2, np.s_[:, -1], 2.0, tokens=-1)
    steer("steer a slice of tokens", "output", 0, np.s_[:, 1:3], tokens="1:3")
    steer("steer resid_mid", "resid_mid", [1], np.s_[:], site="resid_mid")
    read = golden.trace()["layers.0.output"][0, -1]
    golden.intervention(
        "steer with a value of the model",
        [op("steer", layers=1, vector=op("mul", "layers.0.output[0, -1]", 0.5))],
        {"layers.1.output": lambda value, _: value + 0.5 * read},
    )


def slices(golden: Golden):
    """Parts of a site replaced by literals, in each kind of index."""
    block, column = short_noise(2, 4, seed=2), short_noise(2, seed=3)
    golden.intervention(
        "set a slice to a literal",
        [put("layers.1.output[:, 1:3, :4]", literal(block))],
        {"layers.1.output": part(np.s_[:, 1:3, :4], lambda _: block)},
    )
    golden.intervention(
        "set chosen channels to a list",
        [put("layers.0.mlp.neurons[..., [1, -2]]", column.tolist())],
        {"layers.0.mlp.neurons": part(np.s_[..., [1, -2]], lambda _: column)},
    )
    golden.intervention(
        "set one head to a number",
        [put("layers.1.self_attn.heads[:, 1]", 0)],
        {"layers.1.self_attn.heads": part(np.s_[:, 1], lambda _: 0)},
    )
    golden.intervention(
        "set a head to the mean over tokens",
        [put("layers.2.self_attn.z[:, 0]", op("mean", "layers.2.self_attn.z[:, 0]", dim=1, keepdim=True))],
        {"layers.2.self_attn.z": part(np.s_[:, 0], lambda z: z.mean(1, keepdim=True))},
    )


def skipping(golden: Golden):
    """Blocks that do not run."""
    width = golden.model.config.hidden_size
    given = short_noise(1, len(golden.prompts["clean"]), width, seed=4)
    golden.intervention(
        "skip one layer", [op("skip", layers=1)], {"layers.1.output": lambda _, seen: seen["layers.1.input"].clone()}
    )
    golden.intervention(
        "skip two layers",
        [op("skip", layers=[0, 1])],
        {"layers.1.output": lambda _, seen: seen["layers.0.input"].clone()},
    )
    golden.intervention(
        "skip with a tensor",
        [op("skip", layers=[1, 1], **{"with": literal(given)})],
        {"layers.1.output": lambda *_: given},
    )


def attention(golden: Golden):
    """Attention column 0 removed and the rows made to sum to 1 again."""
    probs = "layers.1.self_attn.probs"

    def edit(value, _):
        value[:, :, 1:, 0] = 0
        return value / value.sum(-1, keepdim=True)

    nodes = [put(f"{probs}[:, :, 1:, 0]", 0), put(probs, op("div", probs, op("sum", probs, dim=-1, keepdim=True)))]
    golden.intervention("zero an attention column and renormalise", nodes, {probs: edit})


def patching(golden: Golden):
    """Values that flow from one input to another, and from one layer to another."""
    clean = golden.trace("clean")

    def patch(name: str, target: str, source: str):
        node = put(f"corrupt/{target}[:, -1]", f"clean/{source}[:, -1]")
        golden.patch(name, [node], {target: part(LAST, lambda _: clean[source][LAST])})

    patch("patch the last token", "layers.1.output", "layers.1.output")
    patch("patch a later layer into an earlier one", "layers.0.output", "layers.2.output")
    patch("patch the end into the start", "embed_tokens.output", "ln_final.output")
    golden.intervention(
        "an earlier layer flows into a later one",
        [put("layers.2.mlp.output", op("add", "layers.0.mlp.output", "layers.1.attn_add"))],
        {"layers.2.mlp.output": lambda _, seen: seen["layers.0.mlp.output"] + seen["layers.1.attn_add"]},
    )


def reading(golden: Golden):
    """Reads between writes, whatever the list's order of layers; aliases; the logit lens."""
    seen = golden.trace()
    middle = []

    def twice(value, _):
        value[:, 0] *= 2
        middle.append(value.clone())
        return value + 1

    site = "layers.1.output"
    changed = golden.trace(edits={"layers.0.output": lambda value, _: value - 1, site: twice})
    graph = [save(site, "before"), put(f"{site}[:, 0]", op("mul", f"{site}[:, 0]", 2)), save(site, "between")]
    graph += [put(site, op("add", site, 1)), save(site, "after"), save("logits[:, -1]", "logits")]
    graph += [put("layers.0.output", op("sub", "layers.0.output", 1))]
    expect = {"between": middle[0], "after": changed[site], "logits": changed["logits"][:, -1]}
    expect |= {"before": torch.cat([middle[0][:, :1] / 2, middle[0][:, 1:]], dim=1)}
    golden.add("two writes with reads around them", {"input": golden.input("clean"), "graph": graph}, expect)

    last = "layers.2"
    aliases = {
        "token_embeddings": seen["embed_tokens.output"],
        "layers_input[1]": seen["layers.1.input"],
        "layers_output[-1]": seen[f"{last}.output"],
        "attentions_input[0]": seen["layers.0.self_attn.input"],
        "attentions_output[-2]": seen["layers.1.self_attn.output"],
        "mlps_input[2]": seen[f"{last}.mlp.input"],
        "mlps_output[-3]": seen["layers.0.mlp.output"],
        "attention_probabilities[1]": seen["layers.1.self_attn.probs"],
        "layers[1].self_attn.q": seen["layers.1.self_attn.q"],
        "layers.-1.mlp.up": seen[f"{last}.mlp.up"],
        "layers_output[0][:, -1, :3]": seen["layers.0.output"][:, -1, :3],
        "next_token_probs": seen["logits"][:, -1].softmax(-1),
    }
    graph = [save(alias, alias) for alias in aliases]
    golden.add("aliases and negative layers", {"input": golden.input("clean"), "graph": graph}, aliases)

    lens = golden.on_vocab(seen["layers.1.output"][:, -1])
    graph = [
        op("project_on_vocab", "layers.1.output[:, -1]", id="lens"),
        save("$lens", "lens"),
        save(op("softmax", "$lens", dim=-1), "probs"),
        op("top_tokens", value="logits[:, -1]", k=3, **{"as": "next"}),
    ]
    tokens = {"next": top_tokens(seen["logits"][:, -1], 3, None)}
    expect = {"lens": lens, "probs": lens.softmax(-1)}
    golden.add("logit lens", {"input": golden.input("clean"), "graph": graph}, expect, expect_tokens=tokens)


def ragged_writes(golden: Golden):
    """Writes into rows of different length: places count from each row's own first and last token."""
    vector = short_noise(golden.model.config.hidden_size, seed=5)

    def first_and_last(value, _):
        value[:, [0, -1]] += vector
        return value

    both = {"layers.0.output": first_and_last}
    second = both | {"layers.1.mlp.output": part(np.s_[:, -2:], lambda value: -value)}
    changed = batch(golden, RAGGED, [both, second, both])
    graph = [
        op("steer", layers=[0], vector=literal(vector), tokens=[0, -1]),
        put("layers.1.mlp.output[1, -2:]", op("neg", "layers.1.mlp.output[1, -2:]")),
        save("logits[:, -1]", "logits"),
        save("layers.2.output", "residual"),
        save("layers.2.self_attn.probs", "probs"),
    ]
    expect = {"logits": changed["logits"][:, -1], "residual": changed["layers.2.output"]}
    expect |= {"probs": changed["layers.2.self_attn.probs"]}
    ids = [golden.prompts[prompt] for prompt in RAGGED]
    golden.add("writes into ragged rows", {"input": ids, "graph": graph}, expect)


def write_everywhere(golden: Golden):
    """A write at each site: the last axis, without its first place, is halved."""
    rest = np.s_[..., 1:]
    for site in golden.trace():
        if site.startswith("layers.") and not site.startswith("layers.1."):
            continue
        target = f"{site}[..., 1:]"
        edit = {site: part(rest, lambda value: value * 0.5)}
        golden.intervention(f"write {site}", [put(target, op("mul", target, 0.5))], edit)


def arithmetic(golden: Golden):
    """Each operation on values of the model, as torch computes it."""
    first, second = "layers.1.output[0, :, :6]", "layers.2.output[0, :, :6]"
    seen = golden.trace()
    x, y = seen["layers.1.output"][0, :, :6], seen["layers.2.output"][0, :, :6]
    graph, expect = [op("abs", first, id="size")], {}

    def case(name: str, value: torch.Tensor, *args: Any, **options: Any):
        expect[name] = value
        graph.append(save(op(name.split(" ")[0], *args, **options), name))

    for name in ("add", "sub", "mul", "div", "maximum", "minimum"):
        case(name, getattr(torch, name)(x, y), first, second)
    for name in ("neg", "abs", "exp", "sin", "cos", "tanh", "sigmoid", "relu", "floor", "round", "sign"):
        case(name, getattr(torch, name)(x), first)
    for name in ("gelu", "silu"):
        case(name, getattr(torch.nn.functional, name)(x), first)
    for name in ("sqrt", "rsqrt", "log"):
        case(name, getattr(torch, name)(x.abs()), "$size")
    case("pow", x**2, first, 2)
    case("add alpha", x + 0.25 * y, first, second, alpha=0.25)
    case("gelu tanh", torch.nn.functional.gelu(x, approximate="tanh"), first, approximate="tanh")
    case("sub a number from it", x - 0.5, first, 0.5)
    case("sub it from a number", 1 - x, 1, first)
    case("div by the sum", x.abs() / x.abs().sum(-1, keepdim=True), "$size", op("sum", "$size", dim=-1, keepdim=True))
    case("clamp", x.clamp(-0.5, 0.75), first, min=-0.5, max=0.75)
    case("sum", x.sum(), first)
    case("sum dim", x.sum(0), first, dim=0)
    case("sum dims", x.sum((0, 1), keepdim=True), first, dim=[0, 1], keepdim=True)
    case("mean", x.mean(), first)
    case("mean dim", x.mean(-1, keepdim=True), first, dim=-1, keepdim=True)
    case("softmax", x.softmax(-1), first, dim=-1)
    case("softmax dim", y.softmax(0), second, dim=0)
    golden.add("arithmetic", {"input": golden.input("clean"), "graph": graph}, expect)

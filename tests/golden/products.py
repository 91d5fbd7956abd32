"""Matrix products of weights and values: circuits, and the model's own steps redone with `matmul`."""

import torch

from golden import Golden, op, put, save
from slopes import TOKENS, TOLERANCE, diff, diff_of, live, slope, slopes
from weights import views, weights


def circuits(golden: Golden):
    """OV and QK of one head, and of the embeddings through a head to the logits."""
    at, found, of = views(golden, 1), weights(golden.model), "weights.layers.1."
    head, group = len(at["W_Q"]) - 1, len(at["W_K"]) - 1
    ov, qk = at["W_V"][group] @ at["W_O"][head], at["W_Q"][head] @ at["W_K"][group].T
    graph = [
        op("matmul", f"{of}W_V[{group}]", f"{of}W_O[{head}]", id="ov"),
        op("matmul", f"{of}W_Q[{head}]", op("transpose", f"{of}W_K[{group}]", dim0=0, dim1=1), id="qk"),
        save("$ov[::3, ::2]", "ov"),
        save("$qk[::3, ::2]", "qk"),
        op("matmul", op("matmul", "weights.W_E[:12]", "$ov"), "weights.W_U", id="copying"),
        save("$copying[:, ::8]", "copying"),
        save(
            op("matmul", op("matmul", "weights.W_E[:12]", "$qk"), op("transpose", "weights.W_E[:12]", dim0=0, dim1=1)),
            "meeting",
        ),
    ]
    tokens = found["embed_tokens"][:12]
    expect = {
        "ov": ov[::3, ::2],
        "qk": qk[::3, ::2],
        "copying": (tokens @ ov @ found["lm_head"].T)[:, ::8],
        "meeting": tokens @ qk @ tokens.T,
    }
    golden.add("circuits by matmul", {"input": golden.input("clean"), "graph": graph}, expect)


def steps(golden: Golden):
    """Values, heads and logits from the sites before them, batched over heads; the bias goes on top."""
    seen, at = golden.trace(), views(golden, 1)
    into, site = seen["layers.1.self_attn.input"], "layers.1.self_attn"
    expect = {
        "v": into[:, None] @ at["W_V"],
        "heads": seen[f"{site}.heads"],
        "logits": seen["logits"][:, -1],
    }
    graph = [
        save(op("matmul", f"{site}.input[:, None]", "weights.layers.1.W_V"), "v"),
        save(op("matmul", f"{site}.z", "weights.layers.1.W_O"), "heads"),
        save(op("matmul", "ln_final.output[:, -1]", "weights.W_U"), "logits"),
    ]
    golden.add("steps of the model by matmul", {"input": golden.input("clean"), "graph": graph}, expect)


def gradients(golden: Golden):
    """Through products of values with weights, of values with values, and of a write made of one."""
    seen, way = live(golden), weights(golden.model)["lm_head"].T[:, list(TOKENS)]
    inputs = {"input": golden.input("clean")}
    of = op("silu", op("matmul", "layers.1.output[:, -1]", f"weights.W_U[:, {list(TOKENS)}]"))
    value = torch.nn.functional.silu(seen["layers.1.output"][:, -1] @ way)
    wrt = ["layers.1.output", "layers.0.self_attn.heads", "layers.1.mlp.up"]
    slopes(golden, "gradients through matmul with weights", inputs, [], of, value, {None: seen}, wrt)

    of = op("tanh", op("matmul", "layers.1.self_attn.probs", "layers.0.self_attn.q"))
    value = (seen["layers.1.self_attn.probs"] @ seen["layers.0.self_attn.q"]).tanh()
    wrt = ["layers.1.self_attn.probs", "layers.0.self_attn.q", "embed_tokens.output"]
    slopes(golden, "gradients through matmul of values", inputs, [], of, value, {None: seen}, wrt)

    site, weight = "layers.1.mlp.output", weights(golden.model)["layers.0.self_attn.o_proj"]
    seen = live(golden, edits={site: lambda value, _: value @ weight[: value.shape[-1], : value.shape[-1]]})
    width = golden.model.config.hidden_size
    nodes = [put(site, op("matmul", site, f"weights.layers.0.self_attn.o_proj[:, :{width}]"))]
    wrt = ["layers.1.mlp.neurons", "layers.1.resid_mid", site]
    slopes(golden, "gradients through a write by matmul", inputs, nodes, diff(), diff_of(seen), {None: seen}, wrt)


def climbing_on(golden: Golden):
    """Two steps along a gradient, the second along that where the first has led: what was taken is held fixed."""
    site, names = "layers.1.output", ("clean", "first", "second")
    edits, graph, found, number = None, [], {}, {}
    for here, there in zip(names, [*names[1:], None]):
        seen = live(golden, edits=edits)
        found[here], number[here] = slope(diff_of(seen).sum(), {None: seen}, site), diff_of(seen)
        graph.append(op("sum", diff(f"{here}/"), id=f"of_{here}"))
        graph.append(op("grad", of=f"$of_{here}", wrt=f"{here}/{site}", id=here))
        graph += [save(f"${here}", here), save(f"$of_{here}", f"number {here}")]
        if there:
            step = sum(0.1 * one for one in found.values())
            edits = {site: lambda value, _, step=step: value + step}
            steps = [op("mul", op("detach", f"${name}"), 0.1) for name in found]
            moved = f"{there}/{site}"
            graph.append(put(moved, op("add", moved, steps[0] if len(steps) == 1 else op("add", *steps))))
    inputs = {name: golden.input("clean") for name in names}
    expect = found | {f"number {name}": value.sum() for name, value in number.items()}
    golden.add("two steps along gradients", {"inputs": inputs, "graph": graph}, expect, tolerance=TOLERANCE)


CASES = (circuits, steps, gradients, climbing_on)

"""Records a real Llama-family model: slices of its sites, and interventions on it, with texts as inputs.

    python real.py MODEL_DIR OUT

MODEL_DIR is SmolLM2-135M-Instruct as a float32 Hugging Face folder; OUT gets `golden.json` and `golden.safetensors`.
`../reference/nnterp_check.py` then makes the same interventions with nnterp.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoTokenizer

from attribution import attribution_patching
from checks import check
from golden import Golden, Recorded, cut, greedy, literal, made_with, op, part, put, save, short_noise, top_tokens
from models import load
from modules import apply
from slopes import diff, diff_of, live, slopes
from layouts import token_axes
from taps import trace
from weights import views, weights

TEXTS = {"clean": "The capital of France is", "corrupt": "The capital of Italy is"}
LAYERS = (0, 10, 29)
OUTCOME = {"logits": ("logits", "[:, -1, :256]"), "residual": ("layers.29.output", "[:, -2:, :24]")}
# Cuts by the axes that count tokens: heads and channels are many, and a slice of them tells as much.
CUTS = {(1,): "[:, -2:, :24]", (2,): "[:, :3, -2:, :24]", (2, 3): "[:, :3]"}
LOGITS = 2e-3
# Who is given the bag is told by the second name.
GIVING = {
    "clean": "When John and Mary went to the shops, John gave the bag to",
    "corrupt": "When John and Mary went to the shops, Mary gave the bag to",
}
NAMES = (" Mary", " John")
DEPTHS = (0, 15, 29)


def sites(golden: Golden):
    """A slice of every site at three depths."""
    seen = golden.trace()
    shown = [site for site in seen if not site.startswith("layers.") or int(site.split(".")[1]) in LAYERS]
    cuts = {site: (site, CUTS[token_axes(site)]) for site in shown}
    golden.cuts("sites", {"input": golden.input("clean")}, [], seen, cuts)


def bare(golden: Golden, tokenizer):
    """Nothing changed: the logits, and the likeliest tokens."""
    logits = golden.trace()["logits"][:, -1]
    tokens = {"next": top_tokens(logits, 5, lambda token: tokenizer.decode([token]))}
    graph = [save("logits[:, -1, :256]", "logits"), op("top_tokens", value="logits[:, -1]", k=5, **{"as": "next"})]
    expect, ids = {"logits": logits[:, :256]}, {"input": [golden.prompts["clean"]]}
    golden.add("bare", {"input": golden.input("clean"), "graph": graph}, expect, ids=ids, expect_tokens=tokens)

    texts = ["Hello, my name is", golden.texts["clean"], "Once"]
    rows = [tokenizer(text).input_ids for text in texts]
    expect = {"logits": torch.cat([trace(golden.model, row)["logits"][:, -1, :256] for row in rows])}
    graph = [save("logits[:, -1, :256]", "logits")]
    golden.add("three texts", {"input": texts, "graph": graph}, expect, ids={"input": rows})


def interventions(golden: Golden):
    """The interventions that nnterp repeats, and two by quoted text and with a value of the model itself."""
    vector = short_noise(golden.model.config.hidden_size, seed=0)
    add = lambda value, _: value + 0.5 * vector
    golden.intervention(
        "steer all tokens",
        [op("steer", layers=[5, 10], vector=literal(vector), factor=0.5)],
        {"layers.5.output": add, "layers.10.output": add},
    )
    golden.intervention(
        "steer chosen tokens",
        [op("steer", layers=5, vector=op("mul", "layers.3.output[0, -1]", 0.7), tokens=[1, -1])],
        {"layers.5.output": chosen_tokens},
    )
    golden.intervention(
        "skip 10 to 20",
        [op("skip", layers=[10, 20])],
        {"layers.20.output": lambda _, seen: seen["layers.10.input"].clone()},
    )
    probs = "layers.10.self_attn.probs"
    golden.intervention(
        "zero an attention column and renormalise",
        [put(f"{probs}[:, :, 1:, 0]", 0), put(probs, op("div", probs, op("sum", probs, dim=-1, keepdim=True)))],
        {probs: without_first_column},
    )
    clean = golden.trace("clean")["layers.15.output"][:, -1]
    golden.patch(
        "patch the last token",
        [put("corrupt/layers.15.output[:, -1]", "clean/layers.15.output[:, -1]")],
        {"layers.15.output": part(np.s_[:, -1], lambda _: clean)},
    )
    country = 3
    golden.intervention(
        "remove a quoted text's neurons",
        [put("layers.2.mlp.neurons[:, ' France']", 0)],
        {"layers.2.mlp.neurons": part(np.s_[:, country], lambda _: 0)},
    )


def chosen_tokens(value, seen):
    value[:, [1, -1]] += 0.7 * seen["layers.3.output"][0, -1]
    return value


def without_first_column(value, _):
    value[:, :, 1:, 0] = 0
    return value / value.sum(-1, keepdim=True)


def lens(golden: Golden):
    """Each layer's prediction of the next token: the probability of its three likeliest tokens."""
    seen, graph, expect = golden.trace(), [], {}
    for layer in range(golden.model.config.num_hidden_layers):
        probs = golden.on_vocab(seen[f"layers.{layer}.output"][:, -1]).softmax(-1)
        best = probs.topk(3).indices[0].tolist()
        projected = op("project_on_vocab", f"layers.{layer}.output[:, -1]")
        graph.append(op("softmax", projected, dim=-1, id=f"p{layer}"))
        graph.append(save(f"$p{layer}[:, {best}]", f"lens {layer}"))
        expect[f"lens {layer}"] = probs[:, best]
    golden.tolerances |= dict.fromkeys(expect, LOGITS)
    golden.add("logit lens", {"input": golden.input("clean"), "graph": graph}, expect)


def gradients(golden: Golden, tokens: tuple[int, int]):
    """Of the difference of two names' logits: slices at three depths, through writes, between inputs; attribution."""
    inputs = {"input": golden.input("clean")}
    seen, of = live(golden), diff(tokens=tokens)
    depths = f"[{','.join(map(str, DEPTHS))}]"
    heads = ("self_attn.q", "self_attn.k_rot", "self_attn.v", "self_attn.z")
    wrt = {
        "outputs": f"layers.{depths}.output[:, -2:, :24]",
        "attention": f"layers.{depths}.self_attn.probs[:, :3, -2:]",
        "heads": [f"layers.15.{site}[:, :2, -2:, :16]" for site in heads],
        "early": ["embed_tokens.output[:, 9, :64]", "layers.7.mlp.neurons[:, -1, :64]"],
        "late": "ln_final.input[:, -1, :64]",
    }
    slopes(golden, "gradients of a logit difference", inputs, [], of, diff_of(seen, tokens), {None: seen}, wrt)

    vector, probs = short_noise(golden.model.config.hidden_size, seed=7), "layers.15.self_attn.probs"
    nodes = [
        op("steer", layers=5, vector=literal(vector), factor=0.5),
        put(f"{probs}[:, :, 1:, 0]", 0),
        put(probs, op("div", probs, op("sum", probs, dim=-1, keepdim=True))),
        op("skip", layers=[18, 20]),
    ]
    edits = {
        "layers.5.output": lambda value, _: value + 0.5 * vector,
        probs: without_first_column,
        "layers.20.output": lambda _, seen: seen["layers.18.input"].clone(),
    }
    seen = live(golden, edits=edits)
    wrt = ["layers.0.output[:, -2:, :24]", "layers.15.self_attn.scores[:, :3, -1]", "layers.20.output[:, -2:, :24]"]
    slopes(golden, "gradients through writes", inputs, nodes, of, diff_of(seen, tokens), {None: seen}, wrt)

    clean = live(golden)
    corrupt = live(
        golden, "corrupt", {"layers.15.output": part(np.s_[:, -4:], lambda _: clean["layers.15.output"][:, -4:])}
    )
    runs = {"clean": clean, "corrupt": corrupt}
    nodes = [put("corrupt/layers.15.output[:, -4:]", "clean/layers.15.output[:, -4:]")]
    wrt = [
        "clean/layers.3.output[:, 9:11, :24]",
        "clean/layers.15.self_attn.probs[:, :3, -1]",
        "corrupt/layers.3.output[:, 9, :24]",
    ]
    both = {"inputs": {name: golden.input(name) for name in runs}}
    of = diff("corrupt/", tokens)
    slopes(golden, "gradients between inputs", both, nodes, of, diff_of(corrupt, tokens), runs, wrt)
    attribution_patching(golden, tokens, "", (1 / 8, 1 / 16), DEPTHS)


def parts_of_the_model(golden: Golden):
    """Modules on values of other places, and slices of weights."""
    seen, graph, expect = golden.trace(), [], {}
    with torch.no_grad():
        for name in ("layers.20", "layers.20.self_attn", "layers.20.mlp", "layers.20.mlp_norm", "ln_final"):
            graph.append(op("call", "layers.3.output", module=name, id=name.replace(".", "_")))
            graph.append(save(f"${name.replace('.', '_')}[:, -2:, :24]", name))
            expect[name] = apply(golden, name, seen["layers.3.output"])[:, -2:, :24]
    for name in ("W_Q", "W_K", "W_V", "W_O", "W_in", "W_gate", "W_out"):
        index = (
            "[1, ::90, ::13]"
            if name in ("W_Q", "W_K", "W_V")
            else "[8, ::13, ::90]"
            if name == "W_O"
            else "[::190, ::90]"
        )
        graph.append(save(f"weights.layers.{list(DEPTHS)}.{name}{index}", name))
        values = [cut(views(golden, layer), name, index) for layer in DEPTHS]
        expect[name] = torch.stack(values)
    graph.append(save("weights.W_U[::60, [5099, 2322]]", "W_U"))
    expect["W_U"] = weights(golden.model)["lm_head"].T[::60, [5099, 2322]]
    golden.add("modules and weights", {"input": golden.input("clean"), "graph": graph}, expect)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL_DIR")
    parser.add_argument("out", type=Path, metavar="OUT")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    model, tokenizer = load(options.model), AutoTokenizer.from_pretrained(options.model)
    prompts = {name: tokenizer(text).input_ids for name, text in TEXTS.items()}
    check(model, prompts["clean"])
    limits = {"logits": LOGITS, "lm_head.output": LOGITS}
    golden = Golden(model, prompts, OUTCOME, texts=TEXTS, tolerances=limits)
    sites(golden)
    bare(golden, tokenizer)
    interventions(golden)
    lens(golden)
    continuation = greedy(model, prompts["clean"], 16)
    assert continuation, "the greedy continuation hangs on a near tie"
    giving = {name: tokenizer(text).input_ids for name, text in GIVING.items()}
    golden.prompts, golden.texts = giving, GIVING
    gradients(golden, tuple(tokenizer(name).input_ids[0] for name in NAMES))
    parts_of_the_model(golden)
    options.out.mkdir(parents=True, exist_ok=True)
    about = {"model_type": model.config.model_type, "made_with": made_with()}
    about |= {"greedy": {"prompt": prompts["clean"], "ids": continuation, "text": tokenizer.decode(continuation)}}
    golden.write(options.out, about, Recorded.read(options.out))


if __name__ == "__main__":
    main()

"""Records what nnterp's toolkit finds in real models, for the recipes.

    python nnterp_recipes.py OUT NAME=MODEL_DIR ...

OUT/recipes.json gets, by model, the body of each recipe and the name of each result; OUT/recipes.safetensors the results, of which the last axis is cut
to every 499th number where it is the vocabulary's.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import torch
from nnterp import StandardizedTransformer
from nnterp.interventions import (
    TargetPrompt,
    TargetPromptBatch,
    logit_lens,
    patch_object_attn_lens,
    patchscope_lens,
    repeat_prompt,
)
from nnterp.nnsight_utils import compute_next_token_probs, get_token_activations
from nnterp.prompt_utils import Prompt, run_prompts
from safetensors.torch import save_file

CUT = 499
PROMPTS = ["The capital of France is", "Two plus two makes"]
TARGETS = {"Paris": ["Paris", "France"], "four": "four"}
OTHERS = ["The capital of Spain is", "One plus three makes"]


def cases(model: StandardizedTransformer):
    """Recipe, body, and what nnterp finds, by result."""
    layers = [1, model.num_layers // 2, model.num_layers - 1]
    cut = lambda probs: probs[..., ::CUT]
    text = {"input": PROMPTS}
    with torch.no_grad():
        yield "next-token-probs", text, {"probs": cut(compute_next_token_probs(model, PROMPTS))}
        lens = logit_lens(model, PROMPTS)
        yield "logit-lens", text, {"probs": cut(lens)}
        yield "logit-lens", text | {"layers": layers}, {"probs": cut(lens[:, layers])}
        streams = get_token_activations(model, PROMPTS, layers=layers)
        yield "activations", text | {"layers": layers}, {"activations": streams[..., :: CUT // 20]}
        found = patchscope_lens(model, PROMPTS, layers=layers)
        yield "patchscope", text | {"layers": layers}, {"probs": cut(found)}
        target = {"prompt": "Hello x, I am", "index": 1}
        found = patchscope_lens(model, PROMPTS, TargetPrompt("Hello x, I am", 1), layers=layers)
        yield "patchscope", text | {"layers": layers, "target": target}, {"probs": cut(found)}
        target = {"repeat": ["cat", "135"], "rel": "->", "sep": "; ", "placeholder": "x"}
        found = patchscope_lens(model, PROMPTS, repeat_prompt(["cat", "135"], "->", "; ", "x"), layers=layers)
        yield "patchscope", text | {"layers": layers, "target": target}, {"probs": cut(found)}
        batch = TargetPromptBatch.from_target_prompts([TargetPrompt("A is A, ? is", -2), TargetPrompt("B is B. ?", -1)])
        target = [{"prompt": prompt.prompt, "index": int(prompt.index_to_patch)} for prompt in batch]
        found = patchscope_lens(model, PROMPTS, batch, layers=layers)
        yield "patchscope", text | {"layers": layers, "target": target}, {"probs": cut(found)}
        sources, targets = ["Madrid is in Spain", "a big dog"], ["France and Italy are", "The small cat is"]
        found = patch_object_attn_lens(model, sources, targets, 1, num_patches=3)
        body = {"sources": sources, "targets": targets, "index": 1, "num_patches": 3}
        yield "object-attention-lens", body, {"probs": cut(found)}
        at = model.num_layers // 3
        streams = get_token_activations(model, PROMPTS + OTHERS, layers=[at])[0]
        vector = streams[:2].mean(0) - streams[2:].mean(0)
        with model.trace(PROMPTS):
            model.steer(layers=[at, at + 1], steering_vector=vector, factor=1.5)
            found = model.next_token_probs.save()
        contrast = {"positive": PROMPTS, "negative": OTHERS}
        body = text | {"layers": [at, at + 1], "vector": contrast, "factor": 1.5}
        yield "steer", body, {"probs": cut(found), "vector": vector[:: CUT // 20]}
        yield from tracked(model, layers)


def tracked(model: StandardizedTransformer, layers: list[int]):
    """Words that are followed through recipes."""
    prompts = [Prompt.from_strings(prompt, TARGETS, model) for prompt in PROMPTS]
    body = {"prompts": [{"text": prompt, "targets": TARGETS} for prompt in PROMPTS]}
    tokens = [prompt.target_tokens for prompt in prompts]
    found = run_prompts(model, prompts, tqdm=lambda x, **_: x)
    yield "targets", body, {name: probs[:, 0] for name, probs in found.items()}, tokens
    found = run_prompts(model, prompts, get_probs_func=logit_lens, tqdm=lambda x, **_: x)
    yield "targets", body | {"through": "logit-lens"}, found, tokens
    scope = lambda model, prompts, remote=False: patchscope_lens(model, prompts, layers=layers)
    found = run_prompts(model, prompts, get_probs_func=scope, tqdm=lambda x, **_: x)
    yield "targets", body | {"through": {"recipe": "patchscope", "layers": layers}}, found, tokens


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL_DIR")
    options = parser.parse_args()
    recorded, tensors = {}, {}
    for name, folder in (model.split("=", 1) for model in options.models):
        model = StandardizedTransformer(folder, dtype=torch.float32, check_renaming=False, dispatch=True)
        recorded[name] = []
        for number, (recipe, body, results, *tokens) in enumerate(cases(model)):
            case = {"recipe": recipe, "body": body, "results": list(results)}
            recorded[name].append(case | ({"target_tokens": tokens[0]} if tokens else {}))
            tensors |= {f"{name}.{number}.{key}": value.float().contiguous() for key, value in results.items()}
    made = {name: version(name) for name in ("torch", "transformers", "nnsight", "nnterp")}
    lines = [f' {json.dumps(name)}: [\n  ' + ",\n  ".join(map(json.dumps, cases)) + "\n ]" for name, cases in recorded.items()]
    options.out.mkdir(exist_ok=True)
    (options.out / "recipes.json").write_text(f'{{"made_with": {json.dumps(made)}, "cut": {CUT},\n' + ",\n".join(lines) + "\n}\n")
    save_file(tensors, options.out / "recipes.safetensors")


if __name__ == "__main__":
    main()

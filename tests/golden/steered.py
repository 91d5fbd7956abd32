"""Records text that real models write under steering, with nnterp.

    python steered.py OUT NAME=MODEL_DIR ...

The vector is the difference of two prompts' streams behind a layer, at their last tokens; it is added behind three layers, at every step of the
generation or at those after the prompt's. OUT gets the ids of the greedy text, by model, as JSON.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import torch
from nnterp import StandardizedTransformer

TOKENS = 48
PROMPT = "I think that my life"
FOR, AGAINST = "I love everything about it", "I hate everything about it"


def record(folder: str) -> dict:
    """Both texts of a model."""
    model = StandardizedTransformer(folder, dtype=torch.float32, check_renaming=False, dispatch=True)
    source = model.num_layers // 3
    layers = [source, source + 1, source + 2]
    with torch.no_grad(), model.trace([FOR, AGAINST]):
        stream = model.layers_output[source][:, -1].save()
    vector = stream[0] - stream[1]
    prompt = len(model.tokenizer(PROMPT).input_ids)

    def ids(steps: slice, factor: float) -> list[int]:
        asked = {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS, "do_sample": False}
        with torch.no_grad(), model.generate(PROMPT, **asked) as tracer:
            for _ in tracer.iter[steps]:
                model.steer(layers=layers, steering_vector=vector, factor=factor)
            found = tracer.result.save()
        return found[0, prompt:].tolist()

    cases = [("all", slice(0, TOKENS), 1.0), ("new", slice(1, TOKENS), 1.0), ("all", slice(0, TOKENS), 0.0)]
    return {
        "source": source,
        "layers": layers,
        "texts": [{"steps": name, "factor": factor, "ids": ids(steps, factor)} for name, steps, factor in cases],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL_DIR")
    options = parser.parse_args()
    models = dict(model.split("=", 1) for model in options.models)
    recorded = {name: record(folder) for name, folder in models.items()}
    made = {name: version(name) for name in ("torch", "transformers", "nnsight", "nnterp")}
    told = {"made_with": made, "prompt": PROMPT, "for": FOR, "against": AGAINST, "models": recorded}
    options.out.write_text(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()

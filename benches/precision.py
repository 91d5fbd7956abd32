"""Measures how far half-precision and quantised weights are from float32.

    python benches/precision.py MODEL_DIR... [--server target/release/patchbay] [--write]

Each MODEL_DIR is a Hugging Face folder. For each `--dtype` a server of its own computes the logits after every token of some
texts. They are compared with those of float32: the largest difference as a share of the largest logit, the mean divergence
(Kullback and Leibler's, of float32's distribution from the other, in nats a token), how often the likeliest token is the same, and
the perplexity of the texts. `--write` puts the table into BENCHMARKS.md.
"""

import argparse
from pathlib import Path

import httpx
import numpy as np
from safetensors.numpy import load

from bench import ROOT, server, write

DTYPES = ("f32", "bf16", "f16", "q8_0", "q4_k")
TEXTS = (
    "The river rises in the hills north of the town and runs for about forty miles before it reaches the sea. Most of its water "
    "comes from melting snow, so it is highest in April and hardly more than a brook by the end of August. Two mills still stand "
    "on its banks; the older one, built of grey stone, has been a museum since 1974.",
    "def mean(numbers):\n    \"\"\"The average of a list of numbers.\"\"\"\n    if not numbers:\n        raise ValueError(\"no numbers\")\n"
    "    return sum(numbers) / len(numbers)\n\n\ndef variance(numbers):\n    middle = mean(numbers)\n"
    "    return mean([(number - middle) ** 2 for number in numbers])\n",
    "\"You are late,\" said the clerk without looking up. \"The last boat left an hour ago.\" She put her bag down on the wet boards "
    "and counted the coins in her purse. There were not enough of them for a room, and it had begun to rain again. \"When does the "
    "next one leave?\" she asked.",
    "Photosynthesis is the process by which plants, algae and some bacteria turn light into chemical energy. Chlorophyll absorbs "
    "light mostly in the blue and the red parts of the spectrum. In the first stage water is split and oxygen is set free; in the "
    "second, carbon dioxide is built into sugars.",
    "Frankreich ist ein Land in Westeuropa. Seine Hauptstadt ist Paris. Quelle est la capitale de l'Allemagne ? Berlin. "
    "1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144. 12 * 12 = 144, 13 * 13 = 169, 14 * 14 = 196.",
)


def observed(url: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each text its ids, and the logits after each token."""
    found = []
    for text in TEXTS:
        body = {
            "input": text,
            "graph": [{"op": "save", "value": "logits[0]", "as": "logits"}],
            "output": {"encoding": "safetensors"},
        }
        response = httpx.post(f"{url}/v1/trace", json=body, timeout=600)
        response.raise_for_status()
        ids = np.array(httpx.post(f"{url}/v1/tokenize", json={"input": text}).json()["ids"][0])
        found.append((ids, load(response.content)["logits"].astype(np.float64)))
    return found


def log_probs(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def perplexity(found: list[tuple[np.ndarray, np.ndarray]]) -> float:
    of_next = [log_probs(logits[:-1])[np.arange(len(ids) - 1), ids[1:]] for ids, logits in found]
    return float(np.exp(-np.concatenate(of_next).mean()))


def compared(exact: list, found: list) -> tuple[float, float, float]:
    """Largest difference as a share, mean divergence, and how often the likeliest token is the same."""
    worst = max(np.abs(a - b).max() / np.abs(a).max() for (_, a), (_, b) in zip(exact, found, strict=True))
    pairs = [(log_probs(a), log_probs(b)) for (_, a), (_, b) in zip(exact, found, strict=True)]
    divergence = np.concatenate([(np.exp(a) * (a - b)).sum(-1) for a, b in pairs])
    same = np.concatenate([a.argmax(-1) == b.argmax(-1) for a, b in pairs])
    return float(worst), float(divergence.mean()), float(same.mean())


def main():
    """Reads the command line, and measures."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("models", type=Path, nargs="+")
    arguments.add_argument("--server", type=Path, default=ROOT / "target/release/patchbay")
    arguments.add_argument("--write", action="store_true")
    given = arguments.parse_args()
    lines = [
        "| model | weights | bytes of weights | largest difference of logits | divergence, nats a token | same likeliest token | perplexity |",
        "|---|---|---|---|---|---|---|",
    ]
    for model in given.models:
        exact = None
        for dtype in DTYPES:
            with server(given.server, model, "--dtype", dtype) as url:
                found = observed(url)
                held = httpx.get(f"{url}/v1/models/model").json()["bytes"]
            exact = exact or found
            worst, divergence, same = compared(exact, found)
            ppl = perplexity(found)
            held = f"{held / 2**20:.0f} MiB"
            row = f"| {model.name} | {dtype} | {held} | {worst:.1e} | {divergence:.1e} | {same:.1%} | {ppl:.2f} |"
            print(row, flush=True)
            lines.append(row)
    if given.write:
        write("precision.py", "\n".join(lines))


if __name__ == "__main__":
    main()

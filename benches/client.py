"""Times what the Python client adds to a small trace, beside a bare HTTP client, in turn.

    PYTHONPATH=clients/python/src python benches/client.py MODEL_DIR [--server target/release/patchbay]

MODEL_DIR is SmolLM2-135M as a float32 Hugging Face folder. All three ask for the same answer, as safetensors.
"""

import argparse
import statistics
from pathlib import Path

import httpx
from patchbay import Patchbay, StandardizedTransformer

from bench import ROOT, server, timed

ROUNDS = 60
PROMPT = "The capital of France is"


def main():
    """Reads the command line, and measures."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("model", type=Path)
    arguments.add_argument("--server", type=Path, default=ROOT / "target/release/patchbay")
    given = arguments.parse_args()
    with server(given.server, given.model) as url:
        bay, http = Patchbay(url), httpx.Client(base_url=url)
        model = StandardizedTransformer("model", base_url=url)
        graph = [{"op": "save", "value": "logits[:, -1]", "as": "x"}]
        body = {"input": PROMPT, "graph": graph, "output": {"encoding": "safetensors"}}

        def block():
            with model.trace(PROMPT):
                model.logits[:, -1].save()

        ways = {
            "a bare HTTP client": lambda: http.post("/v1/trace", json=body).raise_for_status().content,
            "the direct interface": lambda: bay.trace(None, PROMPT, graph),
            "nnterp's interface": block,
        }
        times = {name: [] for name in ways}
        for way in ways.values():
            way()
        for _ in range(ROUNDS):
            for name, way in ways.items():
                times[name].append(timed(way))
        for name, found in times.items():
            print(f"{name}: {statistics.median(found):.1f} ms")


if __name__ == "__main__":
    main()

"""Times a bare five-token forward: Hugging Face in this process, and a patchbay trace over HTTP, in turn.

    python hf_trace.py MODEL_DIR URL MODEL_NAME [--runs 30]

MODEL_DIR is the same model that the server at URL serves as MODEL_NAME. Prints one row of a Markdown table: medians in
milliseconds, and their ratio. The two are asked for the same logits, which are compared.
"""

import argparse
import base64
import http.client
import json
import statistics
import time
from pathlib import Path
from urllib.parse import urlsplit

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXT = "The capital of France is"
WARM_UP = 3


class Patchbay:
    """A trace over one connection that stays open."""

    def __init__(self, url: str, model: str):
        place = urlsplit(url)
        self.connection = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
        graph = [{"op": "save", "value": "logits[:, -1]", "as": "x"}]
        body = {"model": model, "input": TEXT, "graph": graph, "output": {"encoding": "base64"}}
        self.body = json.dumps(body).encode()

    def __call__(self) -> bytes:
        """The last token's logits, as little-endian float32."""
        self.connection.request("POST", "/v1/trace", self.body, {"Content-Type": "application/json"})
        response = self.connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise SystemExit(f"{response.status}: {answer.decode()}")
        return base64.b64decode(json.loads(answer)["results"]["x"]["b64"])


class HuggingFace:
    """The model's forward on ids that are ready."""

    def __init__(self, folder: Path):
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.input = AutoTokenizer.from_pretrained(folder)(TEXT, return_tensors="pt")

    @torch.no_grad()
    def __call__(self) -> torch.Tensor:
        return self.model(**self.input).logits[0, -1]


def milliseconds(run) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="MODEL_DIR")
    parser.add_argument("url", metavar="URL")
    parser.add_argument("model", metavar="MODEL_NAME")
    parser.add_argument("--runs", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(2)
    huggingface, patchbay = HuggingFace(options.folder), Patchbay(options.url, options.model)
    expected = huggingface()
    found = torch.frombuffer(bytearray(patchbay()), dtype=torch.float32)
    apart = ((found - expected).abs().max() / expected.abs().max()).item()
    if apart > 2e-3:
        raise SystemExit(f"the logits are {apart:.1e} of the largest one apart: not the same model")
    times = {"huggingface": [], "patchbay": []}
    for _ in range(WARM_UP + options.runs):
        times["huggingface"].append(milliseconds(huggingface))
        times["patchbay"].append(milliseconds(patchbay))
    forward, trace = (statistics.median(values[WARM_UP:]) for values in times.values())
    tokens = huggingface.input.input_ids.shape[1]
    print(f"| forward, 1 × {tokens} tokens | {forward:.1f} | {trace:.1f} | {trace / forward:.2f} |")


if __name__ == "__main__":
    main()

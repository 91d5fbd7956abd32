"""Times text that is written for many at once: patchbay's streams beside transformers' batches and llama.cpp, where that is installed.

    python benches/streams.py MODEL_DIR GGUF [--server target/release/patchbay] [--write]

MODEL_DIR is SmolLM2-135M as a float32 Hugging Face folder, GGUF the same model. Each stream is a client of its own with a prompt of its own,
and has 64 greedy tokens; transformers has all prompts as one batch, llama.cpp one after the other, as its Python package does. Both
server and clients run on the same cores.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import time
from pathlib import Path

import httpx
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench import ROOT, server, write

NEW = 64
STREAMS = (1, 4, 16, 64)
ROUNDS = 3
PROMPTS = [f"Here is a short story about number {number}, who" for number in range(max(STREAMS))]


def main():
    """Reads the command line, and measures."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("model", type=Path)
    arguments.add_argument("gguf", type=Path)
    arguments.add_argument("--server", type=Path, default=ROOT / "target/release/patchbay")
    arguments.add_argument("--write", action="store_true", help="put the table into BENCHMARKS.md")
    given = arguments.parse_args()
    table = ["| streams | who | first token, ms | tokens a second, all together |", "|---|---|---|---|"]
    with contextlib.ExitStack() as servers:
        start = lambda source, dtype: servers.enter_context(server(given.server, source, "--dtype", dtype))
        peers = {
            "transformers, f32, one batch": transformers(given.model),
            "patchbay, f32": patchbay(start(given.model, "f32")),
            "patchbay, bf16": patchbay(start(given.model, "bf16")),
            "patchbay, q8_0": patchbay(start(given.model, "q8_0")),
        } | llama_cpp(given.gguf)
        if len(peers) > 4:
            peers["patchbay, the same GGUF as q4_k"] = patchbay(start(given.gguf, "q4_k"))
        for work in peers.values():
            work(1)
        for streams in STREAMS:
            times = {name: [] for name in peers}
            for _ in range(ROUNDS):
                for name, work in peers.items():
                    times[name].append(work(streams))
            for name, found in times.items():
                first, whole = (statistics.median(column) for column in zip(*found))
                table.append(f"| {streams} | {name} | {first * 1e3:.0f} | {streams * NEW / whole:.0f} |")
                print(table[-1], flush=True)
    if given.write:
        write("streams.py", "\n".join(table))


def patchbay(url: str):
    """Seconds to the first token, the median of all streams, and to the last of all."""

    async def stream(http: httpx.AsyncClient, prompt: str, start: float) -> float:
        body = {"model": "model", "input": prompt, "max_new_tokens": NEW, "ignore_eos": True, "stream": True}
        first = None
        async with http.stream("POST", "/v1/generate", json=body) as answer:
            async for line in answer.aiter_lines():
                if first is None and line == "event: token":
                    first = time.perf_counter() - start
                if line.startswith("data:") and '"outputs"' in line:
                    assert len(json.loads(line[5:])["outputs"][0]["ids"]) == NEW
        return first

    async def streams(count: int) -> tuple[float, float]:
        limits = httpx.Limits(max_connections=count)
        async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as http:
            start = time.perf_counter()
            firsts = await asyncio.gather(*(stream(http, prompt, start) for prompt in PROMPTS[:count]))
            return statistics.median(firsts), time.perf_counter() - start

    return lambda count: asyncio.run(streams(count))


def transformers(folder: Path):
    """The same by `generate` of one batch, whose first token is there after a batch of one token."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def work(count: int) -> tuple[float, float]:
        batch = tokenizer(PROMPTS[:count], return_tensors="pt", padding=True)
        seconds = []
        for new in (1, NEW):
            start = time.perf_counter()
            found = model.generate(**batch, max_new_tokens=new, min_new_tokens=new, do_sample=False)
            seconds.append(time.perf_counter() - start)
            assert found.shape[1] == batch["input_ids"].shape[1] + new
        return seconds[0], seconds[1]

    return work


def llama_cpp(file: Path) -> dict:
    """The same by llama.cpp's Python package, if it is there."""
    try:
        from llama_cpp import Llama
    except ImportError:
        print("llama-cpp-python is not installed: left out", flush=True)
        return {}
    model = Llama(str(file), n_ctx=512, n_threads=torch.get_num_threads(), verbose=False, logits_all=False)

    def work(count: int) -> tuple[float, float]:
        start, firsts = time.perf_counter(), []
        for prompt in PROMPTS[:count]:
            made = 0
            ids = model.tokenize(prompt.encode(), add_bos=False, special=False)
            for _ in model.generate(ids, temp=0.0):
                made += 1
                if made == 1:
                    firsts.append(time.perf_counter() - start)
                if made == NEW:
                    break
        return statistics.median(firsts), time.perf_counter() - start

    return {"llama.cpp, GGUF q4_1, one after the other": work}


if __name__ == "__main__":
    main()

"""Times patchbay beside nnterp, task by task, in turn, and writes the table of BENCHMARKS.md.

    PYTHONPATH=clients/python/src python benches/compare.py MODEL_DIR [--server target/release/patchbay] [--only WORD] [--write]

MODEL_DIR is SmolLM2-135M as a float32 Hugging Face folder. Needs nnterp 1.3, torch 2.15, transformers 5.23, patchbay's Python package and a release
build; nothing else should run on the machine. Each task is done by both first, and their results are compared.
"""

import argparse
import contextlib
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from nnterp import StandardizedTransformer

from bench import ROOT, server, timed, write
from tasks import Patchbay, Task, generations, tasks


def main():
    """Reads the command line, and measures."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("model", type=Path)
    arguments.add_argument("--server", type=Path, default=ROOT / "target/release/patchbay")
    arguments.add_argument("--only", help="tasks whose names have this in them")
    arguments.add_argument("--seconds", type=float, default=20, help="how long to measure a task, about")
    arguments.add_argument("--write", action="store_true", help="put the table into BENCHMARKS.md")
    given = arguments.parse_args()
    model = StandardizedTransformer(str(given.model), dtype=torch.float32, check_renaming=False, dispatch=True)
    with contextlib.ExitStack() as servers:
        start = lambda dtype: servers.enter_context(server(given.server, given.model, "--dtype", dtype))
        bays = {dtype: Patchbay(start(dtype), "model") for dtype in ("f32", "bf16", "q8_0")}
        found = tasks(model, bays["f32"]) + generations(model, bays)
        rows = [measure(task, given.seconds) for task in found if not given.only or given.only in task.name]
    table = "\n".join(["| task | nnterp | patchbay | ratio | at most |", "|---|---|---|---|---|", *rows])
    if given.write:
        write("compare.py", table)


def measure(task: Task, seconds: float) -> str:
    """One row of the table: medians in milliseconds, and their ratio."""
    agree(task)
    peers, ours = [], []
    start = time.perf_counter()
    while len(peers) < 3 or (len(peers) < 15 and time.perf_counter() - start < seconds):
        peers.append(timed(task.peer))
        ours.append(timed(task.ours))
    peer, our = statistics.median(peers), statistics.median(ours)
    limit = "" if task.limit is None else f"{task.limit:.2f}"
    row = f"| {task.name} | {peer:.1f} | {our:.1f} | {our / peer:.2f} | {limit} |"
    print(row, flush=True)
    return row


def agree(task: Task):
    """Both find the same, up to rounding."""
    peer, ours = (np.asarray(found, dtype=np.float32) for found in (plain(task.peer()), task.ours()))
    assert peer.shape == ours.shape, f"{task.name}: {peer.shape} and {ours.shape}"
    apart = np.abs(peer - ours).max() / np.abs(peer).max()
    assert apart <= task.tolerance, f"{task.name}: {apart:.1e} apart"


def plain(found):
    return found.detach().numpy() if isinstance(found, torch.Tensor) else found


if __name__ == "__main__":
    main()

"""How time grows with tokens, rows, cells of a sweep and clients; writes a table to BENCHMARKS.md and a plot beside it.

    python benches/growth.py MODEL_DIR [--server target/release/patchbay] [--only WORD] [--write]

MODEL_DIR is SmolLM2-135M as a float32 Hugging Face folder. Needs httpx and a release build, and matplotlib for the plot; nothing else
should run on the machine.
"""

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import httpx

from bench import ROOT, server, timed, write

PLOT = ROOT / "docs/assets/growth.svg"
LAST = {"op": "save", "value": "logits[:, -1, :8]", "as": "x"}
TOKENS = [1, 4, 16, 64, 128, 256, 512, 1024, 2048]
ROWS = [1, 2, 4, 8, 16, 32, 64, 128]
CELLS = [1, 10, 100, 1000, 10_000]
CLIENTS = [1, 2, 4, 8, 16, 32, 64]


@dataclass
class Curve:
    """Something that grows: what there is more and more of, and how to do so much of it."""

    name: str
    unit: str
    sizes: list[int]
    work: Callable[[int], None]


def main():
    """Reads the command line, and measures."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("model", type=Path)
    arguments.add_argument("--server", type=Path, default=ROOT / "target/release/patchbay")
    arguments.add_argument("--only", help="curves whose names have this in them")
    arguments.add_argument("--seconds", type=float, default=5, help="how long to measure a point, about")
    arguments.add_argument("--write", action="store_true", help="put table and plot into the repository")
    given = arguments.parse_args()
    with server(given.server, given.model) as url:
        chosen = [curve for curve in curves(url) if not given.only or given.only in curve.name]
        found = [(curve, [point(curve, size, given.seconds) for size in curve.sizes]) for curve in chosen]
    lines = ["| what | how many | ms | ms for each |", "|---|---|---|---|"]
    for curve, times in found:
        rows = zip(curve.sizes, times)
        lines += [f"| {curve.name} | {size} {curve.unit} | {ms:.1f} | {ms / size:.2f} |" for size, ms in rows]
    print("\n".join(lines))
    if given.write:
        write("growth.py", "\n".join(lines))
        plot(found)


def curves(url: str) -> list[Curve]:
    """All of them."""
    http = httpx.Client(base_url=url, timeout=3600, limits=httpx.Limits(max_connections=64))
    pool = ThreadPoolExecutor(max(CLIENTS))
    assert http.put("/v1/tensors/joy", json=[0.01] * 576).is_success
    fresh = iter(range(1 << 40))

    def row(length: int) -> list[int]:
        # no row begins like another, now or later
        number = next(fresh)
        return [(number * 7919 + token * 104_729 + number // 40_000) % 49_000 for token in range(length)]

    def trace(**body):
        answer = http.post("/v1/trace", json={"graph": [LAST]} | body)
        assert answer.status_code == 200, answer.text
        return answer

    def sweep(cells: int):
        steer = {"op": "steer", "layers": [27], "tokens": -1, "vector": "@joy", "factor": "{factor}"}
        trace(input=[row(16)], graph=[steer, LAST], sweep={"factor": {"range": [0, cells]}})

    def clients(count: int):
        list(pool.map(lambda ids: trace(input=[ids]), [row(16) for _ in range(count)]))

    return [
        Curve("a row of so many tokens, last logits", "tokens", TOKENS, lambda size: trace(input=[row(size)])),
        Curve("rows of 16 tokens, last logits", "rows", ROWS, lambda size: trace(input=[row(16) for _ in range(size)])),
        Curve("a sweep that steers the last token after block 27 of 30", "cells", CELLS, sweep),
        Curve("clients at once, a row of 16 tokens each", "clients", CLIENTS, clients),
    ]


def point(curve: Curve, size: int, seconds: float) -> float:
    """The median of a few times, in milliseconds."""
    curve.work(size)
    times, start = [], time.perf_counter()
    while len(times) < 1 or (len(times) < 15 and time.perf_counter() - start < seconds):
        times.append(timed(lambda: curve.work(size)))
    median = statistics.median(times)
    print(f"{curve.name}: {size} {curve.unit}: {median:.1f} ms", flush=True)
    return median


def plot(found: list[tuple[Curve, list[float]]]):
    """Draws the curves, where matplotlib is installed."""
    try:
        import matplotlib

        matplotlib.use("svg")
        from matplotlib import pyplot
    except ImportError:
        print("matplotlib is not installed: the plot is left as it is")
        return
    matplotlib.rcParams["svg.hashsalt"] = "patchbay"
    figure, places = pyplot.subplots(1, len(found), figsize=(4 * len(found), 3.4), squeeze=False)
    for place, (curve, times) in zip(places[0], found):
        place.loglog(curve.sizes, times, marker="o", color="#2b6cb0")
        # as if the last point's share were everybody's
        place.loglog(curve.sizes, [times[-1] / curve.sizes[-1] * size for size in curve.sizes], ":", color="#a0aec0")
        place.set(xlabel=curve.unit, ylabel="ms", title=curve.name.split(",")[0][:40])
        place.grid(True, which="major", alpha=0.3)
    figure.tight_layout()
    figure.savefig(PLOT, metadata={"Date": None})
    print(f"drawn: {PLOT}")


if __name__ == "__main__":
    main()

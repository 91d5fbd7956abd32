"""What the benchmarks have in common: a server of their own, times, and tables in BENCHMARKS.md."""

import contextlib
import os
import re
import socket
import subprocess
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).parent.parent


@contextlib.contextmanager
def server(binary: Path, model: Path, *flags: str, prefix_cache: str = "0"):
    """Starts the server with a model called `model` on a port of its own, and stops it.

    Prompts come again and again here, and the peers compute them each time: unless it is said, nothing is kept of them.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [binary, "serve", "--model", f"model={model}", "--port", str(port)]
    command += ["--prefix-cache", prefix_cache, *flags]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def timed(work) -> float:
    """Milliseconds that it takes."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def write(name: str, text: str):
    """Puts a table between the marks of this name in BENCHMARKS.md."""
    path = ROOT / "BENCHMARKS.md"
    begin, end = f"<!-- {name} begins -->", f"<!-- {name} ends -->"
    marked = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    page = path.read_text()
    assert marked.search(page), f"BENCHMARKS.md has no marks of {name}"
    path.write_text(marked.sub(lambda _: f"{begin}\n{text}\n{end}", page))

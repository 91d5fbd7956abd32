"""What the parts of patchbay cost beside the arithmetic; writes a table to BENCHMARKS.md.

    cargo build --release --bin patchbay --example bench_forward
    python benches/against_itself.py MODEL_DIR [--server target/release/patchbay] [--write]

MODEL_DIR is SmolLM2-135M as a float32 Hugging Face folder. Needs httpx; nothing else should run on the machine. What is compared is
timed in turn.
"""

import argparse
import json
import multiprocessing
import re
import socket
import statistics
import subprocess
import time
from pathlib import Path

from bench import ROOT, server, write

TOKENS = 64
HIDDEN = [7919 * token % 49_152 for token in range(TOKENS)]


class Connection:
    """One connection, kept open, with as little around it as can be: what a client of its own costs is not the server's."""

    def __init__(self, url: str):
        host, port = url.removeprefix("http://").split(":")
        self.host = f"{host}:{port}"
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.room = memoryview(bytearray(256 << 20))

    def trace(self, body: dict, what: str = "trace") -> tuple[dict, float]:
        """The answer of a trace, or of something else, and milliseconds from the first byte sent to the last one read."""
        sent = json.dumps({"model": "model"} | body).encode()
        head = f"POST /v1/{what} HTTP/1.1\r\nhost: {self.host}\r\ncontent-type: application/json\r\ncontent-length: {len(sent)}\r\n\r\n"
        sent = head.encode() + sent
        start = time.perf_counter()
        self.socket.sendall(sent)
        found = self.socket.recv_into(self.room)
        head, _, _ = bytes(self.room[: min(found, 4096)]).partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert head.startswith(b"HTTP/1.1 200") and length, bytes(self.room[:found])
        begin = len(head) + 4
        end = begin + int(length[1])
        while found < end:
            found += self.socket.recv_into(self.room[found:end])
        took = (time.perf_counter() - start) * 1e3
        answer = self.room[begin:end]
        if body.get("output", {}).get("encoding") != "safetensors":
            return json.loads(bytes(answer)), took
        length = int.from_bytes(answer[:8], "little")
        rest = json.loads(json.loads(bytes(answer[8 : 8 + length]))["__metadata__"]["response"])
        return rest | {"bytes": len(answer)}, took


def main():
    """Reads the command line, and measures."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("model", type=Path)
    arguments.add_argument("--server", type=Path, default=ROOT / "target/release/patchbay")
    arguments.add_argument("--runs", type=int, default=25)
    arguments.add_argument("--write", action="store_true", help="put the table into BENCHMARKS.md")
    given = arguments.parse_args()
    lines = ["| what | found | goal |", "|---|---|---|"]
    with server(given.server, given.model) as url:
        bay = Connection(url)
        for line in [unused_taps(bay, given), every_layer(bay, given.runs), around(bay, given.runs), echo(given.runs), large(bay, given.runs)]:
            print(line, flush=True)
            lines.append(line)
        with server(given.server, given.model, prefix_cache="256MiB") as keeping:
            kept = Connection(keeping)
            for line in [*prefixes(bay, kept, given.runs // 2), conversation(bay, kept, given.runs // 2)]:
                print(line, flush=True)
                lines.append(line)
    if given.write:
        write("against_itself.py", "\n".join(lines))


def compute(answer: dict) -> float:
    return answer["usage"]["compute_ms"]


def unused_taps(bay: Connection, given) -> str:
    """A trace in which everything is computed, and read one logit of each token and all of one, against the decoder alone."""
    graph = [{"op": "save", "value": f"logits[0, {part}]", "as": name} for part, name in [(":, 0", "x"), ("0", "y")]]
    body = {"input": [HIDDEN], "graph": graph, "output": {"encoding": "safetensors"}}
    forward = given.server.parent / "examples/bench_forward"
    ratios = []
    for _ in range(9):
        said = subprocess.run([forward, given.model, str(TOKENS)], capture_output=True, text=True, check=True).stderr
        bare = float(re.search(r"tokens: median +([0-9.]+) ms", said)[1])
        # at once after it: the machine's speed changes by more than what is looked for, within minutes
        ours, start = [], time.perf_counter()
        while time.perf_counter() - start < 3:
            ours.append(compute(bay.trace(body)[0]))
        ratios.append(statistics.median(ours) / bare)
    ratio = statistics.median(ratios)
    return f"| all taps unused: a trace beside the bare decoder, {TOKENS} tokens | × {ratio:.3f} | × 1.00 |"


def every_layer(bay: Connection, runs: int) -> str:
    """Saving the last token of every layer beside the logits."""
    logits = {"op": "save", "value": "logits[:, -1]", "as": "x"}
    each = {"op": "save", "value": "layers.*.output[:, -1]", "as": "h"}
    ratios = []
    for tokens in [5, TOKENS]:
        without, saving = [], []
        for run in range(2 * runs):
            # a row of its own each time, the same one for both
            row = [(token * 13 + run * 101) % 49_000 for token in range(tokens)]
            for graph, times in [([logits], without), ([logits, each], saving)]:
                body = {"input": [row], "graph": graph, "output": {"encoding": "safetensors"}}
                times.append(bay.trace(body)[1])
        ratios.append(statistics.median(saving) / statistics.median(without))
    shown = ", ".join(f"× {ratio:.3f}" for ratio in ratios)
    return f"| saving every layer's last token, 5 and {TOKENS} tokens, HTTP included | {shown} | × 1.10 |"


def around(bay: Connection, runs: int) -> str:
    """What HTTP, JSON, checking and queueing add to a small trace: the client's time less that of the waves."""
    graph = [{"op": "top_tokens", "value": "logits[:, -1]", "k": 5, "as": "next"}]
    body = {"input": "The capital of France is", "graph": graph}
    left = []
    for _ in range(4 * runs):
        answer, took = bay.trace(body)
        left.append(took - compute(answer))
    return f"| HTTP, JSON, checking and the queue around a trace of 5 tokens | {statistics.median(left):.2f} ms | 1 ms |"


def echo(runs: int) -> str:
    """What is around an answer of a program that only reads as much memory as the model's weights take, and answers."""
    listening = socket.create_server(("127.0.0.1", 0))
    multiprocessing.get_context("fork").Process(target=read_and_answer, args=(listening,), daemon=True).start()
    left = []
    with socket.create_connection(listening.getsockname()) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(4 * runs):
            start = time.perf_counter()
            connection.sendall(b"?" * 300)
            read = float(connection.recv(4096))
            left.append((time.perf_counter() - start) * 1e3 - read)
    return f"| the same around a program that does nothing but read as much memory | {statistics.median(left):.2f} ms | |"


def read_and_answer(listening: socket.socket):
    """Answers with the milliseconds that it read for, as long as it is asked."""
    connection, _ = listening.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    weights = bytearray(540_000_000)
    while connection.recv(4096):
        start = time.perf_counter()
        assert weights.find(1) < 0
        connection.sendall(f"{(time.perf_counter() - start) * 1e3:<900.6f}".encode())


def large(bay: Connection, runs: int) -> str:
    """From the end of the last wave to the last byte of 100 MB of activations."""
    rows = [[(row * 131 + token * 17) % 49_000 for token in range(128)] for row in range(12)]
    graph = [{"op": "save", "value": "layers.*.output", "as": "x"}]
    rates = []
    for _ in range(max(3, runs // 5)):
        answer, took = bay.trace({"input": rows, "graph": graph, "output": {"encoding": "safetensors"}})
        usage = answer["usage"]
        rates.append(answer["bytes"] / (took - usage["queue_ms"] - usage["compute_ms"]) / 1e6)
    size = answer["bytes"] / 1e6
    return f"| {size:.0f} MB of saved activations as safetensors over loopback | {statistics.median(rates):.2f} GB/s | 1 GB/s |"


def prefixes(forgetting: Connection, keeping: Connection, runs: int) -> list[str]:
    """Prompts of 512 tokens that nobody sent before, and such as differ from one that was sent in their last 12 tokens."""
    new, again = [], []
    for run in range(max(3, runs)):
        prompt = [(token * 13 + run * 101) % 49_000 for token in range(500)]
        times = []
        for end in [1, 2]:
            row = prompt + [(token * 29 + end * 7 + run) % 49_000 for token in range(12)]
            body = {"input": [row], "graph": [{"op": "save", "value": "logits[:, -1, :5]", "as": "x"}]}
            times.append((forgetting.trace(body)[1], keeping.trace(body)[1]))
        new.append(times[0][1] / times[0][0])
        again.append(times[1][1] / times[1][0])
    return [
        f"| keeping the keys of a new prompt of 512 tokens, beside `--prefix-cache 0` | × {statistics.median(new):.3f} | |",
        f"| a prompt of 512 tokens of which 500 were sent before, beside the same | × {statistics.median(again):.3f} | |",
    ]


def conversation(forgetting: Connection, keeping: Connection, runs: int) -> str:
    """The second turn of a conversation: what was read and written before, and 12 tokens more."""
    ratios = []
    for run in range(max(3, runs)):
        first = [(token * 17 + run * 103) % 49_000 for token in range(400)]
        times = []
        for bay in [forgetting, keeping]:
            body = {"max_new_tokens": 16, "ignore_eos": True}
            written = bay.trace(body | {"input": [first]}, "generate")[0]["outputs"][0]["ids"]
            times.append(bay.trace(body | {"input": [first + written + list(range(500, 512))]}, "generate")[1])
        ratios.append(times[1] / times[0])
    ratio = statistics.median(ratios)
    return f"| the second turn of a conversation, 16 tokens after 428 of which 416 were there before, beside the same | × {ratio:.3f} | |"


if __name__ == "__main__":
    main()

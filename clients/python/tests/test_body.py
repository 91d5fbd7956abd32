"""Large answers, put together where they stay."""

import asyncio
import socket
import threading

import httpx
import numpy as np
import pytest

from patchbay import AsyncPatchbay, Patchbay
from patchbay.arrays import to_numpy

ROWS = [[i, 7, 9] for i in range(100, 180)]
GRAPH = [
    {"op": "save", "value": "layers.*.output", "as": "large"},
    {"op": "save", "value": {"op": "gt", "args": ["layers.3.output[:, -1]", 0]}, "as": "flags"},
    {"op": "save", "value": {"op": "argmax", "args": ["logits[:, -1]"], "dim": -1}, "as": "ids"},
]


@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_they_are_what_json_says(bay, url, dtype):
    async def awaited():
        async with AsyncPatchbay(url) as other:
            return await other.trace("smollm2", ROWS, GRAPH, output={"encoding": "safetensors", "dtype": dtype})

    found = bay.trace("smollm2", ROWS, GRAPH, output={"encoding": "safetensors", "dtype": dtype})
    told = bay.trace("smollm2", ROWS, GRAPH, output={"encoding": "json", "dtype": dtype})
    for name, again in asyncio.run(awaited()).items():
        array = to_numpy(found[name])
        assert list(array.shape) == told[name]["shape"] and np.array_equal(array, to_numpy(again))
        assert np.array_equal(array, np.array(told[name]["data"], array.dtype)), name
    assert to_numpy(found.large).nbytes > 1 << 20 and found.flags.dtype is not found.large.dtype


def test_what_is_cut_off_is_an_error():
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.safetensors\r\ncontent-length: 100\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(head + b"x" * 40)

        threading.Thread(target=serve).start()
        with (
            Patchbay(f"http://127.0.0.1:{listener.getsockname()[1]}") as client,
            pytest.raises(httpx.TransportError),
        ):
            client.trace("m", "a", "save logits as x")
